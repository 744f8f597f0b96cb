"""The main job: `python -m orchestrator.run ablations/quickstart.yaml`.

Reads the spec, plans, runs what is not finished in Ray lanes, builds the report and prints its
table. Running it again is resuming: what is finished is skipped. Exit code 0: the table is
complete; 1: trials are missing, and the report names them; 2: the spec, the data, the cluster or
the storage are wrong; 130: stopped by Ctrl-C or SIGTERM. Ctrl-C once lets the running trials write
their checkpoints, twice stops at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from orchestrator.console.logs import TrialLogs, libraries_log
from orchestrator.console.picture import Picture
from orchestrator.console.progress import Lines, Screen, duration, make_screen
from orchestrator.executors.base import ClusterError
from orchestrator.executors.search_rounds import outlook, run_searches, with_frozen
from orchestrator.planning.identity import Job
from orchestrator.planning.inputs import InputError, gathered, remembered, resolved
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.planning.study_files import (
    fingerprints,
    forget,
    jobs,
    open_store,
    public_values,
    sweep,
    write_study,
)
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import SpecError, load_spec
from record import paths
from record.events import DriverStarted, Event
from record.lock import StudyLockedError, study_lock
from record.store import Store, StoreError

COMPLETE, INCOMPLETE, WRONG, STOPPED = 0, 1, 2, 130
SHOWN_TRIALS = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    arguments = _parser().parse_args(argv)
    if arguments.schema:
        print(json.dumps(Spec.model_json_schema(), indent=2))
        return COMPLETE
    if not arguments.spec:
        print(
            "error: give a spec, for example ablations/quickstart.yaml (or --schema)",
            file=sys.stderr,
        )
        return WRONG
    try:
        spec = load_spec(arguments.spec, arguments.set)
        store = open_store(spec)
        if arguments.dry_run:
            spec = resolved(spec)
            inputs = with_frozen(spec, remembered(spec), store)
            plan = make_plan(spec, inputs, store.commits(), store.failures())
            print_plan(plan, spec)
            if search := outlook(spec, inputs, store, plan.cost):
                print(search)
            return COMPLETE
        return run(
            spec,
            store,
            address=arguments.address,
            in_process=arguments.in_process,
            retry=arguments.retry_quarantined,
            rerun=arguments.rerun,
            screen=make_screen(arguments.show),
        )
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where this one was.", file=sys.stderr)
        return STOPPED
    except (SpecError, InputError, StoreError, StudyLockedError, ClusterError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return WRONG


def run(
    spec: Spec,
    store: Store,
    *,
    address: str | None = None,
    in_process: bool = False,
    retry: bool = False,
    rerun: Sequence[str] = (),
    screen: Screen | None = None,
) -> int:
    """Run a study to its report; returns the exit code.

    Args:
        address: a Ray cluster, by default RAY_ADDRESS or a Ray of our own on this machine.
        in_process: without Ray, for debugging.
        retry: try quarantined trials again.
        rerun: trials to run once more (`orchestrator.planning.study_files.forget`).
        screen: what the person sees, plain lines by default.

    Raises:
        InputError, StoreError, StudyLockedError: before anything was started.
    """
    screen = screen or Lines()
    with study_lock(store) as token:
        inputs = gathered(spec)
        spec = resolved(spec)
        inputs = with_frozen(spec, inputs, store)
        if retry:
            store.remove(paths.FAILURES)
        plan = make_plan(spec, inputs, store.commits(), store.failures())
        if rerun:
            forget(store, plan, rerun)
            plan = make_plan(spec, inputs, store.commits(), store.failures())
        _tidy(store, plan)
        write_study(store, spec, inputs, plan)
        if spec.search and "unknown" in plan.counts():
            inputs = run_searches(
                spec,
                inputs,
                store,
                screen,
                token,
                plan.cost,
                address=address,
                in_process=in_process,
            )
            plan = make_plan(spec, inputs, store.commits(), store.failures())
            write_study(store, spec, inputs, plan)
        waiting = jobs(plan, token)
        screen.say(f"{spec.name}: {_counts(plan)}")
        if waiting:
            _record_manifest(store, spec, inputs)
        with (
            libraries_log(store, "mlflow", "alembic", "py.warnings"),
            _tracker(spec, store) as tracker,
        ):
            if waiting:
                _run_jobs(
                    waiting,
                    spec,
                    store,
                    plan,
                    screen,
                    tracker,
                    address=address,
                    in_process=in_process,
                )
            else:
                screen.say("Nothing to train: every trial is finished or quarantined.")
            return _report(spec, store, screen, tracker)


def _tidy(store: Store, plan: Plan) -> None:
    """Remove what finished trials need no more, where a driver died between a commit and that."""
    done = {str(trial.eval_id) for trial in plan.trials if trial.status == "done"}
    for eval_id in done.intersection(store.names(paths.FAILURES)):
        store.remove(paths.failures(eval_id))
    trained = {str(trial.train_id) for trial in plan.trials} - {
        str(trial.train_id) for trial in plan.trials if trial.status != "done"
    }
    for train_id in trained.intersection(store.names(paths.CHECKPOINTS)):
        store.remove(paths.checkpoints(train_id))


def _tracker(spec: Spec, store: Store) -> Any:
    """Takes events for MLflow; None in a context where the spec wants no tracking."""
    from orchestrator.tracking.tracker import Tracker, tracking_uri

    if not spec.tracking.enabled:
        return contextlib.nullcontext()
    return Tracker(store, tracking_uri(spec), log_model=spec.tracking.log_model)


def _run_jobs(
    waiting: Sequence[Job],
    spec: Spec,
    store: Store,
    plan: Plan,
    screen: Screen,
    tracker: Any,
    *,
    address: str | None,
    in_process: bool,
) -> None:
    if in_process:
        from orchestrator.executors import in_process as local
    else:
        from orchestrator.executors.lanes import driver
    logs = TrialLogs(store, {job.eval_id: job.train_id for job in waiting})

    def emit(event: Event) -> None:
        for listener in (logs, tracker, screen):
            if listener is not None:
                listener(event)

    estimates = {job.eval_id: plan.cost.seconds(job.eval_id) for job in waiting}
    with libraries_log(store, "ray"):
        if tracker:
            tracker(DriverStarted())
        if not in_process:
            screen.say(
                f"Starting Ray; {len(waiting)} trials, about {duration(_total_seconds(plan))} of "
                "work."
            )
        with screen.shows(Picture(spec.name, estimates, spec.training.epochs, plan.cost)):
            if in_process:
                local.run_jobs(waiting, spec, store, emit)
            else:
                with driver.cluster(address):
                    driver.run_jobs(
                        waiting,
                        spec,
                        store,
                        emit,
                        seconds=lambda job: plan.cost.seconds(job.eval_id),
                    )
    sweep(store)


def _report(spec: Spec, store: Store, screen: Screen, tracker: Any) -> int:
    from reports.build import build_report

    report = build_report(store)
    screen.say(f"\n{report.markdown}", result=True)
    screen.say(
        f"Report   {store.uri}/{paths.report(paths.HTML)} (tables and figures beside it)",
        result=True,
    )
    screen.say(f"Results  {store.uri}", result=True)
    if tracker:
        problem = tracker.finish(complete=report.complete)
        told = (
            tracker.where
            if problem is None
            else f"not delivered, the next run tries again: {problem}"
        )
        screen.say(f"MLflow   {told}", result=True)
    return COMPLETE if report.complete else INCOMPLETE


def _record_manifest(store: Store, spec: Spec, inputs: Any) -> None:
    from record.manifest import manifest

    store.save(paths.MANIFEST, manifest(public_values(spec), fingerprints(inputs)))


def print_plan(plan: Plan, spec: Spec) -> None:
    """Print what a run would do: counts, the trials in their order with the reason, the estimate,
    what is missing.
    """
    print(f"{spec.name}: {_counts(plan)}")
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
    for missing in plan.missing:
        print(f"  missing: {missing}")
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


def _total_seconds(plan: Plan) -> float:
    return sum(trial.estimated_seconds for trial in plan.in_order())


def _counts(plan: Plan) -> str:
    counts = {"done": 0, "new": 0} | plan.counts()
    return f"{len(plan.trials)} trials: " + ", ".join(
        f"{number} {status}" for status, number in counts.items()
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.run",
        description="Run an ablation study, or what of it is not finished, and print its "
        "significance table.",
        epilog="examples:\n  python -m orchestrator.run ablations/quickstart.yaml\n"
        "  python -m orchestrator.run ablations/full.yaml --dry-run\n"
        "  python -m orchestrator.run ablations/quickstart.yaml --set training.epochs=5 --set "
        "storage=/tmp/runs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", nargs="?", metavar="SPEC", help="the study's YAML file")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and stop; reads no data"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the spec"
    )
    parser.add_argument(
        "--address",
        metavar="ADDR",
        help="a Ray cluster (default: RAY_ADDRESS, or Ray on this machine)",
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a spec")
    parser.add_argument(
        "--retry-quarantined", action="store_true", help="try quarantined trials again"
    )
    parser.add_argument(
        "--rerun",
        action="append",
        default=[],
        metavar="TRIAL",
        help="run a finished trial again: its id's start, or its cell",
    )
    shown = parser.add_mutually_exclusive_group()
    for mode, text in (
        ("quiet", "only the outcome"),
        ("json", "one JSON object per event, for programs"),
    ):
        shown.add_argument(
            f"--{mode}",
            action="store_const",
            dest="show",
            const=mode,
            default="auto",
            help=f"print {text}",
        )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="without Ray, one trial after the other (debugging)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
