"""Opens every file of a case once; says what is wrong with them, and what they hold.

Values are scaled slice by slice, so an integer CT is never held as float64. Every message begins
with a path.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medvision.data.readers.base import Case, Declared
from medvision.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from medvision.data.content import Content
    from medvision.data.header import Grid


@dataclass(frozen=True)
class Validation:
    """`errors` make a case unusable, `warnings` do not; `labels` are the label's values;
    `volume_mm3` is the volume of everything labelled above 0, `volumes_mm3` that of each value
    above 0; `orientation` is the image's, for example `RAS`; `channels` are the image's, 1 in 3D;
    `shape` and `spacing` (mm) are the image's along X, Y and Z; `content` of each channel, and
    `label_content`, are their fingerprints."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    volume_mm3: float = 0.0
    orientation: str = ""
    channels: int = 1
    content: tuple[Content, ...] = ()
    label_content: str = ""
    volumes_mm3: dict[str, float] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()


def validate(case: Case) -> Validation:
    """All files to their last byte: existence, gzip checksum, header, values, and whether they fit
    together.
    """
    import numpy as np

    from medvision.data.content import label_fingerprint
    from medvision.data.header import misplaced
    from medvision.data.nifti import label_values, open_whole

    errors: list[str] = []
    images: list[Grid] = []
    content: list[Content] = []
    label: Grid | None = None
    labels: tuple[int, ...] = ()
    volume, label_content, volumes = 0.0, "", dict[str, float]()
    for path in case.images:
        try:
            grid, found, problems = _image(path)
            images.append(grid)
            content += found
            errors += problems
        except DataError as error:
            errors.append(str(error))
    try:
        with open_whole(case.label) as opened:
            values = opened.scaled()
        label = opened.grid
        volume = float(np.count_nonzero(values > 0)) * label.voxel_mm3
        whole = label_values(opened, values)
        counts, label_content = _counted(whole), label_fingerprint(whole)
        labels = tuple(counts)
        volumes = {str(value): counts[value] * label.voxel_mm3 for value in labels if value > 0}
    except DataError as error:
        errors.append(str(error))
    warnings = [f"{case.label}: nothing is labelled"] if label and labels == (0,) else []
    if negative := [value for value in labels if value < 0]:
        warnings.append(
            f"{case.label}: holds negative labels ({', '.join(map(str, negative[:5]))}), which "
            "count as background"
        )
    for grid in (*images[1:], *([label] if label else ())) if images else ():
        fits_not, fits_nearly = misplaced(images[0], grid)
        errors += fits_not
        warnings += fits_nearly
    warnings += _doubts([*images, *([label] if label else [])])
    about = (images[0].orientation, sum(grid.channels for grid in images)) if images else ("", 1)
    return Validation(
        tuple(errors),
        tuple(warnings),
        labels,
        volume,
        *about,
        tuple(content),
        label_content,
        volumes,
        images[0].shape if images else (),
        images[0].spacing if images else (),
    )


def undeclared(case: Case, labels: Collection[int], declared: Declared) -> list[str]:
    """One error where the label holds values but 0 that the task does not name; none where it names
    no labels.
    """
    known = {value for values in declared.labels.values() for value in values}
    if not known or not (unknown := sorted(set(labels) - known - {0})):
        return []
    listed = ", ".join(map(str, unknown))
    return [
        f"{case.label}: holds label {listed}, dataset.json declares "
        f"{', '.join(map(str, sorted(known)))}"
    ]


def _image(path: Path) -> tuple[Grid, list[Content], list[str]]:
    """Grid, content of each channel, and what is wrong with the values."""
    from medvision.data.content import ContentReader
    from medvision.data.nifti import count_unusable, open_whole, unusable

    with open_whole(path) as opened:
        stored = opened.unscaled()
    grid = opened.grid
    stored = stored[..., None] if stored.ndim == 3 else stored
    not_finite = large = 0
    found = []
    for channel in range(grid.channels):
        reader = ContentReader(grid.shape)
        for index in range(grid.shape[2]):
            values = opened.scale(stored[:, :, index, channel])
            counts = count_unusable(values)
            not_finite, large = not_finite + counts[0], large + counts[1]
            if not (not_finite or large):
                reader.add(index, values)
        found.append(reader.content())
    problems = unusable(path, not_finite, large)
    return grid, [] if problems else found, problems


def _counted(label: np.ndarray) -> dict[int, int]:
    """The voxels of each value, in the order of values, counted slice by slice."""
    import numpy as np

    counts: dict[int, int] = {}
    for index in range(label.shape[-1]):
        for value, count in zip(*np.unique(label[..., index], return_counts=True), strict=True):
            counts[int(value)] = counts.get(int(value), 0) + int(count)
    return dict(sorted(counts.items()))


def _doubts(grids: list[Grid]) -> list[str]:
    """What is odd about the headers; the same oddity of several files of a case once."""
    first: dict[str, Path] = {}
    for grid in grids:
        for doubt in grid.doubts:
            first.setdefault(doubt, grid.path)
    return [f"{path}: {doubt}" for doubt, path in first.items()]
