"""Other weights of the same layers: controls for what of a checkpoint's weights matters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch

from medvision.llm.frozen import FrozenBlock


def permute_weights(block: FrozenBlock, seed: int) -> FrozenBlock:
    """Shuffle the values inside each tensor, in place: every tensor keeps its values, and no value
    its place.

    Args:
        seed: decides the order.

    Returns:
        The block, whose fingerprint is now that of its weights and the seed.
    """

    def shuffled(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        order = torch.randperm(tensor.numel(), generator=generator)
        return tensor.flatten()[order].view(tensor.shape)

    return _changed(block, "permuted", seed, shuffled, vectors=True)


def keep_spectrum(block: FrozenBlock, seed: int) -> FrozenBlock:
    """Replace each matrix by a random one with the same singular values, in place: it stretches as
    before, in directions that mean nothing.

    The singular vectors are drawn uniformly (Haar): the Q of a normal matrix, its signs made
    unique by R's diagonal (Mezzadri 2007, arXiv math-ph/0609050). Matrices of experts are taken one
    by one. Biases and norms stay.

    Args:
        seed: decides the directions.

    Returns:
        The block, whose fingerprint is now that of its weights and the seed.
    """

    def rotated(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        stack = tensor.reshape(-1, *tensor.shape[-2:])
        made = [_same_singular_values(matrix, generator) for matrix in stack]
        return torch.stack(made).view(tensor.shape)

    return _changed(block, "spectrum", seed, rotated, vectors=False)


def _same_singular_values(matrix: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    values = torch.linalg.svdvals(matrix.double())
    left, right = (_orthogonal(size, len(values), generator) for size in matrix.shape)
    return ((left * values) @ right.T).to(matrix.dtype)


def _orthogonal(size: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.randn(size, columns, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(drawn)
    return q * torch.sign(torch.diagonal(r))


def _changed(
    block: FrozenBlock,
    name: str,
    seed: int,
    change: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    *,
    vectors: bool,
) -> FrozenBlock:
    generator = torch.Generator().manual_seed(seed)
    for path, parameter in sorted(block.named_parameters()):
        # Experts hold their biases in one matrix, some attentions the norms of their heads.
        matrix = parameter.ndim > 1 and not path.endswith("bias") and "norm" not in path.lower()
        if vectors or matrix:
            parameter.data = change(parameter.data, generator)
    block.fingerprint = changed_fingerprint(name, seed, block.fingerprint)
    return block


def changed_fingerprint(control: str, seed: int, fingerprint: str) -> str:
    """The fingerprint of a block after `permuted` or `spectrum`, from that of its weights."""
    return hashlib.sha256(f"{control} {seed} {fingerprint}".encode()).hexdigest()
