"""The page of a running study, as HTML: one file, which a browser opens without a server and which
loads itself again until the run has ended.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import jinja2

from orchestrator.console.progress import duration
from orchestrator.planning.retry import State
from record import paths
from record.progress import Progress
from record.schema import StudyPlan

RELOAD_SECONDS = 5.0
SILENT_SECONDS = 180.0  # without a sign of life for this long, the page says so
REPORT = paths.report(paths.HTML)


@dataclass(frozen=True)
class Results:
    """What has been finished of a study: `rows` of model, task, share of the data, trials that are
    finished and planned, and the mean of their Dice (None where no test case has a structure).
    """

    rows: list[tuple[str, str, float, int, int, float | None]]

    @classmethod
    def of(cls, plan: StudyPlan, dice: Mapping[str, float]) -> Results:
        """The plan's cells without folds and seeds, in its order, those with a finished trial.

        Args:
            dice: of every finished trial by its eval_id, NaN where it has none.
        """
        cells: dict[tuple[str, str, float], list[str]] = {}
        for trial in plan.trials:
            place = (trial.model, trial.task, trial.fraction)
            cells.setdefault(place, []).append(trial.eval_id or "")
        rows = []
        for (model, task, fraction), names in cells.items():
            found = [dice[name] for name in names if name in dice]
            known = [value for value in found if not math.isnan(value)]
            mean = statistics.fmean(known) if known else None
            if found:
                rows.append((model, task, fraction, len(found), len(names), mean))
        return cls(rows)


def live_page(progress: Progress, results: Results, pause: float = 0.0) -> str:
    """The page of a study that runs; `pause`: seconds between two versions of it."""
    return _render(
        progress=progress,
        results=results.rows,
        state="running",
        reload=max(RELOAD_SECONDS, pause),
    )


def stopped_page(name: str, progress: Progress | None, now: float) -> str:
    """The page of a study whose run was stopped or failed: the last that was seen of it."""
    last = progress or Progress(name=name, time=now)
    counts = dict(last.counts)
    if running := counts.pop(State.RUNNING.value, 0):
        pending = State.PENDING.value
        counts = {pending: counts.pop(pending, 0) + running} | counts
    after = {"written": now, "lanes": [], "counts": counts}
    return _render(progress=last.model_copy(update=after), state="stopped")


def moved_on(name: str) -> str:
    """The page of a study whose run has ended: the way to its report."""
    return _render(progress=Progress(name=name, time=0.0), state="ended")


def _render(**values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"length_of_time": duration, "moment": _moment}
    plain: dict[str, object] = {"results": [], "reload": None, "report": REPORT}
    template = environment.get_template("live.html.j2")
    return template.render(**plain | values | {"silent_seconds": SILENT_SECONDS})


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
