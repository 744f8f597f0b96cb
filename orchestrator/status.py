"""How a study stands: `python -m orchestrator.status runs/NAME`, from any machine that sees the
storage, without Ray.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.planning.cost import CostModel
from orchestrator.planning.retry import State, next_state, reason
from record.lock import holder, living
from record.store import CELL, Store, StoreError, read_plan


def trial_states(
    plan: Mapping[str, Any],
    commits: Mapping[str, Any],
    failures: Mapping[str, Sequence[Mapping[str, Any]]],
    claims: Mapping[str, Any],
    max_attempts: int,
) -> dict[str, State]:
    """State of every planned trial by eval_id; a claimed trial of a living driver is `running`.
    Pure.

    Args:
        claims: evaluations that the driver with the study's lock has claimed, by train_id; empty
            where none has it.
    """
    states = {}
    for trial in plan["trials"]:
        state = next_state(failures.get(trial["eval_id"], ()), max_attempts)
        if trial["eval_id"] in commits:
            state = State.FINISHED
        elif claims.get(trial["train_id"]) == trial["eval_id"] and state is not State.QUARANTINED:
            state = State.RUNNING
        states[trial["eval_id"]] = state
    return states


def describe(store: Store, now: float) -> str:
    """The study's states, rate, time left and last failures as text.

    Raises:
        StoreError: this is no study.
    """
    plan, commits, failures = read_plan(store), store.commits(), store.failures()
    waiting = [
        trial for trial in plan["trials"] if not trial["eval_id"]
    ]  # their settings are searched first
    plan["trials"] = [trial for trial in plan["trials"] if trial["eval_id"]]
    resources = store.read_json("study.json")["spec"]["resources"]
    lock, claims = living(store, now), {}
    if lock:
        every = store.read_folder("claims")
        held = {
            name: claim for name, claim in every.items() if claim["token"].startswith(lock["token"])
        }
        claims = {name: claim.get("eval_id") for name, claim in held.items()}
    states = trial_states(plan, commits, failures, claims, resources["max_attempts"])
    counts = {state: list(states.values()).count(state) for state in State}
    lines = [
        f"{plan['name']}: "
        + ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    ]
    lines.append(f"driver: {holder(lock) if lock else 'none'}")
    if waiting:
        done = sum(len(store.names(f"search/{name}")) for name in plan.get("searches", ()))
        lines.append(
            f"{len(waiting)} more wait for the search of their settings; {done} of its trials are "
            "done"
        )
    mine = [commits[name] for name, state in states.items() if state is State.FINISHED]
    left = [
        name
        for name, state in states.items()
        if state in (State.PENDING, State.RUNNING, State.FAILED)
    ]
    if left:
        lanes = counts[State.RUNNING] or resources["max_lanes"] or 1
        forecast = CostModel.of_study(plan, commits).forecast(left, lanes)
        gpus = f", {forecast.gpu_hours:.1f} GPU-hours" if forecast.gpu_hours else ""
        lines.append(
            f"{len(left)} are left: about {forecast.lane_hours:.1f} h of lanes{gpus}, "
            f"{forecast.seconds / 3600:.1f} h on {lanes} of them"
        )
    if mine:
        seconds = statistics.mean(marker["cost"]["seconds"] for marker in mine)
        lines.append(f"a trial takes {seconds:.0f} s on average")
        recent = [marker for marker in mine if now - _finished(marker) < 3600]
        lines.append(f"{len(recent)} finished in the last hour")
    for trial in plan["trials"]:
        if states[trial["eval_id"]] in (State.FAILED, State.QUARANTINED):
            cell = ", ".join(f"{name} {trial[name]}" for name in CELL)
            lines.append(
                f"{states[trial['eval_id']].value}: {cell}: {reason(failures[trial['eval_id']])}"
            )
    return "\n".join(lines)


def _finished(marker: Mapping[str, Any]) -> float:
    return (
        datetime.strptime(marker["finished"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 when there is no study."""
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
