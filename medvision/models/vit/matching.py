"""How large a vision transformer must be to have as many parameters as another model, by
arithmetic. Imports no torch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from medvision.models.arithmetic import Layer, transformer_block


def widths_mlp(dim: int, widths: Sequence[int], tokens: int) -> Layer:
    """An MLP from `dim` through inner layers of these widths and back."""
    weights = sum(before * after for before, after in itertools.pairwise([dim, *widths, dim]))
    return Layer(weights + sum(widths) + dim, 2 * tokens * weights)


def width_for(parameters: int, dim: int) -> int:
    """The width of two inner layers (`widths_mlp`) with about so many parameters; below 1 where
    there is none.
    """
    # Solves width^2 + (2 dim + 2) width + dim = parameters.
    return round(math.sqrt(max(0, (dim + 1) ** 2 + parameters - dim)) - (dim + 1))


def blocks_for(
    parameters: int, dim: int, mlp_ratio: float, *, local: bool
) -> tuple[int, float, int]:
    """Blocks with about so many parameters together: their number, chosen for `mlp_ratio`, and then
    the MLP's ratio.

    Returns:
        number of blocks, ratio, hidden width; a width below 1 means that even one block is larger.
    """
    depth = max(1, round(parameters / _block(dim, mlp_ratio, local=local)))
    hidden = round((parameters / depth - _block(dim, 0, local=local)) / (2 * dim + 1))
    return depth, (hidden + 0.5) / dim, hidden  # the half keeps int(dim * ratio) at `hidden`


def smallest_block(dim: int, *, local: bool) -> int:
    """Parameters of a block whose MLP has one hidden unit."""
    return _block(dim, 1.5 / dim, local=local)


def _block(dim: int, mlp_ratio: float, *, local: bool) -> int:
    return sum(layer.parameters for layer in transformer_block(dim, mlp_ratio, 1, local=local))
