"""Shows the cases of a study in a browser: `python -m orchestrator.view STUDY`, offline, without
Ray.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from medvision.errors import DataError
from orchestrator.viewing.cases import StudyCases
from orchestrator.viewing.page import write_embedded
from orchestrator.viewing.scenes import Scenes
from record import paths
from record.arguments import folder
from record.command import begin_command
from record.store import Store, StoreError
from record.study import StoredStudy
from record.terminal import say


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0, or 2 when there is no study or no such case."""
    begin_command()
    options = _parser().parse_args(argv)
    try:
        cases = StudyCases(StoredStudy.opened(Store(options.study)))
        first = _chosen(cases, options.task, options.case)
        scenes = Scenes(
            cases, root=options.data, again=options.predict, trust_code=options.trust_code
        )
        if options.write:
            return _write(cases.study, scenes)
        return _serve(scenes, first)
    except (StoreError, DataError, OSError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2


def _chosen(cases: StudyCases, task: str | None, case: str | None) -> tuple[str, str] | None:
    """Task and case that the page opens with.

    Raises:
        DataError: the study tested no such case, or several tasks have one of this name.
    """
    if task is not None and task not in cases.cases:
        raise DataError(f"--task {task!r}: the study has {', '.join(cases.cases)}")
    tasks = [task] if task is not None else list(cases.cases)
    every = [(name, one) for name in tasks for one in cases.cases[name]]
    if not every:
        raise DataError("no trial has finished yet, so there is no case to show")
    if case is None:
        return every[0]
    found = [place for place in every if place[1] == case]
    if len(found) > 1:
        names = ", ".join(name for name, _ in found)
        raise DataError(f"--case {case!r}: {names} have one of this name; give --task, too")
    if not found:
        some = ", ".join(one for _, one in every[:5])
        raise DataError(
            f"--case {case[:200]!r}: is none of the {len(every)} tested cases ({some}, ...); "
            "cases.csv of the report lists them"
        )
    return found[0]


def _write(study: StoredStudy, scenes: Scenes) -> int:
    for line in write_embedded(study, scenes):
        say(f"left out: {line}", file=sys.stderr)
    say(f"{study.store.uri}/{paths.report(paths.VIEWER)}")
    return 0


def _serve(scenes: Scenes, first: tuple[str, str] | None) -> int:
    from orchestrator.viewing.server import ViewerServer

    with ViewerServer(scenes, first) as server:
        say(f"{server.address}\nOpen it in a browser on this machine; Ctrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.view",
        description="Show the test cases of a study in a browser on this machine: three planes and "
        "3D, with the truth and the mask of every model.",
        epilog="examples:\n  python -m orchestrator.view runs/quickstart\n"
        "  python -m orchestrator.view runs/quickstart --case CASE",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "study", metavar="STUDY", help="folder or fsspec URI of a study: <storage>/<name>"
    )
    parser.add_argument("--case", metavar="C", help="open with this case")
    parser.add_argument("--task", metavar="TASK", help="of this task, where names repeat")
    parser.add_argument(
        "--data",
        type=folder,
        metavar="FOLDER",
        help="where the tasks lie now, if no longer where they were when the study was run",
    )
    parser.add_argument(
        "--predict",
        action="store_true",
        help="predict again, from the kept weights, where masks were removed from the study",
    )
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="with --predict: run the Python that the weights of a custom model carry, which can "
        "do all that you can",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="serve nothing: write report/viewer.html with the best, the median and the worst case "
        "of each task, below 25 MB",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
