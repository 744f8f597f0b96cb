"""A run stops at the limits of its spec, in good order, and goes on when they are raised."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.planning.cost import CostModel, Work
from orchestrator.planning.inputs import InputError
from orchestrator.planning.limits import Spent, notify, reached, refuse_beyond, within_limits
from orchestrator.planning.plan import Plan, Trial
from orchestrator.run import main
from orchestrator.spec.study import Spec
from record import paths
from record.events import Emit, Event, Failed, Finished, Interrupted, Started, Stopped
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
    spent.heard(Started("b", "b", 1))
    clock.now = 1800.0
    spent.heard(Interrupted("b", "b"))
    assert spent.gpu_seconds() == before | {"b": 3600.0}
    spent.heard(Interrupted("b", "b"))
    assert spent.gpu_hours == 3.5


def attempts(*names: str) -> Callable[[Emit], None]:
    """A run in which each of these trials fails once."""

    def run(heard: Emit) -> None:
        for name in names:
            heard(Started(name, name, 1))
            heard(Failed(name, name, "no reason", "exception"))

    return run


def no_event(event: Event) -> None:
    """Nobody listens."""


def kept(store: Store) -> dict[str, float]:
    found = store.load(paths.SPENT, SpentFile)
    assert found is not None
    return found.gpu_seconds


def test_a_run_writes_down_what_its_attempts_spent_for_the_next_one(tmp_path: Path) -> None:
    store, said = Store(str(tmp_path / "study")), list[str]()
    trials = (trial("a", 1.0), trial("b", 0.0))
    plan = Plan(trials, cost=CostModel({one.name: one.work for one in trials}))
    within_limits(attempts("b", "a"), spec(), plan, store, no_event, said.append)
    assert list(kept(store)) == ["a"]
    assert kept(store)["a"] > 0
    store.save(paths.SPENT, SpentFile(gpu_seconds={"a": 7200.0}))
    within_limits(attempts("b", "a"), spec(), plan, store, no_event, said.append)
    assert list(kept(store)) == ["a"]
    assert kept(store)["a"] > 7200
    refusing = spec(gpu_hours=1, plan="refuse")
    with pytest.raises(InputError, match=r"limits.gpu_hours: 0.0 GPU-hours are estimated, -1.0"):
        within_limits(attempts("a"), refusing, plan, store, no_event, said.append)
    assert not said
    store.write(paths.SPENT, (store.read(paths.SPENT) or b"")[:1])
    with pytest.raises(DamagedError, match=r"spent.json: .*remove it: limits.gpu_hours"):
        within_limits(attempts("a"), spec(), plan, store, no_event, said.append)


class Counting(Store):
    """Counts its writes, and says when there was one."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.written, self.wrote = 0, threading.Event()

    def write(self, relative: str, content: bytes) -> None:
        super().write(relative, content)
        self.written += 1
        self.wrote.set()


def test_what_a_thousand_attempts_spent_is_written_once_at_the_end(tmp_path: Path) -> None:
    store, names = Counting(str(tmp_path / "study")), [f"t{number}" for number in range(1000)]
    plan = Plan(tuple(trial(name, 1.0) for name in names))

    def run(heard: Emit) -> None:
        attempts(*names)(heard)
        assert store.written == 0

    within_limits(run, spec(), plan, store, no_event, print)
    assert store.written == 1
    assert sorted(kept(store)) == sorted(names)
    within_limits(attempts(), spec(), plan, store, no_event, print)
    assert store.written == 1  # nothing new


def test_a_killed_driver_has_written_what_its_attempts_spent_until_then(tmp_path: Path) -> None:
    store, plan = Counting(str(tmp_path / "study")), Plan((trial("a", 1.0), trial("b", 1.0)))
    before = dict[str, float]()

    def run(heard: Emit) -> None:
        attempts("a")(heard)
        heard(Started("b", "b", 1))
        for _ in range(2):  # a note that was begun before is of a alone
            store.wrote.clear()
            assert store.wrote.wait(60)
        before.update(kept(store))  # here the driver could be killed

    within_limits(run, spec(), plan, store, no_event, print, 0.001, 0.002)
    assert set(before) == {"a", "b"}
    assert kept(store)["b"] > before["b"]


def test_an_error_stops_the_run_with_what_was_spent_written(tmp_path: Path) -> None:
    store, plan = Store(str(tmp_path / "study")), Plan((trial("a", 1.0),))

    def run(heard: Emit) -> None:
        attempts("a")(heard)
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        within_limits(run, spec(), plan, store, no_event, print)
    assert set(kept(store)) == {"a"}


@pytest.mark.parametrize("broken", [False, True])
def test_a_limit_at_the_moment_of_the_end_interrupts_nothing_after_it(
    tmp_path: Path, broken: bool
) -> None:
    store, plan, said = Store(str(tmp_path / "study")), Plan((trial("a", 0.0),)), list[str]()

    def run(steps: int, _: Emit) -> None:
        sum(range(50 * steps))
        if broken:
            raise OSError("the disk")

    over = spec(hours=1e-9)
    for steps in range(300):  # the watcher looks at any moment of the run and of its end
        of, heard = functools.partial(run, steps), len(said)
        with contextlib.suppress(OSError):
            within_limits(of, over, plan, store, no_event, said.append, 1e-5)
            assert not broken or len(said) > heard  # stopped before it broke
        assert not [one for one in threading.enumerate() if one.name == "limits"]
    assert all(line.startswith("Stopped at limits.hours") for line in said)


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
