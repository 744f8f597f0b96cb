"""A study as its folder says it is: every file is read once, and another look sees what changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from record import paths
from record.store import Store, StoreError
from record.study import StoredStudy

OLD = Path(__file__).parent / "study_of_0_1"


class ReadsCounted(Store):
    """Remembers what is read."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.reads: list[str] = []

    def read(self, relative: str) -> bytes | None:
        self.reads.append(relative)
        return super().read(relative)


@pytest.fixture
def store(tmp_path: Path) -> ReadsCounted:
    shutil.copytree(OLD, tmp_path / "quickstart")
    return ReadsCounted(str(tmp_path / "quickstart"))


def test_every_file_is_read_once(store: ReadsCounted) -> None:
    study = StoredStudy.opened(store)
    for _ in range(2):
        assert len(study.finished.commits) == 4
        assert not study.missing
        assert study.settings.spec["name"] == study.plan.name
        assert study.manifest
        assert study.manifest.git.commit
        assert list(study.splits) == study.plan.tasks
    assert store.reads
    assert sorted(store.reads) == sorted(set(store.reads))


def test_another_look_sees_what_changed(store: ReadsCounted) -> None:
    study = StoredStudy.opened(store)
    assert not study.missing
    store.remove(paths.commit(str(study.plan.trials[0].eval_id)))
    assert not study.missing
    assert study.again().missing == [study.plan.trials[0]]


def test_a_folder_without_a_plan_is_no_study_and_one_without_settings_says_so(
    store: ReadsCounted, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="so it is no study"):
        StoredStudy.opened(Store(str(tmp_path)))
    store.remove(paths.STUDY)
    with pytest.raises(StoreError, match=r"study\.json: is missing; run the study's command again"):
        _ = StoredStudy.opened(store).settings
