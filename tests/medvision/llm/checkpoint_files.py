"""The same small model in every format of files that checkpoints come in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch


def _config(model: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)


def _whole(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)


def _sharded(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 3


def _base(model: Any, folder: Path) -> None:
    """The model without its head: the names of its tensors have no prefix."""
    model.base_model.save_pretrained(folder)


def _bin(model: Any, folder: Path) -> None:
    _config(model, folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def _legacy_bin(model: Any, folder: Path) -> None:
    """As before PyTorch 1.6, and with TensorFlow's names of the LayerNorms: so are the first
    BERTs.
    """
    _config(model, folder)
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def _sharded_bin(model: Any, folder: Path) -> None:
    _config(model, folder)
    state = model.state_dict()
    names = [f"pytorch_model-{number:05}-of-00003.bin" for number in (1, 2, 3)]
    where = {name: names[index % 3] for index, name in enumerate(state)}
    for file in names:
        torch.save(
            {name: state[name].clone() for name in state if where[name] == file}, folder / file
        )
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": where})
    )


WRITERS = {
    "safetensors": _whole,
    "sharded safetensors": _sharded,
    "base model": _base,
    "bin": _bin,
    "legacy bin": _legacy_bin,
    "sharded bin": _sharded_bin,
}
