"""Masks that any tool has written: a folder's files by case, one of them read and checked against
its truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvision.data.header import Grid, misplaced
from medvision.data.nifti import Groups, label_values, open_whole
from medvision.data.settings import LabelGroups
from medvision.data.volume_file import ENDINGS, without_suffixes
from medvision.errors import DataError

ROUNDED = 1e-3  # a probability may be so far outside of 0 to 1
Source = Path | np.ndarray  # a file, or an array: whole numbers, probabilities


@dataclass(frozen=True)
class LabelMap:
    """`values`: whole numbers [X, Y, Z]; `grid`: how they lie in space."""

    values: np.ndarray
    grid: Grid


def label_files(folder: Path, advice: str = "") -> dict[str, Path]:
    """The label files of a folder by case, which is the file's name without suffixes; other files,
    hidden ones and folders do not count.

    Args:
        folder: where they lie.
        advice: what the error says where there are only folders in it.

    Raises:
        DataError: no such folder, none in it, or two of one case.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(ENDINGS):
            continue
        case = without_suffixes(path.name)
        if case in found:
            raise DataError(f"{path}: is a second file of the case {case}, beside {found[case]}")
        found[case] = path
    if not found:
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir())[:5]
        hint = f"; it has the folders {', '.join(inside)}" if inside else ""
        hint += f": {advice}" if inside and advice else ""
        raise DataError(f"{folder}: holds no {' or '.join(ENDINGS)} file{hint}")
    return found


def read_labels(source: Source, name: str, spacing: tuple[float, float, float]) -> LabelMap:
    """A file to its last byte, or an array.

    Args:
        source: the file, or whole numbers [X, Y, Z].
        name: what messages call an array.
        spacing: of an array, mm along X, Y and Z.

    Raises:
        DataError: as `open_whole` and `label_values`; an array that is not 3D, empty, or of no
            boolean or integer type.
    """
    if isinstance(source, Path):
        with open_whole(source) as opened:
            values = opened.scaled()
        return LabelMap(label_values(opened, values), opened.grid)
    if source.ndim != 3 or not source.size or source.dtype.kind not in "biu":
        raise DataError(
            f"{name}: whole numbers or truth values [X, Y, Z] are needed, it is {source.dtype} of "
            f"shape {source.shape}; cut probabilities first (mask > 0.5)"
        )
    return LabelMap(source, _grid_of(source, name, spacing))


def read_probabilities(
    source: Source, name: str, spacing: tuple[float, float, float], groups: int
) -> LabelMap:
    """A file or an array of probabilities, as numbers whose bit g says that a voxel is in label
    group g (`bits_of`).

    Args:
        source: [X, Y, Z, C] or [X, Y, Z]: one channel a label group, in their order: above 0.5 is
            in it, or before them one of the background: the likeliest of all is taken.
        name: what messages call an array.
        spacing: of an array, mm along X, Y and Z.
        groups: how many there are.

    Raises:
        DataError: as `open_whole`; another number of channels, or values that are no
            probabilities.
    """
    if isinstance(source, Path):
        with open_whole(source) as opened:
            values, grid = opened.scaled(), opened.grid
    elif source.ndim in (3, 4) and source.size and source.dtype.kind in "biuf":
        values, grid = source, _grid_of(source, name, spacing)
    else:
        raise DataError(
            f"{name}: probabilities [X, Y, Z, C] or [X, Y, Z] are needed, it is {source.dtype} of "
            f"shape {source.shape}"
        )
    if grid.channels not in (groups, groups + 1):
        raise DataError(
            f"{grid.path}: has {grid.channels} channels; probabilities of {groups} structures are "
            "as many, or one more with the background first"
        )
    values = values if values.ndim == 4 else values[..., None]
    if not ((values >= -ROUNDED) & (values <= 1 + ROUNDED)).all():  # NaN is neither
        raise DataError(f"{grid.path}: probabilities lie between 0 and 1, it holds others")
    if grid.channels == groups:
        inside = values > 0.5
    else:
        inside = np.argmax(values, axis=-1)[..., None] == np.arange(1, groups + 1)
    bits = (inside << np.arange(groups)).sum(axis=-1)
    return LabelMap(bits, grid)


def _grid_of(array: np.ndarray, name: str, spacing: tuple[float, float, float]) -> Grid:
    """How an array lies in space: as a file would that says its spacing alone."""
    affine = np.diag([*spacing, 1.0])
    volume = float(np.prod(spacing))
    channels = array.shape[3] if array.ndim == 4 else 1
    return Grid(Path(name), array.shape[:3], affine, spacing, volume, channels)


def bits_of(groups: Groups) -> LabelGroups:
    """The numbers of `read_probabilities` that are in each label group."""
    numbers = range(1, 2 ** len(groups))
    return {
        name: [number for number in numbers if number >> place & 1]
        for place, name in enumerate(groups)
    }


def wrong_mask(
    mask: LabelMap,
    truth: LabelMap,
    groups: Groups,
    *,
    strict: bool,
    others: Collection[int] = (),
) -> str | None:
    """Why a mask cannot be scored against its truth, if so.

    Args:
        mask: the tool's.
        truth: the same case's.
        groups: the values of each label group in the mask.
        strict: whether values of no group are wrong, too.
        others: those that are not.
    """
    problems, _ = misplaced(truth.grid, mask.grid, "truth")
    if problems or not strict or "all" in groups.values():
        return problems[0] if problems else None
    known = {0, *others, *(int(value) for values in groups.values() for value in values)}
    unknown = sorted(labels_in(mask.values) - known)
    if not unknown:
        return None
    listed = ", ".join(f"{name} {list(values)}" for name, values in groups.items())
    return (
        f"{mask.grid.path}: holds the label {', '.join(map(str, unknown[:5]))}, which belongs to "
        f"no group ({listed})"
    )


def labels_in(values: np.ndarray) -> set[int]:
    """The numbers that a label [X, Y, Z] holds, found slice by slice."""
    found: set[int] = set()
    for index in range(values.shape[-1]):
        found.update(np.unique(values[..., index]).tolist())
    return {int(value) for value in found}


def content_of(source: Source) -> str:
    """sha256 of a file's bytes, or of an array's shape and values."""
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{source}: cannot be read: {error}") from error
    values = np.ascontiguousarray(source)
    head = f"{values.shape} {values.dtype.str}\n".encode()
    return hashlib.sha256(head + values.tobytes()).hexdigest()


def contents_of(sources: Mapping[str, Source]) -> dict[str, str]:
    """`content_of` by case, in the order of the cases."""
    return {case: content_of(sources[case]) for case in sorted(sources)}
