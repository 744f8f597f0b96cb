"""Status and tracking commands, from the store alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import status, track
from orchestrator.planning.retry import State
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from record.lock import study_lock


def test_states_follow_commits_claims_and_failures() -> None:
    plan = {"trials": [{"train_id": f"t{i}", "eval_id": f"e{i}"} for i in range(5)]}
    failures = {"e1": [{"reason": "x"}], "e2": [{"reason": "x"}] * 3}
    states = status.trial_states(
        plan, {"e0": {}}, failures, {"t0": "e0", "t3": "e3", "t2": "e2", "t4": "a sibling"}, 3
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
    store.remove(f"commits/{marker['eval_id']}.json")
    with study_lock(store) as token:
        store.write_json(
            f"claims/{marker['train_id']}.json",
            {"token": f"{token}-1", "eval_id": marker["eval_id"]},
        )
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
