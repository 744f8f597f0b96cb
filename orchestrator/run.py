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
from orchestrator.console.plan import counts, fold_changes, print_plan
from orchestrator.console.progress import Lines, Screen, duration, make_screen
from orchestrator.executors.base import ClusterError, Executor
from orchestrator.executors.registry import DEFAULT, EXECUTORS, make_executor
from orchestrator.executors.search_rounds import outlook, run_searches
from orchestrator.planning.identity import Job
from orchestrator.planning.inputs import InputError
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store, sweep
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import SpecError, load_spec
from record import paths
from record.events import DriverStarted, Event
from record.lock import StudyLockedError, study_lock
from record.store import Store, StoreError
from record.terminal import plain_output

COMPLETE, INCOMPLETE, WRONG, STOPPED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    plain_output()
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
            study = Study.remembered(spec, store)
            print_plan(study)
            if search := outlook(study):
                print(search)
            return COMPLETE
        return run(
            spec,
            store,
            make_executor(arguments.executor, spec, store, arguments.address),
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
    executor: Executor,
    *,
    retry: bool = False,
    rerun: Sequence[str] = (),
    screen: Screen | None = None,
) -> int:
    """Run a study to its report; returns the exit code.

    Args:
        executor: runs its trials; it starts when there is something to run.
        retry: try quarantined trials again.
        rerun: trials to run once more (`orchestrator.planning.study_files.forget`).
        screen: what the person sees, plain lines by default.

    Raises:
        InputError, StoreError, StudyLockedError: before anything was started.
    """
    screen = screen or Lines()
    with study_lock(store) as token:
        study = Study.gathered(spec, store)
        if retry:
            store.remove(paths.FAILURES)
        if rerun:
            study = study.forget(rerun)
        study.tidy()
        study.write()
        if study.spec.search and "unknown" in study.plan.counts():
            study = run_searches(study, executor, screen, token)
            study.write()
        waiting = study.jobs(token)
        screen.say(f"{study.spec.name}: {counts(study.plan)}")
        for doubt in study.inputs.doubts:
            screen.say(f"warning: {doubt}")
        for line in fold_changes(study):
            screen.say(f"  {line}")
        if waiting:
            study.write_manifest()
        with libraries_log(store, "mlflow", "alembic", "py.warnings"), _tracker(study) as tracker:
            if waiting:
                _run_jobs(study, waiting, executor, screen, tracker)
            else:
                screen.say("Nothing to train: every trial is finished or quarantined.")
            return _report(store, screen, tracker)


def _tracker(study: Study) -> Any:
    """Takes events for MLflow; None in a context where the spec wants no tracking."""
    from orchestrator.tracking.tracker import Tracker, tracking_uri

    tracking = study.spec.tracking
    if not tracking.enabled:
        return contextlib.nullcontext()
    return Tracker(study.store, tracking_uri(study.spec), log_model=tracking.log_model)


def _run_jobs(
    study: Study, waiting: Sequence[Job], executor: Executor, screen: Screen, tracker: Any
) -> None:
    spec, cost = study.spec, study.plan.cost
    logs = TrialLogs(study.store, {job.eval_id: job.train_id for job in waiting})

    def emit(event: Event) -> None:
        for listener in (logs, tracker, screen):
            if listener is not None:
                listener(event)

    estimates = {job.eval_id: cost.seconds(job.eval_id) for job in waiting}
    if tracker:
        tracker(DriverStarted())
    if executor.starts:
        work = sum(trial.estimated_seconds for trial in study.plan.in_order())
        screen.say(
            f"Starting {executor.starts}; {len(waiting)} trials, about {duration(work)} of work."
        )
    with screen.shows(Picture(spec.name, estimates, spec.training.epochs, cost)), executor:
        executor.run(waiting, emit=emit, seconds=lambda job: cost.seconds(job.eval_id))
    sweep(study.store)


def _report(store: Store, screen: Screen, tracker: Any) -> int:
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
        outcome = (
            tracker.where
            if problem is None
            else f"not delivered, the next run tries again: {problem}"
        )
        screen.say(f"MLflow   {outcome}", result=True)
    return COMPLETE if report.complete else INCOMPLETE


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
    for name, entry in EXECUTORS.items():
        if entry.help is not None:
            parser.add_argument(
                f"--{name}",
                action="store_const",
                dest="executor",
                const=name,
                default=DEFAULT,
                help=entry.help,
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
