"""Real Train workers that hang or die: what the record says, and that the numbers are those of an
undisturbed run.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from orchestrator.executors.lanes import driver
from orchestrator.executors.lanes.cluster import cluster
from orchestrator.spec.yaml_file import load_spec
from record.schema import Failure
from record.tables import read_results
from tests.orchestrator.executors.test_driver import prepared
from tests.waiting import Barrier, on_workers, put, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

# A worker that holds Python's lock ends after twice as long; after three times as long the lane
# would kill it.
HANG_SECONDS = 15
ONE_MODEL = ["models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]", "folds=2"]


def test_a_worker_that_hangs_is_ended_with_its_stacks_even_where_it_holds_pythons_lock(
    tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hangs").mkdir()
    put(monkeypatch, on_workers("hanging", MEDVISION_TEST_HANGS=str(tmp_path / "hangs")))
    spec = load_spec(
        tiny_spec,
        [*ONE_MODEL, f"resources.hang_seconds={HANG_SECONDS}", "resources.max_attempts=3"],
    )
    store, waiting = prepared(spec)
    failures: list[Failure] = []

    def on_event(event: dict[str, Any]) -> None:
        if event.word == "failed":
            failures.append(store.failures_of(waiting[0].eval_id)[-1])

    with cluster(None):
        driver.run_jobs(waiting, spec, store, on_event)
    assert len(store.commits()) == 2
    assert [failure.kind for failure in failures] == ["hang", "hang"]
    locked, asleep = failures
    assert "something held Python's lock" in locked.reason
    assert "Timeout" in locked.details  # faulthandler's word, out of the dead process's stderr
    assert "no sign of life" in asleep.reason
    assert f"resources.hang_seconds is {HANG_SECONDS}" in asleep.reason
    assert all("hanging.py" in failure.details for failure in failures)


def test_two_ranks_of_which_one_is_lost_give_the_numbers_of_an_undisturbed_run(
    tiny_spec: Path, tmp_path: Path, barrier: Barrier, ray_cluster: None
) -> None:
    """Rank 0 waits after epoch 10, with the checkpoint of epoch 8, until a rank is killed."""
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
                    # The first trial loses rank 0, which waits; the second one the other.
                    if [*begun].index(event.eval_id) == 0:
                        os.kill(first[-1], signal.SIGKILL)
                        return
                    os.kill(other_rank(first[-1]), signal.SIGKILL)
                if event.epoch == 10:
                    barrier.let_pass()

        barrier.hold(10)
        driver.run_jobs(waiting, spec, store, on_event)
        assert {marker.attempt.world for marker in store.commits().values()} == {2}
        if name == "shot":
            assert len(first) == 3
            for epochs in begun.values():
                assert epochs == [
                    *range(1, 11),
                    *range(9, 31),
                ]  # from the checkpoint, not from the start
        found.append((read_results(store, "cases"), read_results(store, "history")))
    for whole, resumed in zip(*found, strict=True):
        pd.testing.assert_frame_equal(whole, resumed, check_exact=True)


def other_rank(pid: int) -> int:
    """The worker process beside this one, when those of an earlier group are gone."""
    raylet = psutil.Process(pid).parent()
    assert raylet is not None

    def others() -> list[int]:
        found = []
        for process in raylet.children():
            with contextlib.suppress(psutil.Error):
                if process.pid != pid and "RayTrainWorker" in " ".join(process.cmdline()):
                    found.append(process.pid)
        return found

    return wait_for("one other rank", lambda: len(found := others()) == 1 and found)[0]
