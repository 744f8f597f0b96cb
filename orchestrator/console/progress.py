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
from collections.abc import Iterator
from typing import Literal, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.console.picture import Picture
from orchestrator.planning.cost import Forecast
from record.events import (
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

Mode = Literal["auto", "quiet", "json"]
REFRESHES_PER_SECOND = 2
_MARGIN = 16  # columns that the time left takes beside the bar


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
        self(Result(text) if result else Message(text))

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        finite = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in event.to_json().items()
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
        if isinstance(event, Failed | Quarantined | Stopping | WaitsForMachines):
            self.say(f"{_about(event)}{told(event)}")

    def _drawn(self, picture: Picture) -> RenderableType:
        with self.lock:
            return draw(picture, time.monotonic(), self.console.width)


def _about(event: Event) -> str:
    return f"{event.cell}: " if isinstance(event, TrialEvent | LaneReady) else ""


def told(event: Event) -> str | None:
    """An event in words, None for those that are too many for a line each."""
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
