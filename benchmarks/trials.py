"""What commands cost a study of many finished trials: `python -m benchmarks.report --trials 10000`.

The study is that of `benchmarks.large_study`, with the paper's 60 comparisons; more trials are more
seeds. CPU seconds and peak memory are of each command's own
process, with what Python needs to start; the clock depends on what else runs. `first look`: status
without the index that the report writes, so that every file is read and checked.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.large_study import PAPER, large_spec, made_up_inputs, write_large_study
from orchestrator.console.plan import print_plan
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from record.command import begin_command


class Spent(NamedTuple):
    """CPU and clock in seconds, memory in GiB, of one command."""

    cpu: float
    clock: float
    peak: float


def spent_by(command: Sequence[str]) -> Spent:
    """Run a command of this Python to its end."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    clock = time.perf_counter() - begun
    return Spent(usage.ru_utime + usage.ru_stime, clock, usage.ru_maxrss / 2**20)


def dry_run(storage: str, trials: int) -> None:
    """What `--dry-run` prints, of cases that nobody has."""
    begin_command()
    spec = large_spec(storage, trials, PAPER)
    print_plan(Study(spec, open_store(spec), made_up_inputs(spec)))


def table(sizes: Sequence[int]) -> None:
    """Print a row for each size."""
    print("| trials | command | CPU [s] | clock [s] | peak [GiB] |")
    print("|---:|---|---:|---:|---:|")
    for trials in sizes:
        with tempfile.TemporaryDirectory() as storage:
            spec = large_spec(storage, trials, PAPER)
            write_large_study(spec)
            folder = str(Path(storage, spec.name))
            status = ["-m", "orchestrator.status", folder]
            code = f"from benchmarks.trials import dry_run; dry_run({storage!r}, {trials})"
            commands = {
                "dry run": ["-c", code],
                "status, first look": status,
                "report": ["-m", "reports.build", folder],
                "status": status,
            }
            for name, command in commands.items():
                cpu, clock, peak = spent_by(command)
                print(f"| {trials:,} | {name} | {cpu:.2f} | {clock:.1f} | {peak:.2f} |", flush=True)
