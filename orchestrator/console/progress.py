"""What a person sees of a running study: a live picture on a terminal, plain lines elsewhere, JSON
for programs.

`Picture` turns events into what is known, without a clock and a terminal of its own; the screens
show it.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.planning.cost import CostModel, Forecast, Work
from orchestrator.planning.events import Event
from orchestrator.planning.retry import State

Mode = Literal["auto", "quiet", "json"]
SHOWN_FAILURES = 3
REFRESHES_PER_SECOND = 2
_ENDED = (State.FINISHED, State.QUARANTINED)
_MARGIN = 16  # columns that the time left takes beside the bar
BETWEEN_SECONDS = 60.0  # a lane without a trial for so long is gone
FORECAST_SECONDS = (
    5.0  # how often the time left is computed: for ten thousand trials that takes a while
)


@dataclass
class LaneView:
    """What one lane does now.

    `at_work`: its workers are there; before that it waits for a machine, or for their start.
    `since`: of that. `epoch_seconds`: how long the latest epoch took, None before the second.
    """

    cell: str
    eval_id: str
    since: float
    at_work: bool = True
    epoch: int = 0
    loss: float | None = None
    epoch_seconds: float | None = None
    last_epoch: float | None = None


class Picture:
    """A study as its events tell it.

    Args:
        name: the study.
        estimates: eval_id -> estimated seconds of every trial to run.
        epochs: of a trial, if fixed.
        cost: learns from every trial that finishes, for whoever shares it; by default it scales the
            estimates.
    """

    def __init__(
        self,
        name: str,
        estimates: Mapping[str, float],
        epochs: int | None = None,
        cost: CostModel | None = None,
    ) -> None:
        self.name, self.epochs = name, epochs
        self.cost = cost or CostModel(
            {trial: Work("", "", seconds) for trial, seconds in estimates.items()}
        )
        self.states = dict.fromkeys(estimates, State.PENDING)
        self._counts = Counter(self.states.values())
        self._forecast: tuple[float, Forecast] | None = None
        self.lanes: dict[Any, LaneView] = {}
        self.freed: dict[Any, float] = {}  # lanes between two trials, and since when
        self.ready: set[Any] = set()  # lanes whose workers are there
        self.numbers: dict[Any, int] = {}
        self.failures: deque[tuple[str, str]] = deque(maxlen=SHOWN_FAILURES)
        self.began: float | None = None

    def update(self, event: Event, now: float) -> None:
        """Take one event; `now` in seconds of any clock that does not go back."""
        kind, lane = event["event"], event.get("lane")
        known = self.lanes.get(lane)
        if kind == "started":
            self.began = now if self.began is None else self.began
            self.numbers.setdefault(lane, len(self.numbers) + 1)
            # A lane that was lost with its trial says nothing more.
            self.lanes = {
                key: view for key, view in self.lanes.items() if view.eval_id != event["eval_id"]
            }
            at_work = (
                lane is None or lane in self.ready
            )  # a trial in the run's own process has no lane
            self.lanes[lane] = LaneView(event["cell"], event["eval_id"], now, at_work)
            self.freed.pop(lane, None)
            self._set(event["eval_id"], State.RUNNING)
        elif kind == "lane-ready" and known:
            self.ready.add(lane)
            known.at_work, known.since = True, now
        elif kind == "epoch" and known:
            known.epoch_seconds = None if known.last_epoch is None else now - known.last_epoch
            known.epoch, known.loss, known.last_epoch = event["epoch"], event.get("train_loss"), now
        elif kind == "interrupted":
            self.ready.discard(lane)
            self._set(event["eval_id"], State.PENDING)
            self.lanes.pop(lane, None)
        elif kind in (State.FINISHED, State.FAILED, State.QUARANTINED):
            self._set(event["eval_id"], State(kind))
            self.cost.learn(event["eval_id"], event.get("seconds", math.nan))
            if kind != State.FINISHED:  # its workers are gone
                self.ready.discard(lane)
            if self.lanes.pop(lane, None):
                self.freed[lane] = now
            if "reason" in event:
                self.failures.append((event["cell"], event["reason"]))

    def counts(self) -> dict[State, int]:
        """Trials by state, states without trials left out."""
        return {state: self._counts[state] for state in State if self._counts[state]}

    @property
    def ended(self) -> int:
        """Trials that are finished or quarantined."""
        return sum(self._counts[state] for state in _ENDED)

    def share_done(self) -> float:
        """Done part of the estimated work, 0 to 1; trials that ended count whole, running ones by
        their epochs.
        """
        total = sum(map(self._seconds, self.states))
        done = sum(self._seconds(name) for name, state in self.states.items() if state in _ENDED)
        if self.epochs:
            for lane in self.lanes.values():
                done += self._seconds(lane.eval_id) * min(lane.epoch / self.epochs, 1.0)
        return done / total if total else 1.0

    def forecast(self, now: float) -> Forecast | None:
        """What is left, on as many lanes as are at work; None before a trial has taught what they
        take.
        """
        if not self.cost.is_taught:
            return None
        if self._forecast is None or now - self._forecast[0] > FORECAST_SECONDS:
            works = self.cost.works
            left = [
                name for name, state in self.states.items() if state not in _ENDED and name in works
            ]
            elapsed = {
                lane.eval_id: now - lane.since for lane in self.lanes.values() if lane.at_work
            }
            lanes = len(elapsed) + sum(
                now - since < BETWEEN_SECONDS for since in self.freed.values()
            )
            self._forecast = now, self.cost.forecast(left, max(lanes, 1), elapsed)
        return self._forecast[1]

    def _seconds(self, name: str) -> float:
        return self.cost.seconds(name) if name in self.cost.works else 0.0

    def _set(self, name: str, state: State) -> None:
        if name in self.states:
            self._counts[self.states[name]] -= 1
        self._counts[state] += 1
        self.states[name] = state


def outlook(forecast: Forecast | None) -> str:
    """Time and GPU-hours left: `12 min left, 3.1 GPU-hours`; empty where nothing is known or
    left.
    """
    if forecast is None or not forecast.seconds:
        return ""
    gpus = f", {forecast.gpu_hours:,.1f} GPU-hours" if forecast.gpu_hours else ""
    return f"{duration(forecast.seconds)} left{gpus}"


def duration(seconds: float) -> str:
    """A rough length of time: `90 s`, `12 min`, `30 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.0f} h"


def draw(picture: Picture, now: float, width: int) -> RenderableType:
    """The picture for a terminal of `width` columns: counts, bar with time left, lanes, last
    failures.
    """
    counts = ", ".join(f"{count} {state.value}" for state, count in picture.counts().items())
    left = outlook(picture.forecast(now))
    bar = Table.grid(padding=(0, 1))
    share = picture.share_done()
    rest = f"{100 * share:3.0f}%" + (f", {left}" if left else "")
    bar.add_row(
        ProgressBar(
            total=1.0, completed=share, width=max(min(width, 100) - len(rest) - _MARGIN, 10)
        ),
        rest,
    )
    lanes = Table(box=None, padding=(0, 1, 0, 0), expand=False)
    lanes.add_column("lane", justify="right", style="dim")
    lanes.add_column("trial", no_wrap=True, overflow="ellipsis", max_width=max(width - 34, 10))
    for name in ("epoch", "loss", "s/epoch"):
        lanes.add_column(name, justify="right", no_wrap=True)
    for lane, view in picture.lanes.items():
        epoch = f"{view.epoch}/{picture.epochs}" if picture.epochs else str(view.epoch)
        lanes.add_row(
            str(picture.numbers[lane]),
            Text(view.cell),
            epoch if view.epoch else "starting",
            "" if view.loss is None else f"{view.loss:.4f}",
            "" if view.epoch_seconds is None else f"{view.epoch_seconds:.1f}",
        )
    failures = [
        Text(f"failed: {cell}: {reason}", style="red", no_wrap=True, overflow="ellipsis")
        for cell, reason in picture.failures
    ]
    working = lanes if picture.lanes else Text("no lane is at work", style="dim")
    return Group(Text.assemble((picture.name, "bold"), ": ", counts), bar, working, *failures)


class Screen:
    """Shows nothing but results (`--quiet`); the other screens show more.

    `stream`: where to write, by default stdout.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.picture = Picture("", {})
        self.began = time.monotonic()

    @contextlib.contextmanager
    def shows(self, picture: Picture) -> Iterator[None]:
        """Trials run while this lasts; whatever ends it, the terminal is left as it was."""
        self.picture, self.began = picture, time.monotonic()
        yield

    def say(self, text: str, *, result: bool = False) -> None:
        """Tell a line or a text; `result`: the study's outcome."""
        if result:
            print(text, file=self.stream, flush=True)

    def __call__(self, event: Event) -> None:
        """Take an event of a trial."""
        self.picture.update(event, time.monotonic())


class Lines(Screen):
    """A plain line for every lane that is ready and every trial that fails or ends, with the time
    left.
    """

    def say(self, text: str, *, result: bool = False) -> None:
        print(text, file=self.stream, flush=True)

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if text := told(event):
            now, picture = time.monotonic(), self.picture
            left = outlook(picture.forecast(now))
            done = f"{now - self.began:6.1f} s  {picture.ended}/{len(picture.states)}"
            self.say(f"[{done}{f'  {left}' if left else ''}] {_about(event)}{text}")


class JsonLines(Screen):
    """One JSON object a line and nothing else: the events, `message` for a text, `result` for the
    outcome's text.

    JSON knows no infinite and no undefined number, so those are null.
    """

    def say(self, text: str, *, result: bool = False) -> None:
        self({"event": "result" if result else "message", "text": text})

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        finite = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in event.items()
        }
        print(json.dumps({"time": round(time.time(), 3), **finite}), file=self.stream, flush=True)


class LiveScreen(Screen):
    """A picture at the foot of a terminal, redrawn as events come; lines that stay (failures,
    texts) scroll above it.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console()
        self.lock = threading.Lock()  # it is drawn by a thread, and events come from another

    @contextlib.contextmanager
    def shows(self, picture: Picture) -> Iterator[None]:
        live = Live(
            get_renderable=lambda: self._drawn(picture),
            console=self.console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )
        with super().shows(picture), live:
            yield

    def say(self, text: str, *, result: bool = False) -> None:
        self.console.out(text, highlight=False)

    def __call__(self, event: Event) -> None:
        with self.lock:
            super().__call__(event)
        if event["event"] in (State.FAILED, State.QUARANTINED, "stopping", "waiting"):
            self.say(f"{_about(event)}{told(event)}")

    def _drawn(self, picture: Picture) -> RenderableType:
        with self.lock:
            return draw(picture, time.monotonic(), self.console.width)


def _about(event: Event) -> str:
    return f"{event['cell']}: " if "cell" in event else ""


def told(event: Event) -> str | None:
    """An event in words, None for those that are too many for a line each."""
    match event["event"]:
        case "lane-ready":
            return "first trial of a new lane"
        case "interrupted":
            return "interrupted; its checkpoint is kept"
        case State.FINISHED:
            return f"Dice {event['dice']:.3f}, {event['seconds']:.1f} s"
        case State.FAILED:
            return f"failed, will be tried again: {event['reason']}"
        case State.QUARANTINED:
            return f"quarantined: {event['reason']}"
        case "stopping":
            return "stopping when every lane has written its checkpoint; Ctrl-C again stops at once"
        case "waiting":
            return str(event["reason"])
    return None


def make_screen(mode: Mode = "auto") -> Screen:
    """The screen for a mode; `auto` is the live picture on a terminal and plain lines anywhere
    else.
    """
    if mode == "quiet":
        return Screen()
    if mode == "json":
        return JsonLines()
    return LiveScreen() if sys.stdout.isatty() else Lines()
