"""Status and tracking commands, from the store alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import status, track
from orchestrator.planning.retry import State
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from record import paths
from record.lock import study_lock
from record.schema import Claim, Failure
from tests.record.builders import commits, study_plan


def test_states_follow_commits_claims_and_failures() -> None:
    plan = study_plan(trials=[{"train_id": f"t{i}", "eval_id": f"e{i}"} for i in range(5)])
    failed = Failure(reason="x")
    claims = {"t0": "e0", "t3": "e3", "t2": "e2", "t4": "a sibling"}
    states = status.trial_states(
        plan.trials, commits({"e0": {}}), {"e1": [failed], "e2": [failed] * 3}, claims, 3
    )
    assert list(states.values()) == [
        State.FINISHED,
        State.FAILED,
        State.QUARANTINED,
        State.RUNNING,
        State.PENDING,
    ]


def test_a_study_is_described_without_ray_and_rebuilt_in_mlflow(
    tiny_spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    assert main([str(tiny_spec), "--in-process", "--set", "tracking.enabled=false"]) == 0
    store = open_store(load_spec(tiny_spec))
    marker = next(iter(store.commits().values()))
    store.remove(paths.commit(marker.eval_id))
    with study_lock(store) as token:
        claim = Claim(token=f"{token}-1", eval_id=marker.eval_id)
        store.save(paths.claim(marker.train_id), claim)
        assert status.main([store.uri]) == 0
    shown = capsys.readouterr().out
    assert "tiny: 1 running, 5 finished" in shown
    assert "driver: process" in shown
    assert "5 finished in the last hour" in shown
    assert "1 are left: about 0.0 h of lanes, 0.0 h on 1 of them" in shown

    uri = f"sqlite:///{tmp_path / 'rebuilt.db'}"
    for _ in range(2):
        assert track.main([store.uri, "--uri", uri]) == 0
    client = MlflowClient(uri)
    assert len(client.search_runs([client.get_experiment_by_name("tiny").experiment_id])) == 6
    assert status.main([str(tmp_path / "nothing")]) == 2
    assert track.main([str(tmp_path / "nothing")]) == 2
