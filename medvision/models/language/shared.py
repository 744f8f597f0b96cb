"""One frozen block for all models of a process that have it: trials that a worker runs one after
another, and trainings that segment together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn

from medvision.llm import cached_fingerprint
from medvision.llm.frozen import FrozenBlock
from medvision.models.language.settings import LlmSettings

_LAST: dict[str, FrozenBlock] = {}  # one at most: a layer can be as large as all else


def shared(llm: LlmSettings, load: Callable[[LlmSettings], FrozenBlock]) -> FrozenBlock:
    """A block of these settings that holds the same memory as the last one of equal fingerprint and
    settings in this process, while it lies on the CPU; otherwise what `load` gives.

    Nobody may change its weights in place.
    """
    settings = llm.model_dump_json(exclude={"source"})
    fingerprint = cached_fingerprint(llm.source, llm.layer)
    found = _LAST.get(f"{fingerprint} {settings}") if fingerprint else None
    if found is None:
        forget_shared()
        found = load(llm)
        fingerprint = cached_fingerprint(llm.source, llm.layer)
        _LAST[f"{fingerprint} {settings}"] = found
    return _twin(found)


def forget_shared() -> None:
    """Give back the memory of the last block."""
    _LAST.clear()


def _twin(block: FrozenBlock) -> FrozenBlock:
    """The block with modules and parameters of its own over the same memory."""
    same = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False)
        for parameter in block.parameters()
    }
    constants = {id(buffer): buffer.detach() for buffer in block.buffers()}
    return copy.deepcopy(block, {**same, **constants})
