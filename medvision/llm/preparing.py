"""Fingerprints of blocks, for the plan of a study. No torch until a block must be extracted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvision.assets import AssetError
from medvision.llm import block_cache as store
from medvision.llm.errors import BlockError
from medvision.llm.sources import locate

Layer = int | Sequence[int]


def prepare_block(source: str | Path, layer: Layer = -1) -> str:
    """Take a block into the cache unless it is there, and return its fingerprint.

    Args:
        source: as for `load_block`.
        layer: as for `load_block`.

    Raises:
        BlockError: as for `load_block`.
        medvision.assets.AssetError: an asset that has not been fetched.
    """
    place = locate(source)
    stored = store.find(store.key(place, plain(layer)))
    if stored is None:
        from medvision.llm.loading import extract

        stored, _ = extract(place, plain(layer), keep=None)
    return stored.fingerprint


def cached_fingerprint(source: str | Path, layer: Layer = -1) -> str | None:
    """The fingerprint of a block in the cache; None where it is not there, or its asset not
    fetched.

    Costs a few file look-ups: no torch, no network, no weight is read.

    Args:
        source: as for `load_block`.
        layer: as for `load_block`.

    Raises:
        BlockError: a source that is neither a checkpoint on disk nor an asset nor a hub id.
    """
    try:
        place = locate(source)
    except AssetError:
        return None
    stored = store.find(store.key(place, plain(layer)))
    return stored.fingerprint if stored else None


def plain(layer: Layer) -> int | tuple[int, ...]:
    """The setting `layer`, checked for its kind."""
    several = layer if isinstance(layer, Sequence) and not isinstance(layer, str) else [layer]
    if not several or not all(
        isinstance(index, int) and not isinstance(index, bool) for index in several
    ):
        raise BlockError(f"layer={layer!r}: give an index (-1 is the last layer) or a list of them")
    return layer if isinstance(layer, int) else tuple(several)
