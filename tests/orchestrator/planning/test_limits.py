"""A run stops at the limits of its spec, in good order, and goes on when they are raised."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.planning.cost import CostModel, Work
from orchestrator.planning.inputs import InputError
from orchestrator.planning.limits import Spent, limited, notify, reached, refuse_beyond
from orchestrator.planning.plan import Plan, Trial
from orchestrator.run import main
from orchestrator.spec.study import Spec
from record import paths
from record.events import Failed, Finished, Interrupted, Started, Stopped
from record.schema import Cell, SpentFile
from record.store import DamagedError, Store
from record.study import StoredStudy
from tests.record.builders import commit

LOCAL = ["--in-process", "--set", "tracking.enabled=false"]


def spec(**limits: float | str) -> Spec:
    values = {"name": "s", "models": ["ViT_Baseline"], "tasks": ["T"], "limits": limits}
    return Spec.model_validate(values)


def trial(name: str, gpus: float) -> Trial:
    cell = Cell("m", "T", 1.0, 0, 0)
    return Trial(cell, "new", "", Work("m", "T", 1.0, gpus), eval_id=name)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_gpu_hours_are_those_of_finished_and_of_running_trials() -> None:
    clock = Clock()
    plan = Plan((trial("a", 2.0), trial("b", 0.5), trial("c", 1.0)))
    spent = Spent(plan, {"a": commit(eval_id="a", cost={"seconds": 1800.0})}, clock=clock)
    assert spent.gpu_hours == 1.0
    spent.heard(Started("b", "b", 1))
    spent.heard(Started("c", "c", 1))
    clock.now = 3600.0
    assert spent.gpu_hours == 2.5
    spent.heard(Finished("b", "b", 3600.0, 0.5))
    spent.heard(Interrupted("c", "c"))
    clock.now = 7200.0
    assert (spent.gpu_hours, spent.hours) == (2.5, 2.0)
    assert not reached(spec(gpu_hours=2.6, hours=2.1), spent)
    assert reached(spec(hours=2), spent) == "limits.hours: 2 h of this run are over"
    said = reached(spec(gpu_hours=2.5, cost_per_gpu_hour=4), spent)
    assert said == "limits.gpu_hours: 2.5 GPU-hours are spent (10.00 at 4 an hour)"


def test_what_attempts_of_earlier_runs_spent_counts_once() -> None:
    clock, plan = Clock(), Plan((trial("a", 2.0), trial("b", 1.0)))
    finished = {"a": commit(eval_id="a", cost={"seconds": 1800.0})}
    before = {"a": 5400.0, "b": 1800.0, "of another plan": 3600.0}  # a: an attempt failed before
    spent = Spent(plan, finished, before, clock)
    assert spent.gpu_hours == 3.0
    assert not spent.heard(Started("b", "b", 1))
    clock.now = 1800.0
    assert spent.heard(Interrupted("b", "b"))
    assert spent.gpu_seconds() == before | {"b": 3600.0}
    assert not spent.heard(Interrupted("b", "b"))
    assert spent.gpu_hours == 3.5


def test_a_run_writes_down_what_its_attempts_spent_for_the_next_one(tmp_path: Path) -> None:
    store, said = Store(str(tmp_path / "study")), list[str]()
    trials = (trial("a", 1.0), trial("b", 0.0))
    plan = Plan(trials, cost=CostModel({one.name: one.work for one in trials}))
    for expected in (1, 2):
        with limited(spec(), plan, store, lambda event: None, said.append) as heard:
            heard(Started("b", "b", 1))
            heard(Interrupted("b", "b"))
            heard(Started("a", "a", 1))
            heard(Failed("a", "a", "no reason", "exception"))
        kept = store.load(paths.SPENT, SpentFile)
        assert kept is not None
        assert list(kept.gpu_seconds) == ["a"]
        assert kept.gpu_seconds["a"] > 0
        if expected == 1:
            store.save(paths.SPENT, SpentFile(gpu_seconds={"a": 7200.0}))
    assert kept.gpu_seconds["a"] > 7200
    refusing = spec(gpu_hours=1, plan="refuse")
    with (
        pytest.raises(InputError, match=r"limits.gpu_hours: 0.0 GPU-hours are estimated, -1.0"),
        limited(refusing, plan, store, lambda event: None, said.append),
    ):
        pass
    assert not said
    store.write(paths.SPENT, (store.read(paths.SPENT) or b"")[:1])
    with (
        pytest.raises(DamagedError, match=r"spent.json: .*remove it: limits.gpu_hours"),
        limited(spec(), plan, store, lambda event: None, said.append),
    ):
        pass


def test_a_run_stops_says_what_is_missing_and_goes_on(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tiny_spec.read_text().splitlines(keepends=True)
    tiny_spec.write_text("".join(line for line in lines if "MedVisionLlama" not in line))
    told = tiny_spec.parent / "told.json"
    more = ["--set", "training.epochs=60", "--set", f"notify=tee {told}"]
    assert main([str(tiny_spec), *LOCAL, *more, "--set", "limits.hours=1.0e-6"]) == 1
    shown = capsys.readouterr().out
    assert "Stopped at limits.hours: 1e-06 h of this run are over; raise it" in shown
    assert "trials are in this report" in shown
    assert json.loads(told.read_text())["reason"] == "incomplete"
    store = Store(str(tiny_spec.parent / "runs" / "tiny"))
    study = StoredStudy.opened(store)
    assert study.missing
    assert str(told) not in (store.read("study.json") or b"").decode()
    assert main([str(tiny_spec), *LOCAL, *more]) == 0
    assert not StoredStudy.opened(store).missing
    ended = json.loads(told.read_text())
    assert (ended["event"], ended["reason"]) == ("ended", "complete")


def test_without_max_lanes_only_what_no_machine_can_do_is_refused() -> None:
    trials = [trial(name, 0.0) for name in "abcd"]
    works = {one.name: replace(one.work, arithmetic=3600.0) for one in trials}
    plan = Plan(tuple(trials), cost=CostModel(works))
    refuse_beyond(spec(hours=1.5, plan="refuse"), plan, Spent(plan, {}))
    with pytest.raises(InputError, match=r"limits.hours: 1.0 h are estimated on 4 lanes, 0.5 are"):
        refuse_beyond(spec(hours=0.5, plan="refuse"), plan, Spent(plan, {}))
    lanes = spec(hours=1.5, plan="refuse").model_dump() | {"resources": {"max_lanes": 2}}
    with pytest.raises(InputError, match=r"limits.hours: 2.0 h are estimated on 2 lanes"):
        refuse_beyond(Spec.model_validate(lanes), plan, Spent(plan, {}))


def test_an_estimate_above_the_limit_is_refused_where_that_is_wanted(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = ["--set", "limits={hours: 1.0e-9, plan: refuse}"]
    assert main([str(tiny_spec), *LOCAL, *limit]) == 2
    assert "limits.hours: 0.0 h are estimated on 1 lanes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listener", "said"),
    [
        ("sh -c 'exit 3' SECRET", "the command ended with exit code 3"),
        ("/no/such/SECRET", "cannot be reached or started (No such file or directory)"),
        ("sh -c 'SECRET", "cannot be used (ValueError)"),
        ("http://127.0.0.1:1/SECRET", "cannot be reached or started (Connection refused)"),
        ("http://127.0.0.1:SECRET/", "cannot be used (InvalidURL)"),
        ("http://127.0.0.1/SECRET and more", "cannot be used (InvalidURL)"),
    ],
)
def test_why_a_listener_failed_is_said_without_its_secrets(listener: str, said: str) -> None:
    lines: list[str] = []
    notify(spec().model_copy(update={"notify": listener}), Stopped("by hand"), lines.append)
    assert lines == [f"warning: notify: {said}"]


def test_a_server_that_speaks_no_http_stops_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        lines: list[str] = []
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        notify(spec().model_copy(update={"notify": address}), Stopped("by hand"), lines.append)
        thread.join()
    assert lines == ["warning: notify: cannot be used (BadStatusLine)"]


def test_a_listener_that_fails_is_said_and_stops_nothing(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tiny_spec.read_text().splitlines(keepends=True)
    tiny_spec.write_text("".join(line for line in lines if "MedVisionLlama" not in line))
    more = ["--set", "training.epochs=1", "--set", "notify=/no/such/program"]
    assert main([str(tiny_spec), *LOCAL, *more]) == 0
    assert "warning: notify: " in capsys.readouterr().out
