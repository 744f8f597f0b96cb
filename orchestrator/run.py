"""The main job: `python -m orchestrator.run ablations/quickstart.yaml`.

Reads the spec, plans, runs what is not finished in Ray lanes, builds the report and prints its
table. Running it again is resuming: what is finished is skipped. Exit code 0: the table is
complete; 1: trials are missing, and the report names them; 2: spec, data, cluster or storage are
wrong; 130: stopped by Ctrl-C or SIGTERM: once lets trials write checkpoints, twice stops at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from orchestrator.comparing.in_spec import score_planned, with_masks
from orchestrator.console.ending import ending
from orchestrator.console.live import LiveFiles
from orchestrator.console.logs import TrialLogs, libraries_log
from orchestrator.console.picture import Picture
from orchestrator.console.plan import counts, fetch_blocks, fold_changes, frozen_line, print_plan
from orchestrator.console.progress import Lines, Screen, duration, make_screen
from orchestrator.executors.base import ClusterError, Executor
from orchestrator.executors.registry import DEFAULT, EXECUTORS, make_executor
from orchestrator.executors.search_rounds import outlook, run_searches
from orchestrator.planning.identity import Job
from orchestrator.planning.inputs import InputError
from orchestrator.planning.limits import notify, within_limits
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store, sweep
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import SpecError, load_spec
from record import paths
from record.command import begin_command
from record.damage import set_aside
from record.events import DriverStarted, Emit, Ended, Event
from record.frozen import frozen_analysis, refuse_second_freeze
from record.lock import StudyLockedError, study_lock
from record.store import Store, StoreError
from record.study import StoredStudy
from record.terminal import say

COMPLETE, INCOMPLETE, WRONG, STOPPED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    arguments = _parser().parse_args(argv)
    if arguments.schema:
        say(json.dumps(Spec.model_json_schema(), indent=2))
        return COMPLETE
    wrong = ""
    if not arguments.spec:
        wrong = "give a spec, for example ablations/quickstart.yaml (or --schema)"
    elif arguments.freeze and arguments.rerun:
        wrong = "--freeze with --rerun: the freeze counts what --rerun forgets; give --freeze first"
    if wrong:
        say(f"error: {wrong}", file=sys.stderr)
        return WRONG
    screen = make_screen(arguments.show)
    try:
        spec = load_spec(arguments.spec, arguments.set)
        if arguments.fetch_models:
            return COMPLETE if fetch_blocks(spec) else WRONG
        store = open_store(spec)
        if arguments.dry_run:
            study, _ = with_masks(Study.remembered(spec, store))
            if arguments.freeze:
                with study_lock(store):
                    say(frozen_line(store, study.freeze()))
            print_plan(study)
            if search := outlook(study):
                say(search)
            return COMPLETE
        return run(
            spec,
            store,
            make_executor(arguments.executor, spec, store, arguments.address),
            retry=arguments.retry_quarantined,
            rerun=arguments.rerun,
            freeze=arguments.freeze,
            screen=screen,
        )
    except KeyboardInterrupt:
        screen.end(Ended(STOPPED, "stopped"))
        say("\nStopped. The same command goes on where this one was.", file=sys.stderr)
        return STOPPED
    except (SpecError, InputError, StoreError, StudyLockedError, ClusterError) as error:
        screen.end(Ended(WRONG, str(error)))
        for line in str(error).splitlines():
            say(f"error: {line}", file=sys.stderr)
        return WRONG


def run(
    spec: Spec,
    store: Store,
    executor: Executor,
    *,
    retry: bool = False,
    rerun: Sequence[str] = (),
    freeze: bool = False,
    screen: Screen | None = None,
) -> int:
    """Run a study to its report; returns the exit code.

    Args:
        executor: runs its trials; it starts when there is something to run.
        retry: try quarantined trials again.
        rerun: trials to run once more (`orchestrator.planning.study_files.forget`).
        freeze: write down what will be tested, before anything is trained (`Study.freeze`).
        screen: what the person sees, plain lines by default.

    Raises:
        InputError, StoreError, StudyLockedError: before anything was started.
    """
    screen = screen or Lines()
    with study_lock(store) as token, LiveFiles(store, token, screen.lock) as live:
        screen.published = live
        if freeze:
            refuse_second_freeze(store)
        frozen_analysis(store)  # a damaged one is named before anything is trained
        for line in set_aside(store):
            screen.say(f"damaged: {line}")
        study, masks = with_masks(Study.gathered(spec, store), refuse=True)
        if retry:
            store.remove(paths.FAILURES)
        if rerun:
            study = study.forget(rerun)
        study.tidy()
        if freeze:
            screen.say(frozen_line(store, study.freeze()))
        stored = study.write()
        study = score_planned(study, masks, screen.say)
        if study.spec.search and "unknown" in study.plan.counts():
            study = run_searches(study, executor, screen, token)
            stored = study.write()
        waiting = study.jobs(token)
        screen.say(f"{study.spec.name}: {counts(study.plan)}")
        doubts = [f"warning: {doubt}" for doubt in study.inputs.doubts]
        for line in [*doubts, *(f"  {line}" for line in fold_changes(study))]:
            screen.say(line)
        if waiting:
            study.write_manifest()
        with (
            libraries_log(store, "mlflow", "alembic", "py.warnings"),
            _tracker(study, stored) as tracker,
        ):
            if waiting:
                _run_jobs(study, waiting, executor, screen, tracker)
            else:
                screen.say("Nothing to train: every trial is finished or quarantined.")
            code = _report(stored.again(), screen, tracker)
        ended = ending(code, stored.again(), spec.resources.max_attempts)
        screen.end(ended)
        notify(spec, ended, screen.say)
        return code


def _tracker(study: Study, stored: StoredStudy) -> Any:
    """Takes events for MLflow; None in a context where the spec wants no tracking."""
    from orchestrator.tracking.tracker import Tracker, tracking_uri

    tracking = study.spec.tracking
    if not tracking.enabled:
        return contextlib.nullcontext()
    return Tracker(stored, tracking_uri(study.spec, study.store), log_model=tracking.log_model)


def _run_jobs(
    study: Study, waiting: Sequence[Job], executor: Executor, screen: Screen, tracker: Any
) -> None:
    spec, cost = study.spec, study.plan.cost
    logs = TrialLogs(study.store, {job.eval_id: job.train_id for job in waiting})

    def emit(event: Event) -> None:
        for listener in filter(None, (logs, tracker, screen)):
            listener(event)

    estimates = {job.eval_id: cost.seconds(job.eval_id) for job in waiting}
    if tracker:
        tracker(DriverStarted())
    if executor.starts:
        work = duration(sum(trial.estimated_seconds for trial in study.plan.in_order()))
        screen.say(f"Starting {executor.starts}; {len(waiting)} trials, about {work} of work.")
    screen.say(f"Live     {study.store.uri}/{paths.LIVE} (a browser shows it; it reloads itself)")
    cells = {job.eval_id: job.cell for job in waiting}
    picture = Picture(spec.name, estimates, spec.training.epochs, cost, cells)

    def train(heard: Emit) -> None:
        with screen.shows(picture), executor:
            executor.run(waiting, emit=heard, seconds=lambda job: cost.seconds(job.eval_id))

    within_limits(train, spec, study.plan, study.store, emit, screen.say)
    sweep(study.store)


def _report(study: StoredStudy, screen: Screen, tracker: Any) -> int:
    from orchestrator.viewing.page import write_embedded
    from reports.build import build_report

    store = study.store
    try:
        left_out = write_embedded(study)
    except StoreError as error:  # the report says what of it matters there, too
        left_out = [str(error)]
    for line in left_out:
        screen.say(f"Left out of the viewer: {line}")
    report = build_report(study)
    place = f"{store.uri}/{paths.report('')}"
    lines = [f"\n{report.markdown}", *report.health]
    lines.append(f"Report   {place}{paths.HTML} (tables and figures next to it)")
    if paths.VIEWER in store.names(paths.REPORT):
        other = f"best, median, worst; any other: medvision view {store.uri}"
        lines.append(f"Cases    {place}{paths.VIEWER} ({other})")
    lines.append(f"Results  {store.uri}")
    if tracker:
        problem = tracker.finish(complete=report.complete)
        later = f"not delivered, the next run tries again: {problem}"
        lines.append(f"MLflow   {tracker.where if problem is None else later}")
    for line in lines:
        screen.say(line, result=True)
    return COMPLETE if report.complete else INCOMPLETE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.run",
        description="Run an ablation study, or what of it is not finished, and print its "
        "significance table.",
        epilog="examples:\n  python -m orchestrator.run ablations/quickstart.yaml\n"
        "  python -m orchestrator.run ablations/full.yaml --dry-run\n"
        "  python -m orchestrator.run ablations/quickstart.yaml --set training.steps=50 --set "
        "storage=/tmp/runs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", nargs="?", metavar="SPEC", help="the study's YAML file")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and stop; reads no data"
    )
    parser.add_argument(
        "--fetch-models",
        action="store_true",
        help="read the spec's language-model blocks into MEDVISION_CACHE and stop: for machines "
        "without internet",
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
    again = "try quarantined trials again"
    parser.add_argument("--retry-quarantined", action="store_true", help=again)
    parser.add_argument(
        "--freeze",
        action="store_true",
        help="first write down what will be tested; what changes later is shown as exploratory",
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
        ("quiet", "one line at the end: the outcome, and where the report is"),
        ("json", "one JSON object per event, for programs; the last says why it ended"),
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
