"""Settings of a network of one's own. Imports no torch; checking and counting it does."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from medvision.models.arithmetic import Layer
from medvision.models.family import NetworkSettings
from medvision.models.sizes import Sizes
from medvision.own_code import NAME, check_files, with_files
from medvision.settings import NotInIds

_MODULE = "medvision.models.custom.network"


class CustomSettings(NetworkSettings):
    """A network of one's own: a class in a Python file next to the spec (docs/adding.md). It is
    called with `in_channels` and `out_channels`, with `image_size` and `patch_size` where it takes
    them, and with `settings`. By default its name in tables is the class's.
    """

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
    files: Annotated[dict[str, str], NotInIds("counted by sha256")] = Field(
        default={},
        description="texts of the file and of those next to it that it imports; read "
        "by the program",
    )
    sha256: str = Field(default="", description="hash of `files`; written by the program")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any, info: ValidationInfo) -> Any:
        filled = with_files(values, "network", info.context)
        if filled is values:
            return values
        return {"name": filled["network"].rpartition(":")[2]} | filled

    @model_validator(mode="after")
    def _can_be_built(self, info: ValidationInfo) -> CustomSettings:
        check_files(self.files, self.sha256)
        if info.context and "sizes" in info.context:  # a spec is read
            self._counted(info.context["sizes"])
        return self

    def layers(self, sizes: Sizes) -> Iterator[Layer]:
        """The whole network, built and counted without memory."""
        yield self._counted(sizes)

    def _counted(self, sizes: Sizes) -> Layer:
        found: Layer = importlib.import_module(_MODULE).counted(self, sizes)
        return found
