"""Tiny configurations of models that see images, and what those of language models share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

PLAIN = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**PLAIN, "num_key_value_heads": 2}
HEAD = {**GROUPED, "head_dim": 8}
WINDOW = {"sliding_window": 4}
THREE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}
EYE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
IMAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 16,
}
QWEN_EYE = {
    "depth": 2,
    "hidden_size": 16,
    "num_heads": 2,
    "out_hidden_size": 32,
    "intermediate_size": 16,
}


@dataclass(frozen=True)
class Tiny:
    """A model to be made: transformers' class, its settings, and how many layers it then has."""

    title: str
    settings: dict[str, Any]
    layers: int = 3

    def make(self, **more: Any) -> Any:
        """The model, with every parameter random, norms too."""
        import transformers

        model_class = getattr(transformers, self.title)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            model = model_class(model_class.config_class(**self.settings, **more)).eval()
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, 0.1, 0.2)
        return model


MODELS_WITH_IMAGES: dict[str, Tiny] = {
    "llava": Tiny(
        "LlavaForConditionalGeneration",
        {
            "text_config": {**GROUPED, "model_type": "llama"},
            "vision_config": {**EYE, "model_type": "clip_vision_model"},
            "image_token_index": 63,
        },
    ),
    "mistral3": Tiny(
        "Mistral3ForConditionalGeneration",
        {
            "text_config": {**GROUPED, **WINDOW, "model_type": "mistral"},
            "vision_config": {**EYE, "model_type": "pixtral", "head_dim": 8},
            "image_token_index": 63,
        },
    ),
    "gemma3": Tiny(
        "Gemma3ForConditionalGeneration",
        {
            "text_config": {**HEAD, **WINDOW},
            "vision_config": {**EYE, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
            "image_token_index": 63,
        },
    ),
    "qwen2_vl": Tiny(
        "Qwen2VLForConditionalGeneration",
        {
            "text_config": {**GROUPED, **THREE},
            "vision_config": {"depth": 2, "embed_dim": 16, "num_heads": 2, "hidden_size": 32},
            "image_token_id": 63,
        },
    ),
    "qwen2_5_vl": Tiny(
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": {**GROUPED, **THREE},
            "vision_config": QWEN_EYE,
            "image_token_id": 63,
        },
    ),
    "qwen3_vl": Tiny(
        "Qwen3VLForConditionalGeneration",
        {
            "text_config": {**HEAD, **THREE},
            "vision_config": {**QWEN_EYE, "deepstack_visual_indexes": [0]},
            "image_token_id": 63,
        },
    ),
    "vit": Tiny("ViTModel", IMAGE),
    "deit": Tiny("DeiTModel", IMAGE),
    "dinov2": Tiny(
        "Dinov2Model",
        {
            "hidden_size": 32,
            "mlp_ratio": 2,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 16,
        },
    ),
    "vit_mae": Tiny(
        "ViTMAEForPreTraining",
        {
            **IMAGE,
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 16,
        },
    ),
    "siglip": Tiny("SiglipModel", {"text_config": PLAIN, "vision_config": IMAGE}),
    "siglip_vision_model": Tiny("SiglipVisionModel", IMAGE),
    "clip": Tiny("CLIPModel", {"text_config": PLAIN, "vision_config": IMAGE}),
}
