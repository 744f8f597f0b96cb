"""A header that contradicts itself is told or refused, and mm come from the affine whatever it
says."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medvision.data.nifti import open_volume, read_image, read_truth
from medvision.data.readers.base import Case
from medvision.data.validate import Validation, validate

SHAPE = (6, 5, 4)
PIXDIM, UNITS, QFORM_CODE, SFORM_CODE, QOFFSET = 80, 123, 252, 254, 268
millimetres = st.integers(-13, 20).map(lambda power: round(10 ** (power / 10), 3))  # 0.05 to 100
spacings = st.tuples(millimetres, millimetres, millimetres)
axes = st.integers(0, 2)
BOUNDED = settings(deadline=None, max_examples=60)


def header(affine: np.ndarray, dtype: type, **fields: bytes) -> bytes:
    """A file of a small block, with bytes of its header written over (`at_80=...`)."""
    values = np.zeros(SHAPE, dtype)
    values[1:4, 1:3, 1:3] = 1
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    content = bytearray(image.to_bytes())
    for place, value in fields.items():
        at = int(place.removeprefix("at_"))
        content[at : at + len(value)] = value
    return bytes(content)


def examined(image: bytes, label: bytes) -> tuple[Validation, Callable[[], object]]:
    folder = Path(tempfile.mkdtemp())
    case = Case("c", (folder / "i.nii",), folder / "l.nii")
    case.image.write_bytes(image)
    case.label.write_bytes(label)
    return validate(case), lambda: (
        read_image(case.images).spacing,
        read_truth(case, {"a": [1]}).spacing,
        shutil.rmtree(folder),
    )


def both(affine: np.ndarray, **fields: bytes) -> tuple[Validation, Callable[[], object]]:
    return examined(header(affine, np.float32, **fields), header(affine, np.uint8, **fields))


@BOUNDED
@given(spacings, axes, st.sampled_from([0.0, 0.5, 0.99, 1.01, 3.0, 1000.0]))
@example((0.5, 0.5, 3.0), 2, 0.0)
def test_pixdim_against_the_affine_is_told_and_the_affine_counts(
    spacing: tuple[float, ...], axis: int, factor: float
) -> None:
    affine = np.diag([*spacing, 1.0])
    wrong = struct.pack("<f", spacing[axis] * factor)
    found, spacings_of = both(affine, **{f"at_{PIXDIM + 4 * axis}": wrong})
    assert not found.errors
    told = [warning for warning in found.warnings if "pixdim says" in warning]
    assert len(told) == 1
    assert told[0].endswith("; the affine is used")
    image, label, _ = spacings_of()
    assert image == pytest.approx(spacing)
    assert label == pytest.approx(spacing)
    assert found.volume_mm3 == pytest.approx(12 * np.prod(spacing), rel=1e-4)


@BOUNDED
@given(spacings, axes, st.sampled_from([0.0, 0.5, 2.0]))
def test_a_label_alone_that_contradicts_itself_is_named(
    spacing: tuple[float, ...], axis: int, factor: float
) -> None:
    affine = np.diag([*spacing, 1.0])
    wrong = struct.pack("<f", spacing[axis] * factor)
    odd = header(affine, np.uint8, **{f"at_{PIXDIM + 4 * axis}": wrong})
    found, clean = examined(header(affine, np.float32), odd)
    assert not found.errors
    assert {w.split(": ")[0].rsplit("/")[-1] for w in found.warnings} == {"l.nii"}
    assert "pixdim says" in found.warnings[0]  # and the qform, which is made with it, is off
    assert found.volume_mm3 == pytest.approx(12 * np.prod(spacing), rel=1e-4)
    clean()


@BOUNDED
@given(spacings, axes, st.floats(1.02, 5))
def test_a_label_of_another_spacing_than_its_image_is_refused(
    spacing: tuple[float, ...], axis: int, factor: float
) -> None:
    other = np.array(spacing)
    other[axis] *= factor
    image = header(np.diag([*spacing, 1.0]), np.float32)
    found, clean = examined(image, header(np.diag([*other, 1.0]), np.uint8))
    assert any("its image's" in error for error in found.errors)
    clean()


@BOUNDED
@given(spacings, st.sampled_from([(1, 1000.0, "metres"), (3, 0.001, "microns")]))
def test_units_are_converted_and_told(
    spacing: tuple[float, ...], unit: tuple[int, float, str]
) -> None:
    code, factor, name = unit
    stored = np.array(spacing) / factor
    found, spacings_of = both(np.diag([*stored, 1.0]), **{f"at_{UNITS}": bytes([code])})
    assert not found.errors
    assert any(f"is in {name}" in warning for warning in found.warnings)
    assert spacings_of()[0] == pytest.approx(spacing, rel=1e-5)
    assert found.volume_mm3 == pytest.approx(12 * np.prod(spacing), rel=1e-4)


@BOUNDED
@given(spacings, st.floats(0, 40), st.permutations(range(3)))
@example((1.0, 1.0, 1.0), 27.0, [0, 1, 2])
def test_sheared_axes_are_refused_slightly_sheared_ones_told(
    spacing: tuple[float, ...], degrees: float, order: list[int]
) -> None:
    lean = np.radians(degrees)
    directions = np.eye(3)
    directions[:, order[1]] = 0
    directions[order[1], order[1]], directions[order[0], order[1]] = np.cos(lean), np.sin(lean)
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    content = header(np.diag([*spacing, 1.0]), np.float32, at_252=struct.pack("<h", 0))
    rows = affine[:3].astype("<f4").tobytes()
    image = content[:280] + rows + content[328:]
    found, clean = examined(image, image)
    refused = any("sheared: two axes" in error for error in found.errors)
    told = any("slightly sheared" in warning for warning in found.warnings)
    cosine = np.sin(lean)
    if abs(cosine - 0.01) > 1e-5 and abs(cosine - 0.001) > 1e-5:
        assert (refused, told) == (cosine > 0.01, 0.001 < cosine <= 0.01)
    if not refused:
        assert found.volume_mm3 == pytest.approx(12 * np.prod(spacing) * np.cos(lean), rel=1e-3)
        clean()


@BOUNDED
@given(spacings, st.floats(0.6, 500))
def test_a_qform_that_contradicts_the_sform_is_told_and_the_sform_counts(
    spacing: tuple[float, ...], voxels: float
) -> None:
    moved = struct.pack("<f", min(spacing) * voxels)
    affine = np.diag([*spacing, 1.0])
    found, clean = both(affine, **{f"at_{QOFFSET}": moved})
    assert not found.errors
    assert any("its qform puts a corner" in warning for warning in found.warnings)
    clean()
    folder = Path(tempfile.mkdtemp())
    path = folder / "i.nii"
    path.write_bytes(header(affine, np.float32, **{f"at_{QOFFSET}": moved}))
    assert open_volume(path).grid.affine[0, 3] == 0
    shutil.rmtree(folder)


@BOUNDED
@given(spacings, axes)
def test_without_a_sform_a_pixdim_of_0_is_no_spacing(spacing: tuple[float, ...], axis: int) -> None:
    nothing = {f"at_{PIXDIM + 4 * axis}": bytes(4), f"at_{SFORM_CODE}": bytes(2)}
    found, _ = both(np.diag([*spacing, 1.0]), **nothing)
    assert any("its spacing is unknown: pixdim says" in error for error in found.errors)


@BOUNDED
@given(spacings)
def test_a_header_that_agrees_with_itself_says_nothing(spacing: tuple[float, ...]) -> None:
    found, spacings_of = both(np.diag([*spacing, 1.0]))
    assert (found.errors, found.warnings) == ((), ())
    assert spacings_of()[0] == pytest.approx(spacing)
