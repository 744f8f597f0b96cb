"""How a study stands: `python -m orchestrator.status runs/NAME`, from any machine that sees the
storage, without Ray.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Container, Iterable, Mapping, Sequence

from orchestrator.planning.cost import CostModel
from orchestrator.planning.retry import State, next_state, reason
from record import paths
from record.damage import finished_trials
from record.lock import holder, living
from record.schema import Claim, Commit, Failure, PlannedTrial, StudyFile
from record.store import Store, StoreError
from record.terminal import plain_output


def trial_states(
    trials: Iterable[PlannedTrial],
    commits: Mapping[str, Commit],
    failures: Mapping[str, Sequence[Failure]],
    claims: Mapping[str, str | None],
    max_attempts: int,
    damaged: Container[str] = (),
) -> dict[str, State]:
    """State of every planned trial by eval_id; a claimed trial of a living driver is `running`;
    trials without an id wait for a search and are left out. Pure.

    Args:
        claims: evaluations that the driver with the study's lock has claimed, by train_id; empty
            where none has it.
        damaged: evaluations that are finished, with a file that is not what was committed.
    """
    states = {}
    for trial in trials:
        if trial.eval_id is None:
            continue
        state = next_state(failures.get(trial.eval_id, ()), max_attempts)
        if trial.eval_id in commits:
            state = State.FINISHED
        elif trial.eval_id in damaged:
            state = State.DAMAGED
        elif claims.get(trial.train_id or "") == trial.eval_id and state is not State.QUARANTINED:
            state = State.RUNNING
        states[trial.eval_id] = state
    return states


def describe(store: Store, now: float) -> str:
    """The study's states, rate, time left and last failures as text.

    Raises:
        StoreError: this is no study.
    """
    plan, failures = store.plan(), store.failures()
    found = finished_trials(store, plan)
    commits = found.commits
    study = store.load(paths.STUDY, StudyFile)
    if study is None:
        raise StoreError(f"{store.path(paths.STUDY)}: is missing; {StudyFile.remedy}")
    resources = study.spec["resources"]
    lock, claims = living(store, now), {}
    if lock:
        every = store.load_folder(paths.CLAIMS, Claim)
        claims = {
            name: claim.eval_id
            for name, claim in every.items()
            if claim.token.startswith(lock.token)
        }
    states = trial_states(
        plan.trials, commits, failures, claims, resources["max_attempts"], found.damaged
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
    mine = [commits[name] for name, state in states.items() if state is State.FINISHED]
    left = [
        name
        for name, state in states.items()
        if state in (State.PENDING, State.RUNNING, State.FAILED)
    ]
    if left:
        lanes = counts[State.RUNNING] or resources["max_lanes"] or 1
        forecast = CostModel.of_study(plan.trials, commits).forecast(left, lanes)
        gpus = f", {forecast.gpu_hours:.1f} GPU-hours" if forecast.gpu_hours else ""
        lines.append(
            f"{len(left)} are left: about {forecast.lane_hours:.1f} h of lanes{gpus}, "
            f"{forecast.seconds / 3600:.1f} h on {lanes} of them"
        )
    if mine:
        seconds = statistics.mean(marker.cost.seconds for marker in mine)
        lines.append(f"a trial takes {seconds:.0f} s on average")
        recent = [marker for marker in mine if now - marker.finished_at.timestamp() < 3600]
        lines.append(f"{len(recent)} finished in the last hour")
    for trial in plan.trials:
        state = states.get(trial.eval_id or "")
        if state in (State.FAILED, State.QUARANTINED):
            why = reason(failures[str(trial.eval_id)])
            lines.append(f"{state.value}: {trial.place}: {why}")
        elif state is State.DAMAGED:
            lines.append(f"{state.value}: {trial.place}: {found.damaged[str(trial.eval_id)]}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 when there is no study."""
    plain_output()
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.status",
        description="Print how a study stands; needs no Ray and changes nothing.",
        epilog="example: python -m orchestrator.status runs/quickstart",
    )
    parser.add_argument(
        "study", metavar="STUDY", help="folder or fsspec URI of a study: <storage>/<name>"
    )
    arguments = parser.parse_args(argv)
    try:
        print(describe(Store(arguments.study), time.time()))
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
