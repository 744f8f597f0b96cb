"""A real `mlflow server`, one that dies in the middle, one that asks for a password, and ones that
refuse or hang.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrator.tracking.tracker as tracking
from orchestrator import run, track
from orchestrator.tracking.tracker import Tracker
from orchestrator.tracking.view import View
from record.events import DriverStarted
from tests.orchestrator.tracking.servers import Gate, Server
from tests.waiting import PATIENCE_SECONDS, wait_for
from tools.report_screenshots import browser

Study = Callable[..., Any]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses and patience, so that a test need not wait."""
    monkeypatch.setattr(tracking, "BATCH_SECONDS", 0.05)
    monkeypatch.setattr(tracking, "PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 3.0)
    monkeypatch.setattr(tracking, "SHORT_PATIENCE_SECONDS", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.parametrize("mode", ["500", "401", "hang"])
@pytest.mark.usefixtures("hurried")
def test_a_server_that_refuses_or_hangs_neither_fails_a_study_nor_makes_it_wait(
    fake_study: Study, gate: Gate, mode: str, tmp_path: Path, empty_database: Path, seen: Any
) -> None:
    gate.mode = mode
    study = fake_study()
    with Tracker(study.stored, gate.uri) as tracker:
        for fold in range(2):
            for event in study.whole(fold):
                tracker(event)
            wait_for("a request", lambda: gate.requests > 0)
        problem = tracker.finish(complete=True)
    assert problem is not None
    assert (
        gate.uri.removeprefix("http://") in problem or "no end after" in problem or mode in problem
    )
    # The events are on disk, and another server gets all of them.
    other = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'other.db')}"
    assert View(study.stored, other).sync() == 2
    found = seen(other)
    assert found.statuses() == ["FINISHED", "FINISHED"]
    for fold, trial in enumerate(study.trials):
        assert found.curve(trial["eval_id"]) == list(enumerate(study.losses(fold), start=1))


@pytest.mark.usefixtures("hurried")
def test_nobody_at_the_address_is_told_at_the_end(fake_study: Study) -> None:
    study = fake_study()
    with Tracker(study.stored, "http://127.0.0.1:9") as tracker:
        tracker(study.started(0))
        assert "127.0.0.1" in str(tracker.finish(complete=False))


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_a_server_killed_in_the_middle_gets_everything_once(
    fake_study: Study, server: Server, gate: Gate, seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(tracking, "SHORT_PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    study = fake_study(count=6)
    server.start()
    gate.behind = server.uri
    with Tracker(study.stored, gate.uri) as tracker:
        tracker(DriverStarted())
        for event in (*study.whole(0), *study.whole(1)[:3]):
            tracker(event)
        wait_for("some requests", lambda: gate.requests > 8)
        server.kill()  # while it works
        for event in (*study.whole(1)[3:], *study.whole(2)):
            tracker(event)
        wait_for("a failed delivery", lambda: tracker.problem is not None)
        server.start()
        for event in study.whole(3):
            tracker(event)
        wait_for("a delivery", lambda: tracker.problem is None)
        # For a while every answer is lost, though the request arrived; then none; and so on.
        for event, mode in zip(study.whole(4), itertools.cycle(("lose", "pass")), strict=False):
            gate.mode = mode
            tracker(event)
            wait_for(mode, lambda mode=mode: (tracker.problem is None) == (mode == "pass"))
        assert gate.mode == "pass"
        for event in study.whole(5):
            tracker(event)
        problem = tracker.finish(complete=True)
    assert problem is None
    found = seen(server.uri)
    assert found.statuses() == ["FINISHED"] * 6
    assert len(found.parents) == 1
    for fold, trial in enumerate(study.trials):
        assert found.curve(trial["eval_id"]) == list(enumerate(study.losses(fold), start=1))
    assert {"cases.json", "commit.json"} <= found.artifacts(
        found.children[study.trials[4]["eval_id"]]
    )
    assert found.artifacts(found.parents[0]) >= {"manifest.json", "spec.json"}

    # A whole rebuild onto the same server changes nothing.
    assert track.main([study.store.uri, "--uri", server.uri]) == 0
    again = seen(server.uri)
    assert again.children.keys() == found.children.keys()
    for fold, trial in enumerate(study.trials):
        assert again.curve(trial["eval_id"]) == list(enumerate(study.losses(fold), start=1))


@pytest.mark.slow
def test_a_server_with_a_password_takes_it_from_the_environment(
    fake_study: Study,
    server: Server,
    gate: Gate,
    seen: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = fake_study()
    study.finished(0)
    server.start()
    gate.behind, gate.mode = server.uri, "password"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gate.uri)
    assert track.main([study.store.uri]) == 1
    assert "401" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pa55")
    assert track.main([study.store.uri]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1  # nothing of MLflow's own
    assert seen(server.uri).statuses() == ["FINISHED"]
    assert not [
        path
        for path in Path(study.store.root).rglob("*")
        if path.is_file() and b"pa55" in path.read_bytes()
    ]


@pytest.mark.slow
def test_mlflows_own_server_with_users_takes_the_right_password_alone(
    fake_study: Study,
    server: Server,
    seen: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(
        "flask_wtf", reason="Flask-WTF is not installed; it comes with mlflow[auth]"
    )
    study = fake_study()
    study.finished(0)
    settings = tmp_path / "users.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{tmp_path}/users.db\nadmin_username = ann\nadmin_password = "
        "right-pa55word\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    key = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "0" * 32}  # of the server's own forms
    server.start("--app-name", "basic-auth", MLFLOW_AUTH_CONFIG_PATH=str(settings), **key)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert track.main([study.store.uri]) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-pa55word")
    assert track.main([study.store.uri]) == 1
    told = capsys.readouterr().err
    assert told.count("not delivered") == 2
    assert "pa55word" not in told
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "right-pa55word")
    assert track.main([study.store.uri]) == 0
    assert seen(server.uri).statuses() == ["FINISHED"]


@pytest.mark.slow
def test_the_page_shows_a_study_its_trials_charts_and_figures(
    tiny_spec: Path, tmp_path: Path
) -> None:
    from PIL import Image

    try:
        browser()
    except RuntimeError as error:
        pytest.skip(str(error))
    assert run.main([str(tiny_spec), "--in-process"]) == 0
    study, folder = tmp_path / "runs" / "tiny", tmp_path / "pictures"
    done = subprocess.run(
        [sys.executable, "-m", "tools.tracking_screenshots", str(study), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pictures = sorted(folder.iterdir())
    assert [path.name for path in pictures] == [
        f"mlflow-{name}.png" for name in ("charts", "compare", "figure", "runs", "study")
    ]
    for path in pictures:
        with Image.open(path) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 100  # no empty page
