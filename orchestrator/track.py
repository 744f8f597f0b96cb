"""Rebuilds a study's MLflow experiment from its result store alone: `python -m orchestrator.track
runs/NAME`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from orchestrator.console.logs import libraries_log
from orchestrator.planning.study_files import stored_spec
from orchestrator.tracking.tracker import tracking_uri
from orchestrator.tracking.view import View
from record.command import begin_command
from record.lock import holder, living
from record.redact import shown
from record.store import Store, StoreError
from record.study import StoredStudy
from record.terminal import say


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when everything is delivered, 1 when the server could not be reached, 2 for
    no study or a running one.
    """
    begin_command()
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.track",
        description="Deliver a study that is not running to MLflow: its finished and failed "
        "trials, and live events that a server missed. Nothing is logged twice.",
        epilog="example: python -m orchestrator.track runs/quickstart --uri http://127.0.0.1:5000",
    )
    parser.add_argument(
        "study", metavar="STUDY", help="folder or fsspec URI of a study: <storage>/<name>"
    )
    parser.add_argument(
        "--uri", help="MLflow server or file (default: the spec's, MLFLOW_TRACKING_URI, or SQLite)"
    )
    arguments = parser.parse_args(argv)
    try:
        store = Store(arguments.study)
        if lock := living(store, time.time()):
            say(
                f"error: {store.uri} is being run by {holder(lock)}, which reports it to MLflow: "
                "wait for its end, or stop it first",
                file=sys.stderr,
            )
            return 2
        study = StoredStudy.opened(store)
        spec = stored_spec(study)
        uri = arguments.uri or tracking_uri(spec, store)
        view = View(study, uri, log_model=spec.tracking.log_model)
    except (StoreError, ValueError) as error:
        say(f"error: {arguments.study}: is no study: {error}", file=sys.stderr)
        return 2
    view.forget()  # a whole rebuild was asked for: what the server already has is found there
    try:
        with libraries_log(store, "mlflow", "alembic", "py.warnings"):
            count = view.sync()
            view.log_report(complete=count == len(view.trials))
    except Exception as error:  # MLflow raises many kinds
        say(
            f"not delivered to {shown(uri)}: {shown(f'{type(error).__name__}: {error}')}",
            file=sys.stderr,
        )
        return 1
    say(
        f"{spec.name}: {count} of {len(view.trials)} trials are finished and delivered to "
        f"{shown(uri)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
