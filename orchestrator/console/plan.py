"""A study's plan in words: what a dry run prints."""

from __future__ import annotations

from orchestrator.console.progress import duration
from orchestrator.planning.plan import Plan
from orchestrator.planning.study import Study

SHOWN_TRIALS = 40


def print_plan(study: Study) -> None:
    """Print what a run would do: counts, the trials in their order with the reason, the estimate,
    what is missing.
    """
    spec, plan = study.spec, study.plan
    print(f"{spec.name}: {counts(plan)}")
    for line in fold_changes(study):
        print(f"  {line}")
    waiting = plan.in_order()
    for number, trial in enumerate(waiting[:SHOWN_TRIALS], start=1):
        name = trial.train_id[:8] if trial.train_id else "id unknown"
        print(
            f"  {number:4d}. {trial.status:11s} {name:10s} {trial.cell}  "
            f"~{duration(trial.estimated_seconds)}  {trial.why}"
        )
    if len(waiting) > SHOWN_TRIALS:
        print(f"        and {len(waiting) - SHOWN_TRIALS} more")
    for trial in plan.trials:
        if trial.status == "quarantined":
            print(f"  quarantined {trial.cell}: {trial.why} (--retry-quarantined tries again)")
    for doubt in study.inputs.doubts:
        print(f"  warning: {doubt}")
    for missing in plan.missing:
        print(f"  missing: {missing}")
    if repeats := plan.repeats():
        seconds = sum(trial.estimated_seconds for trial in repeats)
        print(
            f"  {len(repeats)} of these train on the same cases as another fold, each from a start "
            f"of its own: ~{duration(seconds)} of the estimate"
        )
    resources = spec.resources
    unit = (
        f"{resources.workers * resources.gpus_per_worker:g} GPU"
        if resources.gpus_per_worker
        else f"{resources.workers * resources.cpus_per_worker} CPU"
    )
    forecast = plan.cost.forecast([trial.name for trial in waiting], resources.max_lanes or 1)
    gpus = f", {forecast.gpu_hours:,.1f} GPU-hours" if forecast.gpu_hours else ""
    time = (
        f"; {duration(forecast.seconds)} on {resources.max_lanes} lanes"
        if resources.max_lanes
        else ""
    )
    print(
        f"Estimated cost: {duration(3600 * forecast.lane_hours)} of lanes with {unit} "
        f"each{gpus}{time}."
    )


def fold_changes(study: Study) -> list[str]:
    """What came, went and moved in the folds of each task since they were made, a line each."""
    tasks = study.inputs.tasks.items()
    return [f"cases of {name}: {known.changes}" for name, known in tasks if known.changes]


def counts(plan: Plan) -> str:
    """How many trials there are, and of each status: `6 trials: 2 done, 4 new`."""
    by_status = {"done": 0, "new": 0} | plan.counts()
    return f"{len(plan.trials)} trials: " + ", ".join(
        f"{number} {status}" for status, number in by_status.items()
    )
