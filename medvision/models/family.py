"""What the settings of every model can do: name its network, and count it. Imports no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import Field, model_validator

from medvision.models.arithmetic import Layer
from medvision.models.language.settings import BlockSize, LlmSettings
from medvision.models.sizes import Sizes
from medvision.settings import NotInIds, Settings, filled
from record.names import Name


class NetworkSettings(Settings):
    """Settings of a family of labels; a family adds `label`, a Literal of its labels, and more.

    Attributes:
        code: where it is, `module:callable`, imported when a model is built. It is called
            with the settings and the `Sizes` and returns the module that `build_model` describes.
        presets: defaults of single labels that differ from those of the class.
        recipes: by label, the settings that make the official code's network; for networks that it
            has none of, nothing.
        gpu_rates: FLOP/s that a training reaches on an H100 in float32 and in lower precision
            (measured, docs/benchmarks.md), for estimates of time only.
        sources: for labels with a language-model block, the checkpoint that the paper takes it
            from.
    """

    code: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    sources: ClassVar[Mapping[str, str]] = MappingProxyType({})
    gpu_rates: ClassVar[tuple[float, float]] = (2.5e13, 4e13)
    name: Annotated[Name | None, NotInIds("what tables call the model")] = Field(
        default=None, description="shown in tables; by default the label"
    )
    overrides: Annotated[dict[str, Any], NotInIds("counted by the settings that it changes")] = (
        Field(
            default={},
            description="dotted settings of `training` and `data` that this model alone has, such "
            "as {training.dice: cut}",
        )
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {**cls.presets.get(str(values.get("label")), {}), **values}

    @classmethod
    def labels(cls) -> tuple[str, ...]:
        """The labels of this family, in the order of tables."""
        return get_args(cls.model_fields["label"].annotation)

    @classmethod
    def require(cls, label: str, settings: Mapping[str, Any]) -> None:
        """Say what a caller from code has to give, where a field's own error would say less.

        Raises:
            ValueError: it is missing.
        """

    @classmethod
    def official(cls, label: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of `recipe: official`: what was given, and for the rest what makes the
        official code's network.
        """
        return filled(given, cls.recipes.get(label, {}))

    def drawn(self, seed: int) -> Self:
        """The settings with what they leave to chance decided by `seed`, so that they alone tell
        how to build the model again.
        """
        del seed
        return self

    @property
    def block(self) -> LlmSettings | None:
        """The language-model block that the model's numbers depend on, None without one."""
        return None

    @abstractmethod
    def layers(self, sizes: Sizes) -> Iterator[Layer]:
        """The network in numbers, without a language-model block and its mappers."""

    def all_layers(self, sizes: Sizes, block: BlockSize | None) -> Iterator[Layer]:
        """The whole model in numbers.

        Args:
            block: size of one language-model layer, for families that have one; the paper's where
                it is None.
        """
        del block
        return self.layers(sizes)

    def tokens(self, sizes: Sizes) -> int | None:
        """Tokens of one sample, at the finest stage where a network has several; None for
        convolutional networks.
        """
        del sizes
        return None

    def parameters(self, sizes: Sizes, block: BlockSize | None = None) -> int:
        """Parameters in all, frozen ones included; `block` as in `all_layers`."""
        return sum(layer.parameters for layer in self.all_layers(sizes, block))

    def flops(self, sizes: Sizes, block: BlockSize | None = None) -> float:
        """Floating-point operations of one forward pass of one sample, `block` as in `all_layers`;
        training costs about three times that.
        """
        return float(sum(layer.operations for layer in self.all_layers(sizes, block)))
