"""Rebuilds a study's MLflow experiment from its result store alone: `python -m orchestrator.track runs/NAME`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from orchestrator.spec import Spec
from orchestrator.tracking import Tracker, shown, tracking_uri
from reports.store import Store, StoreError, read_plan


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when everything is delivered, 1 when the server could not be reached, 2 when there is no study."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.track",
        description="Deliver a study's finished trials to MLflow; what is there already is not logged twice.",
        epilog="example: python -m orchestrator.track runs/quickstart --uri http://127.0.0.1:5000",
    )
    parser.add_argument("study", metavar="STUDY", help="folder or fsspec URI of a study: <storage>/<name>")
    parser.add_argument("--uri", help="MLflow server or file (default: the spec's, MLFLOW_TRACKING_URI, or SQLite)")
    arguments = parser.parse_args(argv)
    try:
        store = Store(arguments.study)
        name = read_plan(store)["name"]
        spec = Spec.model_validate(store.read_json("study.json")["spec"])
        files = store.names("report")
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    uri = arguments.uri or tracking_uri(spec)
    store.remove("tracking.json")  # asked for a whole rebuild: what the server has is found there by its tags
    problem = Tracker(store, name, uri).deliver(files, again=True)
    print(f"{name}: delivered to {shown(uri)}" if problem is None else f"not delivered to {shown(uri)}: {problem}")
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main())
