"""The real Task04_Hippocampus: all cases are good, the split is stable, and every damage of a copy
is found.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from medvision.data.__main__ import main
from medvision.data.fingerprints import index_cases
from medvision.data.readers.registry import read_task
from medvision.data.split_files import to_split
from medvision.data.splits import make_folds
from tests.medvision.data.damage import changed, cut, with_value

DATA, TASK = Path(os.environ.get("MEDVISION_DATA", "/nonexistent")), "Task04_Hippocampus"
CASES = 208
pytestmark = pytest.mark.skipif(
    not (DATA / TASK).is_dir(), reason=f"MEDVISION_DATA does not name a folder with {TASK}"
)
DAMAGE = {
    "truncated": ("imagesTr", cut, "cannot be read as NIfTI: EOFError"),
    "wrong shape": ("labelsTr", changed(lambda array: array[1:]), "differs from its image's"),
    "nan": ("imagesTr", with_value(float("nan"), float), "holds 1 values that are NaN or infinite"),
    "label 7": ("labelsTr", with_value(7), "holds label 7, dataset.json declares 1, 2"),
    "missing label": ("labelsTr", Path.unlink, "is missing"),
    "zero bytes": ("imagesTr", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
}


def test_all_cases_pass_and_the_split_file_is_the_same_again(
    isolated_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = []
    for run in ("first", "second"):
        monkeypatch.setenv("MEDVISION_CACHE", str(isolated_cache / run))
        assert main(["check", str(DATA / TASK)]) == 0
        assert f"{TASK}: {CASES} cases, 0 unusable; 0 errors" in capsys.readouterr().out
        found = index_cases(read_task(DATA, TASK))
        folds = make_folds({case.id: case.volume_mm3 for case in found}, scheme="kfold", seed=0)
        splits.append(to_split(folds, {}, {case.id: case.fingerprint for case in found}))
    assert splits[0] == splits[1]
    assert sorted(case for fold in folds for case in fold.test) == sorted(case.id for case in found)


def test_every_damage_is_one_line(
    isolated_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, cases = tmp_path / TASK, read_task(DATA, TASK).cases[: len(DAMAGE) + 2]
    for case in cases:
        for path in (case.image, case.label):
            (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy / path.parent.name / path.name)
    listed = [
        {"image": f"imagesTr/{c.image.name}", "label": f"labelsTr/{c.label.name}"} for c in cases
    ]
    content = {"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}, "training": listed}
    (copy / "dataset.json").write_text(json.dumps(content))
    assert main(["check", str(copy)]) == 0
    for case, (folder, damage, _) in zip(cases, DAMAGE.values(), strict=False):
        damage(copy / folder / case.image.name)
    capsys.readouterr()
    assert main(["check", str(copy)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == len(DAMAGE)
    for line, case, (folder, _, message) in zip(lines, cases, DAMAGE.values(), strict=False):
        assert line.startswith(f"error: {TASK}, {case.id}: {copy}/{folder}/{case.image.name}: ")
        assert message in line
