"""Settings of a network of one's own. Imports no torch; checking and counting it does."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from medvision.models.arithmetic import Layer
from medvision.models.family import NetworkSettings
from medvision.models.sizes import Sizes
from medvision.own_code import NAME, OwnCode

_MODULE = "medvision.models.custom.network"


class CustomSettings(OwnCode, NetworkSettings):
    """A network of one's own: a class in a Python file next to the spec (docs/adding.md). It is
    called with `in_channels` and `out_channels`, with `image_size` and `patch_size` where it takes
    them, and with `settings`. By default its name in tables is the class's.
    """

    names_code = "network"
    code = f"{_MODULE}:OwnNetwork"
    label: Literal["custom"]
    network: str = Field(
        pattern=NAME,
        description="`file:Class`: the file's name without .py (or `folder.file`), and what in it "
        "makes the network",
    )
    settings: dict[str, Any] = Field(
        default={}, description="arguments of the class by name, beside the sizes"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        network = values.get("network") if isinstance(values, dict) else None
        if not isinstance(network, str) or ":" not in network:
            return values  # has an error of its own
        return {"name": network.rpartition(":")[2]} | values

    @model_validator(mode="after")
    def _can_be_built(self, info: ValidationInfo) -> CustomSettings:
        if info.context and "sizes" in info.context:  # a spec is read
            self._counted(info.context["sizes"])
        return self

    def layers(self, sizes: Sizes) -> Iterator[Layer]:
        """The whole network, built and counted without memory."""
        yield self._counted(sizes)

    def _counted(self, sizes: Sizes) -> Layer:
        found: Layer = importlib.import_module(_MODULE).counted(self, sizes)
        return found
