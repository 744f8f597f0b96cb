"""Reading tasks and volumes, preparing them, remembering fingerprints; the embedded task."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medvision.data.embedded import TASK_NAME, write_embedded_task
from medvision.data.fingerprints import cached_index, content_fingerprint, index_cases
from medvision.data.nifti import read_image, read_truth
from medvision.data.preprocess import prepare
from medvision.data.readers.base import Case, Task
from medvision.data.readers.registry import read_task
from medvision.data.settings import Preparation
from medvision.data.views.base import PreprocessedCase
from medvision.data.views.paper import resize
from medvision.errors import DataError
from medvision.evaluation import predict
from medvision.metrics.settings import Scoring
from medvision.scoring import score

FOREGROUND = {"foreground": "all"}


def volume(path: Path, array: np.ndarray, zooms: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*zooms, 1.0])), path)
    return path


def case(tmp_path: Path, image: np.ndarray, label: np.ndarray, **options: object) -> Case:
    return Case(
        "c",
        (volume(tmp_path / "i.nii.gz", image, **options),),
        volume(tmp_path / "l.nii.gz", label, **options),
    )


def prepared(item: Case, image_size: tuple[int, int, int], **settings: object) -> PreprocessedCase:
    wanted = Preparation(groups=FOREGROUND, image_size=image_size, **settings)
    return prepare(item, content_fingerprint(item), wanted)


def test_both_kinds_of_lists_give_the_same_cases(spheres: Path, tmp_path: Path) -> None:
    task = read_task(spheres, "Task99_Spheres")
    assert [item.id for item in task.cases][:2] == ["case_00", "case_01"]
    assert task.description == "Synthetic spheres"
    (tmp_path / "Task99_Spheres").symlink_to(spheres / "Task99_Spheres")
    listed = tmp_path / "Listed"
    listed.mkdir()
    for folder in ("imagesTr", "labelsTr"):
        (listed / folder).symlink_to(spheres / "Task99_Spheres" / folder)
    pairs = [f"imagesTr/{item.image.name},labelsTr/{item.label.name}" for item in task.cases]
    (listed / "data_file.txt").write_text("\n".join(pairs) + "\n\n")
    assert [item.id for item in read_task(tmp_path, "Listed").cases] == [
        item.id for item in task.cases
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither dataset.json nor data_file.txt"),
        ({"dataset.json": "{"}, "cannot be read as MSD's dataset.json"),
        ({"dataset.json": '{"training": [{"image": "a"}]}'}, "KeyError: 'label'"),
        ({"dataset.json": '{"training": []}'}, "list of training cases is empty"),
        ({"data_file.txt": "a.nii.gz"}, r"data_file.txt:1: expected `image,label`"),
        ({"data_file.txt": "a.nii.gz,b.nii.gz"}, "2 listed files are missing"),
        ({"data_file.txt": "a.nii,b.nii\na.nii,b.nii"}, "cases listed twice: a"),
    ],
)
def test_a_broken_list_says_what_is_wrong(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    (tmp_path / "T").mkdir()
    for name, text in files.items():
        (tmp_path / "T" / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_task(tmp_path, "T")


def test_fingerprints_are_remembered_and_follow_the_content(
    spheres: Path, isolated_cache: Path, tmp_path: Path
) -> None:
    task = read_task(spheres, "Task99_Spheres")
    assert cached_index(task) is None
    first = index_cases(task)
    assert cached_index(task) == first
    assert all(item.volume_mm3 > 0 for item in first)
    assert len({item.fingerprint for item in first}) == len(first)

    array = np.zeros((4, 4, 4), np.uint8)
    one = case(tmp_path, array, array)
    alone = Task("one", tmp_path, (one,), ())
    before = index_cases(alone)[0].fingerprint
    volume(one.label, array + np.uint8(1))
    os.utime(one.label, ns=(1, 1))
    assert cached_index(alone) is None
    assert index_cases(alone)[0].fingerprint != before


def test_images_are_scaled_to_the_unit_interval_once(tmp_path: Path, isolated_cache: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(1000, 50, (6, 8, 10)).astype(np.float32)
    item = case(tmp_path, image, (image > 1000).astype(np.uint8))
    made = prepared(item, (4, 4, 4))
    assert made.image.shape == (1, 4, 4, 4)
    assert (made.image.min(), made.image.max()) == (0, 1)
    assert set(np.unique(made.masks)) <= {0, 1}
    before, wanted = content_fingerprint(item), Preparation(groups=FOREGROUND, image_size=(4, 4, 4))
    item.image.unlink()  # the second time comes from the cache
    assert np.array_equal(prepare(item, before, wanted).image, made.image)
    with pytest.raises(DataError):
        prepare(item, before, wanted.model_copy(update={"intensity": "z-score"}))
    with pytest.raises(DataError):
        prepare(item, "other content", wanted)


def test_the_order_of_the_groups_counts(tmp_path: Path, isolated_cache: Path) -> None:
    label = np.arange(64, dtype=np.uint8).reshape(4, 4, 4) // 32 + 1
    item = case(tmp_path, label.astype(np.float32), label)
    for groups in ({"a": [1], "b": [2]}, {"b": [2], "a": [1]}):
        made = prepare(
            item, content_fingerprint(item), Preparation(groups=groups, image_size=(4, 4, 4))
        )
        assert np.array_equal(made.masks.astype(bool), read_truth(item, groups).masks)


def test_an_edited_file_is_never_kept_under_what_it_was(
    tmp_path: Path, isolated_cache: Path
) -> None:
    array = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    item = case(tmp_path, array, (array > 30).astype(np.uint8))
    before, wanted = content_fingerprint(item), Preparation(groups=FOREGROUND, image_size=(4, 4, 4))
    volume(item.image, array**2)
    with pytest.raises(DataError, match="changed since the study was planned"):
        prepare(item, before, wanted)
    edited = prepare(item, content_fingerprint(item), wanted)
    volume(item.image, array)
    assert not np.array_equal(prepare(item, before, wanted).image, edited.image)


def test_z_scored_images_have_mean_0_and_deviation_1(tmp_path: Path, isolated_cache: Path) -> None:
    image = np.random.default_rng(0).normal(1000, 50, (6, 8, 10)).astype(np.float32)
    item = case(tmp_path, image, (image > 1000).astype(np.uint8))
    made = prepared(item, (6, 8, 10), intensity="z-score")
    assert made.image.mean(dtype=float) == pytest.approx(0, abs=1e-3)
    assert made.image.std(dtype=float) == pytest.approx(1, abs=1e-3)
    flat = case(tmp_path, np.full((4, 4, 4), 7, np.float32), np.zeros((4, 4, 4), np.uint8))
    assert not prepared(flat, (4, 4, 4)).image.any()


def test_intensities_are_scaled_as_the_header_says(tmp_path: Path) -> None:
    stored = nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    stored.header.set_slope_inter(2.0, -5.0)
    nibabel.save(stored, tmp_path / "ct.nii")
    item = Case("c", (tmp_path / "ct.nii",), tmp_path / "ct.nii")
    raw = np.asanyarray(nibabel.load(tmp_path / "ct.nii").dataobj)
    assert np.array_equal(read_image(item.images).channels[0], raw.astype(np.float32))


def test_one_channel_of_a_4d_image_is_chosen(tmp_path: Path) -> None:
    image = np.stack([np.full((2, 2, 2), value, np.float32) for value in (1, 2, 3)], axis=-1)
    item = case(tmp_path, image, np.zeros((2, 2, 2), np.uint8))
    assert (read_image(item.images, 1).channels == 2).all()
    with pytest.raises(DataError, match="has 3 channels, channel 3 was asked for"):
        read_image(item.images, 3)


def test_label_groups_are_unions_of_labels(tmp_path: Path) -> None:
    label = np.arange(4, dtype=np.uint8).repeat(2).reshape(2, 2, 2)
    item = case(tmp_path, label.astype(np.float32), label, zooms=(1.0, 2.0, 3.0))
    truth = read_truth(item, {"all": "all", "two": [2], "edge": [1, 3]})
    assert truth.masks.sum((1, 2, 3)).tolist() == [6, 2, 4]
    assert truth.spacing == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (
            np.full((3, 3, 3), np.nan, np.float32),
            np.zeros((3, 3, 3), np.uint8),
            "27 values that are NaN",
        ),
        (np.zeros((3, 3), np.float32), np.zeros((3, 3, 3), np.uint8), "3D or 4D is needed"),
        (
            np.zeros((3, 3, 4), np.float32),
            np.zeros((3, 3, 3), np.uint8),
            "differs from its label's",
        ),
        (
            np.zeros((3, 3, 3), np.float32),
            np.full((3, 3, 3), 0.5, np.float32),
            "labels must be whole numbers",
        ),
    ],
)
def test_broken_volumes_are_named(
    tmp_path: Path, isolated_cache: Path, image: np.ndarray, label: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        prepared(case(tmp_path, image, label), (2, 2, 2))


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_unreadable_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    good = volume(
        tmp_path / "good.nii.gz", np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    )
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(good.read_bytes()[:200] if content is None else content)
    told = "is empty" if content == b"" else "cannot be read as NIfTI"
    with pytest.raises(DataError, match=rf"broken.nii.gz: {told}"):
        read_image([broken])


def test_a_resized_volume_keeps_its_place() -> None:
    coarse = np.zeros((1, 4, 4, 4), np.float32)
    coarse[0, 1, 2, 3] = 1
    fine = resize(coarse, (12, 8, 4))
    centre = [
        (index + 0.5) / size
        for index, size in zip(
            np.unravel_index(fine[0].argmax(), (12, 8, 4)), (12, 8, 4), strict=True
        )
    ]
    assert centre == pytest.approx([1.5 / 4, 2.5 / 4, 3.5 / 4], abs=0.07)


def test_a_prediction_comes_back_on_the_cases_own_grid_and_scores_there(
    tmp_path: Path, isolated_cache: Path
) -> None:
    """A network that returns its input as logits must reproduce a smooth structure almost
    perfectly.
    """
    grid = np.stack(np.indices((20, 24, 16)), -1)
    label = (np.linalg.norm((grid - (10, 12, 8)) / (6, 8, 5), axis=-1) < 1).astype(np.uint8)
    item = case(tmp_path, label.astype(np.float32), label, zooms=(1.0, 0.5, 2.0))
    made = prepared(item, (16, 16, 16))

    class Echo(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return (image - 0.5) * 20

    truth = read_truth(item, FOREGROUND)
    mask = predict(Echo(), made, device=torch.device("cpu"))
    assert mask.shape == (1, 20, 24, 16)
    (row,) = score(mask, truth, ["foreground"], Scoring(), [1.0, 2.0])
    assert row["dice"] > 0.93
    assert row["nsd"] == row["nsd@1.0"] <= row["nsd@2.0"]
    assert (row["nsd_definition"], row["hd95_definition"], row["status"]) == (
        "surfel",
        "voxel-max",
        "ok",
    )
    assert row["diagonal"] == pytest.approx(np.linalg.norm([20, 12, 32]))


def test_the_embedded_task_is_one_hemisphere_cut_once(isolated_cache: Path) -> None:
    root = write_embedded_task()
    task = read_task(root, TASK_NAME)
    assert len(task.cases) == 49
    corners = [tuple(map(int, item.id.split("_")[1:])) for item in task.cases]
    assert len(set(corners)) == 49
    assert max(x for x, _, _ in corners) + 32 <= 98  # one side of the plane of symmetry
    assert all(
        (b - a) % 32 == 0
        for one, two in itertools.pairwise(corners)
        for a, b in zip(one, two, strict=True)
    )
    stamp = (root / TASK_NAME / "dataset.json").stat().st_mtime_ns
    assert write_embedded_task() == root
    assert (root / TASK_NAME / "dataset.json").stat().st_mtime_ns == stamp
    assert (
        "no subjects" in json.loads((root / TASK_NAME / "dataset.json").read_text())["description"]
    )
