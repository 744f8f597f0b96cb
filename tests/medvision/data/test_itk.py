"""The same case as NIfTI, MetaImage and NRRD: one set of numbers."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from medvision.data.label_files import label_files
from medvision.data.nifti import open_volume, read_image, read_truth
from medvision.data.readers.base import Case
from medvision.data.validate import validate
from medvision.errors import DataError
from orchestrator.compare import compare

GROUPS = {"shell": [1], "core": [2]}
SHAPE, SPACING, ORIGIN = (9, 8, 7), (0.8, 1.25, 3.0), (-20.5, 31.0, 4.25)
FLIPS = {"RAS": (1, 1, 1), "LPS": (-1, -1, 1), "LAI": (-1, 1, -1)}


def written(folder: Path, orientation: str) -> Case:
    """A case with axes in these directions, turned a little around Z, as NIfTI."""
    rng = np.random.default_rng(0)
    turned = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turned * np.array(FLIPS[orientation]) * SPACING
    affine[:3, 3] = ORIGIN
    label = rng.integers(0, 3, SHAPE).astype(np.uint8)
    image = rng.normal(0, 100, SHAPE).astype(np.float32)
    for name, array in (("image", image), ("label", label)):
        nibabel.save(nibabel.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
    return Case("c", (folder / "image.nii.gz",), folder / "label.nii.gz")


def converted(case: Case, ending: str) -> Case:
    files = []
    for path in case.files:
        files.append(path.with_name(path.name.replace(".nii.gz", ending)))
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(files[-1]), True)
    return Case(case.id, tuple(files[:-1]), files[-1])


@pytest.mark.parametrize("orientation", FLIPS)
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_every_format_gives_the_same_numbers(tmp_path: Path, ending: str, orientation: str) -> None:
    case = written(tmp_path, orientation)
    other = converted(case, ending)
    images = [read_image(one.images) for one in (case, other)]
    assert np.array_equal(images[0].channels, images[1].channels)
    assert images[0].spacing == images[1].spacing
    assert images[0].affine == pytest.approx(images[1].affine, abs=1e-5)
    truths = [read_truth(one, GROUPS) for one in (case, other)]
    assert np.array_equal(truths[0].masks, truths[1].masks)
    assert truths[0].spacing == truths[1].spacing
    found = [validate(one) for one in (case, other)]
    assert found[1].errors == found[1].warnings == ()
    assert found[0].content == found[1].content
    assert found[0].volumes_mm3 == pytest.approx(found[1].volumes_mm3)
    assert found[0].orientation == found[1].orientation
    mixed = validate(Case("c", case.images, other.label))
    assert not mixed.errors


def test_masks_of_any_format_are_compared(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("truth", "A", "B")]
    for folder, ending in zip(folders, (".nii.gz", ".mha", ".nrrd"), strict=True):
        folder.mkdir()
        case = written(folder, "LPS")
        (folder / "image.nii.gz").unlink()
        if ending != ".nii.gz":
            image = SimpleITK.ReadImage(str(case.label))
            SimpleITK.WriteImage(image, str(folder / f"label{ending}"))
            case.label.unlink()
    found = compare(folders[0], dict(zip("AB", folders[1:], strict=True)), output=tmp_path / "out")
    assert (found.cases["dice"] == 1).all()
    assert len(found.cases) == 2


def test_components_are_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(7, 8, 9, 2)).astype(np.float32)  # Z, Y, X, component
    image = SimpleITK.GetImageFromArray(array, isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / "i.mha"))
    read = read_image([tmp_path / "i.mha"], "all").channels
    assert np.array_equal(read, np.moveaxis(array, -1, 0).transpose(0, 3, 2, 1))


def test_damaged_and_divided_files_are_refused(tmp_path: Path) -> None:
    case = converted(written(tmp_path, "RAS"), ".mha")
    whole = case.label.read_bytes()
    case.label.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"label\.mha: cannot be read as MetaImage"):
        open_volume(case.label)
    case.label.write_bytes(whole.replace(b"DimSize = 9 8 7", b"DimSize = 90000 80000 70000"))
    with pytest.raises(DataError, match=r"label.mha: (cannot be read|is damaged or cut off)"):
        open_volume(case.label)
    (tmp_path / "x.mhd").write_text("ObjectType = Image")
    with pytest.raises(DataError, match=r"save it as one file, \.mha or \.nrrd"):
        open_volume(tmp_path / "x.mhd")
    with pytest.raises(DataError, match="second file of the case"):
        label_files(tmp_path)


@pytest.mark.parametrize(
    ("ending", "field", "said"),
    [
        (".nrrd", b"space directions:", "needs 'space directions' or 'spacings'"),
        (".mha", b"ElementSpacing =", "needs 'ElementSpacing' or 'ElementSize'"),
    ],
)
def test_a_header_without_the_size_of_its_voxels_is_refused(
    tmp_path: Path, ending: str, field: bytes, said: str
) -> None:
    label = converted(written(tmp_path, "RAS"), ending).label
    lines = label.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(field)]
    assert len(kept) == len(lines) - 1
    label.write_bytes(b"".join(kept))
    with pytest.raises(DataError, match=said):
        open_volume(label)
