"""A tiny configuration of every family in `medvision.llm.proven.NATIVE`, and of those refused.

Where a family has windows, experts or layers of several kinds, the sizes are such that layers 0
and 2 differ in them, and 11 tokens are longer than the windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.medvision.llm.native_image_models import (
    GROUPED,
    HEAD,
    IMAGE,
    MODELS_WITH_IMAGES,
    PLAIN,
    WINDOW,
    Tiny,
)

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
GPT = {
    "vocab_size": 64,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4}
LATENT = {
    **PLAIN,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
    "topk_group": 1,
}
DEBERTA = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
MODELS: dict[str, Tiny] = {
    "llama4_text": Tiny(
        "Llama4ForCausalLM",
        {
            **HEAD,
            "intermediate_size_mlp": 48,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "moe_layers": [2],
            "attention_chunk_size": 4,
            "no_rope_layers": [1, 1, 0],
        },
    ),
    "mixtral": Tiny("MixtralForCausalLM", {**GROUPED, **WINDOW, "num_local_experts": 4}),
    "qwen2_moe": Tiny(
        "Qwen2MoeForCausalLM", {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 24}
    ),
    "qwen3_moe": Tiny("Qwen3MoeForCausalLM", {**HEAD, **EXPERTS}),
    "gemma": Tiny("GemmaForCausalLM", HEAD),
    "gemma3_text": Tiny(
        "Gemma3ForCausalLM",
        {**HEAD, **WINDOW, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]},
    ),
    "phi": Tiny("PhiForCausalLM", PLAIN),
    "phi3": Tiny("Phi3ForCausalLM", {**GROUPED, **WINDOW}),
    "phimoe": Tiny("PhimoeForCausalLM", {**GROUPED, "num_local_experts": 4}),
    "gpt2": Tiny("GPT2LMHeadModel", GPT),
    "gpt_neo": Tiny(
        "GPTNeoForCausalLM",
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "num_layers": 3,
            "attention_types": [[["global", "global", "local"], 1]],
            "num_heads": 4,
            "window_size": 4,
            "max_position_embeddings": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
    "gptj": Tiny("GPTJForCausalLM", {**GPT, "rotary_dim": 4}),
    "codegen": Tiny("CodeGenForCausalLM", {**GPT, "rotary_dim": 4}),
    "gpt_neox": Tiny("GPTNeoXForCausalLM", PLAIN),
    "gpt_oss": Tiny("GptOssForCausalLM", {**HEAD, **LOCAL, **WINDOW}),
    "opt": Tiny(
        "OPTForCausalLM",
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
            "pad_token_id": 0,
        },
    ),
    "falcon": Tiny(
        "FalconForCausalLM",
        {**PLAIN, "alibi": False, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "olmo": Tiny("OlmoForCausalLM", GROUPED),
    "olmo2": Tiny("Olmo2ForCausalLM", GROUPED),
    "olmo3": Tiny("Olmo3ForCausalLM", {**GROUPED, **WINDOW}),
    "olmoe": Tiny("OlmoeForCausalLM", {**GROUPED, **EXPERTS}),
    "stablelm": Tiny("StableLmForCausalLM", {**GROUPED, "use_parallel_residual": True}),
    "granite": Tiny("GraniteForCausalLM", {**GROUPED, "residual_multiplier": 0.5}),
    "granitemoe": Tiny("GraniteMoeForCausalLM", {**GROUPED, **LOCAL}),
    "cohere": Tiny("CohereForCausalLM", GROUPED),
    "cohere2": Tiny(
        "Cohere2ForCausalLM",
        {**GROUPED, **WINDOW, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]},
    ),
    "deepseek_v2": Tiny("DeepseekV2ForCausalLM", {**LATENT, "q_lora_rank": None, "n_group": 1}),
    "deepseek_v3": Tiny("DeepseekV3ForCausalLM", {**LATENT, "q_lora_rank": 16, "n_group": 2}),
    "starcoder2": Tiny("Starcoder2ForCausalLM", {**GROUPED, **WINDOW}),
    "smollm3": Tiny("SmolLM3ForCausalLM", {**GROUPED, "no_rope_layers": [1, 0, 1]}),
    "glm": Tiny("GlmForCausalLM", HEAD),
    "glm4": Tiny("Glm4ForCausalLM", HEAD),
    "nemotron": Tiny("NemotronForCausalLM", GROUPED),
    "exaone4": Tiny("Exaone4ForCausalLM", {**GROUPED, **WINDOW, "sliding_window_pattern": 3}),
    "ernie4_5": Tiny("Ernie4_5ForCausalLM", HEAD),
    "seed_oss": Tiny("SeedOssForCausalLM", HEAD),
    "persimmon": Tiny("PersimmonForCausalLM", PLAIN),
    "xglm": Tiny(
        "XGLMForCausalLM",
        {
            "vocab_size": 64,
            "d_model": 32,
            "ffn_dim": 48,
            "num_layers": 3,
            "attention_heads": 4,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
        },
    ),
    "roberta": Tiny("RobertaForMaskedLM", PLAIN),
    "xlm-roberta": Tiny("XLMRobertaForMaskedLM", PLAIN),
    "camembert": Tiny("CamembertForMaskedLM", PLAIN),
    "electra": Tiny("ElectraForPreTraining", {**PLAIN, "embedding_size": 16}),
    "distilbert": Tiny(
        "DistilBertForMaskedLM",
        {
            "vocab_size": 64,
            "dim": 32,
            "hidden_dim": 48,
            "n_layers": 3,
            "n_heads": 4,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
        },
    ),
    "esm": Tiny(
        "EsmForMaskedLM", {**PLAIN, "position_embedding_type": "rotary", "mask_token_id": 3}
    ),
    "deberta": Tiny("DebertaForMaskedLM", {**PLAIN, **DEBERTA, "max_relative_positions": 16}),
    "deberta-v2": Tiny(
        "DebertaV2ForMaskedLM",
        {
            **PLAIN,
            **DEBERTA,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
        },
    ),
    "modernbert": Tiny(
        "ModernBertForMaskedLM",
        {
            **PLAIN,
            "local_attention": 6,
            "layer_types": ["full_attention"] * 2 + ["sliding_attention"],
            "cls_token_id": 1,
            "sep_token_id": 2,
        },
    ),
    "t5": Tiny(
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "pad_token_id": 0, "decoder_start_token_id": 0},
    ),
    "mt5": Tiny("MT5EncoderModel", T5),
    "umt5": Tiny("UMT5EncoderModel", T5),
    "bart": Tiny(
        "BartForConditionalGeneration",
        {
            "vocab_size": 64,
            "d_model": 32,
            "encoder_layers": 3,
            "decoder_layers": 1,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "max_position_embeddings": 64,
        },
    ),
    "albert": Tiny("AlbertForMaskedLM", {**PLAIN, "embedding_size": 16}, layers=1),
    "mpnet": Tiny("MPNetForMaskedLM", PLAIN),
    "bloom": Tiny(
        "BloomForCausalLM", {"vocab_size": 64, "hidden_size": 32, "n_layer": 3, "n_head": 4}
    ),
    "mpt": Tiny(
        "MptForCausalLM",
        {"vocab_size": 64, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 64},
    ),
    **MODELS_WITH_IMAGES,
}
REFUSED: dict[str, Tiny] = {
    "falcon with alibi": Tiny("FalconForCausalLM", {**PLAIN, "alibi": True}),
    "beit": Tiny("BeitModel", IMAGE),
    "mamba": Tiny(
        "MambaForCausalLM", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3}
    ),
}
# In the fast suite: one of each kind of layer.
QUICK = (
    "gemma3_text",
    "qwen3_moe",
    "phi",
    "gpt2",
    "gpt_neox",
    "deepseek_v3",
    "cohere",
    "falcon",
    "roberta",
    "deberta-v2",
    "modernbert",
    "t5",
    "llava",
    "qwen2_vl",
    "vit",
    "siglip",
)


def quick_first(names: Iterable[str]) -> list[Any]:
    """Families as a test's parameters, of which the fast suite takes one of each kind of layer."""
    return [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in names]
