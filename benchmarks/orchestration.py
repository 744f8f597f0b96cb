"""What a further trial costs in a lane, compared with other ways of running trials: `python -m
benchmarks.orchestration`.

Every way runs the same real trials, as small as trials get: one step of a tiny network on eight
cases of 8x8x8 voxels, all test cases scored, everything committed. So the numbers are whole trials,
an upper bound of the overhead. `start` is the time until the first trial is finished, `a further
trial` the mean of the others. The slow ways are measured on a few trials. One row goes through the
main job with its default settings: plan, log files, MLflow on SQLite, report. `--long` adds 10,000
trials in one lane.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
import ray

from orchestrator.executors.lanes import driver
from orchestrator.executors.lanes.cluster import cluster
from orchestrator.planning.identity import Job
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.run import main as run_main
from orchestrator.spec.study import Spec
from record import paths
from record.command import begin_command
from record.events import Event, Finished
from record.schema import Claim
from record.store import Store

TASK, CASES, EDGE = "Task99_Tiny", 8, 8
TARGET_SECONDS = 0.25
GROWTH = (10, 100, 1000)
LONG = 10_000


def write_task(root: Path) -> None:
    """Eight noisy cubes."""
    rng, folder = np.random.default_rng(0), root / TASK
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    names = [f"case_{index}.nii.gz" for index in range(CASES)]
    for name in names:
        label = np.zeros((EDGE,) * 3, np.uint8)
        label[2:6, 2:6, 2 : int(rng.integers(4, 7))] = 1
        image = (label * 100 + rng.normal(0, 20, label.shape)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / "imagesTr" / name)
        nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), folder / "labelsTr" / name)
    pairs = [{"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names]
    (folder / "dataset.json").write_text(
        json.dumps({"name": TASK, "labels": {"1": "cube"}, "training": pairs})
    )


@contextlib.contextmanager
def planned(trials: int, workers: int = 1) -> Iterator[tuple[Spec, Store, list[Job]]]:
    """A study of this many trials that is planned and not run, with a cache of its own."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDVISION_CACHE"] = f"{folder}/cache"
        write_task(Path(folder, "data"))
        spec = Spec.model_validate(
            {
                "name": "benchmark",
                "models": [{"label": "ViT_Baseline", "embed_dim": 8, "depth": 1, "heads": 1}],
                "tasks": [TASK],
                "folds": 2,
                "seeds": list(range(-(-trials // 2))),
                "data": {"root": f"{folder}/data", "image_size": [EDGE] * 3, "patch_size": [4] * 3},
                "training": {"steps": 1, "batch_size": 4},
                "evaluation": {"tolerances": [1.0]},
                "resources": {"max_lanes": 1, "workers": workers, "lane_trials": 10**6},
                "storage": f"{folder}/runs",
            }
        )
        study = Study.gathered(spec, open_store(spec))
        study.write()
        yield spec, study.store, study.jobs("benchmark")[:trials]


def lane(trials: int, workers: int = 1) -> dict[str, float]:
    """All trials in one lane: start, seconds of a further trial, and the driver's memory after the
    first and the last.
    """
    with planned(trials, workers) as (spec, store, waiting), cluster(None):
        started, finished, memory = time.perf_counter(), [], []

        def on_event(event: Event) -> None:
            if isinstance(event, Finished):
                finished.append(time.perf_counter())
                if len(finished) in (1, trials):
                    memory.append(psutil.Process().memory_info().rss / 2**20)

        driver.run_jobs(waiting, spec, store, on_event)
        return _times(started, finished) | {"first": memory[0], "last": memory[-1]}


def main_job(trials: int) -> dict[str, float]:
    """All trials in one lane through `orchestrator.run`, with MLflow, logs and the report; times
    are those of the commits.
    """
    with planned(trials) as (spec, *_), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "benchmark.yaml")
        path.write_text(
            json.dumps(spec.model_dump(mode="json", exclude_unset=True))
        )  # JSON is YAML
        started = time.time()
        code = run_main([str(path), "--quiet", "--set", f"storage={folder}/runs"])
        root = Path(folder, "runs", spec.name)
        finished = sorted(file.stat().st_mtime for file in (root / paths.COMMITS).glob("*.json"))
        assert len(finished) == trials, f"exit code {code}, {len(finished)} of {trials} trials"
        return _times(started, finished)


def ray_tasks(trials: int) -> dict[str, float]:
    """A plain Ray task a trial: no Tune, no Train, no DDP."""
    with planned(trials) as (_, store, waiting), cluster(None):
        task = ray.remote(run_one).options(num_cpus=1)
        started, finished = time.perf_counter(), []
        for job in waiting:
            ray.get(task.remote(store.uri, job.to_json()))
            finished.append(time.perf_counter())
        return _times(started, finished)


def trainer_per_trial(trials: int) -> dict[str, float]:
    """Tune with a TorchTrainer of its own for every trial."""
    from ray import train, tune
    from ray.train.torch import TorchTrainer

    with planned(trials) as (_, store, waiting), cluster(None):
        uri, jobs, finished = store.uri, [job.to_json() for job in waiting], []

        def one_trial(config: dict[str, Any]) -> None:
            TorchTrainer(
                lambda loop: run_one(uri, loop["job"]),
                train_loop_config={"job": config["job"]},
                scaling_config=train.ScalingConfig(num_workers=1, use_gpu=False),
                run_config=train.RunConfig(storage_path=f"{uri}/train"),
            ).fit()

        started = time.perf_counter()
        for job in jobs:  # one after the other, as in one lane
            tune.Tuner(
                tune.with_resources(one_trial, {"CPU": 0.01}),
                param_space={"job": job},
                run_config=tune.RunConfig(storage_path=f"{uri}/tune", verbose=0),
            ).fit()
            finished.append(time.perf_counter())
        return _times(started, finished)


def process_per_trial(trials: int) -> dict[str, float]:
    """A Python process a trial, as the official code is run."""
    with planned(trials) as (_, store, waiting):
        started, finished = time.perf_counter(), []
        for job in waiting:
            code = (
                f"from benchmarks.orchestration import run_one; run_one({store.uri!r}, "
                f"{job.to_json()!r})"
            )
            subprocess.run([sys.executable, "-c", code], check=True)
            finished.append(time.perf_counter())
        return _times(started, finished)


def run_one(store: str, job: dict[str, Any]) -> None:
    """One trial in this process."""
    from medvision.training.ranks import Ranks
    from orchestrator.trial.attempt import run_attempt

    opened = Store(store)
    opened.save(paths.claim(job["train_id"]), Claim(token=job["token"]))
    run_attempt(Job.from_json(job), opened, Ranks(), lambda event: None)


def _times(started: float, finished: Sequence[float]) -> dict[str, float]:
    further = (finished[-1] - finished[0]) / max(1, len(finished) - 1)
    return {"trials": len(finished), "start": finished[0] - started, "further": further}


def in_a_process(way: str, *values: int) -> dict[str, float]:
    """A measurement in a fresh interpreter, so that one way's memory is not another's."""
    code = (
        "import json; from benchmarks import orchestration as o; "
        f"print(json.dumps(o.{way}{tuple(values)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--long", action="store_true", help=f"also {LONG:,} trials in one lane")
    options = parser.parse_args()
    print(
        "| way | trials | start [s] | a further trial [s] | times a lane of 1 rank "
        "|\n|---|---:|---:|---:|---:|"
    )
    ways = [
        ("lane, 1 rank", "lane", 40, 1),
        ("lane, 2 ranks", "lane", 40, 2),
        ("main job: lane, 1 rank, MLflow, logs", "main_job", 40),
        ("Ray task", "ray_tasks", 40),
        ("Python process (official)", "process_per_trial", 3),
        ("Tune + one TorchTrainer a trial", "trainer_per_trial", 3),
    ]
    base = 0.0
    for name, way, *values in ways:
        found = in_a_process(way, *values)  # type: ignore[arg-type]
        base = base or found["further"]
        line = (
            f"{found['trials']:,.0f} | {found['start']:.1f} | {found['further']:.3f} | "
            f"{found['further'] / base:.1f}"
        )
        print(f"| {name} | {line} |", flush=True)
        if way in ("lane", "main_job"):
            print(
                f"<!-- {name}: {'reached' if found['further'] <= TARGET_SECONDS else 'MISSED'} "
                f"{TARGET_SECONDS} s -->"
            )
    title = (
        "trials in one lane | start [s] | a further trial [s] | driver's memory after the first, "
        "MiB | after the last"
    )
    print(f"\n| {title} | KiB a trial |\n|---:|---:|---:|---:|---:|---:|")
    for trials in (*GROWTH, *([LONG] if options.long else [])):
        found = in_a_process("lane", trials)
        each = 1024 * (found["last"] - found["first"]) / (trials - 1)
        row = (
            f"{trials:,} | {found['start']:.1f} | {found['further']:.3f} | {found['first']:,.0f} | "
            f"{found['last']:,.0f}"
        )
        print(f"| {row} | {each:.1f} |", flush=True)


if __name__ == "__main__":
    main()
