"""Killed after any of its writes, on a full or a read-only disk, with a clock that jumps: the same
table after the same command again.

`make kills` takes every write (`MEDVISION_KILLS=all`); the slow test takes some, the fast one few.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.run import main
from record import paths
from record.store import Store
from tests.on_workers.dying import DEAD
from tests.record.kills import Study, in_a_fork, killed, quick_trainings
from tests.record.small_study import small_spec

EVERY = os.environ.get("MEDVISION_KILLS") == "all"
CLONE_NEWNS, CLONE_NEWUSER, MS_RDONLY, MS_REMOUNT = 0x20000, 0x10000000, 1, 32


@pytest.fixture(scope="module")
def study(spheres: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    folder = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch, quick_trainings():
        patch.setenv("MEDVISION_CACHE", str(folder / "cache"))
        whole = Study(small_spec(folder, "tiny", spheres), folder / "whole")
        assert main(whole.command) == 0
        whole.table = whole.found()
        assert whole.wrong() == []
        yield whole


@pytest.fixture(scope="module")
def writes(study: Study, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How often an undisturbed run changes a file."""
    folder = tmp_path_factory.mktemp("counted")
    log = folder / "log"
    counted = study.elsewhere(folder / "runs")
    assert killed(counted, math.inf, log) == 0, log.read_text()
    assert counted.wrong() == []
    return int(log.with_suffix(".count").read_text())


def survives(study: Study, folder: Path, after: int, *, partly: bool) -> str:
    """What is wrong after a kill and the same command again; empty where nothing is."""
    here, log = study.elsewhere(folder / "runs"), folder / "log"
    folder.mkdir()
    code = killed(here, after, log, partly=partly)
    again = in_a_fork(lambda: main(here.command), folder / "again")
    said = log.read_text() + (folder / "again").read_text()
    wrong = [f"ended with {again}"] if again else here.wrong()
    if code not in (DEAD, 0) or "Traceback" in said:
        wrong.append(f"was to be killed, and ended with {code}")
    place = f"killed after {after} writes{', in the middle of one' * partly}"
    shutil.rmtree(folder)
    return f"{place}: {wrong}\n{said[-2000:]}" if wrong else ""


def chosen(writes: int, count: int) -> list[int]:
    return sorted({round(place * writes / count) for place in range(count)})


def test_a_study_that_is_killed_gives_the_same_table_afterwards(
    study: Study, writes: int, tmp_path: Path
) -> None:
    assert writes > 80
    wrong = [
        survives(study, tmp_path / str(after), after, partly=place % 2 == 0)
        for place, after in enumerate(chosen(writes, 3))
    ]
    assert not any(wrong), "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("partly", [False, True])
def test_after_any_of_its_writes_and_in_the_middle_of_each(
    study: Study, writes: int, tmp_path: Path, partly: bool
) -> None:
    wrong = [
        survives(study, tmp_path / str(after), after, partly=partly)
        for after in chosen(writes, writes if EVERY else 10)
    ]
    assert not any(wrong), "\n".join(filter(None, wrong))


def test_killed_again_and_again_it_ends(study: Study, writes: int, tmp_path: Path) -> None:
    here = study.elsewhere(tmp_path / "runs")
    for after in (writes // 4, writes // 5, 6):
        code = killed(here, after, tmp_path / "log", partly=True)
        assert code in (DEAD, 0), (tmp_path / "log").read_text()
    assert in_a_fork(lambda: main(here.command), tmp_path / "log") == 0
    assert here.wrong() == []


def mounted(folder: Path, size: int) -> Callable[..., None]:
    """Put a disk of so many bytes at a folder, in a process of its own; gives what changes it.

    Raises:
        OSError: this machine does not let us.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def must(code: int) -> None:
        if code:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    must(libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if os.getuid() else 0)))
    must(libc.mount(b"none", b"/", None, 0x44000, None))  # nothing of it is seen outside
    folder.mkdir(parents=True, exist_ok=True)

    def mount(size: int, flags: int = 0) -> None:
        options = f"size={size}".encode()
        must(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options))

    mount(size)
    return lambda size, flags=0: mount(size, flags | MS_REMOUNT)


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("disks")

    def tried() -> int:
        mounted(folder / "disk", 10_000)
        return 0

    if in_a_fork(tried, folder / "log"):
        pytest.skip("this machine lets nobody mount a disk")


LARGE = 50_000_000


def on_a_disk_of(study: Study, folder: Path, size: int) -> str:
    """What is wrong after a run on a disk that is full, and another one once there is room."""
    folder.mkdir()
    here = study.elsewhere(folder / "disk")

    def run() -> int:
        change = mounted(here.storage, size)
        first = main(here.command)
        print(f"FIRST {first}", flush=True)
        change(LARGE)
        if (second := main(here.command)) or first not in (0, 1, 2):
            print(f"SECOND {second}")
            return 3
        print(here.wrong())
        return 4 if here.wrong() else 0

    code = in_a_fork(run, folder / "log")
    said = (folder / "log").read_text()
    if "FIRST 2" in said:
        told = [line for line in said.splitlines() if line.startswith("error: ")]
        if not told or os.strerror(errno.ENOSPC) not in told[0]:
            code = code or 5
    return f"{size} bytes: {code}\n{said[-2500:]}" if code or "Traceback" in said else ""


@pytest.mark.usefixtures("disks")
def test_a_full_disk_is_told_and_the_study_goes_on_where_there_is_room(
    study: Study, tmp_path: Path
) -> None:
    assert not (wrong := on_a_disk_of(study, tmp_path / "full", 120_000)), wrong


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("disks")
def test_a_disk_of_any_size(study: Study, tmp_path: Path) -> None:
    used = sum(file.stat().st_blocks * 512 for file in study.folder.rglob("*") if file.is_file())
    count = used // 4096 if EVERY else 8
    sizes = [4096 + place * used // count for place in range(count)]
    wrong = [on_a_disk_of(study, tmp_path / str(size), size) for size in sizes]
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.usefixtures("disks")
def test_a_read_only_disk_is_told(study: Study, tmp_path: Path) -> None:
    here = study.elsewhere(tmp_path / "disk")

    def run() -> int:
        change = mounted(here.storage, LARGE)
        assert main(here.command) == 0
        Store(str(here.folder)).remove(paths.COMMITS)
        change(LARGE, MS_RDONLY)
        code = main(here.command)
        change(LARGE)
        assert main(here.command) == 0
        assert here.wrong() == []
        return code

    assert in_a_fork(run, tmp_path / "log") == 2, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert os.strerror(errno.EROFS) in said
    assert "Traceback" not in said


def jumping() -> None:
    """A clock that goes back an hour, or on by a day, each time that it is asked."""
    real, asked = time.time, iter(range(10**9))
    time.time = lambda: real() + (-3600.0, 0.0, 86_400.0)[next(asked) % 3]


SURROUNDINGS: dict[str, Callable[[], object]] = {
    "a clock that jumps": jumping,
    "256 open files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
    "a umask of 077": lambda: os.umask(0o077),
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_odd_surroundings_change_no_table(study: Study, tmp_path: Path, name: str) -> None:
    here = study.elsewhere(tmp_path / "runs")

    def run() -> int:
        SURROUNDINGS[name]()
        return main(here.command)

    assert in_a_fork(run, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert here.wrong() == []
