"""A study's plan in words: what a dry run prints."""

from __future__ import annotations

import sys

from medvision.models.registry import PAPER_SOURCES
from orchestrator.console.progress import duration
from orchestrator.planning.blocks import prepared_block, with_block
from orchestrator.planning.cost import assumed_cases
from orchestrator.planning.plan import Plan
from orchestrator.planning.study import Study
from orchestrator.planning.volumes import said
from orchestrator.spec.study import Spec, model_name
from record import paths
from record.frozen import Frozen
from record.local_files import cache_root
from record.store import Store
from record.terminal import say

SHOWN_TRIALS = 40


def frozen_line(store: Store, frozen: Frozen) -> str:
    """What is printed of a freeze."""
    after = f", after {frozen.finished} trials had finished" if frozen.finished else ""
    place = f"{store.uri}/{paths.ANALYSIS}"
    return f"Analysis frozen at {frozen.time}{after}: {place} (sha256 {frozen.sha256})"


def fetch_blocks(spec: Spec) -> bool:
    """Take the language-model blocks of a spec into the cache, a line for each model; whether all
    are there.
    """
    complete = True
    for name, llm in with_block(spec).items():
        found = prepared_block(name, llm)
        complete &= found.fingerprint is not None
        problem = f"error: {found.missing}"
        ready = f"{name}: layer {llm.layer} of {llm.source} is in {cache_root()}"
        say(ready if found.fingerprint else problem, file=None if found.fingerprint else sys.stderr)
    return complete


def print_plan(study: Study) -> None:
    """Print what a run would do: counts, the trials in their order with the reason, the estimate,
    what is missing.
    """
    spec, plan = study.spec, study.plan
    say(f"{spec.name}: {counts(plan)}")
    for line in fold_changes(study):
        say(f"  {line}")
    for wrong in study.damaged.values():
        say(f"  damaged: {wrong}")
    waiting = plan.in_order()
    for number, trial in enumerate(waiting[:SHOWN_TRIALS], start=1):
        name = trial.train_id[:8] if trial.train_id else "id unknown"
        cost = f"~{duration(trial.estimated_seconds)}" if trial.work.known else "cost unknown"
        say(f"  {number:4d}. {trial.status:11s} {name:10s} {trial.cell}  {cost}  {trial.why}")
    if len(waiting) > SHOWN_TRIALS:
        say(f"        and {len(waiting) - SHOWN_TRIALS} more")
    for trial in plan.trials:
        if trial.status == "quarantined":
            say(f"  quarantined {trial.cell}: {trial.why} (--retry-quarantined tries again)")
    for doubt in study.inputs.doubts:
        say(f"  warning: {doubt}")
    unread = study.inputs.unread
    for missing in plan.missing:
        say(f"  {'note' if missing in unread else 'missing'}: {missing}")
    sizes = [said(name, of.volumes) for name, of in study.inputs.tasks.items() if of.volumes]
    for line in (*uncompared(study.spec), *assumptions(study), *sizes):
        say(f"  note: {line}")
    if repeats := plan.repeats():
        seconds = sum(trial.estimated_seconds for trial in repeats)
        say(
            f"  {len(repeats)} of these train on the same cases as another fold, each from a start "
            f"of its own: ~{duration(seconds)} of the estimate"
        )
    resources = spec.resources
    gpus_each = resources.gpus_per_worker
    unit = f"{resources.workers * resources.cpus_per_worker} CPU"
    if gpus_each == "auto":
        unit += " (or a GPU, where there are any: resources.gpus_per_worker is auto)"
    elif gpus_each:
        unit = f"{resources.workers * gpus_each:g} GPU"
    forecast = plan.cost.forecast([trial.name for trial in waiting], resources.max_lanes or 1)
    gpus = f", {forecast.gpu_hours:,.1f} GPU-hours" if forecast.gpu_hours else ""
    time = (
        f"; {duration(forecast.seconds)} on {resources.max_lanes} lanes"
        if resources.max_lanes
        else ""
    )
    say(
        f"Estimated cost: {duration(3600 * forecast.lane_hours)} of lanes with {unit} "
        f"each{gpus}{time}."
    )
    say(f"Study: {study.store.uri}")


def uncompared(spec: Spec) -> list[str]:
    """The models that no comparison of a study with comparisons names."""
    names = [model_name(model) for model in spec.models]
    named = {
        name
        for comparison in spec.all_comparisons()
        for name in (comparison.baseline, *comparison.candidates)
    }
    left = [name for name in names if named and name not in named]
    what = "in no comparison: trained and scored, and tested against nothing"
    return [f"{', '.join(left)}: {what}"] if left else []


def assumptions(study: Study) -> list[str]:
    """What the estimate takes for granted of data and checkpoints that were not read yet."""
    spec, told = study.spec, []
    counted = [
        f"{assumed_cases(task.name)} cases of {task.name}"
        for task in spec.tasks
        if not study.inputs.tasks[task.name].folds
    ]
    if counted:
        told.append(f"the estimate counts {', '.join(counted)}, which were not read yet")
    for model in spec.models:
        block, source = model.block, PAPER_SOURCES.get(model.label)
        known = study.inputs.blocks.get(model_name(model))
        if block is None or source is None or (known and known.size) or block.source == source:
            continue
        told.append(
            f"the estimate takes {block.source} of {model_name(model)}, which was not read yet, "
            f"to be as large as {source}"
        )
    return told


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
