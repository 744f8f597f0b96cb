"""Status and tracking commands, from the store alone."""

from __future__ import annotations

import io
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator import status, track
from orchestrator.console.picture import Picture
from orchestrator.planning.retry import State
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from record import paths
from record.lock import study_lock
from record.schema import Cell, Claim, Failure
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
    assert re.search(r"^1 are left: about \d+ s of lanes, \d+ s on 1 of them$", shown, re.MULTILINE)

    uri = f"sqlite:///{tmp_path / 'rebuilt.db'}"
    for _ in range(2):
        assert track.main([store.uri, "--uri", uri]) == 0
    client = MlflowClient(uri)
    assert len(client.search_runs([client.get_experiment_by_name("tiny").experiment_id])) == 6
    assert status.main([str(tmp_path / "nothing")]) == 2
    assert track.main([str(tmp_path / "nothing")]) == 2


def test_a_running_study_is_watched_on_eighty_columns_until_its_end(fake_study: Any) -> None:
    study = fake_study(count=3)
    study.finished(0)
    cells = {
        str(trial.eval_id): Cell(trial.model, trial.task, trial.fraction, trial.fold, trial.seed)
        for trial in study.stored.plan.trials[1:]
    }
    picture = Picture("fake", dict.fromkeys(cells, 100.0), cells=cells)
    picture.update(study.started(2), 0.0)
    picture.update(replace(study.epoch(2, 1), epochs=12), 1.0)
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    looks = []

    def pause(seconds: float) -> None:
        looks.append(console.file.getvalue())  # type: ignore[attr-defined]
        if len(looks) == 1:
            progress = picture.progress(2.0, 1.7e9)
            study.store.save(paths.PROGRESS, progress.model_copy(update={"token": token}))
        elif len(looks) == 2:
            study.store.remove(paths.LOCK)

    with study_lock(study.store) as token:
        status.watch(study.store, console, pause)
    before, after = looks[0], looks[1].removeprefix(looks[0])
    assert status.NOTHING_YET in before
    assert "fake: 2 pending, 1 finished" in before
    assert "fake: 1 pending, 1 running" in after
    assert re.search(r"1 1/12 +ViT_Baseline +Task99_Sph\S+ +2 +0 0\.2500", after)
    assert f"process {os.getpid()} on " in after
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", after).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(looks) == 2


def test_a_watched_study_that_nobody_runs_is_described(
    fake_study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    study = fake_study()
    study.finished(0)
    assert status.main([study.store.uri, "--watch"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("fake: 1 pending, 1 finished\ndriver: none\n")
