"""The cache of prepared cases: made once by several processes, checked, bounded, and never a reason
to stop.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from medvision.data import cache as prepared_cache
from medvision.data.cache import cached
from medvision.data.geometry import place
from medvision.data.views.base import PreprocessedCase
from medvision.data.views.corrected import InProportion
from medvision.data.views.paper import Stretched
from medvision.errors import DataError

KEYS = [f"{index:02x}" * 32 for index in range(6)]


def made(value: float, size: int = 4) -> PreprocessedCase:
    geometry = place(
        (5, 6, 7),
        (1.0, 2.0, 0.5),
        np.diag([-1, 2, 0.5, 1]),
        (size,) * 3,
        box=((1, 4), (0, 6), (2, 7)),
    )
    return PreprocessedCase(
        np.full((1, size, size, size), value, np.float16),
        np.ones((2, size, size, size), np.uint8),
        InProportion(geometry),
    )


def never() -> PreprocessedCase:
    raise AssertionError("it should have come from the cache")


def files(cache: Path) -> list[Path]:
    return sorted((cache / "prepared").glob("*/*.prepared"))


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a fresh process."""
    monkeypatch.setattr(prepared_cache, "_verified", set())


def test_what_was_kept_comes_back_mapped_and_equal(isolated_cache: Path) -> None:
    first = made(0.3)
    cached(KEYS[0], lambda: first)
    again = cached(KEYS[0], never)
    assert np.array_equal(again.image, first.image)
    assert np.array_equal(again.masks, first.masks)
    assert (again.placement, again.image.dtype, again.masks.dtype) == (
        first.placement,
        np.float16,
        np.uint8,
    )
    assert not again.image.flags.writeable
    assert not again.image.flags.owndata
    stretched = Stretched((5, 6, 7), (4, 4, 4))
    cached(KEYS[1], lambda: PreprocessedCase(first.image, first.masks, stretched))
    assert cached(KEYS[1], never).placement == stretched


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "other"])
def test_a_damaged_file_is_made_again_and_said(
    damage: str,
    isolated_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cached(KEYS[0], lambda: made(0.3))
    (path,) = files(isolated_cache)
    content = bytearray(path.read_bytes())
    content[-70] ^= 1
    path.write_bytes(
        {"flip": content, "truncate": content[:300], "empty": b"", "other": b"x" * 500}[damage]
    )
    forget(monkeypatch)
    with caplog.at_level(logging.WARNING):
        again = cached(KEYS[0], lambda: made(0.7))
    assert f"{path}: cannot be used" in caplog.text
    assert (again.image == np.float16(0.7)).all()
    forget(monkeypatch)
    assert (cached(KEYS[0], never).image == np.float16(0.7)).all()


def _worker(cache: str, log: str, barrier: object) -> None:
    os.environ["MEDVISION_CACHE"] = cache

    def make(key: str) -> PreprocessedCase:
        with open(log, "a") as file:
            file.write(f"{key}\n")
        return made(KEYS.index(key) / 8, 32)

    barrier.wait()  # type: ignore[attr-defined]
    for key in KEYS:
        assert (
            cached(key, lambda key=key: make(key)).image == np.float16(KEYS.index(key) / 8)
        ).all()


def _many(cache: str, count: int) -> None:
    os.environ["MEDVISION_CACHE"] = cache
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    prepared_cache._allow_many_files.cache_clear()
    held = [cached(f"{index:064x}", lambda: made(0.5)) for index in range(count)]
    assert all(item.image.any() for item in held)


def test_more_cases_are_mapped_than_the_usual_limit_of_open_files_allows(
    isolated_cache: Path,
) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_many, args=(str(isolated_cache), 100)
    )
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("limit", ["50", "0"])
def test_several_processes_make_each_case_once_and_evict_without_harm(
    limit: str, isolated_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDVISION_CACHE_LIMIT", limit)
    context = multiprocessing.get_context("fork")
    barrier, log = context.Barrier(4), tmp_path / "made"
    processes = [
        context.Process(target=_worker, args=(str(isolated_cache), str(log), barrier), daemon=True)
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    if limit != "0":  # otherwise one process removes what the next one needs
        assert sorted(log.read_text().split()) == KEYS
    assert not list(
        (isolated_cache / "prepared").glob("*/.*.prepared")
    )  # no temporary file is left


def test_the_least_recently_used_files_go_and_what_is_mapped_stays_readable(
    isolated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = [
        cached(key, lambda index=index: made(index / 8, 32)) for index, key in enumerate(KEYS[:3])
    ]
    for age, path in enumerate(files(isolated_cache)):
        os.utime(path, (age, age))
    cached(KEYS[0], never)  # used just now
    size = files(isolated_cache)[0].stat().st_size
    monkeypatch.setenv("MEDVISION_CACHE_LIMIT", str(2.5 * size / 1e9))
    cached(KEYS[3], lambda: made(0.5, 32))
    assert [path.stem for path in files(isolated_cache)] == [KEYS[0], KEYS[3]]
    assert [float(item.image.max()) for item in mapped] == [0, 1 / 8, 2 / 8]
    monkeypatch.setenv("MEDVISION_CACHE_LIMIT", "0")
    assert (cached(KEYS[4], lambda: made(0.6)).image == np.float16(0.6)).all()
    assert [path.stem for path in files(isolated_cache)] == [KEYS[4]]
    monkeypatch.setenv("MEDVISION_CACHE_LIMIT", "plenty")
    with pytest.raises(DataError, match="MEDVISION_CACHE_LIMIT=plenty"):
        cached(KEYS[5], lambda: made(0.6))


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert (cached(KEYS[0], lambda: made(0.5)).image == np.float16(0.5)).all()
    assert "cannot be kept" in caplog.text
