"""The Ray driver on a real local Ray: lanes are reused, ranks work together, a broken lane costs
one attempt.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.executors.base import ClusterError
from orchestrator.executors.in_process import InProcessExecutor
from orchestrator.executors.lanes import driver
from orchestrator.executors.lanes.placement_groups import OrphanedGroups
from orchestrator.executors.lanes.worker_group import _last_stderr
from orchestrator.planning.identity import Job
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import load_spec
from record.events import RankReady
from record.store import Store
from record.tables import read_results
from tests.waiting import PATIENCE_SECONDS, Barrier, wait_for


def prepared(spec: Spec) -> tuple[Store, list[Any]]:
    """A study that is planned and not run."""
    study = Study.gathered(spec, open_store(spec))
    study.write()
    return study.store, study.jobs("test")


def test_the_main_job_runs_many_trials_in_one_worker_process_and_gives_the_same_numbers(
    tiny_spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_spec)]) == 0
    assert "6 of 6 trials are in this report" in capsys.readouterr().out
    store = open_store(load_spec(tiny_spec))
    attempts = [marker.attempt for marker in store.commits().values()]
    assert len(attempts) == 6
    # One lane, one TorchTrainer, one process.
    assert len({attempt.pid for attempt in attempts}) == 1
    assert attempts[0].pid != os.getpid()
    assert (tmp_path / "runs" / "mlflow.db").exists()
    assert not (Path(store.root) / "lock.json").exists()

    spec = load_spec(tiny_spec, [f"storage={tmp_path / 'local'}"])
    other, waiting = prepared(spec)
    InProcessExecutor(spec, other).run(waiting, emit=lambda event: None)
    lanes, here = read_results(store, "cases"), read_results(other, "cases")
    assert (lanes["dice"] == here["dice"]).all()
    assert (lanes["hd95"] == here["hd95"]).all()


@pytest.mark.slow
def test_two_ranks_train_one_model_and_one_the_other(tiny_spec: Path, ray_cluster: None) -> None:
    """Five validation and test cases on two ranks: uneven shares, and a last batch that leaves one
    rank without a case.
    """
    shapes = "resources.shapes=[{models: [MedVisionLlama], workers: 2}]"
    spec = load_spec(tiny_spec, [shapes, "training.batch_size=3", "training.augmentation=null"])
    store, waiting = prepared(spec)
    driver.run_jobs(waiting, spec, store, lambda event: None)
    commits = store.commits()
    assert len(commits) == 6
    worlds = {(marker.cell.model, marker.attempt.world) for marker in commits.values()}
    assert worlds == {("ViT_Baseline", 1), ("MedVisionLlama", 2)}
    rows = read_results(store, "cases")
    assert len(rows) == 30
    assert rows["dice"].between(0, 1).all()


@pytest.mark.slow
def test_a_lane_that_rests_leaves_its_place_to_one_that_waits_for_it(
    tiny_spec: Path, ray_cluster: None
) -> None:
    """One place, two lanes: when the first trial ends, the other lane waits for its place, and no
    trial may take it.
    """
    model = "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"
    settings = [model, "comparisons=[]", "fractions=[0.1]", "resources.max_lanes=2"]
    spec = load_spec(
        tiny_spec, [*settings, f"resources.cpus_per_worker={int(ray.cluster_resources()['CPU'])}"]
    )
    store, waiting = prepared(spec)
    driver.run_jobs(waiting[:2], spec, store, lambda event: None)
    assert len(store.commits()) == 2


@pytest.mark.slow
def test_folds_that_train_on_the_same_cases_are_each_trained(
    tiny_spec: Path, tmp_path: Path, ray_cluster: None
) -> None:
    """Of ten cases a tenth is one: two folds train on the same, at once on two lanes."""
    spec = load_spec(tiny_spec, ["fractions=[0.1]", "resources.max_lanes=2", "training.epochs=8"])
    store, waiting = prepared(spec)
    assert len({job.train_id for job in waiting}) == len(waiting) == 6
    trained: Counter[str] = Counter()
    names = {job.eval_id: job.train_id for job in waiting}

    def count(event: Any) -> None:
        if event.word == "epoch":
            trained[names[event.eval_id]] += 1

    driver.run_jobs(waiting, spec, store, count)
    assert len(store.commits()) == 6
    assert dict(trained) == dict.fromkeys(names.values(), 8)
    assert not store.names("checkpoints")

    alone, waiting = prepared(
        load_spec(tiny_spec, ["fractions=[0.1]", "training.epochs=8", f"storage={tmp_path / 'a'}"])
    )
    InProcessExecutor(spec, alone).run(waiting, emit=lambda event: None)
    assert read_results(store, "cases").equals(read_results(alone, "cases"))
    assert read_results(store, "history").equals(read_results(alone, "history"))


def test_trials_that_tune_gave_up_with_a_dying_lane_are_run_in_another_round(
    tiny_spec: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_spec(tiny_spec, ["training.epochs=1"])
    store, waiting = prepared(spec)
    rounds: list[int] = []

    def losing(jobs: Sequence[Job], *given: Any) -> Sequence[BaseException]:
        """A round that runs the first two and loses the others."""
        rounds.append(len(jobs))
        InProcessExecutor(spec, store).run(jobs[:2], emit=lambda event: None)
        return [RuntimeError("the lane died")]

    monkeypatch.setattr(driver, "_round", losing)
    driver.run_jobs(waiting, spec, store, lambda event: None)
    assert rounds == [6, 4, 2]
    assert len(store.commits()) == 6
    for marker in store.commits():
        store.remove(f"commits/{marker}.json")
    monkeypatch.setattr(driver, "_round", lambda *given: [RuntimeError("the lane died")])
    with pytest.raises(
        ClusterError, match="6 trials lost their lanes again and again: the lane died"
    ):
        driver.run_jobs(waiting, spec, store, lambda event: None)


@pytest.mark.slow
def test_a_killed_worker_costs_its_trial_an_attempt_and_no_other_trial(
    tiny_spec: Path, barrier: Barrier, ray_cluster: None
) -> None:
    """The second trial waits after its first epoch until its worker is killed."""
    spec = load_spec(
        tiny_spec, ["models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"]
    )
    store, waiting = prepared(spec)
    workers: list[int] = []
    events: list[Any] = []

    def watch(event: Any) -> None:
        events.append(event)
        if event.word == "lane-ready":
            workers.append(event.pid)
        if event.word == "epoch" and event.epoch == 1:
            if event.eval_id == waiting[1].eval_id and len(workers) == 1:
                os.kill(workers[0], signal.SIGKILL)
            else:
                barrier.let_pass()

    barrier.hold(1)
    driver.run_jobs(waiting, spec, store, watch)
    assert len(store.commits()) == 3
    assert len(workers) == 2
    failed = [(event.kind, event.eval_id) for event in events if event.word == "failed"]
    assert failed == [("lost", waiting[1].eval_id)]
    attempts = [event.attempt for event in events if event.word == "started"]
    assert attempts == [1, 1, 2, 1]
    assert len({marker.attempt.pid for marker in store.commits().values()}) == 2
    (node,) = (node["NodeID"] for node in ray.nodes())
    rank = RankReady(0, None, node, workers[0], "")
    # Where the stacks of a worker that hangs would be; Ray's agent may not be there to tell yet.
    wait_for("its last words", lambda: "not to be had" not in _last_stderr(rank))


def test_a_placement_group_that_a_dead_lane_left_is_given_back(ray_cluster: None) -> None:
    def group(**options: Any) -> Any:
        made = ray.util.placement_group([{"CPU": 0.2}], **options)
        ray.get(made.ready(), timeout=PATIENCE_SECONDS)
        return made

    def states() -> list[str]:
        return [ray.util.placement_group_table(each)["state"] for each in (left, used, kept)]

    left, used, kept = group(), group(), group(name="kept", lifetime="detached")
    strategy = PlacementGroupSchedulingStrategy(used)
    actor = ray.remote(type("Worker", (), {"ping": lambda self: 1})).options(
        num_cpus=0.1, scheduling_strategy=strategy
    )
    living = actor.remote()
    assert ray.get(living.ping.remote(), timeout=PATIENCE_SECONDS) == 1
    leaks = OrphanedGroups()
    assert leaks.sweep() == []  # it may be about to be used
    assert leaks.sweep() == [left.id.hex()]
    assert states() == ["REMOVED", "CREATED", "CREATED"]
    ray.kill(living)

    def given_back() -> bool:
        leaks.sweep(last=True)
        return states()[1] != "CREATED"

    wait_for("the end of the dead actor's group", given_back)
    assert states() == ["REMOVED", "REMOVED", "CREATED"]


def test_a_trial_that_no_machine_can_hold_is_refused(tiny_spec: Path, ray_cluster: None) -> None:
    for lanes in ("null", "1"):  # a Ray of our own never grows
        spec = load_spec(
            tiny_spec, ["resources.cpus_per_worker=512", f"resources.max_lanes={lanes}"]
        )
        store, waiting = prepared(spec)
        with pytest.raises(ClusterError, match="one trial asks for 512 CPU") as refused:
            driver.run_jobs(waiting, spec, store, lambda event: None)
        assert "that grows" not in str(refused.value)
