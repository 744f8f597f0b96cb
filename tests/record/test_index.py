"""A look at a study of many trials asks the storage for few things: counted, not timed."""

from __future__ import annotations

import builtins
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from benchmarks.large_study import large_spec, write_large_study
from orchestrator import status
from orchestrator.planning import identity
from orchestrator.planning.study import Study
from record import paths
from record.index import glance_at, write_index
from record.store import Store
from record.study import StoredStudy

SMALL = ["models=[ViT_Baseline, ViT_Depth]", "tasks=[Task09_Spleen]", "comparisons=[]"]


@pytest.fixture
def large(tmp_path: Path) -> Study:
    """50 finished trials, in the way of a large study."""
    study = write_large_study(large_spec(str(tmp_path), 1, SMALL))
    _aged(Path(study.store.root))
    return study


def _aged(folder: Path) -> None:
    """As if its files were written a minute ago: what is younger than the index is read again."""
    then = time.time() - 60
    for file in folder.rglob("*"):
        os.utime(file, (then, then))


def _indexed(study: Study) -> StoredStudy:
    stored = StoredStudy.opened(study.store)
    write_index(stored, [(False, "a line of the report.")])
    return stored.again()


@contextmanager
def _opened_files() -> Iterator[Counter[str]]:
    """How often files of each folder of a study are opened."""
    count, truly = Counter[str](), builtins.open

    def counting(file: Any, *arguments: Any, **settings: Any) -> Any:
        place = str(file)
        for name in (paths.COMMITS, paths.TRIALS, paths.CLAIMS, paths.INDEX, paths.PLAN):
            count[name] += f"/{name}" in place
        return truly(file, *arguments, **settings)

    with mock.patch.object(builtins, "open", counting):
        yield count


def test_a_look_at_a_study_opens_no_file_that_the_index_knows(large: Study) -> None:
    stored = _indexed(large)
    with _opened_files() as opened:
        text = status.describe(stored, time.time())
    assert "50 finished" in text
    assert "health: note: a line of the report." in text
    assert opened[paths.COMMITS] == opened[paths.TRIALS] == opened[paths.CLAIMS] == 0
    assert opened[paths.INDEX] == 1


def test_what_changed_since_is_read_and_named_and_the_lines_of_the_report_no_longer_hold(
    large: Study,
) -> None:
    stored = _indexed(large)
    files = sorted(Path(large.store.root).glob("trials/*/*/cases-*.parquet"))
    content = files[0].read_bytes()
    files[0].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with _opened_files() as opened:
        seen = glance_at(stored)
    (line,) = seen.damaged.values()
    assert line.startswith(f"{files[0]}: has changed since it was committed")
    assert (len(seen.seconds), seen.health) == (49, None)
    assert opened[paths.TRIALS] == 2  # the scores and the history of this one


def test_a_file_that_is_hardly_older_than_the_index_is_read_again(large: Study) -> None:
    stored = _indexed(large)
    file = next(Path(large.store.root).glob("trials/*/*/history.parquet"))
    index = (Path(large.store.root) / paths.INDEX).stat().st_mtime
    content = file.read_bytes()
    os.utime(file, (index, index))
    write_index(stored.again(), [])
    file.write_bytes(bytes(len(content)))
    os.utime(file, (index, index))  # the same size and time, other bytes
    assert len(glance_at(stored.again()).damaged) == 1


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\n", b'{"sha256": "0"}\n{}\n', b"[1]\n[]"])
def test_a_broken_index_is_no_index(large: Study, content: bytes) -> None:
    stored = _indexed(large)
    large.store.write(paths.INDEX, content)
    seen = glance_at(stored)
    assert (len(seen.seconds), seen.health) == (50, None)


def test_a_trial_that_was_forgotten_or_planned_anew_ends_what_the_report_said(
    large: Study,
) -> None:
    stored = _indexed(large)
    name = large.store.names(paths.COMMITS)[0]
    large.store.remove(f"{paths.COMMITS}/{name}")
    seen = glance_at(stored)
    assert (len(seen.seconds), seen.health) == (49, None)


def in_memory(study: Study) -> Any:
    """A study's files in a file system in memory."""
    import fsspec

    memory = fsspec.filesystem("memory")
    root = Path(study.store.root)
    for file in root.rglob("*"):
        if file.is_file():
            memory.pipe_file(f"/large/{file.relative_to(root)}", file.read_bytes())
    return memory


def test_a_storage_that_gives_no_etags_is_read(large: Study) -> None:
    memory = in_memory(large)
    try:
        stored = StoredStudy.opened(Store("memory://large"))
        write_index(stored, [(False, "a line of the report.")])
        file = memory.glob("/large/trials/*/*/cases-*.parquet")[0]
        memory.pipe_file(file, b"x" + memory.cat_file(file)[1:])
        seen = glance_at(stored.again())
        assert (len(seen.seconds), len(seen.damaged), seen.health) == (49, 1, None)
    finally:
        memory.rm("/large", recursive=True)


@pytest.mark.parametrize("name", ["ETag", "etag"])
def test_an_object_store_is_listed_and_not_read(large: Study, name: str) -> None:
    """By a file system in memory that gives ETags, as S3 does, or as Google's and Azure's do."""
    memory = in_memory(large)
    truly = memory.find

    def with_etags(path: str, **settings: Any) -> Any:
        found = truly(path, **settings)
        if settings.get("detail"):
            return {file: {**about, name: str(about["created"])} for file, about in found.items()}
        return found

    try:
        with mock.patch.object(type(memory), "find", side_effect=with_etags):
            stored = StoredStudy.opened(Store("memory://large"))
            write_index(stored, [])
            with mock.patch.object(
                type(memory), "cat_file", autospec=True, side_effect=type(memory).cat_file
            ) as read:
                text = status.describe(stored.again(), time.time())
            assert "50 finished" in text
            places = [call.args[1] for call in read.call_args_list]
            assert not [place for place in places if "/commits/" in place or "/trials/" in place]
    finally:
        memory.rm("/large", recursive=True)


def test_a_plan_counts_settings_and_hashes_cases_once_for_all_seeds(tmp_path: Path) -> None:
    def counts(seeds: int) -> tuple[int, int]:
        spec = large_spec(str(tmp_path / str(seeds)), 1, [*SMALL, f"seeds={list(range(seeds))}"])
        with (
            mock.patch.object(identity, "counted", side_effect=identity.counted) as counted,
            mock.patch.object(identity, "_content", side_effect=identity._content) as content,
        ):
            study = write_large_study(spec, finished=0)
            assert len(study.plan.trials) == 50 * seeds
        return counted.call_count, content.call_count

    assert counts(1) == counts(4)
