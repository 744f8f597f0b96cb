"""The families whose layers are proven to be their models' own: `python -m medvision.models
--families`. No torch.

For each of them a test writes a small random checkpoint with transformers, and one layer loaded
here gives what the same layer gives inside the whole model, bit by bit in float32, frozen, and with
a gradient at its input (`tests/medvision/llm/test_native_families.py`). Others load as well where
their layers take nothing that only their whole model has.
"""

from __future__ import annotations

from typing import NamedTuple


class Proven(NamedTuple):
    """One line of the table.

    Attributes:
        family: `model_type` in the checkpoint's config.json.
        kind: what the layers are of.
        positions: what `rope: true` switches on inside the layers; empty where there is nothing.
        about: what is particular.
        part: what transformers calls the kind of the model inside that has the layers, where that
            is another.
    """

    family: str
    kind: str
    positions: str = "rotary"
    about: str = ""
    part: str = ""


_DECODER, _ENCODER, _IMAGE = "language, causal", "language, both ways", "images"
_PAIR = "language, causal, in a model for images and text"
# With a row in `medvision.llm.families`: GGUF files too, and of Llama and Mistral Meta's.
ROWS = (
    Proven("llama", _DECODER, about="GGUF and Meta's files too; DeepSeek-R1-Distill-Llama"),
    Proven("mistral", _DECODER, about="GGUF and Meta's files too"),
    Proven("qwen2", _DECODER, about="GGUF too; DeepSeek-R1-Distill-Qwen"),
    Proven("qwen3", _DECODER, about="GGUF too"),
    Proven("gemma2", _DECODER, about="GGUF too; norms around both parts"),
    Proven("bert", _ENCODER, "", "GGUF too; BioBERT, ClinicalBERT"),
    Proven("biogpt", _DECODER, ""),
)
NATIVE = (
    Proven("llama4_text", _DECODER, about="mixture of experts, chunks, layers without positions"),
    Proven("mixtral", _DECODER, about="mixture of experts"),
    Proven("qwen2_moe", _DECODER, about="mixture of experts"),
    Proven("qwen3_moe", _DECODER, about="mixture of experts"),
    Proven("gemma", _DECODER),
    Proven("gemma3_text", _DECODER, about="norms around both parts, windows"),
    Proven("phi", _DECODER, about="attention and MLP in parallel"),
    Proven("phi3", _DECODER, about="Phi-3 and Phi-4; windows"),
    Proven("phimoe", _DECODER, about="mixture of experts"),
    Proven("gpt2", _DECODER, "", "Conv1D"),
    Proven("gpt_neo", _DECODER, "", "windows"),
    Proven("gptj", _DECODER, about="attention and MLP in parallel"),
    Proven("codegen", _DECODER, about="attention and MLP in parallel"),
    Proven("gpt_neox", _DECODER, about="Pythia; attention and MLP in parallel"),
    Proven("gpt_oss", _DECODER, about="mixture of experts, windows, sinks"),
    Proven("opt", _DECODER, ""),
    Proven("falcon", _DECODER, about="attention and MLP in parallel; not with ALiBi"),
    Proven("olmo", _DECODER),
    Proven("olmo2", _DECODER, about="norms after both parts"),
    Proven("olmo3", _DECODER, about="windows"),
    Proven("olmoe", _DECODER, about="mixture of experts"),
    Proven("stablelm", _DECODER),
    Proven("granite", _DECODER),
    Proven("granitemoe", _DECODER, about="mixture of experts"),
    Proven("cohere", _DECODER, about="attention and MLP in parallel"),
    Proven("cohere2", _DECODER, about="windows, layers without positions"),
    Proven("deepseek_v2", _DECODER, about="latent attention, mixture of experts"),
    Proven("deepseek_v3", _DECODER, about="latent attention, mixture of experts"),
    Proven("starcoder2", _DECODER, about="windows"),
    Proven("smollm3", _DECODER, about="layers without positions"),
    Proven("glm", _DECODER),
    Proven("glm4", _DECODER, about="norms around both parts"),
    Proven("nemotron", _DECODER),
    Proven("exaone4", _DECODER, about="windows"),
    Proven("ernie4_5", _DECODER),
    Proven("seed_oss", _DECODER),
    Proven("persimmon", _DECODER),
    Proven("xglm", _DECODER, ""),
    Proven("bloom", _DECODER, "ALiBi"),
    Proven("mpt", _DECODER, "ALiBi"),
    Proven("roberta", _ENCODER, ""),
    Proven("xlm-roberta", _ENCODER, ""),
    Proven("camembert", _ENCODER, ""),
    Proven("electra", _ENCODER, ""),
    Proven("distilbert", _ENCODER, ""),
    Proven("esm", _ENCODER, about="proteins"),
    Proven("deberta", _ENCODER, "relative"),
    Proven("deberta-v2", _ENCODER, "relative", "DeBERTa-v3 too"),
    Proven("mpnet", _ENCODER, "relative"),
    Proven("albert", _ENCODER, "", "the one layer that it applies again and again"),
    Proven("modernbert", _ENCODER, about="windows that look both ways"),
    Proven("t5", _ENCODER, "relative", "the encoder"),
    Proven("mt5", _ENCODER, "relative", "the encoder"),
    Proven("umt5", _ENCODER, "relative", "the encoder"),
    Proven("bart", _ENCODER, "", "the encoder"),
    Proven("llava", _PAIR, "rotary", "here with a Llama; its layers count as llama's", "llama"),
    Proven("mistral3", _PAIR, "rotary", "its layers count as mistral's", "mistral"),
    Proven("gemma3", _PAIR, "rotary", "MedGemma", "gemma3_text"),
    Proven("qwen2_vl", _PAIR, part="qwen2_vl_text"),
    Proven("qwen2_5_vl", _PAIR, part="qwen2_5_vl_text"),
    Proven("qwen3_vl", _PAIR, part="qwen3_vl_text"),
    Proven("vit", _IMAGE, "", "a control"),
    Proven("deit", _IMAGE, "", "a control"),
    Proven("dinov2", _IMAGE, "", "a control"),
    Proven("vit_mae", _IMAGE, "", "a control; the encoder"),
    Proven("siglip", _IMAGE, "", "a control; the image encoder", "siglip_vision_model"),
    Proven("siglip_vision_model", _IMAGE, "", "a control"),
    Proven("clip", _IMAGE, "", "a control; the image encoder", "clip_vision_model"),
)
# The kinds whose layers are proven.
PROVEN_LAYERS = frozenset(one.part or one.family for one in (*ROWS, *NATIVE))
# What cannot work, and why; each is refused by name.
REFUSED = (
    ("falcon with alibi", "ALiBi is part of the mask that its whole model makes"),
    ("beit", "its layers can take the size of the image, for biases of the places in it"),
    ("mamba", "no attention: a recurrence"),
    ("a model_type with auto_map", "needs code from the checkpoint, which is never run"),
)
