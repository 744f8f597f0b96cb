"""What a person sees of a running study: a live picture on a terminal, plain lines elsewhere, JSON
for programs.

What is known is a `Picture` (`orchestrator.console.picture`); the screens show it.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.console.picture import Picture
from orchestrator.planning.retry import State
from record.events import (
    Ended,
    Event,
    Failed,
    Finished,
    Interrupted,
    LaneReady,
    Message,
    Quarantined,
    Result,
    Stopping,
    TrialEvent,
    WaitsForMachines,
)
from record.names import visible
from record.progress import LaneProgress, Progress
from record.terminal import say

Mode = Literal["auto", "quiet", "json"]
REFRESHES_PER_SECOND = 2
_MARGIN = 16  # columns that the time left takes next to the bar
# Columns: of a lane's numbers, of `MedVision_ClinicalBERT`, and of `Task04` and a dot at least.
_NUMBERS, _LONGEST_MODEL, _TASK = 46, 22, 7


def outlook(seconds: float | None, gpu_hours: float = 0.0) -> str:
    """Time and GPU-hours left: `12 min left, 3.1 GPU-hours`; empty where nothing is known or
    left.
    """
    if not seconds:
        return ""
    gpus = f", {gpu_hours:,.1f} GPU-hours" if gpu_hours else ""
    return f"{duration(seconds)} left{gpus}"


def duration(seconds: float) -> str:
    """A rough length of time: `90 s`, `12 min`, `30 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.0f} h"


def in_states(counts: Mapping[str, int]) -> str:
    """Trials by state, in the order in which a trial goes through them: `3 pending, 1 running`."""
    every = (state.value for state in State)
    return ", ".join(f"{counts[state]} {state}" for state in every if state in counts)


def draw(progress: Progress, width: int) -> RenderableType:
    """A run for a terminal of `width` columns: counts, bar with time left, lanes, last failures."""
    counts = in_states(progress.counts)
    left = outlook(progress.seconds_left, progress.gpu_hours)
    bar = Table.grid(padding=(0, 1))
    rest = f"{100 * progress.share:3.0f}%" + (f", {left}" if left else "")
    bar.add_row(
        ProgressBar(
            total=1.0,
            completed=progress.share,
            width=max(min(width, 100) - len(rest) - _MARGIN, 10),
        ),
        rest,
    )
    failures = [
        Text(visible(f"failed: {cell}: {reason}"), style="red", no_wrap=True, overflow="ellipsis")
        for cell, reason in progress.failures
    ]
    idle = "the report is being written" if progress.has_ended else "no lane is at work"
    working = _lanes(progress.lanes, width) if progress.lanes else Text(idle, style="dim")
    return Group(
        Text.assemble((visible(progress.name), "bold"), ": ", counts), bar, working, *failures
    )


def _lanes(lanes: Sequence[LaneProgress], width: int) -> Table:
    """A row for each lane: its epoch first, and then what it trains, cut to the width."""
    table = Table(box=None, padding=(0, 1, 0, 0), expand=False)
    table.add_column("lane", justify="right", style="dim", no_wrap=True)
    table.add_column("epoch", no_wrap=True)
    cells = [lane.cell for lane in lanes]
    shares = {cell.fraction for cell in cells if cell}
    names = [("trial", max(width - 34, 10))]  # of a search's, which have no place in the grid
    if None not in cells:
        room = max(width - _NUMBERS - 5 * (shares != {1.0}), 20)
        longest = max(len(cell.model) for cell in cells if cell)
        model = min(longest, _LONGEST_MODEL, room - _TASK)
        names = [("model", model), ("task", room - model)]
    for name, most in names:
        table.add_column(name, max_width=most, no_wrap=True, overflow="ellipsis")
    if None not in cells:
        for name in (*(["data"] if shares != {1.0} else []), "fold", "seed"):
            table.add_column(name, justify="right", no_wrap=True)
    for name in ("loss", "s/epoch"):
        table.add_column(name, justify="right", no_wrap=True)
    for lane in lanes:
        what: list[str | Text] = [Text(visible(lane.title))]
        if None not in cells and (cell := lane.cell):
            share = [f"{cell.fraction:g}"] if shares != {1.0} else []
            what = [
                Text(visible(cell.model)),
                Text(visible(cell.task)),
                *share,
                str(cell.fold),
                str(cell.seed),
            ]
        table.add_row(
            str(lane.number),
            lane.step,
            *what,
            "" if lane.loss is None else f"{lane.loss:.4f}",
            "" if lane.epoch_seconds is None else f"{lane.epoch_seconds:.1f}",
        )
    return table


class Screen:
    """Shows nothing but how it ended, in one line (`--quiet`); the other screens show more.

    `stream`: where to write, by default stdout. `published` is called with every picture that is
    new or has changed.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.picture = Picture("", {})
        self.began = time.monotonic()
        self.lock = threading.RLock()  # events, drawing and `published` come from several threads
        self.published: Callable[[Picture], None] = lambda picture: None

    @contextlib.contextmanager
    def shows(self, picture: Picture) -> Iterator[None]:
        """Trials run while this lasts; whatever ends it, the terminal is left as it was."""
        self.picture, self.began = picture, time.monotonic()
        self.published(picture)
        yield

    def say(self, text: str, *, result: bool = False) -> None:
        """Show a line or a text; `result`: the study's outcome."""

    def end(self, ended: Ended) -> None:
        """The run is over: its one line here, nothing on a screen that has shown it all."""
        if ended.trials is not None:
            finished = ended.states.get(State.FINISHED, 0)
            more = [
                f"{count} {state}"
                for state, count in ended.states.items()
                if state != State.FINISHED and count
            ]
            counted = ", ".join([f"{finished} of {ended.trials} trials finished", *more])
            say(f"{ended.reason}: {counted}: {ended.report}", file=self.stream, flush=True)

    def __call__(self, event: Event) -> None:
        """Take an event of a trial."""
        with self.lock:
            self.picture.update(event, time.monotonic())
        self.published(self.picture)


class Lines(Screen):
    """A plain line for every lane that is ready and every trial that fails or ends, with the time
    left.
    """

    def say(self, text: str, *, result: bool = False) -> None:
        say(text, file=self.stream, flush=True)

    def end(self, ended: Ended) -> None:
        """Nothing: it was said."""

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if text := in_words(event):
            now, picture = time.monotonic(), self.picture
            forecast = picture.forecast(now)
            left = outlook(forecast.seconds, forecast.gpu_hours) if forecast else ""
            done = f"{now - self.began:6.1f} s  {picture.ended}/{len(picture.states)}"
            self.say(f"[{done}{f'  {left}' if left else ''}] {_about(event)}{text}")


class JsonLines(Screen):
    """One JSON object a line and nothing else: the events, `message` for a text, `result` for the
    outcome's text. What Ray prints when a worker dies goes to stderr.

    JSON has neither infinite nor undefined numbers, so those are null.
    """

    @contextlib.contextmanager
    def shows(self, picture: Picture) -> Iterator[None]:
        with super().shows(picture), contextlib.redirect_stdout(sys.stderr):
            yield

    def say(self, text: str, *, result: bool = False) -> None:
        self(Result(text) if result else Message(text))

    def end(self, ended: Ended) -> None:
        self(ended)

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        finite = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in event.to_json().items()
        }
        say(json.dumps({"time": round(time.time(), 3), **finite}), file=self.stream, flush=True)


class LiveScreen(Screen):
    """A picture at the foot of a terminal, redrawn as events come; lines that stay (failures,
    texts) scroll above it.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console()

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
        self.console.out(visible(text), highlight=False)

    def end(self, ended: Ended) -> None:
        """Nothing: it was said."""

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, Failed | Quarantined | Stopping | WaitsForMachines | Message):
            self.say(f"{_about(event)}{in_words(event)}")

    def _drawn(self, picture: Picture) -> RenderableType:
        with self.lock:
            progress = picture.progress(time.monotonic(), time.time())
        return draw(progress, self.console.width)


def _about(event: Event) -> str:
    return f"{event.cell}: " if isinstance(event, TrialEvent | LaneReady) else ""


def in_words(event: Event) -> str | None:
    """An event in words; None for events that are too many for a line each."""
    match event:
        case LaneReady():
            return "first trial of a new lane"
        case Interrupted():
            return "interrupted; its checkpoint is kept"
        case Finished():
            return f"Dice {event.dice:.3f}, {event.seconds:.1f} s"
        case Failed():
            return f"failed, will be tried again: {event.reason}"
        case Quarantined():
            return f"quarantined: {event.reason}"
        case Stopping():
            return "stopping when every lane has written its checkpoint; Ctrl-C again stops at once"
        case WaitsForMachines():
            return event.reason
        case Message():
            return event.text
    return None


def make_screen(mode: Mode = "auto") -> Screen:
    """The screen for a mode; `auto` is the live picture on a terminal and plain lines anywhere
    else.
    """
    if mode == "auto":
        return LiveScreen() if sys.stdout.isatty() else Lines()
    return JsonLines() if mode == "json" else Screen()
