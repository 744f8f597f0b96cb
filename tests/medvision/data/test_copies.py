"""The same scan under two ids is found however it was saved again, whatever list names it; another
scan is not."""

from __future__ import annotations

import gzip
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medvision.data.fingerprints import CaseIndex, index_cases
from medvision.data.readers.registry import read_task

SHAPE = (17, 12, 14)
BOUNDED = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def scan(seed: int, channels: int = 0) -> np.ndarray:
    """Whole numbers, so that every number type holds them."""
    rng = np.random.default_rng(seed)
    shape = (*SHAPE, channels) if channels else SHAPE
    return rng.integers(0, 1000, shape).astype(np.int16)


def write(
    path: Path,
    values: np.ndarray,
    *,
    affine: np.ndarray | None = None,
    level: int = 6,
    text: str = "",
) -> None:
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine, dtype=values.dtype)
    image.header["descrip"] = text.encode()
    image.header["db_name"] = text[:10].encode()
    content = image.to_bytes()
    path.write_bytes(
        gzip.compress(content, level, mtime=0) if path.suffix.lower() == ".gz" else content
    )


def indexed(folder: Path, listing: str, names: list[str], labels: list[str]) -> list[CaseIndex]:
    pairs = list(zip(names, labels, strict=True))
    if listing == "data_file.txt":
        (folder / listing).write_text("".join(f"{image},{label}\n" for image, label in pairs))
    else:
        training = [
            {"image": [image] if listing == "lists" else image, "label": label}
            for image, label in pairs
        ]
        (folder / "dataset.json").write_text(json.dumps({"training": training}))
    return index_cases(read_task(folder.parent, folder.name))


def two(first: np.ndarray, second: np.ndarray, listing: str, **how: Any) -> list[CaseIndex]:
    folder = Path(tempfile.mkdtemp()) / "Task"
    folder.mkdir()
    ending = how.pop("ending", ".nii.gz")
    write(folder / "a.nii.gz", first)
    write(folder / f"b{ending}", second, **how)
    for number, (name, values) in enumerate((("la", first), ("lb", second))):
        label = np.zeros(values.shape[:3], np.uint8)
        label[1:5, 2 : 6 + number, 3:6] = 1
        label[1, 2, 3] = 0  # no box, of which any two are alike
        write(folder / f"{name}.nii", label, affine=None if number == 0 else how.get("affine"))
    return indexed(folder, listing, ["a.nii.gz", f"b{ending}"], ["la.nii", "lb.nii"])


listings = st.sampled_from(["dataset.json", "data_file.txt", "lists"])


@BOUNDED
@given(
    seed=st.integers(0, 99),
    listing=listings,
    dtype=st.sampled_from([np.int16, np.uint16, np.int32, np.float32, np.float64, np.int64]),
    level=st.integers(0, 9),
    text=st.text("abc xyz", max_size=20),
    ending=st.sampled_from([".nii", ".nii.gz", ".NII.GZ"]),
    order=st.permutations(range(3)),
    flips=st.tuples(*[st.booleans()] * 3),
)
def test_a_copy_is_an_error_that_names_both(
    isolated_cache: Path,
    seed: int,
    listing: str,
    dtype: type,
    level: int,
    text: str,
    ending: str,
    order: list[int],
    flips: tuple[bool, ...],
) -> None:
    first = scan(seed)
    second = np.flip(first, [axis for axis in range(3) if flips[axis]]).transpose(order)
    how = {"level": level, "text": text, "ending": ending}
    found = two(first, second.astype(dtype), listing, **how)
    assert [bool(case.errors) for case in found] == [False, True]
    (error,) = found[1].errors
    turned = list(order) != [0, 1, 2] or any(flips)
    assert error.endswith(
        "the image of a, turned or mirrored" if turned else "same content as the image of a"
    )


@BOUNDED
@given(seed=st.integers(0, 99), listing=listings, factor=st.floats(0.3, 3), shift=st.floats(-9, 99))
def test_a_copy_but_for_scale_and_rounding_is_told(
    isolated_cache: Path, seed: int, listing: str, factor: float, shift: float
) -> None:
    first = scan(seed)
    found = two(first, np.round(first * factor + shift).astype(np.float32), listing)
    told = [*found[1].errors, *found[1].warnings]
    assert any("only by rounding and scale" in one or "same content" in one for one in told)


@BOUNDED
@given(seed=st.integers(0, 99), listing=listings, noise=st.floats(20, 300))
def test_another_scan_is_none(isolated_cache: Path, seed: int, listing: str, noise: float) -> None:
    """Alike but for noise of 2 % of the range and more, as two scans of one person are."""
    first = scan(seed)
    other = first + np.random.default_rng(seed + 1).normal(0, noise, SHAPE)
    found = two(first, other.astype(np.float32), listing)
    assert [*found[1].errors, *found[1].warnings] == []


@pytest.mark.parametrize("channel", [0, 1])
def test_one_channel_of_another_scan_is_a_copy(isolated_cache: Path, channel: int) -> None:
    first, second = scan(1, 2), scan(2, 2)
    second[..., channel] = first[..., 1 - channel]
    found = two(first, second, "dataset.json")
    assert "same content as the image of a" in found[1].errors[0]


def test_one_label_for_two_images_is_told_by_file_and_by_content(
    tmp_path: Path, isolated_cache: Path
) -> None:
    folder = tmp_path / "Task"
    folder.mkdir()
    label = np.zeros(SHAPE, np.uint8)
    label[2:9, 3:7, 5:8] = 1
    label[2, 3, 5] = 0
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        write(folder / f"{name}.nii", scan(seed))
    write(folder / "l.nii", label)
    write(folder / "again.nii.gz", label.astype(np.float32), level=1, text="saved again")
    found = indexed(
        folder, "data_file.txt", ["a.nii", "b.nii", "c.nii"], ["l.nii", "l.nii", "again.nii.gz"]
    )
    assert not any(case.errors for case in found)
    assert ["is also the label of a" in " ".join(case.warnings) for case in found] == [
        False,
        True,
        False,
    ]
    assert "same content as the label of a" in " ".join(found[2].warnings)


def test_a_copy_among_the_test_cases_of_the_task_is_found(
    tmp_path: Path, isolated_cache: Path
) -> None:
    folder = tmp_path / "Task"
    for part in ("imagesTs", "labelsTs"):
        (folder / part).mkdir(parents=True)
    label = np.zeros(SHAPE, np.uint8)
    for (number, name), axis in zip(enumerate(("a", "b")), itertools.count()):
        label[2:9, 3:7, 5 : 8 + axis] = 1
        write(folder / f"{name}.nii", scan(number))
        write(folder / f"l{name}.nii", label)
    write(folder / "imagesTs" / "t.nii.gz", scan(0)[::-1])
    write(folder / "labelsTs" / "t.nii.gz", label[::-1])
    found = indexed(folder, "data_file.txt", ["a.nii", "b.nii"], ["la.nii", "lb.nii"])
    errors = {case.id: case.errors for case in found}
    assert "same voxels as the image of a, turned or mirrored" in errors["t"][0]
    assert not errors["a"]
