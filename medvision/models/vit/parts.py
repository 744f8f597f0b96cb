"""How the parts of the paper's vision transformers are made, where the official code and this
service differ. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from medvision.models.family import NetworkSettings
from medvision.settings import Since

# Widths of the official ViT_MLP's extra MLP, 5.72 billion parameters, and the same shape with
# about as many parameters as MedVisionLlama has at the paper's sizes (0.2 % fewer).
MLP_WIDTHS = {
    "official": (2048, 4096, 8192, 16384, 32768, 65536, 32768, 16384, 8192, 4096, 2048),
    "matched": (400, 800, 1600, 3200, 6400, 12800, 6400, 3200, 1600, 800, 400),
}


def _by_name(value: Any) -> Any:
    return MLP_WIDTHS.get(value, value) if isinstance(value, str) else value


Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class PartSettings(NetworkSettings):
    """The parts in which the official networks differ from ours; the defaults are ours."""

    position_std: Annotated[float, Since("0.2", before=0.02)] = Field(
        default=0.02,
        gt=0,
        description="standard deviation that the positions start with; the official code's is 1",
    )
    last_norm: Annotated[bool, Since("0.2", before=True)] = Field(
        default=True,
        description="LayerNorm of the tokens after the last block; the official code has none",
    )
    dropout_at: Annotated[Literal["outputs", "attention"], Since("0.2", before="outputs")] = Field(
        default="outputs",
        description="outputs: of the embedding, the attention and both layers of the MLPs; "
        "attention: on the attention's weights and at the end of each MLP (official code), 11 "
        "times slower on a CPU at 2,048 tokens",
    )
    attention_start: Annotated[Literal["linear", "xavier"], Since("0.2", before="linear")] = Field(
        default="linear",
        description="initial weights of the attention: of torch's Linear, or of its "
        "MultiheadAttention, Xavier and no bias (official code)",
    )
    extra_mlp: bool = Field(
        default=False, description="one more MLP before the projection (ViT_MLP)"
    )
    extra_width: Annotated[PositiveInt | None, Since("0.1", before=None)] = Field(
        default=None,
        description="gives the extra MLP two inner layers of this width instead of one",
    )
    extra_widths: Annotated[
        Widths | None,
        BeforeValidator(
            _by_name,
            json_schema_input_type=Literal["official", "matched"] | list[PositiveInt] | None,
        ),
        Since("0.2", before=None),
    ] = Field(
        default=None,
        description="inner widths of the extra MLP; official: 2,048 to 65,536 and back, 5.7 "
        "billion parameters; matched: the same shape, 400 to 12,800, as large as MedVisionLlama",
    )
    extra_residual: Annotated[bool, Since("0.2", before=True)] = Field(
        default=True, description="a residual around the extra MLP; the official code has none"
    )

    @model_validator(mode="after")
    def _one_size(self) -> PartSettings:
        if not self.extra_mlp and (self.extra_width or self.extra_widths):
            name = "extra_width" if self.extra_width else "extra_widths"
            raise ValueError(f"{name} is the extra MLP's: it needs extra_mlp: true")
        if self.extra_width and self.extra_widths:
            raise ValueError("extra_width and extra_widths both size the extra MLP: give one")
        return self

    @classmethod
    def official(cls, label: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """As of the base class, but an extra MLP that is sized in another way stays so."""
        found = super().official(label, given)
        if given.get("params") or given.get("extra_width") or not given.get("extra_mlp", True):
            found = {name: found[name] for name in found if name != "extra_widths" or name in given}
        return found

    @property
    def mlp_widths(self) -> tuple[int, ...] | None:
        """Inner widths of the extra MLP, where they are given one by one."""
        return self.extra_widths or ((self.extra_width,) * 2 if self.extra_width else None)
