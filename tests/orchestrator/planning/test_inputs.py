"""What planning finds out about the data: patients, channels, cases in two roles, and files that
change under a study.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medvision.data.fingerprints import content_fingerprint
from medvision.data.readers.registry import read_task
from medvision.errors import DataError
from orchestrator.planning.inputs import InputError, gathered
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.trial.context import TrialContext

TASK = "Task99_Spheres"


def test_patients_stand_in_the_split_file_and_are_the_unit_of_the_tests(
    spec: Callable[..., Any], tiny_spec: Path, data: Path
) -> None:
    lines = [f"case_{number:02d},patient_{number // 2}" for number in range(15)]
    (data / TASK / "patients.csv").write_text("\n".join(["case,patient", *lines]))
    changes = [
        f"data.root={data}",
        "splits.group_file=patients.csv",
        "training.epochs=1",
        "tracking.enabled=false",
    ]
    assert (
        main(
            [
                str(tiny_spec),
                "--in-process",
                *(word for change in changes for word in ("--set", change)),
            ]
        )
        == 0
    )
    store = open_store(spec(*changes[1:]))
    split = store.read_json(f"splits/{TASK}.json")
    assert split["patients"] == dict(line.split(",") for line in lines)
    table = (store.read("report/tests.csv") or b"").decode().splitlines()
    column = table[0].split(",").index("n")
    assert {line.split(",")[column] for line in table[1:]} == {"8"}
    assert "n counts patients" in (store.read("report/significance.md") or b"").decode()


@pytest.mark.parametrize(
    ("channel", "more", "shape", "message"),
    [
        ("all", (), (2,), "has 2 channels, most cases have 1"),
        ("1", (), (), "has 1 channels, channel 1 was asked for"),
        ("0", ("data.scaled=file",), (2,), "has 2 channels, most cases have 1, and data.scaled"),
        ("0", ("models.0.overrides={data.scaled: file}",), (2,), "has 2 channels, most cases"),
    ],
)
def test_a_case_without_the_channels_stops_before_any_training(
    spec: Callable[..., Any],
    data: Path,
    channel: str,
    more: tuple[str, ...],
    shape: tuple[int, ...],
    message: str,
) -> None:
    path = data / TASK / "imagesTr" / "case_03.nii.gz"
    image = nibabel.load(path)
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((*image.shape, *shape), np.float32), image.affine), path
    )
    wanted = spec(f"tasks=[{{name: {TASK}, channel: {channel}}}]", *more)
    with pytest.raises(InputError, match=f"case_03.nii.gz: {message}"):
        gathered(wanted)


def test_a_case_that_trains_and_tests_is_refused(data: Path) -> None:
    for kind in ("images", "labels"):
        (data / TASK / f"{kind}Ts").mkdir()
        shutil.copy(data / TASK / f"{kind}Tr" / "case_00.nii.gz", data / TASK / f"{kind}Ts")
    with pytest.raises(
        DataError, match=r"1 cases are both listed for training and labelled in labelsTs: case_00"
    ):
        read_task(data, TASK)


def test_a_wrong_size_of_the_cache_is_told_before_anything_starts(
    spec: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("plenty", "-1", "nan"):
        monkeypatch.setenv("MEDVISION_CACHE_LIMIT", text)
        with pytest.raises(InputError, match=f"MEDVISION_CACHE_LIMIT={text}"):
            gathered(spec())


def test_no_case_is_scored_against_a_label_that_is_not_the_planned_one(
    spec: Callable[..., Any], data: Path
) -> None:
    study = Study.gathered(spec(), open_store(spec()))
    study.write()
    context = TrialContext(study.jobs("token")[0], study.store)
    case = context.roles.test[0]
    assert context.truth(case).masks.any()
    label = context.cases[case].label
    image = nibabel.load(label)
    nibabel.save(nibabel.Nifti1Image(np.zeros_like(np.asarray(image.dataobj)), image.affine), label)
    with pytest.raises(DataError, match="changed since the study was planned"):
        context.truth(case)


def test_an_edit_that_hides_its_time_and_size_is_seen(data: Path) -> None:
    case = read_task(data, TASK).cases[0]
    before, stat = content_fingerprint(case), case.label.stat()
    content = bytearray(case.label.read_bytes())
    content[4] ^= 1  # the time in gzip's header
    case.label.write_bytes(bytes(content))
    os.utime(case.label, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert case.label.stat().st_size == stat.st_size
    assert content_fingerprint(case) != before
