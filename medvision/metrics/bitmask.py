"""Masks as rows of 64-bit words along the last axis, one bit a voxel, and what compiled code needs
to use them.

Compiled functions run on the caller's thread and let other Python threads run meanwhile. Numba
renews its cache when the file that holds a function changes, not when a file does that it calls
into: so compiled functions call only their own file and the single-instruction operations below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Bitmask = NDArray[np.uint64]

ONE = np.uint64(1)
TOP = np.uint64(63)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile on the first call; cache next to the file, else in the user's cache folder, else not
    at all.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except (
        RuntimeError
    ):  # neither folder can be written: compiling again in each process is slower, not wrong
        return numba.njit(nogil=True)(function)


def _instruction(build: Callable[[Any, Any], Any]) -> Any:
    """A compiled function int64(uint64) that is the one LLVM instruction which `build` emits."""

    def typed(typing_context: Any, word: Any) -> Any:
        return types.int64(types.uint64), lambda context, builder, signature, args: build(
            builder, args[0]
        )

    return intrinsic(typed)


_NOT_ZERO = ir.Constant(ir.IntType(1), 1)

bit_count = _instruction(lambda builder, word: builder.ctpop(word))
# Of a word that is not 0: the zero bits below its lowest one bit, and above its highest.
zeros_below = _instruction(lambda builder, word: builder.cttz(word, _NOT_ZERO))
zeros_above = _instruction(lambda builder, word: builder.ctlz(word, _NOT_ZERO))
