"""A published study gives the tables of the study that it was made of, and tells no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.publish import main as command
from record import paths
from record.manifest import Manifest
from record.published import KINDS, publish, restore
from record.schema import Commit, Split, StudyFile
from record.store import DamagedError, Store, StoreError
from record.stored import sealed
from record.study import StoredStudy
from reports.build import build_report
from tests.reports.studies import plan, rows, study

HERE = "/hospital/ward 7"


@pytest.fixture
def made(tmp_path: Path) -> Store:
    """A study with all that a run leaves beside scores and curves."""
    store = study(tmp_path, rows(), plan())
    spec = {"name": "study", "storage": HERE, "data": {"root": HERE}, "seeds": [0]}
    store.save(paths.STUDY, StudyFile(schema=1, spec=spec, blocks={}, data_root=HERE))
    store.save(paths.MANIFEST, Manifest(packages={"torch": "2"}, spec=spec))
    cases = {f"c{number:02d}": "0" * 64 for number in range(20)}
    store.save(paths.split("T_1"), Split(cases=cases, train_pool=sorted(cases), folds=[]))
    for eval_id, marker in store.commits().items():
        attempt = marker.attempt.model_copy(update={"host": "ward7.hospital", "pid": 77})
        weights = paths.attempt_file(f"trials/{marker.train_id}/t", paths.WEIGHTS)
        store.write(weights, b"weights of the hospital")
        chosen = paths.attempt_file(f"trials/{marker.train_id}/t", paths.INFERENCE)
        store.write(chosen, b'{"mirror": true, "largest": ["x"], "least_ml": {}}')
        files = marker.files | {paths.WEIGHTS: weights, paths.INFERENCE: chosen}
        store.remove(paths.commit(eval_id))
        store.commit(marker.model_copy(update={"attempt": attempt, "files": files}))
    return store


def tables(store: Store) -> dict[str, bytes]:
    """The report's files; the study's own folder, in the command that opens a viewer, left out."""
    report = build_report(StoredStudy.opened(store))
    contents = {name: store.read(paths.report(name)) or b"" for name in report.files}
    return {name: content.replace(store.uri.encode(), b"") for name, content in contents.items()}


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_report_of_a_published_study_is_that_of_the_study(made: Store, tmp_path: Path) -> None:
    folder, back = Store(str(tmp_path / "published")), Store(str(tmp_path / "back"))
    publish(StoredStudy.opened(made), folder)
    restore(folder, back)
    assert tables(back) == tables(made)
    first = everything(tmp_path / "published")
    publish(StoredStudy.opened(back), folder)  # and once more out of that
    assert everything(tmp_path / "published") == first


def test_nothing_of_the_machine_is_published(made: Store, tmp_path: Path) -> None:
    publish(StoredStudy.opened(made), Store(str(tmp_path / "published")))
    files = everything(tmp_path / "published")
    assert {"plan.json", "cases.parquet", "splits/T_1.json"} < set(files)
    for name, content in files.items():
        assert b"hospital" not in content, name
        assert b": 77" not in content, name


def test_a_study_goes_on_in_the_folder_that_it_was_published_in(
    made: Store, tmp_path: Path
) -> None:
    folder, half = Store(str(tmp_path / "published")), StoredStudy.opened(made)
    taken = sorted(half.finished.commits)[::2]
    kept = {name: made.read(paths.commit(name)) for name in taken}
    for name in taken:
        made.remove(paths.commit(name))
    made.write(paths.SPENT, b"{}")
    publish(half.again(), folder)
    assert command([made.uri, "--into", folder.uri]) == 1  # half of it is missing
    for name, content in kept.items():
        made.write(paths.commit(name), content or b"")
    made.remove(paths.SPENT)
    assert command([made.uri, "--into", folder.uri]) == 0
    assert folder.read(paths.SPENT) is None
    assert command([folder.uri, "--back", "--into", str(tmp_path / "back")]) == 0
    assert tables(Store(str(tmp_path / "back"))) == tables(made)


@pytest.mark.parametrize("name", [paths.PUBLISHED, paths.PLAN, *map(paths.published_table, KINDS)])
def test_a_changed_file_is_named(made: Store, tmp_path: Path, name: str) -> None:
    folder = Store(str(tmp_path / "published"))
    publish(StoredStudy.opened(made), folder)
    content = folder.read(name) or b""
    folder.write(name, content.replace(b"t", b"s", 1))
    with pytest.raises(DamagedError, match=name):
        restore(folder, Store(str(tmp_path / "back")))
    folder.remove(name)
    with pytest.raises(StoreError, match=name):
        restore(folder, Store(str(tmp_path / "back2")))


@pytest.mark.parametrize("field", ["train_id", "eval_id", "token"])
def test_a_strangers_folder_writes_nothing_elsewhere(
    made: Store, tmp_path: Path, field: str
) -> None:
    folder, back = Store(str(tmp_path / "published")), tmp_path / "inner" / "back"
    publish(StoredStudy.opened(made), folder)
    values = json.loads(folder.read(paths.PUBLISHED) or b"")
    values["trials"][0][field] = "../../../../out"
    folder.write(paths.PUBLISHED, sealed(values, paths.PUBLISHED))
    before = set(everything(tmp_path))
    with pytest.raises(DamagedError, match="which lies elsewhere"):
        restore(folder, Store(str(back)))
    assert all(name.startswith("inner/back/") for name in set(everything(tmp_path)) - before)


def test_a_marker_that_names_files_elsewhere_is_a_damaged_trial(
    made: Store, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"")
    name, marker = next(iter(made.commits().items()))
    away = {**marker.files, paths.CASES: "../secret"}
    made.save(paths.commit(name), Commit.model_validate(marker.to_json() | {"files": away}))
    found = StoredStudy.opened(made).finished
    assert list(found.damaged) == [name]
    assert "'../secret', which lies elsewhere" in found.damaged[name]


def test_what_cannot_be_published_or_restored_is_refused(
    made: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = Store(str(tmp_path / "empty"))
    empty.save(paths.PLAN, plan())
    folder = str(tmp_path / "published")
    assert command([empty.uri, "--into", folder]) == 2
    assert "no trial has finished" in capsys.readouterr().err
    assert command([folder, "--back", "--into", str(tmp_path / "back")]) == 2
    assert "holds no published.json" in capsys.readouterr().err
    assert command([made.uri, "--into", folder]) == 0
    assert command([folder, "--back", "--into", made.uri]) == 2
    assert "is a study already" in capsys.readouterr().err
