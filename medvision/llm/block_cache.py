"""Blocks kept in `$MEDVISION_CACHE/blocks`: one safetensors file each, and small JSON sidecars.

A sidecar is keyed by what the source looks like from outside (path, sizes, times of change, layer),
so that a dry run learns a block's fingerprint without opening it. It is written last: without it,
nothing counts as cached. Importing this module needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvision.cache import atomic_path, read_json, write_json
from medvision.llm.bytefile import LocalFile, unreadable
from medvision.llm.errors import BlockError
from medvision.llm.repositories import Folder
from medvision.llm.sources import HubId, layout_of
from record.local_files import cache_root

if TYPE_CHECKING:
    import torch

    from medvision.llm.weight_files import Slot

# Raise it when the same checkpoint would give other tensors, names, settings or another hash.
FORMAT = "medvision-block-1"


@dataclass(frozen=True)
class Stored:
    """A cached block: what its sidecar says. `file` lies in the same folder; `layers` count from
    0.
    """

    fingerprint: str
    family: str
    config: dict[str, Any]
    layers: tuple[int, ...]
    file: str
    size: int

    @property
    def native(self) -> bool:
        """Whether transformers alone knows its family, and no row of `medvision.llm.families`."""
        return "class" in self.config

    @property
    def path(self) -> Path:
        """Where the tensors are."""
        return folder() / self.file


def folder() -> Path:
    """Where blocks are kept."""
    return cache_root() / "blocks"


def key(place: Path | HubId, layers: int | Sequence[int]) -> str:
    """Name of a sidecar: a hash of what the source looks like from outside; no file's content is
    read.

    A hub id is its own key: once cached, a block stays what it was although a branch moves on
    (name a revision to be exact, or remove the sidecar to fetch it again).

    Raises:
        BlockError: a local source that holds no supported checkpoint.
    """
    if isinstance(place, HubId):
        looks: list[Any] = ["hub", place.repo, place.file, place.revision]
    else:
        root = place if place.is_dir() else place.parent
        layout = layout_of(Folder(root), None if place.is_dir() else place.name)
        files = {layout.config, layout.index, *layout.weights} - {None}
        if layout.index:
            files.update(
                path.name for path in root.iterdir() if path.suffix in (".safetensors", ".bin")
            )
        stats = [(name, _stat(root / name)) for name in sorted(map(str, files))]
        looks = [layout.format, str(place), [[name, s.st_size, s.st_mtime_ns] for name, s in stats]]
    text = json.dumps([FORMAT, looks, layers if isinstance(layers, int) else list(layers)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise BlockError(unreadable(path, error)) from error


def find(name: str) -> Stored | None:
    """The cached block with this key, if its files are whole."""
    entry = read_json(folder() / f"{name}.json", None)
    try:
        stored = Stored(**{**entry, "layers": tuple(entry["layers"])})
        return stored if stored.path.stat().st_size == stored.size else None
    except (
        TypeError,
        KeyError,
        OSError,
    ):  # missing, of another version, or tensors removed: not cached
        return None


def write(
    names: Sequence[str],
    slots: Mapping[str, Slot],
    *,
    family: str,
    config: Mapping[str, Any],
    layers: Sequence[int],
    keep: torch.dtype | None,
) -> tuple[Stored, dict[str, torch.Tensor]]:
    """Read tensors one after another into the cache, hashing them, and keep them in memory where
    asked to.

    The file is written as it is read, so that memory holds the kept tensors and one more. Tensors
    keep the dtype of the checkpoint (float64 becomes float32); the fingerprint is over their
    float32 values, so it does not depend on the format or the dtype that they came in.

    Args:
        names: keys under which the result is found: the first names the tensors' file, each gets a
            sidecar.
        slots: tensors by the name they have in the block.
        family: family's name.
        config: the settings that decide the numbers.
        layers: indices of the layers in their model.
        keep: dtype to return the tensors in; None returns none.

    Raises:
        BlockError: a tensor that cannot be read, or a cache that cannot be written.
    """
    import torch

    ordered = dict(sorted(slots.items()))
    stored_as = {
        n: torch.float32 if s.dtype == torch.float64 else s.dtype for n, s in ordered.items()
    }
    digest = _digest(family, config)
    kept: dict[str, torch.Tensor] = {}
    target = folder() / f"{names[0]}.safetensors"
    try:
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            about = {
                "format": FORMAT,
                "family": family,
                "config": json.dumps(config),
                "layers": json.dumps([*layers]),
            }
            file.write(_header(ordered, stored_as, about))
            for name, slot in ordered.items():
                tensor = slot.read().to(stored_as[name])
                file.write(_bytes(tensor))
                values = tensor.float()
                del tensor
                _add(digest, name, values)
                if keep is not None:
                    kept[name] = values.to(keep)
            file.flush()
            size = file.tell()
        stored = Stored(digest.hexdigest(), family, dict(config), tuple(layers), target.name, size)
        for name in dict.fromkeys(names):
            write_json(folder() / f"{name}.json", asdict(stored))
    except OSError as error:
        raise BlockError(
            f"the block cannot be kept in {folder()}: {error}; point MEDVISION_CACHE at a folder "
            "with room to write"
        ) from error
    return stored, kept


def read(stored: Stored, dtype: torch.dtype) -> dict[str, torch.Tensor] | None:
    """A cached block's tensors in `dtype`; None where the file is gone or its content is not that
    of the fingerprint.
    """
    from medvision.llm.weight_files import read_safetensors

    digest = _digest(stored.family, stored.config)
    kept: dict[str, torch.Tensor] = {}
    try:
        for name, slot in sorted(read_safetensors(LocalFile(stored.path)).items()):
            values = slot.read().float()
            _add(digest, name, values)
            kept[name] = values.to(dtype)
    except BlockError:
        return None
    return kept if digest.hexdigest() == stored.fingerprint else None


def _digest(family: str, config: Mapping[str, Any]) -> hashlib._Hash:
    """The hash that becomes a fingerprint, before any tensor."""
    return hashlib.sha256(json.dumps([FORMAT, family, config], sort_keys=True).encode())


def _add(digest: hashlib._Hash, name: str, values: torch.Tensor) -> None:
    """Hash one float32 tensor; a block's come in the order of their names."""
    digest.update(f"{name} {list(values.shape)}".encode())
    digest.update(_bytes(values))


def _bytes(tensor: torch.Tensor) -> memoryview:
    """The tensor's own memory, row by row, as bytes."""
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def _header(
    slots: Mapping[str, Slot], dtypes: Mapping[str, torch.dtype], metadata: Mapping[str, str]
) -> bytes:
    """A safetensors header: its length, then the table of tensors as JSON, padded to align the
    data.
    """
    from medvision.llm.weight_files import DTYPES

    codes = {dtype: code for code, dtype in DTYPES.items()}
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, slot in slots.items():
        if dtypes[name] not in codes:
            raise BlockError(
                f"{name} has dtype {dtypes[name]}; a block needs one of {', '.join(DTYPES)}"
            )
        begin, end = end, end + math.prod(slot.shape) * dtypes[name].itemsize
        table[name] = {
            "dtype": codes[dtypes[name]],
            "shape": list(slot.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
