"""The labels that users type, and what the settings of every model share; imports no torch."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from medvision.settings import NotInIds, Settings

PRESETS: dict[str, dict[str, Any]] = {
    "ViT_Baseline": {},
    "ViT_Depth": {"embed_dim": 1024, "depth": 20, "heads": 32, "dropout": 0.1},
    "ViT_MLP": {"extra_mlp": True},
    "MedVisionLlama": {},
    "MedVisionLlama_Frozen": {"mapper": "linear"},
    "MedVisionLlama_Hybrid": {"attention": "hybrid", "fusion": True},
    "MedVision_BioBERT": {},
    "MedVision_BioGPT": {},
    "MedVision_ClinicalBERT": {},
    "UNet++": {},
    "UNETR": {},
    "nnU-Net": {},
    "Swin-UNet": {},
    "TransUNet": {},
    "MissFormer": {},
}
MODEL_LABELS = tuple(PRESETS)
LLAMA = "meta-llama/Llama-3.1-8B"
# checkpoints of the paper's blocks where they are not Llama's, as Hugging Face ids
PAPER_SOURCES = {
    "MedVision_BioBERT": "dmis-lab/biobert-base-cased-v1.2",
    "MedVision_BioGPT": "microsoft/biogpt",
    "MedVision_ClinicalBERT": "emilyalsentzer/Bio_ClinicalBERT",
}


class NetworkSettings(Settings):
    """What every model has. `network` is where its code is, `module:callable`, imported when one is
    built.
    """

    network: ClassVar[str]
    name: Annotated[str | None, NotInIds("what tables call the model")] = Field(
        default=None, description="shown in tables; by default the label"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        return (
            PRESETS.get(str(values.get("label")), {}) | values
            if isinstance(values, dict)
            else values
        )


def canonical_label(label: str) -> str:
    """The label as the paper spells it; case and `-`/`_` are forgiven.

    Raises:
        ValueError: no such label; the message names the closest and all known ones.
    """
    plain = {_fold(known): known for known in MODEL_LABELS}
    if (folded := _fold(label)) in plain:
        return plain[folded]
    close = difflib.get_close_matches(folded, plain, n=1, cutoff=0.5)
    hint = f"; did you mean {plain[close[0]]}?" if close else ""
    raise ValueError(f"unknown model label {label!r}{hint} Known labels: {', '.join(MODEL_LABELS)}")


def _fold(label: str) -> str:
    return label.lower().replace("-", "").replace("_", "").replace(" ", "")
