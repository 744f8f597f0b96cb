"""Turns a case into what a network sees, in the way of the settings' view
(`medvision.data.views`); made once, then read from the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medvision.data.cache import cached
from medvision.data.fingerprints import require_unchanged
from medvision.data.nifti import open_volume, read_image, read_truth
from medvision.data.patches import structure_points
from medvision.data.readers.base import Case
from medvision.data.settings import Channel, Preparation
from medvision.data.views.base import Placement, PreprocessedCase
from medvision.data.views.registry import view_of
from medvision.errors import DataError
from medvision.settings import counted

PREPARED_VERSION = 4  # enters the cache's key: raise it when the files change


def prepare(case: Case, fingerprint: str, settings: Preparation) -> PreprocessedCase:
    """What the network sees of a case, memory-mapped from the cache; its key holds the content and
    every setting.

    Args:
        fingerprint: of the case's content (`medvision.data.fingerprints`).

    Raises:
        DataError: as `read_image` and `read_truth`; image and label of different shapes; files
            that are no longer what the fingerprint says.
    """

    def make() -> PreprocessedCase:
        made = _make(case, settings)
        require_unchanged(case, fingerprint)
        return made

    text = json.dumps(
        [PREPARED_VERSION, fingerprint, counted(settings)]
    )  # the groups' order counts
    return cached(hashlib.sha256(text.encode()).hexdigest(), make)


def prepare_image(images: Sequence[Path], settings: Preparation) -> PreprocessedCase:
    """The same for an image without a label; without masks, and not cached.

    Args:
        images: the image's files (`Case.images`).
    """
    image, placement = _shown(images, settings)
    return PreprocessedCase(image, np.zeros((0, *image.shape[1:]), np.uint8), placement)


def file_channels(images: Sequence[Path]) -> int:
    """Channels of an image's files together, by their headers.

    Raises:
        DataError: as `open_volume`.
    """
    return sum(open_volume(path).grid.channels for path in images)


def _make(case: Case, settings: Preparation) -> PreprocessedCase:
    image, placement = _shown(case.images, settings)
    truth = read_truth(case, settings.groups)
    if placement.shape != truth.masks.shape[1:]:
        raise DataError(
            f"{case.image}: shape {placement.shape} differs from its label's "
            f"{truth.masks.shape[1:]} ({case.label})"
        )
    masks = np.empty((len(truth.masks), *image.shape[1:]), np.uint8)
    for name, mask, shown in zip(settings.groups, truth.masks, masks, strict=True):
        try:
            shown[:] = placement.show_mask(torch.from_numpy(mask)).numpy()
        except ValueError as error:
            raise DataError(f"{case.label}: all of label group {name!r} {error}") from error
    points = structure_points(masks) if placement.patches else None
    return PreprocessedCase(image, masks, placement, points)


def _shown(images: Sequence[Path], settings: Preparation) -> tuple[np.ndarray, Placement]:
    try:  # the image is not kept: the label comes next, and a CT is large
        wanted: Channel = "all" if settings.scaled == "file" else settings.channel
        return view_of(settings).show(read_image(images, wanted))
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{images[0]}: {error}") from error
