"""Real Train workers that hang or die: what the record says, and that the numbers are those of an
undisturbed run.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from orchestrator.executors.lanes import driver
from orchestrator.spec.yaml_file import load_spec
from record.schema import Failure
from record.tables import read_results
from tests.orchestrator.executors.test_driver import prepared

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ONE_MODEL = ["models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]", "folds=2"]
# Python imports this before anything else, in the workers, too. The first attempt holds Python's
# lock, the second only sleeps.
HANGING = """
import ctypes, importlib.util, os, sys

def hangs(module):
    real = module.run_attempt

    def run_attempt(*arguments, **options):
        for libc in (ctypes.PyDLL(None), ctypes.CDLL(None)):
            try:
                os.mkdir(os.path.join({folder!r}, type(libc).__name__))
            except FileExistsError:
                continue
            libc.sleep(600)
        return real(*arguments, **options)

    module.run_attempt = run_attempt

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "orchestrator.trial.attempt":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), hangs(module))
        return spec

sys.meta_path.insert(0, Finder())
"""


def test_a_worker_that_hangs_is_ended_with_its_stacks_even_where_it_holds_pythons_lock(
    tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(
        HANGING.format(folder=str(tmp_path / "hook"))
    )
    monkeypatch.setenv(
        "PYTHONPATH", f"{tmp_path / 'hook'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    )
    spec = load_spec(
        tiny_spec, [*ONE_MODEL, "resources.hang_seconds=5", "resources.max_attempts=3"]
    )
    store, waiting = prepared(spec)
    failures: list[Failure] = []

    def on_event(event: dict[str, Any]) -> None:
        if event.word == "failed":
            failures.append(store.failures_of(waiting[0].eval_id)[-1])

    with driver.cluster(None):
        driver.run_jobs(waiting, spec, store, on_event)
    assert len(store.commits()) == 2
    assert [failure.kind for failure in failures] == ["hang", "hang"]
    locked, asleep = failures
    assert "something held Python's lock" in locked.reason
    assert "Timeout" in locked["details"]  # faulthandler's word, out of the dead process's stderr
    assert "no sign of life" in asleep.reason
    assert "resources.hang_seconds is 5" in asleep.reason
    assert all("sitecustomize.py" in failure.details for failure in failures)


def test_two_ranks_of_which_one_is_lost_give_the_numbers_of_an_undisturbed_run(
    tiny_spec: Path, tmp_path: Path, ray_cluster: None
) -> None:
    settings = ["resources.workers=2", "training.epochs=30", "training.checkpoint_epochs=4"]
    found: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    for name in ("undisturbed", "shot"):
        spec = load_spec(tiny_spec, [*ONE_MODEL, *settings, f"storage={tmp_path / name}"])
        store, waiting = prepared(spec)
        first: list[int] = []
        begun: dict[str, list[int]] = {job.eval_id: [] for job in waiting}

        def on_event(
            event: Any,
            name: str = name,
            first: list[int] = first,
            begun: dict[str, list[int]] = begun,
        ) -> None:
            if event.word == "lane-ready":
                first.append(event.pid)
            if event.word == "epoch":
                begun[event.eval_id].append(event.epoch)
                if name == "shot" and begun[event.eval_id] == [*range(1, 11)]:
                    trial = [*begun].index(
                        event.eval_id
                    )  # rank 0 in the first one, the other in the second
                    os.kill(first[-1] if trial == 0 else other_rank(first[-1]), signal.SIGKILL)

        driver.run_jobs(waiting, spec, store, on_event)
        assert {marker.attempt.world for marker in store.commits().values()} == {2}
        if name == "shot":
            assert len(first) == 3
            for epochs in begun.values():
                again = next(
                    epoch
                    for epoch, before in zip(epochs[1:], epochs, strict=False)
                    if epoch <= before
                )
                assert 1 < again <= 13  # from a checkpoint, not from the start
                assert epochs[-1] == 30
        found.append((read_results(store, "cases"), read_results(store, "history")))
    for whole, resumed in zip(*found, strict=True):
        pd.testing.assert_frame_equal(whole, resumed, check_exact=True)


def other_rank(pid: int) -> int:
    """The worker process beside this one."""
    raylet = psutil.Process(pid).parent()
    assert raylet is not None
    (other,) = [
        process.pid
        for process in raylet.children()
        if process.pid != pid and "RayTrainWorker" in " ".join(process.cmdline())
    ]
    return other
