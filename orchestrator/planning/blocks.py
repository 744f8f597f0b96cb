"""What a plan needs to know of language-model blocks: fingerprints and sizes, remembered or
made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medvision.assets import ASSETS, AssetError, fetch
from medvision.models.language.settings import PACKAGED_SIZES, LlmSettings
from orchestrator.planning.found import BlockInputs
from orchestrator.spec.study import Spec, model_name


def with_block(spec: Spec) -> dict[str, LlmSettings]:
    """The blocks of those models that have one, by the model's name."""
    return {model_name(model): llm for model in spec.models if (llm := model.block)}


def remembered_block(llm: LlmSettings) -> BlockInputs:
    """What is known without reading a weight."""
    from medvision.llm import BlockError, cached_fingerprint

    try:
        fingerprint = cached_fingerprint(llm.source, llm.layer)
    except (AssetError, BlockError) as error:
        return BlockInputs(size=block_size(llm), missing=str(error))
    if fingerprint is None:
        return BlockInputs(
            size=block_size(llm),
            missing=f"block {llm.source!r} was not read yet; the first run does",
            unread=True,
        )
    return BlockInputs(fingerprint, block_size(llm))


def prepared_block(name: str, llm: LlmSettings) -> BlockInputs:
    """The same of the block of the model `name`, made where it is not there."""
    from medvision.llm import BlockError, prepare_block

    try:
        if llm.source in ASSETS:
            fetch(llm.source)
        return BlockInputs(prepare_block(llm.source, llm.layer), block_size(llm))
    except (AssetError, BlockError, OSError) as error:
        return BlockInputs(missing=f"model {name}: llm.source: {unkept(error)}")


def unkept(error: Exception) -> str:
    """The message of an error; of one about files of the cache, what to do."""
    if isinstance(error, OSError):
        return f"{error}; point MEDVISION_CACHE at a folder with room to write"
    return str(error)


def block_size(llm: LlmSettings) -> Mapping[str, Any] | None:
    """Width of a layer and weights of its matrices, for the estimate only; None where they are not
    known.
    """
    from medvision.llm import BlockError, describe_block

    if llm.source in PACKAGED_SIZES:
        return PACKAGED_SIZES[llm.source]
    try:
        about = describe_block(llm.source)
    except (AssetError, BlockError):
        return None
    width = int(about["hidden_size"])
    attention = 2 * about["head_dim"] * (about["heads"] + about["kv_heads"])
    feed_forward = (3 if about["gated"] else 2) * about["intermediate_size"]
    return {"hidden_size": width, "parameters": width * int(attention + feed_forward)}
