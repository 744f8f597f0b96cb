"""Small random checkpoints of every family, written in the formats that real ones come in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from medvision import assets
from tests.medvision.llm.checkpoint_files import WRITERS

SIZES = {
    "vocab_size": 40,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**GROUPED, "rope_theta": 5000.0}),
    "mistral": ("MistralForCausalLM", {**GROUPED, "sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", GROUPED),
    "qwen3": ("Qwen3ForCausalLM", {**GROUPED, "head_dim": 24}),
    "gemma2": ("Gemma2ForCausalLM", {**GROUPED, "head_dim": 16, "query_pre_attn_scalar": 16}),
    "bert": (
        "BertForMaskedLM",
        {**SIZES, "hidden_dropout_prob": 0.4, "attention_probs_dropout_prob": 0.4},
    ),
    "biogpt": ("BioGptForCausalLM", {**SIZES, "hidden_dropout_prob": 0.4}),
}
FAMILIES = tuple(MODELS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own; the folder in it that blocks are kept in."""
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "blocks"


@pytest.fixture
def make_model() -> Iterator[Callable[..., Any]]:
    """`make_model(family, **settings)`: a tiny model with every parameter random, norms too."""

    def make(family: str, **settings: Any) -> Any:
        import transformers

        title, values = MODELS[family]
        model_class = getattr(transformers, title)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            model = model_class(model_class.config_class(**{**values, **settings})).eval()
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, 0.1, 0.2)
        return model

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any, str], Path]:
    """`write(model, format)`: its folder on disk."""

    def write_model(model: Any, fmt: str = "safetensors") -> Path:
        folder = tmp_path / "checkpoints" / f"{model.config.model_type}-{fmt.replace(' ', '-')}"
        WRITERS[fmt](model, folder)
        return folder

    return write_model


def _layer(model: Any, index: int) -> torch.nn.Module:
    base = model.base_model
    return base.encoder.layer[index] if hasattr(base, "encoder") else base.layers[index]


@pytest.fixture
def inside() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """`inside(model, index)`: what goes into that layer and comes out of it while the whole model
    runs.
    """

    def run(model: Any, index: int, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
        seen: list[torch.Tensor] = []

        def note(module: Any, given: Any, keywords: Any, result: Any) -> None:
            seen.extend((given[0] if given else keywords["hidden_states"], result))

        handle = _layer(model, index).register_forward_hook(note, with_kwargs=True)
        tokens = torch.randn(
            2, length, model.config.hidden_size, generator=torch.Generator().manual_seed(3)
        )
        with torch.no_grad():
            model.base_model(inputs_embeds=tokens)
        handle.remove()
        return seen[0], seen[1]

    return run


def interleave(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """transformers' query or key rows in Meta's and GGUF's order: i of a head's first half goes to
    2 i.
    """
    mixed = torch.empty_like(rows)
    width = rows.shape[0] // heads
    for head in range(heads):
        for index in range(width // 2):
            mixed[head * width + 2 * index] = rows[head * width + index]
            mixed[head * width + 2 * index + 1] = rows[head * width + index + width // 2]
    return mixed


_META_NAMES = {
    "self_attn.q_proj": ("attention.wq", 0),
    "self_attn.k_proj": ("attention.wk", 0),
    "self_attn.v_proj": ("attention.wv", 0),
    "self_attn.o_proj": ("attention.wo", 1),
    "mlp.gate_proj": ("feed_forward.w1", 0),
    "mlp.down_proj": ("feed_forward.w2", 1),
    "mlp.up_proj": ("feed_forward.w3", 0),
    "input_layernorm": ("attention_norm", None),
    "post_attention_layernorm": ("ffn_norm", None),
}


@pytest.fixture
def write_meta(tmp_path: Path) -> Callable[..., Path]:
    """`write_meta(llama, parts=1)`: params.json and consolidated.*.pth, split as for model
    parallelism.
    """

    def write_model(model: Any, parts: int = 1, **params: Any) -> Path:
        folder = tmp_path / "checkpoints" / f"meta-{parts}"
        folder.mkdir(parents=True)
        config = model.config
        sizes = {
            "dim": config.hidden_size,
            "n_layers": config.num_hidden_layers,
            "n_heads": config.num_attention_heads,
            "n_kv_heads": config.num_key_value_heads,
            "norm_eps": config.rms_norm_eps,
            "rope_theta": config.rope_parameters["rope_theta"],
            "multiple_of": 32,
            "ffn_dim_multiplier": 0.5,  # int(0.5 * int(8 * 64 / 3)) = 85, up to 96
            "vocab_size": config.vocab_size,
        }
        (folder / "params.json").write_text(json.dumps(sizes | params))
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        shards: list[dict[str, torch.Tensor]] = [{} for _ in range(parts)]
        for index in range(config.num_hidden_layers):
            for name, (meta, axis) in _META_NAMES.items():
                tensor = model.state_dict()[f"model.layers.{index}.{name}.weight"]
                if (role := name.rpartition(".")[2]) in heads:
                    tensor = interleave(tensor, heads[role])
                pieces = [tensor] * parts if axis is None else tensor.chunk(parts, axis)
                for shard, piece in zip(shards, pieces, strict=True):
                    shard[f"layers.{index}.{meta}.weight"] = piece.clone()
        for number, shard in enumerate(shards):
            shard["norm.weight"] = model.state_dict()["model.norm.weight"].clone()
            torch.save(shard, folder / f"consolidated.{number:02}.pth")
        return folder

    return write_model


_GGUF_DECODER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_GGUF_GEMMA2 = _GGUF_DECODER | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_GGUF_BERT = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


@pytest.fixture
def write_gguf(tmp_path: Path) -> Callable[..., Path]:
    """`write_gguf(model, quantisation)`: the layers as llama.cpp's converter writes them.

    The matrices of `model` are replaced by what is left of them after quantisation, so that it
    stays the reference.
    """
    import gguf

    def write_model(model: Any, kind: str = "F32", **extra: torch.Tensor) -> Path:
        family, config = model.config.model_type, model.config
        names = {"gemma2": _GGUF_GEMMA2, "bert": _GGUF_BERT}.get(family, _GGUF_DECODER)
        path = tmp_path / f"{family}-{kind}.gguf"
        writer = gguf.GGUFWriter(path, "llama" if family == "mistral" else family)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_head_count(config.num_attention_heads)
        writer.add_tokenizer_model("none")
        writer.add_token_list([f"token {number}" for number in range(500)])
        writer.add_token_scores([0.5] * 500)
        if family == "bert":
            writer.add_layer_norm_eps(config.layer_norm_eps)
        else:
            writer.add_layer_norm_rms_eps(config.rms_norm_eps)
            writer.add_head_count_kv(config.num_key_value_heads)
            writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
            if getattr(config, "head_dim", None):
                writer.add_key_length(config.head_dim)
        if family == "gemma2":
            writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
            writer.add_sliding_window(config.sliding_window)

        quantised = gguf.GGMLQuantizationType[kind]
        heads = {"q_proj": config.num_attention_heads}
        heads["k_proj"] = getattr(config, "num_key_value_heads", heads["q_proj"])
        for name, parameter in model.base_model.named_parameters():
            stem, _, ending = name.rpartition(".")
            if stem == "norm":
                target = "output_norm"
            elif stem.startswith(("layers.", "encoder.layer.")):
                number, _, rest = (
                    stem.removeprefix("layers.").removeprefix("encoder.layer.").partition(".")
                )
                target = f"blk.{number}.{names[rest]}"
            else:
                continue
            tensor = parameter.data
            if tensor.ndim == 2 and quantised != gguf.GGMLQuantizationType.F32:
                tensor = torch.from_numpy(
                    gguf.dequantize(gguf.quantize(tensor.numpy(), quantised), quantised)
                )
                parameter.data = tensor
            if family == "gemma2" and name.endswith("norm.weight"):
                tensor = tensor + 1
                parameter.data = tensor - 1
            if family in ("llama", "mistral") and (role := stem.rpartition(".")[2]) in heads:
                tensor = interleave(tensor, heads[role])
            if tensor.ndim == 2 and quantised != gguf.GGMLQuantizationType.F32:
                writer.add_tensor(
                    f"{target}.{ending}",
                    gguf.quantize(tensor.numpy(), quantised),
                    raw_dtype=quantised,
                )
            else:
                writer.add_tensor(f"{target}.{ending}", tensor.contiguous().numpy())
        for name, tensor in extra.items():
            writer.add_tensor(name.replace("__", "."), tensor.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write_model


@pytest.fixture(scope="module")
def fetched() -> Callable[[str], Path]:
    """`fetched(name)`: a real asset, looked up before a test sets its own cache folder."""
    places: dict[str, Path | str] = {}
    for name in ("minilm-l6", "smollm2-135m"):
        try:
            places[name] = assets.locate(name) or ""
        except assets.AssetError as error:
            places[name] = str(error)

    def find(name: str) -> Path:
        place = places[name]
        if isinstance(place, str):
            pytest.skip(place)
        return place

    return find
