"""What is asked of a volume's file before and while it is read, whatever its format."""

from __future__ import annotations

import contextlib
import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvision.errors import DataError
from medvision.placeholders import HEAD, placeholder

ITK_ENDINGS = (".mha", ".nrrd")  # MetaImage and NRRD, `medvision.data.itk`
ENDINGS = (".nii.gz", ".nii", *ITK_ENDINGS)  # upper case included
GZIP = b"\x1f\x8b"
_MOST_PACKED = 1032  # bytes that DEFLATE makes of one at most


def without_suffixes(name: str) -> str:
    """A volume's file name without `.nii.gz` and such, upper case included."""
    for suffix in ENDINGS:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def start_of(path: Path) -> bytes:
    """The first bytes of a file that may be a volume.

    Raises:
        DataError: its name or its first bytes are not those of a volume.
    """
    if not path.is_file():
        raise DataError(f"{path}: is missing")
    with named(path), path.open("rb") as file:
        start = file.read(HEAD)
    if not start:
        raise DataError(f"{path}: is empty (0 bytes)")
    if instead := placeholder(start):
        raise DataError(f"{path}: {instead}")
    ending = next((each for each in ENDINGS if path.name.lower().endswith(each)), None)
    if ending is None and path.name.lower().endswith((".mhd", ".nhdr")):
        raise DataError(
            f"{path}: its voxels are in a file of their own, which may change unseen: save it as "
            "one file, .mha or .nrrd"
        )
    if ending is None:
        raise DataError(
            f"{path}: only {', '.join(ENDINGS[:-1])} and {ENDINGS[-1]} files are read, by their "
            "ending; convert it, for example with nibabel or mri_convert"
        )
    if ending in ITK_ENDINGS:
        return start
    if (packed := start.startswith(GZIP)) != (ending == ".nii.gz"):
        raise DataError(
            f"{path}: cannot be read as NIfTI: its name ends with {path.name[-len(ending) :]}, but "
            f"it is {'' if packed else 'not '}compressed by gzip"
        )
    return start


def check_promise(path: Path, stored: Any, *, packed: bool) -> None:
    """Refuse a header that announces more voxels than the file can hold, before memory is taken for
    them.

    Raises:
        DataError: it does.
    """
    if 0 in stored.shape:
        raise DataError(f"{path}: holds no voxels, its shape is {stored.shape}")
    needed, size = math.prod(stored.shape) * stored.dtype.itemsize, path.stat().st_size
    if needed > size * (_MOST_PACKED if packed else 1):
        raise DataError(
            f"{path}: is damaged or cut off: {size} bytes cannot hold a volume of shape "
            f"{stored.shape}"
        )


def stream_of(path: Path) -> Any:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


@contextlib.contextmanager
def named(path: Path, kind: str = "NIfTI") -> Iterator[None]:
    """Whatever a library raises of a broken file, which is of many kinds, as one that names the
    file.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read as {kind}: {type(error).__name__}: {error}"
        ) from error
