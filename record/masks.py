"""Masks as a trial keeps them: one bit a voxel, compressed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Packed(NamedTuple):
    """A case's label groups, bool [G, X, Y, Z], as `bits`, one a voxel, with their `shape`."""

    bits: np.ndarray
    shape: tuple[int, ...]


def packed(masks: np.ndarray) -> Packed:
    """Label groups, bool [G, X, Y, Z], in whatever order they lie in memory."""
    return Packed(np.packbits(masks), masks.shape)


def pack_masks(masks: Mapping[str, Packed]) -> bytes:
    """The masks of all cases; `shape/CASE` holds each shape."""
    arrays = {f"bits/{case}": one.bits for case, one in masks.items()}
    arrays |= {f"shape/{case}": np.asarray(one.shape) for case, one in masks.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack_masks(content: bytes) -> dict[str, np.ndarray]:
    """Case -> mask, bool [groups, X, Y, Z]."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        shapes = {
            name.removeprefix("shape/"): arrays[name]
            for name in arrays.files
            if name.startswith("shape/")
        }
        return {
            case: np.unpackbits(arrays[f"bits/{case}"], count=int(np.prod(shape)))
            .reshape(shape)
            .astype(bool)
            for case, shape in shapes.items()
        }
