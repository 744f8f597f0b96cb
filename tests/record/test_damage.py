"""Results that were changed or have rotted never become a number: the trial is named, and the rest
of the study is reported.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import status
from orchestrator.trial.attempt import failure_of
from record import paths
from record.damage import finished_trials, read_committed
from record.schema import Commit, PlannedTrial
from record.store import DamagedError, Store, StoreError
from record.study import StoredStudy
from record.tables import read_results
from reports import build

OLD = Path(__file__).parent / "study_of_0_1"


@pytest.fixture
def study(tmp_path: Path) -> Store:
    shutil.copytree(OLD, tmp_path / "quickstart")
    return Store(str(tmp_path / "quickstart"))


def victim(study: Store) -> tuple[PlannedTrial, Commit]:
    """A trial of the model that is compared, in the middle of the plan."""
    trial = study.plan().trials[2]
    return trial, study.commits()[str(trial.eval_id)]


def better(content: bytes) -> bytes:
    """The same table with a perfect Dice everywhere: valid in every way but its checksum."""
    buffer = io.BytesIO()
    pd.read_parquet(io.BytesIO(content)).assign(dice=1.0).to_parquet(buffer)
    return buffer.getvalue()


Change = Callable[[Store, str], None]
CHANGES: dict[str, tuple[Change, str]] = {
    "rewritten": (
        lambda study, file: study.write(file, better(study.read(file) or b"")),
        "has changed since it was committed",
    ),
    "a flipped bit": (
        lambda study, file: study.write(file, b"Q" + (study.read(file) or b"")[1:]),
        "has changed since it was committed",
    ),
    "cut short": (
        lambda study, file: study.write(file, (study.read(file) or b"")[:-1]),
        "has changed since it was committed",
    ),
    "gone": (lambda study, file: study.remove(file), "is missing, though its commit names it"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [paths.CASES, paths.HISTORY])
def test_a_changed_file_takes_its_trial_out_of_the_report_and_is_named(
    study: Store, kind: str, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trial, marker = victim(study)
    apply, wrong = CHANGES[change]
    apply(study, marker.files[kind])
    line = (
        f"{trial.place}: {study.path(marker.files[kind])}: {wrong}; put back the file as it was, "
        "or run the study's command again, which runs its trial again"
    )
    assert build.main([study.uri]) == 1
    shown = capsys.readouterr()
    assert shown.err == f"damaged: {line}\n"
    assert "3 of 4 trials are in this report." in shown.out
    assert f"Damaged, and not in this report: {line.replace(f'{trial.place}: ', '')[:40]}" not in (
        shown.out
    )
    assert f"Damaged, and not in this report: {trial.place} (" in shown.out
    assert "incomplete: 1 of 4 trials missing" in shown.out
    provenance = pd.read_csv(io.BytesIO(study.read(paths.report("provenance.csv")) or b""))
    (told,) = provenance[provenance["what"] == f"damaged: {trial.place}"]["value"]
    assert told in line
    ablations = pd.read_csv(io.BytesIO(study.read(paths.report("cost.csv")) or b""))
    assert list(ablations["trials"]) == [2, 1]

    assert status.main([study.uri]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("quickstart: 3 finished, 1 damaged\n")
    assert f"damaged: {line}" in shown.out.splitlines()
    with pytest.raises(DamagedError):
        read_results(study, kind)


def test_a_whole_study_has_no_damage(study: Store) -> None:
    found = finished_trials(study, study.plan())
    assert not found.damaged
    assert found.commits == study.commits()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"half', "is not valid JSON"),
        (b"[]", "it is no mapping"),
        (b'{"eval_id": "x"}', "lacks train_id"),
    ],
)
def test_a_marker_that_cannot_be_read_takes_its_trial_out_too(
    study: Store, content: bytes, told: str
) -> None:
    trial, marker = victim(study)
    study.write(paths.commit(marker.eval_id), content)
    report = build.build_report(StoredStudy.opened(study))
    (line,) = report.damaged
    assert line.startswith(f"{trial.place}: {study.path(paths.commit(marker.eval_id))}: ")
    assert told in line
    assert "3 of 4 trials" in report.markdown
    assert "1 damaged" in status.describe(StoredStudy.opened(study), 0.0)


@pytest.mark.parametrize("part", ["files", "sha256"])
def test_a_file_without_its_checksum_is_not_trusted(study: Store, part: str) -> None:
    _, marker = victim(study)
    values = marker.to_json()
    del values[part][paths.CASES]
    study.write_json(paths.commit(marker.eval_id), values)
    (line,) = build.build_report(StoredStudy.opened(study)).damaged
    assert "names no cases with a checksum" in line


def test_pictures_are_held_against_their_checksums(study: Store) -> None:
    """The masks of a trial without pictures are not read, so they are not looked at either."""
    _, marker = victim(study)
    study.write("masks.npz", b"masks")
    masks = {paths.MASKS: "masks.npz"}
    wrong = dict.fromkeys((paths.MASKS, paths.ARRAYS), "0" * 64)
    for files in (masks, masks | {paths.ARRAYS: "masks.npz"}):
        changed = {"files": marker.files | files, "sha256": marker.sha256 | wrong}
        study.save(paths.commit(marker.eval_id), marker.model_copy(update=changed))
        damaged = finished_trials(study, study.plan()).damaged
        assert set(damaged) == ({marker.eval_id} if paths.ARRAYS in files else set())


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_no_change_of_any_byte_goes_unseen(data: st.DataObject) -> None:
    study = Store(str(OLD))
    _, marker = victim(study)
    content = study.read(marker.files[paths.CASES]) or b""
    place = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != content[place]))
    copy = Store("memory://damage")
    copy.write(marker.files[paths.CASES], content)
    assert read_committed(copy, marker, paths.CASES) == content
    copy.write(marker.files[paths.CASES], content[:place] + bytes([byte]) + content[place + 1 :])
    with pytest.raises(DamagedError):
        read_committed(copy, marker, paths.CASES)


def test_many_files_are_read_in_their_order_from_anywhere(tmp_path: Path) -> None:
    for store in (Store(str(tmp_path)), Store("memory://many")):
        for number in range(50):
            store.write(f"f/{number}", str(number).encode())
        wanted = [f"f/{number}" for number in (*range(49, -1, -1), 99)]
        found = list(store.read_many(wanted))
        assert found == [*(str(number).encode() for number in range(49, -1, -1)), None]


def test_damage_is_its_trials_fault_and_a_storage_that_fails_is_not() -> None:
    assert failure_of(DamagedError("x")).kind == "exception"
    assert failure_of(StoreError("x")).kind == "storage"
