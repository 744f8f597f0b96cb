"""Fingerprints of blocks, for the plan of a study. No torch until a block must be extracted."""

from __future__ import annotations

from pathlib import Path

from medvision.assets import AssetError
from medvision.llm import block_cache as cache
from medvision.llm.layer_index import Layer, as_written
from medvision.llm.sources import locate


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
    stored = cache.find(cache.key(place, as_written(layer)))
    if stored is None:
        from medvision.llm.extraction import extract

        stored, _ = extract(place, as_written(layer), keep=None)
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
    stored = cache.find(cache.key(place, as_written(layer)))
    return stored.fingerprint if stored else None
