"""How long a report takes and how much memory, from 10^4 to 10^6 result rows: `python -m
benchmarks.report`.

A synthetic study of 10 tasks with 480 cases each, in 5 folds; more rows are more models and seeds.
Measured are reading the store, pairing and testing the 60 comparisons of 480 cases (exact Wilcoxon,
Hodges-Lehmann, variance components), and, apart, the whole report with its figures and every model
against itself. The target: read, pair and test a million rows in under 20 s and 2 GB; CPU seconds
say what other work on the machine took. Every size runs in a process of its own, whose peak memory
is its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medvision.metrics.definitions import METRICS
from record import paths
from record.command import begin_command
from record.comparison import Comparison
from record.metric import Metric
from record.schema import (
    Attempt,
    Cell,
    Commit,
    Cost,
    PlannedTrial,
    Scoring,
    StudyPlan,
)
from record.store import Store
from record.study import StoredStudy
from record.tables import table_bytes

TASKS, CASES, FOLDS = 10, 480, 5
SHOWN = ["dice", "jaccard", "hd95", "specificity", "sensitivity", "nsd"]
SIZES = {10_000: (2, 1), 100_000: (7, 3), 1_000_000: (8, 26)}  # rows, about: models and seeds
TARGET_SECONDS, TARGET_GIB = 20.0, 2.0
_SHOWN = ("read", "test", "both", "cpu", "peak", "report", "report_cpu", "report_peak")


def write_study(folder: Path, models: int, seeds: int) -> int:
    """A study's files as the driver writes them; returns the number of rows."""
    store, rng = Store(str(folder)), np.random.default_rng(0)
    names = ["ViT_Baseline", "MedVisionLlama", *(f"model_{index}" for index in range(2, models))]
    tasks = [f"Task{index + 1:02d}" for index in range(TASKS)]
    trials, rows = [], 0
    for task in tasks:
        hardness = rng.uniform(0.4, 0.9, CASES)
        for number, model in enumerate(names):
            for fold in range(FOLDS):
                for seed in range(seeds):
                    key = f"{task}-{number}-{fold}-{seed}"
                    cases = range(fold, CASES, FOLDS)
                    dice = np.clip(
                        hardness[fold::FOLDS]
                        + 0.02 * (number > 0)
                        + rng.normal(0, 0.03, len(cases)),
                        0,
                        1,
                    )
                    attempt = paths.attempt(key, "benchmark")
                    files = {
                        paths.CASES: paths.cases(attempt, key),
                        paths.HISTORY: paths.attempt_file(attempt, paths.HISTORY),
                    }
                    table = [
                        _row(case, float(value)) for case, value in zip(cases, dice, strict=True)
                    ]
                    curve = [
                        {"epoch": e, "split": "val", "metric": "dice", "value": 0.05 * e}
                        for e in range(1, 11)
                    ]
                    checksums = {}
                    for kind, content in ((paths.CASES, table), (paths.HISTORY, curve)):
                        path, written = folder / files[kind], table_bytes(content)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(written)
                        checksums[kind] = hashlib.sha256(written).hexdigest()
                    cell = Cell(model, task, 1.0, fold, seed)
                    trials.append(PlannedTrial(**vars(cell), train_id=key, eval_id=key))
                    cost = Cost(
                        seconds=1.0,
                        chosen_epoch=1,
                        peak_memory_bytes=1,
                        trained_parameters=1,
                        parameters=1,
                    )
                    marker = Commit(
                        eval_id=key,
                        train_id=key,
                        token="benchmark",
                        cell=cell,
                        files=files,
                        sha256=checksums,
                        cost=cost,
                        attempt=Attempt(world=1, threads=1),
                        finished="2026-01-01T00:00:00Z",
                    )
                    path = folder / paths.commit(key)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(marker.to_json()))
                    rows += len(table)
    store.save(paths.PLAN, _plan(names, tasks, trials))
    return rows


def _row(case: int, dice: float) -> dict[str, Any]:
    ratios = dict.fromkeys(
        ("dice", "jaccard", "sensitivity", "specificity", "precision", "accuracy", "nsd"), dice
    )
    distances = dict.fromkeys(("hd95", "hd", "assd"), 20 * (1 - dice))
    return {
        "case": f"case_{case:04d}",
        "group": "foreground",
        **ratios,
        **distances,
        "status": "ok",
        "diagonal": 200.0,
    }


def _plan(names: list[str], tasks: list[str], trials: list[PlannedTrial]) -> StudyPlan:
    comparison = Comparison(
        baseline=names[0],
        candidates=names[1:2],
        metrics=SHOWN,
        family=["candidate", "fraction"],
    )
    return StudyPlan(
        name="benchmark",
        models=names,
        tasks=tasks,
        fractions=[1.0],
        metrics={name: Metric.model_validate(asdict(info)) for name, info in METRICS.items()},
        both_empty="exclude",
        scoring=Scoring(nsd="surfel", hd95="voxel-max", tolerances={task: [1.0] for task in tasks}),
        comparisons=[comparison],
        trials=trials,
    )


def measure(folder: Path) -> dict[str, float]:
    """Seconds of each step, by the clock and of this process, and its peak memory in GiB."""
    from reports.build import build_report
    from reports.sections.significance import significance_table

    started, used = time.perf_counter(), time.process_time()
    study = StoredStudy.opened(Store(str(folder)))
    plan, commits = study.plan, study.finished.commits
    rows = study.rows(paths.CASES)
    read = time.perf_counter()
    table = significance_table(rows, plan, commits)
    tested, used = time.perf_counter(), time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert len(table) == TASKS * len(SHOWN)
    assert (table["n"] == CASES).all()
    count = len(rows)
    del rows
    before = time.process_time()
    build_report(study.again())
    return {
        "rows": count,
        "read": read - started,
        "test": tested - read,
        "both": tested - started,
        "cpu": used,
        "peak": peak,
        "report": time.perf_counter() - tested,
        "report_cpu": time.process_time() - before,
        "report_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        choices=list(SIZES),
        default=list(SIZES),
        help="default: all",
    )
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument(
        "--trials",
        nargs="+",
        type=int,
        metavar="N",
        help="instead: what status, dry run and report cost studies of so many finished trials "
        "(benchmarks/trials.py)",
    )
    options = parser.parse_args()
    if options.trials:
        if not all(0 < trials <= 10**6 for trials in options.trials):
            parser.error("--trials: a study has from 1 to 1,000,000 trials")
        from benchmarks.trials import table

        table(options.trials)
        return
    if options.folder:
        print(json.dumps(measure(Path(options.folder))))
        return
    print(
        "| rows | read [s] | pair and test [s] | both [s] | both, CPU [s] | peak [GiB] | whole "
        "report [s] | of it CPU [s] | its peak [GiB] |"
    )
    print("|" + " ---: |" * 9)
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_study(Path(folder), *SIZES[size])
            command = [sys.executable, "-m", "benchmarks.report", "--folder", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        numbers = " | ".join(f"{found[name]:.2f}" for name in _SHOWN)
        print(f"| {found['rows']:,} | {numbers} |", flush=True)
        if size == max(SIZES):
            reached = found["both"] < TARGET_SECONDS and found["peak"] < TARGET_GIB
            print(
                f"\nTarget, under {TARGET_SECONDS:g} s and {TARGET_GIB:g} GiB: "
                f"{'reached' if reached else 'MISSED'}."
            )


if __name__ == "__main__":
    main()
