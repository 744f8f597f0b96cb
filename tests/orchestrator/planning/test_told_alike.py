"""What is wrong or odd about data is said by the check, by the plan and by the report in the same
words; what would make a study vain is refused in the plan."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medvision.data.check import check_task
from medvision.data.readers.registry import read_task
from orchestrator.planning.inputs import InputError, gathered, remembered
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.study import Spec

TASK = "Task99_Spheres"


def patched(place: int, content: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = bytearray(gzip.decompress(path.read_bytes()))
        file[place : place + len(content)] = content
        path.write_bytes(gzip.compress(bytes(file)))

    return change


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


ODD = {
    "pixdim": (("imagesTr", "labelsTr"), patched(80, floats(3, 3, 3)), "pixdim says 3 x 3 x 3 mm"),
    "pixdim of the label": (("labelsTr",), patched(84, floats(7)), "the affine is used"),
    "pixdim 0": (("imagesTr", "labelsTr"), patched(80, floats(0)), "pixdim says 0 x"),
    "micron": (("imagesTr", "labelsTr"), patched(123, b"\x03"), "is in microns"),
    "metre": (("imagesTr", "labelsTr"), patched(123, b"\x01"), "is in metres"),
    "slightly sheared": (
        ("imagesTr", "labelsTr"),
        patched(284, floats(0.005)),
        "slightly sheared: the cosine",
    ),
}
REFUSED = {
    "sheared": (("imagesTr", "labelsTr"), patched(284, floats(0.5)), "its affine is sheared"),
    "of another spacing": (("labelsTr",), patched(280, floats(2)), "its image's"),
    "no spacing": (
        ("imagesTr",),
        lambda path: (patched(254, bytes(2))(path), patched(80, floats(0))(path))[0],
        "its spacing is unknown",
    ),
}


def change(data: Path, about: tuple[Any, ...]) -> None:
    folders, damage, _ = about
    for folder in folders:
        damage(data / TASK / folder / "case_04.nii.gz")


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_is_told_by_check_plan_and_report(
    kind: str,
    data: Path,
    spec: Callable[..., Spec],
    tiny_spec: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(data, ODD[kind])
    checked = check_task(read_task(data, TASK))["case_04"]
    texts = [w for w in checked.warnings if ODD[kind][2] in w]
    assert len(texts) == 1
    assert not checked.errors
    words = texts[0].partition(": ")[2]
    study = Study.gathered(spec(), open_store(spec()))
    assert [line for line in study.inputs.doubts if words in line] == [f"{TASK}: case_04: {words}"]
    study.write()
    plan = study.store.plan()
    assert f"{TASK}: case_04: {words}" in plan.doubts
    assert main([str(tiny_spec), "--set", f"data.root={data}", "--dry-run"]) == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_right_is_refused_by_check_and_plan(
    kind: str, data: Path, spec: Callable[..., Spec]
) -> None:
    change(data, REFUSED[kind])
    errors = check_task(read_task(data, TASK))["case_04"].errors
    assert any(REFUSED[kind][2] in error for error in errors)
    with pytest.raises(InputError) as caught:
        gathered(spec())
    for error in errors:
        assert error in str(caught.value)


def relabelled(data: Path, values: Callable[[int, np.ndarray], np.ndarray]) -> None:
    for number, path in enumerate(sorted((data / TASK / "labelsTr").glob("*.nii.gz"))):
        volume = nibabel.load(path)
        label = values(number, np.asarray(volume.dataobj)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(label, volume.affine), path)


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ("{a: [7]}", "label group 'a': no case has label 7; the labels of the 15 cases are 1, 2"),
        ("{a: [1], b: [8, 9]}", "label group 'b': no case has label 8 or 9"),
        ("{a: all, c: [3]}", "label group 'c': no case has label 3"),
    ],
)
def test_a_group_that_no_case_has_is_refused_in_the_plan(
    spec: Callable[..., Spec], groups: str, told: str
) -> None:
    with pytest.raises(InputError) as caught:
        gathered(spec(f"data.label_groups={groups}"))
    assert f"task '{TASK}': {told}" in str(caught.value)
    assert told in remembered(spec(f"data.label_groups={groups}")).tasks[TASK].missing


def test_data_without_any_foreground_is_refused_in_the_plan(
    data: Path, spec: Callable[..., Spec]
) -> None:
    relabelled(data, lambda number, label: 0 * label)
    with pytest.raises(InputError, match="nothing is labelled in any of its 15 cases"):
        gathered(spec())


def test_a_group_that_only_an_excluded_case_has_is_refused_in_the_plan(
    data: Path, spec: Callable[..., Spec]
) -> None:
    relabelled(data, lambda number, label: np.where((label == 2) & (number != 6), 1, label))
    path = data / TASK / "imagesTr" / "case_06.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="label group 'core': no case has label 2"):
        gathered(spec("data.label_groups={core: [2]}", "data.on_bad_case=exclude"))


def test_an_empty_group_is_no_spec(spec: Callable[..., Spec]) -> None:
    for groups in ("{a: []}", "{}"):
        with pytest.raises(ValueError, match="label_groups"):
            spec(f"data.label_groups={groups}")


def test_declared_groups_that_no_case_has_are_refused_in_the_plan(
    data: Path, spec: Callable[..., Spec]
) -> None:
    listing = data / TASK / "dataset.json"
    content = json.loads(listing.read_text()) | {"labels": {"shell": 1, "core": 2, "cyst": 5}}
    listing.write_text(json.dumps(content))
    made = spec("data.label_groups=each")
    with pytest.raises(InputError, match="label group 'cyst': no case has label 5"):
        Study.gathered(made, open_store(made))


CROP = (
    "data.protocol=corrected",
    "data.crop=true",
    "tasks=[{name: Task99_Spheres, modality: [CT]}]",
)


def test_a_structure_outside_of_the_crop_is_refused_in_the_plan_or_left_out(
    data: Path, spec: Callable[..., Spec], tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (data / TASK / "imagesTr").glob("*.nii.gz"):
        volume = nibabel.load(path)
        image = np.asarray(volume.dataobj).copy()
        image[:2] = -1000  # air
        nibabel.save(nibabel.Nifti1Image(image, volume.affine), path)

    def outside(number: int, label: np.ndarray) -> np.ndarray:
        if number == 8:
            label = 0 * label
            label[0, 3, 3] = 1
        return label

    relabelled(data, outside)
    assert remembered(spec(*CROP)).tasks[TASK].missing
    with pytest.raises(InputError) as caught:
        gathered(spec(*CROP))
    text = "all of label group 'foreground' lies outside of the box that data.crop shows"
    assert f"task '{TASK}', case case_08: {data}/{TASK}/labelsTr/case_08.nii.gz: {text}" in str(
        caught.value
    )
    left_out = spec(*CROP, "data.on_bad_case=exclude")
    found = gathered(left_out).tasks[TASK]
    assert [*found.excluded] == ["case_08"]
    assert text in found.excluded["case_08"][0]
    assert "case_08" not in {case for fold in found.folds for case in fold.test}
    assert remembered(left_out).tasks[TASK] == found
    assert gathered(spec()).tasks[TASK].missing == ""
    listing = data / TASK / "dataset.json"  # which says the modality, where the spec does not
    listing.write_text(json.dumps(json.loads(listing.read_text()) | {"modality": {"0": "CT"}}))
    with pytest.raises(InputError, match=r"outside of the box that data\.crop shows"):
        gathered(spec(*CROP[:2]))
    arguments = [word for change in (f"data.root={data}", *CROP) for word in ("--set", change)]
    assert main([str(tiny_spec), *arguments, "--in-process"]) == 2
    assert text in capsys.readouterr().err


def test_a_structure_that_the_papers_grid_loses_is_told_by_the_plan(
    data: Path, spec: Callable[..., Spec]
) -> None:
    def tiny(number: int, label: np.ndarray) -> np.ndarray:
        label = np.where(label == 2, 1, label)
        label[1, 1, 1] = 2
        return label

    relabelled(data, tiny)
    small = ("data.image_size=[8, 8, 8]", "data.label_groups={shell: [1], dot: [2]}")
    lines = gathered(spec(*small)).doubts
    told = [line for line in lines if "label group 'dot' is lost" in line]
    assert told
    assert all("case_00, case_" in line for line in told)
    assert not any("shell" in line for line in lines)
    assert remembered(spec(*small)).doubts == lines
    mri = "tasks=[{name: Task99_Spheres, modality: [MRI]}]"
    same = gathered(spec(*small, "data.protocol=corrected", mri)).doubts
    assert not any("is lost" in line for line in same)


def test_a_task_that_stands_twice_by_a_link_is_refused(
    data: Path, spec: Callable[..., Spec]
) -> None:
    (data / "Again").symlink_to(data / TASK)
    with pytest.raises(InputError, match="tasks 'Task99_Spheres' and 'Again' are the same"):
        gathered(spec(f"tasks=[{TASK}, Again]"))
    other = f"tasks=[{TASK}, {{name: Again, label_groups: {{core: [2]}}}}]"
    assert gathered(spec(other)).missing == []


def test_a_group_of_one_case_is_told(data: Path, spec: Callable[..., Spec]) -> None:
    relabelled(data, lambda number, label: np.where((label == 2) & (number != 6), 1, label))
    lines = gathered(spec("data.label_groups={shell: [1], core: [2]}")).doubts
    assert any(
        "case_06: label group 'core': no other case has it, so where this one is tested, nothing "
        "of it is trained" in line
        for line in lines
    )
