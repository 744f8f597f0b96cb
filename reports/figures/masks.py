"""Masks over an image so that none looks better than it is: a prediction is filled, the truth an
outline, and an empty or a saturated prediction says so in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reports.health import NEARLY_ALL

# Okabe and Ito's colours, the first ones far apart in grey, too.
STRUCTURES = ("#E69F00", "#0072B2", "#F0E442", "#CC79A7", "#009E73", "#56B4E9", "#D55E00")
OPACITY = 0.6
OUTLINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)))


def draw_image(axis: Any, image: np.ndarray, spacing: Sequence[float] = (1.0, 1.0)) -> None:
    """A slice uint8 [X, Y], x to the right and y up, in its true proportions.

    Args:
        spacing: mm per voxel along X and Y.
    """
    axis.imshow(
        image.T,
        cmap="gray",
        origin="lower",
        aspect=float(spacing[1] / spacing[0]),
        vmin=0,
        vmax=255,
        interpolation="nearest",
    )
    axis.set_xticks([])
    axis.set_yticks([])


def fill(axis: Any, masks: np.ndarray) -> None:
    """Fill masks bool [G, X, Y], each in the colour of its structure, with a thin black edge: in
    grey, a fill alone may look like the image.
    """
    from matplotlib.colors import to_rgb

    shown = np.zeros((*masks.shape[:0:-1], 4))
    for index, mask in enumerate(masks):
        shown[mask.T] = (*to_rgb(STRUCTURES[index % len(STRUCTURES)]), OPACITY)
    aspect = axis.get_aspect()
    axis.imshow(shown, origin="lower", interpolation="nearest", aspect=aspect)
    for mask in masks:
        _contour(axis, mask, colors="black", linewidths=0.5)


def outline(axis: Any, masks: np.ndarray, *, width: float = 1.2) -> None:
    """Outline masks bool [G, X, Y]: white where there is one structure, else in a light tint and a
    line style of each; black on both sides, so that it is seen on any image.
    """
    for index, mask in enumerate(masks):
        colour = _tint(index) if len(masks) > 1 else "white"
        style = OUTLINES[index % len(OUTLINES)]
        _contour(axis, mask, colors="black", linewidths=2.2 * width)
        _contour(axis, mask, colors=[colour], linewidths=width, linestyles=[style])


def _contour(axis: Any, mask: np.ndarray, **look: Any) -> None:
    """The edge of a mask, closed where it touches the border of the image."""
    if mask.any():
        x, y = mask.shape
        padded = np.pad(mask, 1).T.astype(float)
        axis.contour(np.arange(-1, x + 1), np.arange(-1, y + 1), padded, levels=[0.5], **look)
        axis.set_xlim(-0.5, x - 0.5)
        axis.set_ylim(-0.5, y - 0.5)


def union(masks: np.ndarray) -> np.ndarray:
    """All structures of masks bool [G, ...] as one, bool [...]."""
    return np.asarray(masks.any(axis=0))


def volume_word(masks: np.ndarray) -> str:
    """What a prediction bool [G, X, Y, Z] comes to, where the filled area alone would not show it;
    empty text for one that has some voxels and lacks some.
    """
    share = union(masks).mean()
    if share == 0:
        return "empty"
    if share == 1:
        return "everything"
    return f"nearly everything ({min(share, 0.99):.0%})" if share >= NEARLY_ALL else ""


def warn(axis: Any, masks: np.ndarray, z: int, size: float = 9) -> None:
    """Write `volume_word` in the middle of a tile, or that the drawn slice has nothing.

    Args:
        masks: the whole predicted case, bool [G, X, Y, Z].
        z: the slice that is drawn.
    """
    text = volume_word(masks)
    if not text and not masks[..., z].any():
        text = "nothing in this slice"
    if text:
        say(axis, text.replace(" (", "\n(").replace("in this", "in\nthis"), size)


def say(axis: Any, text: str, size: float) -> None:
    """Words in the middle of a tile, readable on any image."""
    axis.text(
        0.5,
        0.5,
        text,
        ha="center",
        va="center",
        fontsize=size,
        fontweight="bold",
        color="black",
        transform=axis.transAxes,
        bbox={"facecolor": "white", "edgecolor": "black", "boxstyle": "round,pad=0.25"},
    )


def scores_text(names: Sequence[str], dice: Mapping[str, float], voxels: Sequence[int]) -> str:
    """What stands below a tile: a line for each structure, without its name where there is one.

    Args:
        dice: by structure; those that are not there are not printed.
    """
    lines = []
    for name, count in zip(names, voxels, strict=True):
        first = f"{name}: " if len(names) > 1 else ""
        value = next(iter(dice.values())) if len(names) == len(dice) == 1 else dice.get(name)
        if value is not None:
            first += "no Dice, " if math.isnan(value) else f"Dice {value:.3f}, "
        lines.append(f"{first}{count:,} voxels")
    return "\n".join(lines)


def key(figure: Any, names: Sequence[str], size: float = 7) -> None:
    """A legend below the figure: what is filled, what is outlined, which colour is which."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    several = len(names) > 1
    for index, name in enumerate(names):
        colour = STRUCTURES[index % len(STRUCTURES)]
        label = f"{name}: predicted" if several else f"{name} (filled)"
        handles.append(Patch(facecolor=colour, alpha=OPACITY + 0.2, label=label))
    for index, name in enumerate(names):
        handles.append(
            Line2D(
                [],
                [],
                color=_tint(index) if several else "white",
                linestyle=OUTLINES[index % len(OUTLINES)],
                linewidth=1.2,
                label=f"{name}: truth" if several else "truth (outline)",
                path_effects=_cased(),
            )
        )
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(names) if 1 < len(names) < 4 else 4,
        frameon=False,
        fontsize=size,
    )


def _cased() -> list[Any]:
    from matplotlib import patheffects

    return [patheffects.Stroke(linewidth=2.6, foreground="black"), patheffects.Normal()]


def _tint(index: int) -> tuple[float, float, float]:
    """The structure's colour, half way to white."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(STRUCTURES[index % len(STRUCTURES)])
    return (1 + red) / 2, (1 + green) / 2, (1 + blue) / 2
