"""Whatever happens to a lane's worker, or is missing on its machine, the table is the same.

`make kills` takes every write of a trial (`MEDVISION_KILLS=all`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator.run import main
from record import paths
from record.store import Store
from record.tables import read_results
from tests.waiting import PATIENCE_SECONDS, on_workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
WRITES = 24  # more than a trial makes after its training has begun
FEW = (0, 3, 8, 13)
SOME = range(WRITES) if os.environ.get("MEDVISION_KILLS") == "all" else FEW


class Small(NamedTuple):
    """A spec of two trials, where it is stored, and the table that it must come to."""

    spec: Path
    local: Path
    table: bytes

    def command(self, storage: Path) -> list[str]:
        settings = [f"storage={storage}", "tracking.enabled=false"]
        return [str(self.spec), *(word for one in settings for word in ("--set", one))]

    def found(self, storage: Path) -> bytes:
        scores = read_results(Store(str(storage / "tiny")), paths.CASES)
        kept = scores.sort_values(["fold", "case", "group"])[["fold", "case", "group", "dice"]]
        return kept.to_csv(index=False).encode()


@pytest.fixture
def small(tiny_spec: Path, tmp_path: Path) -> Small:
    lines = tiny_spec.read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if "MedVisionLlama" not in line)
    tiny_spec.write_text(text.replace("folds: 3", "folds: 2"))
    made = Small(tiny_spec, tmp_path / "local", b"")
    assert main([*made.command(made.local), "--in-process"]) == 0
    return made._replace(table=made.found(made.local))


@pytest.mark.parametrize("after", SOME)
def test_a_worker_that_dies_at_any_of_its_writes_changes_no_number(
    small: Small, tmp_path: Path, after: int
) -> None:
    storage, folder = tmp_path / "lanes", tmp_path / "lanes" / "tiny"
    dying = on_workers("dying", MEDVISION_TEST_STUDY=str(folder), MEDVISION_TEST_DEATH=str(after))
    said = run(small.command(storage), tmp_path / "log", environment=dying)
    assert "the worker processes were lost" in said or after not in FEW
    assert small.found(storage) == small.table, said
    store = Store(str(folder))
    whole = {file for marker in store.commits().values() for file in marker.files.values()}
    assert set(store.below(paths.TRIALS)) == whole
    assert not store.names(paths.CHECKPOINTS)


def few_files(command: Sequence[str]) -> list[str]:
    return ["bash", "-c", 'ulimit -n 1024; exec "$@"', "bash", *command]


def little_shared_memory(command: Sequence[str]) -> list[str]:
    mount = 'mount -t tmpfs -o size=8m tmpfs /dev/shm && exec "$@"'
    return ["unshare", "--mount", "bash", "-c", mount, "bash", *command]


@pytest.mark.parametrize("where", [few_files, little_shared_memory])
def test_lanes_on_a_machine_that_lacks_something_give_the_same_table(
    small: Small, tmp_path: Path, where: Callable[[Sequence[str]], list[str]]
) -> None:
    if subprocess.run(where(["true"]), capture_output=True).returncode:
        pytest.skip("this machine lets nobody have a /dev/shm of their own")
    said = run(small.command(tmp_path / "lanes"), tmp_path / "log", where=where)
    assert small.found(tmp_path / "lanes") == small.table, said


def run(
    command: Sequence[str],
    log: Path,
    *,
    environment: dict[str, str] | None = None,
    where: Callable[[Sequence[str]], list[str]] = list,
) -> str:
    """Run a study in lanes to its end; what it said."""
    words = where([sys.executable, "-m", "orchestrator.run", *command])
    with log.open("w") as out:
        done = subprocess.run(
            words,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            timeout=PATIENCE_SECONDS,
        )
    said = log.read_text()
    assert done.returncode == 0, said
    assert "Traceback" not in said
    return said
