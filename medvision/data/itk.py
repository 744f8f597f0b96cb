"""MetaImage (.mha) and NRRD (.nrrd) through SimpleITK, as NIfTI shows them: voxels [X, Y, Z], and
an affine to RAS in mm, where ITK's directions are LPS.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medvision.data.volume_file import check_promise, named
from medvision.errors import DataError

_HEADER_BYTES = 1 << 16  # no header is longer
_NRRD_SPACING = (b"space directions", b"spacings")
_META_SPACING = (b"ElementSpacing", b"ElementSize")


@dataclass(frozen=True)
class InMemory:
    """Voxels that were read, with what nibabel's array proxies have."""

    array: np.ndarray
    slope: float = 1.0
    inter: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def get_unscaled(self) -> np.ndarray:
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)

    def __getitem__(self, part: Any) -> np.ndarray:
        return self.array[part]


@dataclass(frozen=True)
class _Announced:
    """What a header promises."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_itk(path: Path) -> tuple[InMemory, Any]:
    """A file's voxels, [X, Y, Z] or [X, Y, Z, channel], and a NIfTI image without them, which holds
    the header that they would have.

    Raises:
        DataError: SimpleITK is not installed; the file is damaged, no image of it, or does not say
            how large its voxels are.
    """
    try:
        itk: Any = importlib.import_module("SimpleITK")
    except ImportError as error:
        raise DataError(
            f"{path}: is read through SimpleITK, which is not installed: pip install SimpleITK "
            "(or medvisionllama-ablation[itk]), or convert it to .nii.gz"
        ) from error
    with named(path, "MetaImage or NRRD"):
        itk.ProcessObject.SetGlobalWarningDisplay(False)
        reader = itk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        _require_spacing(path)
        check_promise(path, _Announced(tuple(reader.GetSize()), np.dtype(np.uint8)), packed=True)
        image = reader.Execute()
        array = itk.GetArrayFromImage(image)
    dimension = image.GetDimension()
    if dimension not in (3, 4):
        raise DataError(f"{path}: 3D or 4D is needed, its shape is {image.GetSize()}")
    several = image.GetNumberOfComponentsPerPixel() > 1
    if several and dimension == 4:
        raise DataError(f"{path}: has several times and several components; save one of them")
    # Times come first in files, [T, Z, Y, X], and components last, [Z, Y, X, C].
    array = np.moveaxis(array, -1, 0).T if several else array.T
    directions = np.array(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    if not math.prod(array.shape):
        raise DataError(f"{path}: holds no voxels, its shape is {array.shape}")
    voxels = np.broadcast_to(np.uint8(0), array.shape)
    return InMemory(array), nibabel.Nifti1Image(voxels, affine)


def _require_spacing(path: Path) -> None:
    """ITK takes 1 mm where a header is silent.

    Raises:
        DataError: this one is.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if head.startswith(b"NRRD"):
        lines, fields = head.partition(b"\n\n")[0].splitlines(), _NRRD_SPACING
    else:
        lines, fields = head.partition(b"ElementDataFile")[0].splitlines(), _META_SPACING
    said = {line.partition(b":" if fields is _NRRD_SPACING else b"=")[0].strip() for line in lines}
    if not said.intersection(fields):
        names = " or ".join(repr(name.decode()) for name in fields)
        raise DataError(f"{path}: does not say how large its voxels are; its header needs {names}")
