"""Where cases lie is a reader's business alone: whatever it lists is checked, prepared and scored
as any other task.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medvision.data.check import check_folder, task_folders
from medvision.data.fingerprints import content_fingerprint, index_cases
from medvision.data.nifti import read_image
from medvision.data.preprocess import prepare
from medvision.data.readers import registry
from medvision.data.readers.base import Declared, Entry, Listing
from medvision.data.readers.registry import read_task
from medvision.data.settings import Preparation
from medvision.errors import DataError


def channels(folder: Path, count: int = 3, shape: tuple[int, ...] = (5, 6, 7)) -> list[np.ndarray]:
    """Writes a label and `count` files of one image, and gives back what is in the latter."""
    made = [np.random.default_rng(index).normal(size=shape) for index in range(count)]
    for index, values in enumerate(made):
        nibabel.save(
            nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), folder / f"i_{index}.nii.gz"
        )
    label = np.zeros(shape, np.uint8)
    label[1:4, 1:4, 1:4] = 1
    nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), folder / "l.nii.gz")
    return [values.astype(np.float32) for values in made]


class OneFolder:
    """The newest layout: every i_*.nii.gz is a channel of the one case."""

    listing = "case.md"

    def knows(self, folder: Path) -> bool:
        return (folder / self.listing).is_file()

    def read(self, path: Path) -> Listing:
        images = sorted(file.name for file in path.parent.glob("i_*.nii.gz"))
        return Listing((Entry(tuple(images), "l.nii.gz"),), description="one case")

    def declared(self, folder: Path) -> Declared:
        return Declared({"cube": [1]}, ("CT",))


def test_a_new_reader_is_a_module_and_a_line_in_the_registry(
    tmp_path: Path, isolated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Task"
    folder.mkdir()
    made = channels(folder)
    (folder / "case.md").write_text("see the folder")
    assert task_folders(tmp_path) == []
    monkeypatch.setattr(registry, "READERS", (*registry.READERS, OneFolder()))
    assert task_folders(tmp_path) == [folder]
    assert (check_folder(folder).cases, check_folder(folder).errors) == (1, 0)
    task = read_task(tmp_path, "Task")
    assert (task.description, task.declared.modality) == ("one case", ("CT",))
    (found,) = index_cases(task)
    assert (found.channels, found.volume_mm3, found.errors) == (3, 27.0, ())
    (case,) = task.cases
    wanted = Preparation(groups={"cube": [1]}, image_size=(4, 4, 4), channel="all")
    assert prepare(case, content_fingerprint(case), wanted).image.shape == (3, 4, 4, 4)
    for channel, values in enumerate(made):
        assert np.array_equal(read_image(case.images, channel).channels[0], values)
    assert np.array_equal(read_image(case.images, "all").channels, made)
    with pytest.raises(DataError, match="has 3 channels, channel 3 was asked for"):
        read_image(case.images, 3)


def test_the_fingerprint_holds_every_file_of_an_image(tmp_path: Path, isolated_cache: Path) -> None:
    folder = tmp_path / "Task"
    folder.mkdir()
    channels(folder)
    entry = {"image": ["i_0.nii.gz", "i_1.nii.gz"], "label": "l.nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({"training": [entry]}))
    (case,) = read_task(tmp_path, "Task").cases
    before = content_fingerprint(case)
    nibabel.save(nibabel.Nifti1Image(np.ones((5, 6, 7)), np.eye(4)), folder / "i_1.nii.gz")
    assert content_fingerprint(case) != before
    nibabel.save(nibabel.Nifti1Image(np.ones((5, 6, 8)), np.eye(4)), folder / "i_1.nii.gz")
    (found,) = index_cases(read_task(tmp_path, "Task"))
    (error,) = found.errors
    assert error.startswith(f"{folder}/i_1.nii.gz: shape (5, 6, 8) differs from its image's")
    with pytest.raises(DataError, match=r"i_1.nii.gz: shape \(5, 6, 8\) differs"):
        read_image(case.images)


def listed(folder: Path, training: list[dict], **more: object) -> None:
    (folder / "dataset.json").write_text(json.dumps({"training": training, **more}))


def test_a_folder_for_each_patient_is_named_by_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "Task"
    for patient in ("p_0", "p_1"):
        (folder / patient / "anat").mkdir(parents=True)
        channels(folder / patient / "anat", 1)
    paths = [f"p_{number}/anat" for number in (0, 1)]
    listed(folder, [{"image": f"{p}/i_0.nii.gz", "label": f"{p}/l.nii.gz"} for p in paths])
    assert [case.id for case in read_task(tmp_path, "Task").cases] == ["p_0", "p_1"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_lists_with_a_byte_order_mark_are_read(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "Task"
    folder.mkdir()
    channels(folder, 1)
    content = {"training": [{"image": "i_0.nii.gz", "label": "l.nii.gz"}], "labels": {"cube": 1}}
    (folder / "dataset.json").write_text(json.dumps(content), encoding=encoding)
    assert read_task(tmp_path, "Task").declared.labels == {"cube": [1]}
    (folder / "dataset.json").unlink()
    (folder / "data_file.txt").write_text("i_0.nii.gz,l.nii.gz\n", encoding=encoding)
    assert [case.id for case in read_task(tmp_path, "Task").cases] == ["i_0"]


def test_hidden_files_are_no_test_cases_and_a_label_without_its_image_is_told(
    tmp_path: Path, isolated_cache: Path
) -> None:
    folder = tmp_path / "Task"
    for part in ("imagesTs", "labelsTs"):
        (folder / part).mkdir(parents=True)
        (folder / part / "._t.nii.gz").write_bytes(b"\0\5\26\7")
    channels(folder, 1)
    label = (folder / "l.nii.gz").read_bytes()
    (folder / "labelsTs" / "t.nii.gz").write_bytes(label)
    listed(folder, [{"image": "i_0.nii.gz", "label": "l.nii.gz"}])
    task = read_task(tmp_path, "Task")
    assert [case.id for case in task.test_cases] == ["t"]
    found = {case.id: case.errors for case in index_cases(task)}
    assert found == {"i_0": (), "t": (f"{folder}/imagesTs/t.nii.gz: is missing",)}
