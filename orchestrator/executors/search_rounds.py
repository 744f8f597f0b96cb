"""Runs the searches of a spec before its grid: in each round, every search tries its next few
settings at once.

A round is `search.parallel` trials of each search, whatever the cluster is, so that the suggestions
do not depend on it. The trials go through the same lanes as the grid's. `search/ID/NUMBER.json` is
the record of a trial, `search.json` the frozen winners, by the id of the search.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.console.logs import TrialLogs, libraries_log
from orchestrator.console.picture import Picture
from orchestrator.console.progress import Screen, duration
from orchestrator.executors.base import ClusterError, has_ended
from orchestrator.planning.cost import CostModel, arithmetic_seconds, longest_first
from orchestrator.planning.identity import Job
from orchestrator.planning.plan import Inputs, fold_count
from orchestrator.planning.retry import reason
from orchestrator.planning.search import (
    Record,
    Search,
    medians,
    searches,
    suggest,
    unknown,
    with_winners,
)
from orchestrator.spec.search import SearchSpec, tuned
from orchestrator.spec.study import Spec, model_name
from record import paths
from record.events import Event
from record.store import Store

RunJobs = Callable[[list[Job]], None]


def with_frozen(spec: Spec, inputs: Inputs, store: Store) -> Inputs:
    """The inputs with the winners that the study has; unchanged without a search."""
    return (
        with_winners(spec, inputs, store.read_json(paths.SEARCHES) or {}) if spec.search else inputs
    )


def outlook(spec: Spec, inputs: Inputs, store: Store, cost: CostModel) -> str:
    """What the searches that have to run before the grid will cost, in one line; empty where none
    has to.
    """
    todo = _unfinished(spec, inputs, store.read_json(paths.SEARCHES) or {})
    if spec.search is None or not (todo or unknown(spec, inputs)):
        return ""
    each, unread = spec.search.trials, unknown(spec, inputs)
    done = {search.id: len(store.names(paths.search(search.id))) for search in todo}
    seconds = sum((each - done[search.id]) * _seconds(search, cost) for search in todo)
    nested = spec.search.cases == "nested"
    folds, share = (fold_count(spec), 1.0) if nested else (1, spec.search.reserved_fraction)
    for model, task in unread:
        recipe, settings = tuned(spec, model, spec.search.budget)
        block = inputs.blocks.get(model_name(model))
        one = arithmetic_seconds(recipe, settings, task, share, None, block.size if block else None)
        seconds += folds * each * one * cost.ratio(model_name(model), task.name)
    left, every = (len(some) + folds * len(unread) for some in (todo, searches(spec, inputs)))
    return (
        f"Search before the grid: {left} of {every} searches with {each} trials each, "
        f"{sum(done.values())} of {each * left} trials done, at most {duration(seconds)} of lanes "
        "to go."
    )


def run_searches(
    spec: Spec,
    inputs: Inputs,
    store: Store,
    screen: Screen,
    token: str,
    cost: CostModel,
    *,
    address: str | None,
    in_process: bool,
) -> Inputs:
    """Run every search that has no winner yet, freeze the winners, and give the inputs with them.

    Args:
        token: the driver's.
        cost: of the study's trials so far.
        address, in_process: as for the grid.

    Raises:
        ClusterError, StoreError, KeyboardInterrupt: as the grid's `run_jobs`; trials that ended are
            kept.
    """
    frozen = store.read_json(paths.SEARCHES) or {}
    todo = _unfinished(spec, inputs, frozen)
    if spec.search is None or not todo:
        return with_frozen(spec, inputs, store)
    screen.say(outlook(spec, inputs, store, cost))
    with contextlib.ExitStack() as stack:
        lanes: list[Any] = []  # started for the first round that needs them

        def run_jobs(jobs: list[Job]) -> None:
            if not lanes:
                lanes.append(stack.enter_context(_lanes(store, address, in_process)))
            logs = TrialLogs(store, {job.eval_id: job.train_id for job in jobs})

            def emit(event: Event) -> None:
                logs(event)
                screen(event)

            estimates = {job.eval_id: seconds[job.tuning.search] for job in jobs if job.tuning}
            waiting = longest_first(jobs, lambda job: estimates[job.eval_id])
            with screen.shows(Picture(f"{spec.name}: search", estimates)):
                lanes[0](waiting, spec, store, emit)

        seconds = {search.id: _seconds(search, cost) for search in todo}
        told = run_rounds(todo, spec.search, store, token, run_jobs)
    frozen |= {search.id: search.frozen(told[search.id]) for search in todo}
    store.write_json(paths.SEARCHES, frozen)
    for search in todo:
        if why := frozen[search.id]["reason"]:
            place = ", ".join(
                f"{name} {value}" for name, value in search.place.items() if value is not None
            )
            screen.say(f"search: {place}: {why}; its trials of the grid are not run")
    return with_winners(spec, inputs, frozen)


def run_rounds(
    todo: Sequence[Search], settings: SearchSpec, store: Store, token: str, run_jobs: RunJobs
) -> dict[str, list[Record]]:
    """Every trial of these searches in rounds; returns the records by the search's id, in their
    order.

    A trial that has its record is not run again; one that failed for good counts as a trial of the
    search's budget.
    """
    told: dict[str, list[Record]] = {search.id: [] for search in todo}
    for first in range(0, settings.trials, settings.parallel):
        count = min(settings.parallel, settings.trials - first)
        asked = [
            trial for search in todo for trial in _round(search, told[search.id], count, token)
        ]
        waiting = [trial.job for trial in asked if trial.job and trial.waits(store)]
        if waiting:
            run_jobs(waiting)
            if any(trial.job and trial.waits(store) for trial in asked):
                raise ClusterError("trials of the search did not end; run the same command again")
        for trial in asked:
            told[trial.search.id].append(trial.record(store))
    return told


@dataclass(frozen=True)
class _Trial:
    """A suggestion; without a `job` where the model cannot take it, and `problem` says why."""

    search: Search
    number: int
    settings: Mapping[str, Any]
    job: Job | None
    problem: str = ""

    def waits(self, store: Store) -> bool:
        assert self.job  # noqa: S101  # asked of jobs only
        return not has_ended(self.job, store, self.search.spec.resources.max_attempts)

    def record(self, store: Store) -> Record:
        """What became of it."""
        kept: Record | None = store.read_json(self.job.record) if self.job else None
        if kept:
            return kept
        why = reason(store.failures_of(self.job.eval_id)) if self.job else self.problem
        return {
            "number": self.number,
            "settings": self.settings,
            "state": "failed",
            "reason": why,
            "curve": [],
            "value": None,
        }


def _round(search: Search, before: Sequence[Record], count: int, token: str) -> list[_Trial]:
    limits = medians(before) if search.settings.prune else []
    trials = []
    for number, settings in enumerate(suggest(search.settings, before, count), start=len(before)):
        try:
            trials.append(
                _Trial(search, number, settings, search.job(number, settings, limits, token))
            )
        except ValueError as error:
            trials.append(_Trial(search, number, settings, None, " ".join(str(error).split())))
    return trials


def _unfinished(spec: Spec, inputs: Inputs, frozen: Mapping[str, Any]) -> list[Search]:
    """Searches without a winner, each once: models that differ in their names only share one."""
    todo = {search.id: search for search in searches(spec, inputs)}
    return [search for name, search in todo.items() if frozen.get(name, {}).get("settings") is None]


def _seconds(search: Search, cost: CostModel) -> float:
    return search.seconds() * cost.ratio(model_name(search.model), search.task.name)


@contextlib.contextmanager
def _lanes(store: Store, address: str | None, in_process: bool) -> Iterator[Any]:
    """`run_jobs` of this process, or of a cluster that is there while this lasts."""
    if in_process:
        from orchestrator.executors import in_process as local

        yield local.run_jobs
    else:
        from orchestrator.executors.lanes import driver

        with libraries_log(store, "ray"), driver.cluster(address):
            yield driver.run_jobs
