"""Controls with as many parameters as another model, by arithmetic; imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medvision.models.settings import LlmViTSettings, ViTSettings


def vit_parameters(
    settings: ViTSettings,
    image_size: Sequence[int],
    patch_size: Sequence[int],
    in_channels: int,
    out_channels: int,
) -> int:
    """Parameters of a vision transformer without its language-model bridge."""
    dim, patch = settings.embed_dim, math.prod(patch_size)
    tokens = math.prod(size // edge for size, edge in zip(image_size, patch_size, strict=True))
    total = (
        (in_channels * patch + 1) * dim + tokens * dim + 2 * dim + (dim + 1) * patch * out_channels
    )
    total += settings.depth * _block(
        dim, int(dim * settings.mlp_ratio), hybrid=settings.attention == "hybrid"
    )
    if settings.extra_width:
        total += _deep_mlp(dim, settings.extra_width)
    elif settings.extra_mlp:
        total += _mlp(dim, int(dim * settings.mlp_ratio))
    if settings.fusion:
        total += 2 * dim + 3 * 28 * dim + 3 * dim**2 + dim
    return total


def bridge_parameters(settings: LlmViTSettings, width: int, block: int) -> int:
    """Parameters of the bridge: two mappers, the block's own (`block`), and low-rank parts of its
    projections left out.
    """
    dim, rank = settings.embed_dim, settings.lora.rank
    mappers = 2 * dim * width
    if settings.mapper == "lora":
        mappers += dim + width + 2 * rank * (dim + width)
    return mappers + block


def matched(
    settings: ViTSettings,
    target: int,
    *,
    image_size: Sequence[int],
    patch_size: Sequence[int],
    in_channels: int = 1,
    out_channels: int = 1,
) -> ViTSettings:
    """The settings, resized to `target` parameters in all as nearly as whole units allow.

    With `extra_mlp` (ViT_MLP) the extra MLP gets two inner layers of one width, which is solved
    for: a single inner layer would have to be so wide that its activations fit no memory. Otherwise
    (ViT_Depth) the number of blocks is chosen, and then the width of their MLPs.

    Raises:
        ValueError: even the smallest such model has more parameters.
    """
    sizes = (image_size, patch_size, in_channels, out_channels)
    dim = settings.embed_dim
    if settings.extra_mlp:
        plain = settings.model_copy(
            update={"extra_mlp": False, "extra_width": None, "params": None}
        )
        left = target - vit_parameters(plain, *sizes)
        # Solves width^2 + (2 dim + 2) width + dim = left.
        width = round(math.sqrt(max(0, (dim + 1) ** 2 + left - dim)) - (dim + 1))
        if width < 1:
            raise ValueError(_too_small(settings, target, target - left))
        return plain.model_copy(update={"extra_mlp": True, "extra_width": width})
    base = settings.model_copy(update={"depth": 0, "params": None})
    left = target - vit_parameters(base, *sizes)
    hybrid = settings.attention == "hybrid"
    depth = max(1, round(left / _block(dim, int(dim * settings.mlp_ratio), hybrid=hybrid)))
    hidden = round((left / depth - _block(dim, 0, hybrid=hybrid)) / (2 * dim + 1))
    if hidden < 1:
        raise ValueError(
            _too_small(settings, target, target - left + _block(dim, 1, hybrid=hybrid))
        )
    return base.model_copy(update={"depth": depth, "mlp_ratio": (hidden + 0.5) / dim})


def _too_small(settings: ViTSettings, target: int, least: int) -> str:
    return (
        f"{settings.label} with embed_dim {settings.embed_dim} has at least {least:,} parameters, "
        f"more than the {target:,} to be matched: give it a smaller embed_dim"
    )


def _mlp(dim: int, hidden: int) -> int:
    return 2 * dim * hidden + hidden + dim


def _deep_mlp(dim: int, width: int) -> int:
    return width**2 + (2 * dim + 2) * width + dim


def _block(dim: int, hidden: int, *, hybrid: bool = False) -> int:
    local = 28 * dim + dim**2 + dim if hybrid else 0
    return 4 * dim + 4 * dim**2 + 4 * dim + _mlp(dim, hidden) + local
