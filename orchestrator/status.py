"""The state of a study: `python -m orchestrator.status runs/NAME`, from any machine that sees the
storage, without Ray.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from orchestrator.planning.retry import State, reason, trial_states
from orchestrator.spec.resources import ResourcesSpec
from record import paths
from record.command import begin_command
from record.index import Glance, glance_at
from record.lock import Lock, holder, living
from record.names import visible
from record.progress import Progress
from record.schema import Claim, StudyFile
from record.store import DamagedError, Store, StoreError
from record.stored import TIME_FORMAT, problems
from record.study import StoredStudy
from record.terminal import say
from reports.findings import Line, in_lines

if TYPE_CHECKING:
    from rich.console import Console

LARGE = 1_000  # finished trials
LOOK_SECONDS, REMOTE_LOOK_SECONDS = 2.0, 10.0  # between two looks; each costs money in a bucket
NOTHING_YET = "The driver has shown no trial yet: it reads and checks the data first."


def describe(study: StoredStudy, now: float) -> str:
    """The study's states, rate, time left, last failures and health as text.

    Args:
        now: seconds since 1970.

    Raises:
        StoreError: a file of the study is missing or damaged.
    """
    store, plan, seen = study.store, study.plan, glance_at(study)
    resources = _resources(study)
    lock = living(store, now)
    states = trial_states(
        plan.trials,
        seen.seconds,
        study.failures,
        _claims(study, lock, seen) if lock else {},
        resources.max_attempts,
        seen.damaged,
    )
    counts = {state: list(states.values()).count(state) for state in State}
    lines = [
        f"{plan.name}: "
        + ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    ]
    lines.append(f"driver: {holder(lock) if lock else 'none'}")
    # Their settings are searched first.
    if waiting := sum(trial.eval_id is None for trial in plan.trials):
        done = sum(len(store.names(paths.search(name))) for name in plan.searches)
        lines.append(
            f"{waiting} more wait for the search of their settings; {done} of its trials are done"
        )
    mine = [name for name, state in states.items() if state is State.FINISHED]
    left = [
        name
        for name, state in states.items()
        if state in (State.PENDING, State.RUNNING, State.FAILED)
    ]
    if left:
        from orchestrator.console.progress import duration
        from orchestrator.planning.cost import CostModel

        lanes = counts[State.RUNNING] or resources.max_lanes or 1
        forecast = CostModel.of_study(plan.trials, seen.seconds).forecast(left, lanes)
        gpus = f", {forecast.gpu_hours:.1f} GPU-hours" if forecast.gpu_hours else ""
        lines.append(
            f"{len(left)} are left: about {duration(3600 * forecast.lane_hours)} of lanes{gpus}, "
            f"{duration(forecast.seconds)} on {lanes} of them"
        )
    if mine:
        # not those of other tools' masks, which nobody knows
        took = [seen.seconds[name] for name in mine if seen.seconds[name]]
        seconds = statistics.fmean(took) if took else 0.0
        lines.append(f"a trial takes {seconds:.0f} s on average")
        hour = datetime.fromtimestamp(max(now - 3600, 0), UTC).strftime(TIME_FORMAT)
        recent = sum(seen.ended[name] > hour for name in mine)
        lines.append(f"{recent} finished in the last hour")
    for trial in plan.trials:
        state = states.get(trial.eval_id or "")
        if state in (State.FAILED, State.QUARANTINED):
            why = reason(study.failures[str(trial.eval_id)])
            lines.append(f"{state.value}: {trial.place}: {why}")
        elif state is State.DAMAGED:
            lines.append(f"{state.value}: {trial.place}: {seen.damaged[str(trial.eval_id)]}")
    return "\n".join([*lines, *(f"health: {line}" for line in _health(study, seen, lock))])


def _resources(study: StoredStudy) -> ResourcesSpec:
    """The resources of the study's spec. The rest of it is not read: that takes longer than all
    else here.
    """
    try:
        return ResourcesSpec.model_validate(study.settings.spec.get("resources", {}))
    except ValidationError as error:
        raise DamagedError(
            f"{study.store.path(paths.STUDY)}: holds no spec of this version: {problems(error)}; "
            f"{StudyFile.remedy}"
        ) from error


def _claims(study: StoredStudy, lock: Lock, seen: Glance) -> dict[str, str | None]:
    """The evaluations that the living driver has claimed and not finished, by training."""
    store = study.store
    waiting = {
        paths.claim(trial.train_id)
        for trial in study.plan.trials
        if trial.train_id and trial.eval_id not in seen.seconds
    }
    there = [f"{paths.CLAIMS}/{name}" for name in store.names(paths.CLAIMS)]
    places = [place for place in there if place in waiting]
    claims = (
        (place, store.parsed(place, content, Claim))
        for place, content in zip(places, store.read_many(places), strict=True)
    )
    return {
        paths.stem(place.rpartition("/")[2]): claim.eval_id
        for place, claim in claims
        if claim and claim.token.startswith(lock.token)
    }


def _health(study: StoredStudy, seen: Glance, lock: Lock | None) -> Sequence[object]:
    """The lines of the report, while they hold. A large study's are not worked out anew while it
    runs: each look would read all of its results.
    """
    if seen.health is not None:
        return [Line(failed, text) for failed, text in seen.health]
    if lock and len(seen.seconds) > LARGE:
        return [f"the report says it of {len(seen.seconds):,} trials, at the end of the run"]
    from reports.health import health_of

    return in_lines(health_of(study))


def watch(store: Store, console: Console, pause: Callable[[float], object] = time.sleep) -> None:
    """Show what a running study does until its run has ended: a picture on a terminal, a line for
    each change elsewhere.

    Args:
        pause: waits for so many seconds.

    Raises:
        StoreError: a file of the study is damaged, or the storage was out of reach at first.
    """
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from orchestrator.console.progress import draw, in_states

    study, seconds = StoredStudy.opened(store), LOOK_SECONDS if store.local else REMOTE_LOOK_SECONDS
    last = text = ""
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while True:
            try:
                lock = living(store, time.time())
                progress = store.load(paths.PROGRESS, Progress) if lock else None
            except DamagedError:
                raise
            except StoreError as error:
                console.out(
                    visible(f"no look at the study, the next one follows: {error}"), highlight=False
                )
                pause(seconds)
                continue
            if lock is None:
                break
            if progress is None or progress.token != lock.token:
                text = text or describe(study, time.time())  # once: it reads much
                shown, line = (
                    Group(Text(visible(text)), Text(NOTHING_YET, style="dim")),
                    NOTHING_YET,
                )
            else:
                silent = max(time.time() - progress.written, 0.0)
                foot = (
                    f"{holder(lock)}, seen {silent:.0f} s ago\nCtrl-C ends this view, not the study"
                )
                picture = draw(_aged(progress, time.time()), console.width)
                shown = Group(picture, Text(foot, style="dim", no_wrap=True, overflow="ellipsis"))
                line = f"{progress.name}: {in_states(progress.counts)}"
            if console.is_terminal:
                live.update(shown, refresh=True)
            elif line != last:
                console.out(visible(line), highlight=False)
                last = line
            pause(seconds)


def _aged(progress: Progress, now: float) -> Progress:
    """The same, with the time that has passed since then taken off what is left."""
    left = progress.seconds_left
    passed = max(now - progress.time, 0.0)
    rest = None if left is None else max(left - passed, 0.0)
    return progress.model_copy(update={"seconds_left": rest})


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 when there is no study."""
    begin_command()
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.status",
        description="Print the state of a study; needs no Ray and changes nothing.",
        epilog="examples: python -m orchestrator.status runs/quickstart\n"
        "          python -m orchestrator.status s3://bucket/studies/full --watch",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "study", metavar="STUDY", help="folder or fsspec URI of a study: <storage>/<name>"
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="go on showing what every lane trains, until the run has ended",
    )
    arguments = parser.parse_args(argv)
    try:
        store = Store(arguments.study)
        if arguments.watch:
            from rich.console import Console

            with contextlib.suppress(KeyboardInterrupt):
                watch(store, Console())
        say(describe(StoredStudy.opened(store), time.time()))
    except StoreError as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
