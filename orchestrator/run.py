"""The main job: `python -m orchestrator.run ablations/quickstart.yaml`.

Reads the spec, plans, runs what is not finished in Ray lanes, builds the report and prints its table. Running it again
is resuming: what is finished is skipped. Exit code 0: the table is complete; 1: trials are missing, and the report names
them; 2: the spec, the data or the surroundings are wrong, and nothing was started.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from orchestrator.execution import ClusterError
from orchestrator.inputs import InputError, gathered, remembered
from orchestrator.lock import StudyLockedError, study_lock
from orchestrator.plan import Plan, make_plan
from orchestrator.spec import Spec
from orchestrator.spec_file import SpecError, load_spec
from orchestrator.study import fingerprints, jobs, open_store, public_values, write_study
from reports.store import Store, StoreError

COMPLETE, INCOMPLETE, WRONG, STOPPED = 0, 1, 2, 130
SHOWN_TRIALS = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    arguments = _parser().parse_args(argv)
    if arguments.schema:
        print(json.dumps(Spec.model_json_schema(), indent=2))
        return COMPLETE
    if not arguments.spec:
        print("error: give a spec, for example ablations/quickstart.yaml (or --schema)", file=sys.stderr)
        return WRONG
    try:
        spec = load_spec(arguments.spec, arguments.set)
        store = open_store(spec)
        if arguments.dry_run:
            plan = make_plan(spec, remembered(spec), store.commits(), store.failures())
            print_plan(plan, spec)
            return COMPLETE
        return run(
            spec,
            store,
            address=arguments.address,
            in_process=arguments.in_process,
            retry=arguments.retry_quarantined,
        )
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where this one was.", file=sys.stderr)
        return STOPPED
    except (SpecError, InputError, StoreError, StudyLockedError, ClusterError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return WRONG


def run(spec: Spec, store: Store, *, address: str | None = None, in_process: bool = False, retry: bool = False) -> int:
    """Run a study to its report; returns the exit code.

    Args:
        address: a Ray cluster, by default RAY_ADDRESS or a Ray of our own on this machine. in_process: without Ray, for
            debugging. retry: try quarantined trials again.

    Raises:
        InputError, StoreError, StudyLockedError: before anything was started.
    """
    with study_lock(store) as token:
        inputs = gathered(spec)
        if retry:
            for train_id in store.failures():
                store.remove(f"failures/{train_id}")
        plan = make_plan(spec, inputs, store.commits(), store.failures())
        write_study(store, spec, inputs, plan)
        waiting = jobs(plan, token)
        print(f"{spec.name}: {_counts(plan)}")
        if waiting:
            _record_manifest(store, spec, inputs)
            _run_jobs(waiting, spec, store, plan, address=address, in_process=in_process)
        else:
            print("Nothing to train: every trial is finished or quarantined.")
        return _report(spec, store, ran=bool(waiting))


def _run_jobs(waiting: Any, spec: Spec, store: Store, plan: Plan, *, address: str | None, in_process: bool) -> None:
    from orchestrator.tracking import BackgroundTracker, Tracker, tracking_uri

    tracker = BackgroundTracker(Tracker(store, spec.name, tracking_uri(spec))) if spec.tracking.enabled else None
    progress = _Progress(len(waiting))

    def emit(event: dict[str, Any]) -> None:
        progress(event)
        if tracker and event["event"] == "finished":
            tracker.poke()

    try:
        if in_process:
            from orchestrator import local

            local.run_jobs(waiting, spec, store, emit)
        else:
            from orchestrator import driver

            print(f"Starting Ray; {len(waiting)} trials, about {_duration(_total_seconds(plan))} of work.")
            with driver.cluster(address):
                driver.run_jobs(waiting, spec, store, emit)
    finally:
        if tracker:
            tracker.stop()


def _report(spec: Spec, store: Store, *, ran: bool) -> int:
    from orchestrator.tracking import Tracker, shown, tracking_uri
    from reports.build import build_report

    report = build_report(store)
    print(f"\n{report.markdown}")
    print(f"Report   {store.uri}/report/report.html (tables and figures beside it)")
    print(f"Results  {store.uri}")
    if spec.tracking.enabled:
        uri = tracking_uri(spec)
        problem = Tracker(store, spec.name, uri).deliver(report.files, again=ran)
        where = f"mlflow ui --backend-store-uri {shown(uri)}"
        print(f"MLflow   {where if problem is None else f'not delivered, the next run tries again: {problem}'}")
    return COMPLETE if report.complete else INCOMPLETE


def _record_manifest(store: Store, spec: Spec, inputs: Any) -> None:
    from orchestrator.manifest import manifest

    store.write_json("manifest.json", manifest(public_values(spec), fingerprints(inputs)))


class _Progress:
    """One plain line for every lane that is ready and every trial that fails or ends."""

    def __init__(self, total: int) -> None:
        self.total, self.ended, self.started = total, 0, time.perf_counter()

    def __call__(self, event: dict[str, Any]) -> None:
        kind, elapsed = event["event"], time.perf_counter() - self.started
        if kind in ("finished", "quarantined"):
            self.ended += 1
        text = {
            "lane-ready": lambda: "first trial of a new lane",
            "finished": lambda: f"Dice {event['dice']:.3f}, {event['seconds']:.1f} s",
            "failed": lambda: f"failed, will be tried again: {event['reason']}",
            "quarantined": lambda: f"quarantined: {event['reason']}",
        }.get(kind)
        if text:
            print(f"[{elapsed:6.1f} s  {self.ended}/{self.total}] {event['cell']}: {text()}", flush=True)


def print_plan(plan: Plan, spec: Spec) -> None:
    """Print what a run would do: counts, the trials in their order with the reason, the estimate, what is missing."""
    print(f"{spec.name}: {_counts(plan)}")
    waiting = plan.in_order()
    for number, trial in enumerate(waiting[:SHOWN_TRIALS], start=1):
        name = trial.train_id[:8] if trial.train_id else "id unknown"
        print(
            f"  {number:4d}. {trial.status:11s} {name:10s} {trial.cell}  ~{_duration(trial.estimated_seconds)}  {trial.why}"
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
    print(f"Estimated cost: {_duration(_total_seconds(plan))} of lanes with {unit} each.")


def _total_seconds(plan: Plan) -> float:
    return sum(trial.estimated_seconds for trial in plan.in_order())


def _counts(plan: Plan) -> str:
    counts = {"done": 0, "new": 0} | plan.counts()
    return f"{len(plan.trials)} trials: " + ", ".join(f"{number} {status}" for status, number in counts.items())


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.0f} h"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.run",
        description="Run an ablation study, or what of it is not finished, and print its significance table.",
        epilog="examples:\n  python -m orchestrator.run ablations/quickstart.yaml\n"
        "  python -m orchestrator.run ablations/full.yaml --dry-run\n"
        "  python -m orchestrator.run ablations/quickstart.yaml --set training.epochs=5 --set storage=/tmp/runs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", nargs="?", metavar="SPEC", help="the study's YAML file")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop; reads no data")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the spec")
    parser.add_argument(
        "--address", metavar="ADDR", help="a Ray cluster (default: RAY_ADDRESS, or Ray on this machine)"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a spec")
    parser.add_argument("--retry-quarantined", action="store_true", help="try quarantined trials again")
    parser.add_argument("--in-process", action="store_true", help="without Ray, one trial after the other (debugging)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
