"""Slices of one case as small pictures: image, truth, prediction side by side."""

from __future__ import annotations

import io

import numpy as np

from reports.figures.masks import OPACITY, STRUCTURES, union, volume_word

EDGE = 192  # pixels of a tile's shorter side, at least
STRIP = 32  # pixels of the two lines of text


def slice_pictures(
    image: np.ndarray, truths: np.ndarray, predicted: np.ndarray, title: str
) -> list[bytes]:
    """A PNG of every slice across the last axis: the image, the truth filled, and the prediction
    filled with the truth as a white line. It says where a prediction is empty or everything.

    Args:
        image: [X, Y, Z], of any range.
        truths, predicted: bool [G, X, Y, Z].
        title: what stands above, before the slice's own numbers.
    """
    low, high = np.percentile(image, [0.5, 99.5])
    grey = np.clip(255 * (image - low) / max(float(high - low), 1e-12), 0, 255).astype(np.uint8)
    word = volume_word(predicted)
    whole = f"Dice {_dice(truths, predicted):.3f}, {int(union(predicted).sum()):,} voxels"
    pictures = []
    for z in range(image.shape[2]):
        base = np.repeat(grey[..., z, None], 3, axis=2)
        true, found = truths[..., z], predicted[..., z]
        tiles = [base, _filled(base, true), _outlined(_filled(base, found), union(true))]
        here = int(union(found).sum())
        text = f"{title}, slice {z}\nimage, truth, prediction ({whole}, {here:,} in this slice)"
        pictures.append(_png(tiles, text, word))
    return pictures


def _dice(truths: np.ndarray, predicted: np.ndarray) -> float:
    """Of all structures as one; 1 where neither has any."""
    true, found = union(truths), union(predicted)
    both = int(true.sum() + found.sum())
    return 2 * int((true & found).sum()) / both if both else 1.0


def _filled(tile: np.ndarray, masks: np.ndarray) -> np.ndarray:
    shown = tile.astype(float)
    for index, mask in enumerate(masks):
        colour = STRUCTURES[index % len(STRUCTURES)]
        rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
        shown[mask] = (1 - OPACITY) * tile[mask] + OPACITY * rgb
    return shown.astype(np.uint8)


def _outlined(tile: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask with a neighbour outside of it, in white."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    shown = tile.copy()
    shown[mask & ~inner] = 255
    return shown


def _png(tiles: list[np.ndarray], text: str, word: str) -> bytes:
    from PIL import Image, ImageDraw

    # x to the right and y up, as in the other figures
    rows = np.concatenate([tile.transpose(1, 0, 2)[::-1] for tile in tiles], axis=1)
    scale = max(1, -(-EDGE // min(tiles[0].shape[:2])))
    body = Image.fromarray(rows).resize(
        (rows.shape[1] * scale, rows.shape[0] * scale), Image.Resampling.NEAREST
    )
    whole = Image.new("RGB", (body.width, body.height + STRIP), "white")
    whole.paste(body, (0, STRIP))
    draw = ImageDraw.Draw(whole)
    draw.text((4, 3), text, fill="black")
    if word:
        middle = (body.width * 5 // 6, STRIP + body.height // 2)
        box = draw.textbbox(middle, word, anchor="mm")
        draw.rectangle((box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4), fill="white")
        draw.text(middle, word, fill="black", anchor="mm")
    buffer = io.BytesIO()
    whole.save(buffer, format="PNG")
    return buffer.getvalue()
