"""The models by label. `MODEL_LABELS` and the settings need no torch; `build_model` imports it when
called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medvision.models.registry import MODEL_LABELS, resolve_settings
from medvision.models.sizes import Sizes
from medvision.settings import Recipe

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODEL_LABELS", "build_model"]


def build_model(
    label: str,
    *,
    image_size: tuple[int, int, int],
    patch_size: tuple[int, int, int],
    in_channels: int = 1,
    out_channels: int = 1,
    recipe: Recipe = "corrected",
    **settings: Any,
) -> nn.Module:
    """A segmentation network by label, with freshly initialised weights (from torch's global random
    state).

    Args:
        label: one of `MODEL_LABELS`; case and `-`/`_` are forgiven.
        image_size: voxels (X, Y, Z) of the input, each a multiple of the patch.
        patch_size: voxels (X, Y, Z) of one token.
        in_channels: image channels.
        out_channels: label groups, one logit each.
        recipe: `official` makes the official code's network of that label; a setting that is
            given stays.
        settings: what docs/spec.md lists for the label; `llm` is required where
            there is a block.

    Returns:
        A module mapping images [B, in_channels, X, Y, Z] to logits [B, out_channels, X, Y, Z], with
        `set_output_bias(logits)` and `checkpointed`, the names of the parts for gradient
        checkpointing. Networks that are no plain vision transformers choose their own patches and
        pad what they cannot divide.

    Raises:
        ValueError: unknown label, unknown or wrong setting, sizes that do not divide.
    """
    resolved = resolve_settings(label, recipe, **settings)
    module, _, name = resolved.code.partition(":")
    (x, y, z), (px, py, pz) = image_size, patch_size
    sizes = Sizes((x, y, z), (px, py, pz), in_channels, out_channels)
    model: nn.Module = getattr(importlib.import_module(module), name)(resolved, sizes)
    return model
