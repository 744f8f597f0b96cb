"""Runs the searches of a spec before its grid: in each round, every search tries its next few
settings at once.

A round is `search.parallel` trials of each search, whatever the cluster is, so that the suggestions
do not depend on it. The trials go through the same lanes as the grid's. `search/ID/NUMBER.json` is
the record of a trial, `search.json` the frozen winners, by the id of the search.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.console.logs import TrialLogs
from orchestrator.console.picture import Picture
from orchestrator.console.progress import Screen, duration
from orchestrator.executors.base import ClusterError, Executor, has_ended
from orchestrator.planning.cost import CostModel, arithmetic_seconds, longest_first
from orchestrator.planning.identity import Job
from orchestrator.planning.plan import fold_count
from orchestrator.planning.retry import reason
from orchestrator.planning.search import Search, unread_places
from orchestrator.planning.study import Study
from orchestrator.planning.suggestions import medians, suggest
from orchestrator.spec.search import SearchSpec, tuned
from orchestrator.spec.study import model_name
from record import paths
from record.events import Event
from record.search import SearchTrial
from record.store import Store

RunJobs = Callable[[list[Job]], None]


def outlook(study: Study) -> str:
    """What the searches that have to run before the grid will cost, in one line; empty where none
    has to.
    """
    spec, todo, cost = study.spec, study.searches_to_run, study.plan.cost
    unread = unread_places(spec, study.searches)
    if spec.search is None or not (todo or unread):
        return ""
    each = spec.search.trials
    done = {search.id: len(study.store.names(paths.search(search.id))) for search in todo}
    seconds = sum((each - done[search.id]) * _seconds(search, cost) for search in todo)
    nested = spec.search.cases == "nested"
    folds, share = (fold_count(spec), 1.0) if nested else (1, spec.search.reserved_fraction)
    for model, task in unread:
        recipe, settings = tuned(spec, model, spec.search.budget)
        block = study.found.blocks.get(model_name(model))
        one = arithmetic_seconds(recipe, settings, task, share, None, block.size if block else None)
        seconds += folds * each * one * cost.ratio(model_name(model), task.name)
    left, every = (len(some) + folds * len(unread) for some in (todo, study.searches))
    return (
        f"Search before the grid: {left} of {every} searches with {each} trials each, "
        f"{sum(done.values())} of {each * left} trials done, at most {duration(seconds)} of lanes "
        "to go."
    )


def run_searches(study: Study, executor: Executor, screen: Screen, token: str) -> Study:
    """Run every search that has no winner yet and freeze the winners; the study with them.

    Args:
        executor: not entered yet; it starts for the first round that needs it.
        token: the driver's.

    Raises:
        ClusterError, StoreError, KeyboardInterrupt: as `Executor.run`; trials that ended are kept.
    """
    spec, store, todo = study.spec, study.store, study.searches_to_run
    if spec.search is None or not todo:
        return study
    screen.say(outlook(study))
    seconds = {search.id: _seconds(search, study.plan.cost) for search in todo}
    with contextlib.ExitStack() as stack:
        entered: list[Executor] = []

        def run_jobs(jobs: list[Job]) -> None:
            if not entered:
                entered.append(stack.enter_context(executor))
            logs = TrialLogs(store, {job.eval_id: job.train_id for job in jobs})

            def emit(event: Event) -> None:
                logs(event)
                screen(event)

            estimates = {job.eval_id: seconds[job.tuning.search] for job in jobs if job.tuning}
            waiting = longest_first(jobs, lambda job: estimates[job.eval_id])
            with screen.shows(Picture(f"{spec.name}: search", estimates)):
                executor.run(waiting, emit=emit)

        records = run_rounds(todo, spec.search, store, token, run_jobs)
    outcomes = {search.id: search.outcome(records[search.id]) for search in todo}
    store.save_outcomes({**study.outcomes, **outcomes})
    for search in todo:
        if why := outcomes[search.id].reason:
            place = ", ".join(
                f"{name} {value}" for name, value in search.place.items() if value is not None
            )
            screen.say(f"search: {place}: {why}; its trials of the grid are not run")
    return study.again()


def run_rounds(
    todo: Sequence[Search], settings: SearchSpec, store: Store, token: str, run_jobs: RunJobs
) -> dict[str, list[SearchTrial]]:
    """Every trial of these searches in rounds; returns the records by the search's id, in their
    order.

    A trial that has its record is not run again; one that failed for good counts as a trial of the
    search's budget.
    """
    records: dict[str, list[SearchTrial]] = {search.id: [] for search in todo}
    for first in range(0, settings.trials, settings.parallel):
        count = min(settings.parallel, settings.trials - first)
        suggested = [
            trial for search in todo for trial in _round(search, records[search.id], count, token)
        ]
        waiting = [trial.job for trial in suggested if trial.job and trial.waits(store)]
        if waiting:
            run_jobs(waiting)
            if any(trial.job and trial.waits(store) for trial in suggested):
                raise ClusterError("trials of the search did not end; run the same command again")
        for trial in suggested:
            records[trial.search.id].append(trial.record(store))
    return records


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

    def record(self, store: Store) -> SearchTrial:
        """What became of it."""
        kept = store.load(self.job.record, SearchTrial) if self.job else None
        if kept:
            return kept
        why = reason(store.failures_of(self.job.eval_id)) if self.job else self.problem
        return SearchTrial(
            number=self.number,
            settings=dict(self.settings),
            state="failed",
            reason=why,
            curve=[],
            value=None,
        )


def _round(search: Search, before: Sequence[SearchTrial], count: int, token: str) -> list[_Trial]:
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


def _seconds(search: Search, cost: CostModel) -> float:
    return search.seconds() * cost.ratio(model_name(search.model), search.task.name)
