"""One block: out of the cache, or through it from its checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from medvision.cache import alone
from medvision.llm import block_cache as cache
from medvision.llm.block import RowBlock
from medvision.llm.errors import BlockError
from medvision.llm.extraction import extract
from medvision.llm.families import FAMILIES
from medvision.llm.frozen import FrozenBlock
from medvision.llm.layer_index import Layer, as_written
from medvision.llm.native_block import NativeBlock
from medvision.llm.sources import HubId, locate

_log = logging.getLogger(__name__)


def load_block(
    source: str | Path,
    layer: Layer = -1,
    *,
    rope: bool = False,
    causal: bool = False,
    final_norm: bool = True,
    dtype: torch.dtype = torch.float32,
) -> FrozenBlock:
    """One layer of a language model (or several in a row) as a frozen map of tokens.

    Only the asked layers' tensors and the final norm are read; they are then kept in
    `$MEDVISION_CACHE/blocks`, and the next call reads nothing else. What it reads there is checked
    against the fingerprint; a damaged copy is made again from the source. The layers are
    transformers' own.

    Args:
        source: a Hugging Face folder (`config.json` with safetensors or `pytorch_model.bin`, whole
            or in shards), a folder with Meta's `params.json` and `consolidated.*.pth`, a `.gguf`
            file or a folder with one, one weight file of these; the name of a fetched asset
            (`smollm2-135m`, `minilm-l6`); or a hub id `organisation/name[@revision]`, of which only
            the needed byte ranges (or else shards) are downloaded.
        layer: index from 0, negative from the end, or several, applied in the given order.
        rope: rotary position embedding over positions 0 to T-1, as the model was trained; the
            paper's block has none.
        causal: causal mask (and the model's sliding window, where it has one); the paper's block
            has none.
        final_norm: apply the model's final norm after the layers: RMSNorm, for BioGPT LayerNorm.
            BERT has none (its layers end with one), so there it changes nothing.
        dtype: floating dtype of the parameters.

    Returns:
        A module from [B, T, C] to [B, T, C] with hidden_size (C), family, layer, fingerprint and
        projections. It is always in evaluation mode and needs no gradients itself, but passes them
        on.

    Raises:
        BlockError: nothing there; an unsupported, damaged or unsafe checkpoint; weights that are
            NaN or infinite, or become so in `dtype`; a layer it does not have; rope=True for a
            family without it; a damaged copy whose source is gone, or is another by now.
        medvision.assets.AssetError: an asset that has not been fetched.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise BlockError(
            f"dtype={dtype!r}: a block's parameters are floating-point, such as torch.float32"
        )
    place = locate(source)
    name = cache.key(place, as_written(layer))
    found = _kept(name, dtype)
    if found is None:
        with alone(
            cache.folder()
        ):  # the first trials of a machine start together; one of them reads the checkpoint
            found = _kept(name, dtype) or _from_source(place, name, as_written(layer), dtype)
    stored, tensors = found
    for tensor_name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise BlockError(
                f"{tensor_name} of the block {stored.path} is not finite in {dtype}: take "
                "torch.float32 or torch.bfloat16, or another checkpoint where it is so there, too"
            )
    return _assemble(stored, tensors, rope=rope, causal=causal, final_norm=final_norm)


def _kept(name: str, dtype: torch.dtype) -> tuple[cache.Stored, dict[str, torch.Tensor]] | None:
    """A block and its tensors out of the cache; None where it is not there, or damaged."""
    stored = cache.find(name)
    tensors = cache.read(stored, dtype) if stored is not None else None
    return None if stored is None or tensors is None else (stored, tensors)


def _from_source(
    place: Path | HubId, name: str, layer: int | tuple[int, ...], dtype: torch.dtype
) -> tuple[cache.Stored, dict[str, torch.Tensor]]:
    """A block that is not in the cache, or damaged there, from its checkpoint.

    Raises:
        BlockError: as `extract`; the source of a damaged copy holds other weights than its
            fingerprint says.
    """
    damaged = cache.find(name)
    if damaged is None:
        return extract(place, layer, keep=dtype)
    _log.warning("the cached block %s is damaged; it is made again from its source", damaged.path)
    try:
        stored, tensors = extract(place, layer, keep=dtype)
    except BlockError as error:
        raise BlockError(
            f"the cached block {damaged.path} is damaged, and cannot be made again: {error}"
        ) from error
    if stored.fingerprint != damaged.fingerprint:
        raise BlockError(
            f"the cached block {damaged.path} was damaged, and its source holds other weights by "
            f"now (fingerprint {stored.fingerprint[:12]}, was {damaged.fingerprint[:12]}): start "
            "the study again to plan with these"
        )
    return stored, tensors


def _assemble(
    stored: cache.Stored,
    tensors: dict[str, torch.Tensor],
    *,
    rope: bool,
    causal: bool,
    final_norm: bool,
) -> FrozenBlock:
    """The module, with the tensors as its parameters and no copy of them."""
    factors = tensors.pop("rope_factors", None)
    options: dict[str, Any] = {
        "rope": rope,
        "causal": causal,
        "final_norm": final_norm,
        "fingerprint": stored.fingerprint,
    }
    with torch.device("meta"):
        block: FrozenBlock
        if stored.native:
            block = NativeBlock(stored.config, stored.layers, **options)
        else:
            family = FAMILIES[stored.family]
            block = RowBlock(family, stored.config, stored.layers, rope_factors=factors, **options)
    wanted = {
        name: tensor
        for name, tensor in tensors.items()
        if final_norm or not name.startswith("norm.")
    }
    block.load_state_dict(wanted, assign=True)
    return block
