"""One frozen block out of a language model's checkpoint, whatever its format.

    from medvision.llm import load_block
    block = load_block("smollm2-135m")         # the last layer of SmolLM2, hidden size 576
    tokens = block(torch.randn(1, 512, 576))   # [1, 512, 576]

Importing this package, `describe_block` and `cached_fingerprint` need no torch; `load_block` brings
it in.
"""

from typing import TYPE_CHECKING, Any

from medvision.llm.configs import describe_block
from medvision.llm.errors import BlockError
from medvision.llm.fingerprints import cached_fingerprint, prepare_block

if TYPE_CHECKING:
    from medvision.llm.frozen import FrozenBlock
    from medvision.llm.loading import load_block

__all__ = [
    "BlockError",
    "FrozenBlock",
    "cached_fingerprint",
    "describe_block",
    "load_block",
    "prepare_block",
]


def __getattr__(name: str) -> Any:
    if name == "load_block":
        from medvision.llm.loading import load_block

        return load_block
    if name == "FrozenBlock":
        from medvision.llm.frozen import FrozenBlock

        return FrozenBlock
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
