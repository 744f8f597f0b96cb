"""What is known of a running study from its events, without a clock or a terminal of its own."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.planning.cost import CostModel, Forecast, Work
from orchestrator.planning.retry import State
from record.events import (
    Epoch,
    Event,
    Failed,
    Finished,
    Interrupted,
    LaneReady,
    Quarantined,
    Started,
    TrialEvent,
)
from record.progress import LaneProgress, Progress
from record.schema import Cell

SHOWN_FAILURES = 3
_ENDED = (State.FINISHED, State.QUARANTINED)
BETWEEN_SECONDS = 60.0  # a lane without a trial for this long is gone
FORECAST_SECONDS = 5.0  # how often the time left is computed: for ten thousand trials that is slow


@dataclass
class LaneView:
    """What one lane does now.

    `at_work`: its workers are there; before that it waits for a machine, or for their start.
    `since`: of that. `epochs`: of so many, where that is known. `epoch_seconds`: how long the
    latest epoch took, None before the second.
    """

    cell: str
    eval_id: str
    since: float
    at_work: bool = True
    epoch: int = 0
    epochs: int | None = None
    loss: float | None = None
    epoch_seconds: float | None = None
    last_epoch: float | None = None


class Picture:
    """A study as its events describe it.

    Args:
        name: the study.
        estimates: eval_id -> estimated seconds of every trial to run.
        epochs: of a trial, if fixed.
        cost: learns from every trial that finishes, for whoever shares it; by default it scales the
            estimates.
        cells: eval_id -> place in the grid, of trials that are shown by it.
    """

    def __init__(
        self,
        name: str,
        estimates: Mapping[str, float],
        epochs: int | None = None,
        cost: CostModel | None = None,
        cells: Mapping[str, Cell] | None = None,
    ) -> None:
        self.name, self.epochs, self.cells = name, epochs, cells or {}
        self.cost = cost or CostModel(
            {trial: Work("", "", seconds) for trial, seconds in estimates.items()}
        )
        self.states = dict.fromkeys(estimates, State.PENDING)
        self._counts = Counter(self.states.values())
        self._forecast: tuple[float, Forecast] | None = None
        self.lanes: dict[int | None, LaneView] = {}
        self.freed: dict[int | None, float] = {}  # lanes between two trials, and since when
        self.ready: set[int | None] = set()  # lanes whose workers are there
        self.numbers: dict[int | None, int] = {}
        self.failures: deque[tuple[str, str]] = deque(maxlen=SHOWN_FAILURES)
        self.began: float | None = None

    def update(self, event: Event, now: float) -> None:
        """Take one event; `now` in seconds of any clock that does not go back."""
        lane = event.lane
        known = self.lanes.get(lane)
        match event:
            case Started():
                self._start(event, now)
            case LaneReady() if known:
                self.ready.add(lane)
                known.at_work, known.since = True, now
            case Epoch() if known:
                known.epoch_seconds = None if known.last_epoch is None else now - known.last_epoch
                known.epoch, known.loss = event.epoch, event.metrics.get("train_loss")
                known.epochs = event.epochs or self.epochs
                known.last_epoch = now
            case Interrupted():
                self.ready.discard(lane)
                self._set(event.eval_id, State.PENDING)
                self.lanes.pop(lane, None)
            case Finished():
                self.cost.learn(event.eval_id, event.seconds)
                self._end(event, State.FINISHED, now)
            case Failed() | Quarantined():
                self.ready.discard(lane)  # its workers are gone
                self.failures.append((str(event.cell), event.reason))
                self._end(event, State(event.word), now)

    def _start(self, event: Started, now: float) -> None:
        lane = event.lane
        self.began = now if self.began is None else self.began
        self.numbers.setdefault(lane, len(self.numbers) + 1)
        # A lane that was lost with its trial sends no more events.
        self.lanes = {
            key: view for key, view in self.lanes.items() if view.eval_id != event.eval_id
        }
        at_work = lane is None or lane in self.ready  # a trial in this process has no lane
        self.lanes[lane] = LaneView(
            str(event.cell), event.eval_id, now, at_work, epochs=self.epochs
        )
        self.freed.pop(lane, None)
        self._set(event.eval_id, State.RUNNING)

    def _end(self, event: TrialEvent, state: State, now: float) -> None:
        self._set(event.eval_id, state)
        if self.lanes.pop(event.lane, None):
            self.freed[event.lane] = now

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
        for lane in self.lanes.values():
            if lane.epochs:
                done += self._seconds(lane.eval_id) * min(lane.epoch / lane.epochs, 1.0)
        return done / total if total else 1.0

    def forecast(self, now: float) -> Forecast | None:
        """What is left, on as many lanes as are at work; None before any trial has finished."""
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

    def progress(self, now: float, wall: float) -> Progress:
        """The picture as others read it; `wall`: `now` in seconds since 1970."""
        left = self.forecast(now)
        lanes = [
            LaneProgress(
                number=self.numbers[lane],
                title=view.cell,
                cell=self.cells.get(view.eval_id),
                at_work=view.at_work,
                since=wall - (now - view.since),
                epoch=view.epoch,
                epochs=view.epochs,
                loss=view.loss,
                epoch_seconds=view.epoch_seconds,
            )
            for lane, view in self.lanes.items()
        ]
        return Progress(
            name=self.name,
            time=wall,
            counts={state.value: count for state, count in self.counts().items()},
            share=self.share_done(),
            seconds_left=left.seconds if left else None,
            gpu_hours=left.gpu_hours if left else 0.0,
            lanes=sorted(lanes, key=lambda lane: lane.number),
            failures=list(self.failures),
        )

    def _seconds(self, name: str) -> float:
        return self.cost.seconds(name) if name in self.cost.works else 0.0

    def _set(self, name: str, state: State) -> None:
        if name in self.states:
            self._counts[self.states[name]] -= 1
        self._counts[state] += 1
        self.states[name] = state
