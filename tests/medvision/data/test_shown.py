"""What the network's grid loses of a structure is known before a study starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medvision.data import shown as module
from medvision.data.fingerprints import content_fingerprint, index_cases
from medvision.data.preprocess import prepare
from medvision.data.readers.base import Case, Task
from medvision.data.readers.registry import read_task
from medvision.data.settings import Preparation
from medvision.data.shown import examine, what_is_shown
from medvision.errors import DataError

SHAPE = (20, 24, 18)


def written(folder: Path, label: np.ndarray, image: np.ndarray | None = None) -> Case:
    folder.mkdir(exist_ok=True)
    if image is None:
        image = np.random.default_rng(0).normal(0, 1, label.shape)
    case = Case("c", (folder / "i.nii.gz",), folder / "l.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), np.eye(4)), case.image)
    nibabel.save(nibabel.Nifti1Image(label.astype(np.uint8), np.eye(4)), case.label)
    return case


def wanted(size: tuple[int, int, int], **more: object) -> Preparation:
    return Preparation(groups={"one": [1], "two": [2]}, image_size=size, **more)


corners = st.tuples(*[st.integers(0, side - 1) for side in SHAPE])


@settings(
    deadline=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    place=corners,
    sides=st.tuples(*[st.integers(1, 5)] * 3),
    size=st.tuples(*[st.sampled_from([4, 8, 16, 24])] * 3),
    protocol=st.sampled_from(["paper", "corrected"]),
)
def test_every_structure_is_shown_or_named(
    tmp_path: Path,
    isolated_cache: Path,
    place: tuple[int, ...],
    sides: tuple[int, ...],
    size: tuple[int, int, int],
    protocol: str,
) -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[0, 0, 0] = 2
    label[tuple(slice(low, low + side) for low, side in zip(place, sides, strict=True))] = 1
    case, settings_ = written(tmp_path / "case", label), wanted(size, protocol=protocol)
    found = examine(case, settings_)
    masks = prepare(case, content_fingerprint(case), settings_).masks
    assert not found.errors
    for name, mask in zip(settings_.groups, masks, strict=True):
        named = any(f"label group {name!r} is lost on the network's" in w for w in found.warnings)
        assert named == (not mask.any() and (label == settings_.groups[name][0]).any())
        if protocol == "corrected":
            assert mask.any() or not (label == settings_.groups[name][0]).any()


def test_what_is_lost_on_the_way_back_is_named(tmp_path: Path) -> None:
    label = np.zeros((8, 8, 8), np.uint8)
    label[2:4, 2:4, 2:4] = 1  # one voxel of the network: 0.75 ** 3 of it in each of its eight
    case = written(tmp_path / "case", label)
    (warning,) = examine(case, wanted((4, 4, 4))).warnings
    assert "label group 'one' is lost on the way back from the network's grid of 4x4x4" in warning
    assert examine(case, wanted((8, 8, 8))).warnings == ()


def outside(label: np.ndarray, image: np.ndarray) -> None:
    label[0, 0, 0] = 1


def inside(label: np.ndarray, image: np.ndarray) -> None:
    label[9, 9, 9] = 1


@pytest.mark.parametrize(("where", "refused"), [(outside, True), (inside, False)])
def test_a_structure_outside_of_the_crop_is_found_as_training_finds_it(
    tmp_path: Path, isolated_cache: Path, where: Callable[..., None], refused: bool
) -> None:
    image, label = np.full(SHAPE, -1000.0), np.zeros(SHAPE, np.uint8)
    image[8:16, 3:12, 4:12] = 40
    where(label, image)
    case = written(tmp_path / "case", label, image)
    cropped = wanted((8, 8, 8), protocol="corrected", crop=True, modality=("CT",))
    errors = examine(case, cropped).errors
    assert bool(errors) == refused
    if refused:
        with pytest.raises(DataError) as caught:
            prepare(case, content_fingerprint(case), cropped)
        assert errors == (str(caught.value),)


def task(root: Path) -> Task:
    folder = root / "Task"
    folder.mkdir()
    training = []
    for number in range(3):
        label = np.zeros(SHAPE, np.uint8)
        label[3:9, 4:9, 5 + number : 12] = 1
        label[15, 15, 15] = 2
        rng = np.random.default_rng(number)
        for name, values in (("i", rng.normal(0, 1, SHAPE)), ("l", label)):
            path = folder / f"{name}_{number}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), path)
        training.append({"image": f"i_{number}.nii.gz", "label": f"l_{number}.nii.gz"})
    (folder / "dataset.json").write_text(json.dumps({"training": training}))
    return read_task(root, "Task")


def test_it_is_remembered_by_content_and_settings(
    tmp_path: Path, isolated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, small = task(tmp_path), wanted((4, 4, 4))
    cases = index_cases(made)
    assert what_is_shown(made, cases, small, measure=False) is None
    found = what_is_shown(made, cases, small)
    assert found is not None
    assert sorted(found) == ["i_0", "i_1", "i_2"]
    assert what_is_shown(made, cases, small, measure=False) == found
    assert what_is_shown(made, cases, wanted((8, 8, 8)), measure=False) is None
    assert what_is_shown(made, cases, wanted((4, 4, 4), protocol="corrected")) == {}
    read: list[str] = []
    whole = module.examine
    monkeypatch.setattr(module, "examine", lambda case, of: read.append(case.id) or whole(case, of))
    label = made.cases[1].label
    values = np.asarray(nibabel.load(label).dataobj).copy()
    values[12:18, 12:18, 12:17] = 2
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), label)
    again = what_is_shown(made, index_cases(made), small)
    assert read == ["i_1"]
    assert again is not None
    assert sorted(again) == ["i_0", "i_2"]


def test_settings_of_values_read_no_label_again(tmp_path: Path, isolated_cache: Path) -> None:
    made = task(tmp_path)
    cases = index_cases(made)
    found = what_is_shown(made, cases, wanted((4, 4, 4)))
    for more in ({"intensity": "z-score"}, {"scaled": "file"}):
        assert what_is_shown(made, cases, wanted((4, 4, 4), **more), measure=False) == found


def test_a_read_that_failed_once_is_not_remembered(
    tmp_path: Path, isolated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, small = task(tmp_path), wanted((4, 4, 4))
    cases = index_cases(made)
    load = nibabel.load

    def broken(path: Path, *rest: object, **more: object) -> object:
        if str(path).endswith("l_1.nii.gz"):
            raise OSError(5, "Input/output error")
        return load(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(nibabel, "load", broken)
        failed = what_is_shown(made, cases, small)
    assert failed is not None
    assert "Input/output error" in failed["i_1"].errors[0]
    assert what_is_shown(made, cases, small, measure=False) is None  # asks again
    found = what_is_shown(made, cases, small)
    assert found is not None
    assert not found["i_1"].errors
    assert found["i_0"] == failed["i_0"]
