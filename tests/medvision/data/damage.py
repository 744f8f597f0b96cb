"""Ways in which the files of a case are damaged, with what the check says of each."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

TASK = "Task99_Spheres"


AFFINE = np.diag([1.0, 1.25, 1.5, 1.0])


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    volume = nibabel.load(path)
    return np.array(volume.dataobj), volume.affine


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda path: save(path, change(load(path)[0]), load(path)[1])


def moved(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda path: save(path, load(path)[0], change(load(path)[1]))


def shifted(mm: float) -> Callable[[Path], None]:
    offset = np.zeros((4, 4))
    offset[0, 3] = mm
    return moved(lambda affine: affine + offset)


def with_value(value: float, dtype: type | None = None) -> Callable[[Path], None]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(dtype or array.dtype)
        array[0, 0, 0] = value
        return array

    return changed(change)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def last_bytes_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def checksum_broken(path: Path) -> None:
    content = gzip.compress(gzip.decompress(path.read_bytes()))
    path.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])


def affine_broken(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[280:284] = np.float32(np.nan).tobytes()  # the first of srow_x
    path.write_bytes(gzip.compress(content))


def affine_flat(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[312:328] = bytes(16)  # srow_z
    path.write_bytes(gzip.compress(content))


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated gzip": ("imagesTr", cut, "cannot be read as NIfTI: EOFError"),
    "truncated in gzip's trailer": (
        "imagesTr",
        last_bytes_cut,
        "cannot be read as NIfTI: EOFError",
    ),
    "wrong checksum": ("labelsTr", checksum_broken, "CRC check failed"),
    "wrong shape": (
        "labelsTr",
        changed(lambda a: a[:-1]),
        "shape (15, 17, 15) differs from its image's (16, 17, 15)",
    ),
    "two-dimensional": (
        "imagesTr",
        changed(lambda a: a[:, :, 0]),
        "3D or 4D is needed, its shape is (16, 17)",
    ),
    "nan": ("imagesTr", with_value(np.nan), "holds 1 values that are NaN or infinite"),
    "infinite": ("imagesTr", with_value(-np.inf), "holds 1 values that are NaN or infinite"),
    "nan label": (
        "labelsTr",
        with_value(np.nan, np.float32),
        "holds 1 values that are NaN or infinite",
    ),
    "undeclared label": ("labelsTr", with_value(7), "holds label 7, dataset.json declares 1, 2"),
    "negative label": (
        "labelsTr",
        with_value(-1, np.int16),
        "holds label -1, dataset.json declares 1, 2",
    ),
    "half a label": (
        "labelsTr",
        with_value(1.5, np.float32),
        "(round them and save it again), it holds 1.5",
    ),
    "missing label": ("labelsTr", lambda path: path.unlink(), "is missing"),
    "missing image": ("imagesTr", lambda path: path.unlink(), "is missing"),
    "zero bytes": ("imagesTr", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "no NIfTI": ("labelsTr", lambda path: path.write_bytes(b"no image"), "cannot be read as NIfTI"),
    "moved": ("labelsTr", shifted(3), "3 mm (3 voxels) away from its image"),
    "flipped": (
        "labelsTr",
        moved(lambda a: a @ np.diag([-1, 1, 1, 1])),
        "orientation LAS differs from its image's RAS",
    ),
    "complex": (
        "imagesTr",
        changed(lambda a: a.astype(np.complex64)),
        "real numbers are needed, its voxels are complex64",
    ),
    "nan affine": ("labelsTr", affine_broken, "the affine must be finite"),
    "flat affine": ("imagesTr", affine_flat, "leaves out a direction"),
}
