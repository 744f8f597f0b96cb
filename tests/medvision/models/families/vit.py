"""Plain and language-model ViTs."""

from typing import Any

from medvision.settings import Since

SMALL: dict[str, Any] = {"embed_dim": 16, "depth": 2, "heads": 2}
_FIRST = "label embed_dim depth heads mlp_ratio dropout extra_mlp"
_SINCE: dict[str, Any] = {
    "extra_width": None,
    "params": None,
    "attention": "global",
    "fusion": False,
    "position_std": Since("0.2", 0.02),
    "last_norm": Since("0.2", True),
    "dropout_at": Since("0.2", "outputs"),
    "attention_start": Since("0.2", "linear"),
    "extra_widths": Since("0.2", None),
    "extra_residual": Since("0.2", True),
}
MEANINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "ViTSettings": (_FIRST, _SINCE, "name overrides"),
    "MatchSettings": ("match", {}, ""),
    "LlmViTSettings": (
        f"{_FIRST} llm placement mapper lora",
        {**_SINCE, "every": Since("0.2", None)},
        "name overrides",
    ),
    "LlmSettings": (
        "layer rope causal final_norm",
        {
            "block": "layer",
            "weights": "pretrained",
            "random_seed": None,
            "trainable": False,
            "final_norm_weights": Since("0.2", "checkpoint"),
            "kv_pairing": Since("0.2", "grouped"),
            "control": Since("0.2", "none"),
        },
        "source",
    ),
    "LoraSettings": (
        "rank alpha",
        {"targets": ("mappers",), "bias": Since("0.2", "frozen")},
        "",
    ),
}
IDS = {
    "ViT_Baseline": ("289b07baff26348f", "dab5cc05f6c0aa8e"),
    "ViT_Depth": ("98ff7e5519eba87b", "082d866020066261"),
    "ViT_MLP": ("1d2e0ac327ac04ca", "11052399d067e3d1"),
    "MedVisionLlama": ("9508823f780d5eb9", "e180096ab64dc277"),
    "MedVisionLlama_Frozen": ("3e61137e11e47f43", "ad087dd29f089b02"),
    "MedVisionLlama_Hybrid": ("6afdd7fee558478f", "3dde08acdc1e64e8"),
    "MedVision_BioBERT": ("57e0e2de307b7d9e", "0fd382073cc2f6d3"),
    "MedVision_BioGPT": ("4cce22def87baab8", "1dad16b18cbc4506"),
    "MedVision_ClinicalBERT": ("71e877c01621c369", "6cbde70fd817f03c"),
}
