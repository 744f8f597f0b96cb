"""Command line of the data: `python -m medvision.data fetch|check`. Exit codes: 0 good, 1 problems,
2 wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from medvision.data.check import as_json, check_folder, show, task_folders
from medvision.data.fetch import FetchError, fetch_task, need_space
from medvision.data.readers.registry import is_task
from medvision.data.tasks import ARCHIVE_URL, MSD_TASKS
from record.command import begin_command
from record.terminal import say

GOOD, PROBLEMS, WRONG_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        return _fetch(parser, arguments) if arguments.command == "fetch" else _check(arguments)
    except KeyboardInterrupt:
        say("\nStopped. The same command goes on where this one was.", file=sys.stderr)
        return PROBLEMS


def _fetch(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    names = list(MSD_TASKS) if arguments.all else arguments.tasks
    one_archive = (
        arguments.file or arguments.md5 or (arguments.url and "{task}" not in arguments.url)
    )
    if not names:
        parser.error("name a task, or give --all")
    if len(names) > 1 and one_archive:
        parser.error("--file, --md5 and a --url without {task} are for one task")
    if wrong := [name for name in names if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name)]:
        parser.error(f"a task is the name of a folder, not {wrong[0]!r}")
    if (unknown := [name for name in names if name not in MSD_TASKS]) and not (
        arguments.url or arguments.file
    ):
        parser.error(
            f"no archive is known of {', '.join(unknown)}: give --url or --file; known: "
            f"{', '.join(MSD_TASKS)}"
        )
    root = arguments.root or os.environ.get("MEDVISION_DATA")
    if not root:
        parser.error("give --root, the folder for the tasks (or the variable MEDVISION_DATA)")
    folder = Path(root).expanduser().resolve()
    sizes = [
        1e9 * MSD_TASKS[name].archive_gb
        for name in names
        if name in MSD_TASKS and not is_task(folder / name)
    ]
    try:
        if len(sizes) > 1:  # what is unpacked stays, and the largest is there twice for a while
            folder.mkdir(parents=True, exist_ok=True)
            need_space(folder, int(sum(sizes) + max(sizes)))
    except (FetchError, OSError) as error:
        say(f"error: {error}", file=sys.stderr)
        return PROBLEMS
    failed = False
    for name in names:
        failed |= not _fetch_one(name, folder, arguments)
    return PROBLEMS if failed else GOOD


def _fetch_one(name: str, root: Path, arguments: argparse.Namespace) -> bool:
    if is_task(root / name):
        say(f"{name}: already there ({root / name})")
        return True
    facts = MSD_TASKS.get(name)
    try:
        with _bytes_shown(name) as progress:
            folder = fetch_task(
                name,
                root,
                md5=arguments.md5 or (facts.md5 if facts else None),
                url=(arguments.url or ARCHIVE_URL).replace("{task}", name),
                file=arguments.file,
                expected_bytes=int(1e9 * facts.archive_gb) if facts else 0,
                progress=progress,
                note=lambda text: say(f"{name}: {text}", file=sys.stderr),
            )
    except FetchError as error:
        say(f"error: {error}", file=sys.stderr)
        return False
    say(f"{name}: {folder}")
    return True


def _check(arguments: argparse.Namespace) -> int:
    given = Path(os.path.abspath(arguments.folder.expanduser()))
    folder = (
        given.parent.resolve() / given.name
    )  # as a study names it, so that both share one memory
    if not (folders := task_folders(folder)):
        say(
            f"error: {folder}: no task here: a task is a folder with dataset.json or data_file.txt",
            file=sys.stderr,
        )
        return WRONG_USAGE
    with _cases_shown() as on_case:
        reports = [
            check_folder(task, arguments.workers, on_case, arguments.patients) for task in folders
        ]
    if arguments.json:
        say(as_json(reports))
    else:
        show(reports)
    return PROBLEMS if any(report.errors for report in reports) else GOOD


@contextlib.contextmanager
def _bytes_shown(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on standard error, nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def _cases_shown() -> Iterator[Callable[[], None]]:
    """Counts the cases that had to be read."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.completed:.0f} cases read"),)
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda: bar.advance(task)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m medvision.data",
        description="Get the tasks of the Medical Segmentation Decathlon (MSD), and check them or "
        "your own.",
        epilog="examples:\n  python -m medvision.data fetch Task04_Hippocampus --root ~/msd\n"
        "  python -m medvision.data check ~/msd/Task04_Hippocampus\n\n"
        "exit codes: 0 good, 1 problems were found, 2 wrong usage",
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser(
        "fetch",
        help="download, check (md5) and unpack tasks",
        description="Download, check (md5) and unpack tasks; a download that was cut off goes on "
        "where it was.",
        epilog="examples:\n  python -m medvision.data fetch Task04_Hippocampus --root ~/msd\n"
        "  python -m medvision.data fetch --all --root ~/msd --url "
        "'https://mirror.example/msd/{task}.tar'\n"
        "  python -m medvision.data fetch Task09_Spleen --root ~/msd --file Task09_Spleen.tar\n\n"
        "The archives, in GB: "
        + ", ".join(f"{name} {facts.archive_gb:g}" for name, facts in MSD_TASKS.items()),
        formatter_class=raw,
    )
    fetch.add_argument("tasks", nargs="*", metavar="TASK", help="Task04_Hippocampus and the like")
    fetch.add_argument("--all", action="store_true", help="all ten tasks")
    fetch.add_argument(
        "--root", metavar="D", help="folder for the tasks (default: the variable MEDVISION_DATA)"
    )
    source = fetch.add_mutually_exclusive_group()
    source.add_argument(
        "--url", metavar="U", help="a mirror's archive; {task} in it becomes the task's name"
    )
    source.add_argument("--file", metavar="F", type=Path, help="an archive on this machine")
    fetch.add_argument("--md5", metavar="SUM", help="of the archive, where it is not MSD's own")
    check = commands.add_parser(
        "check",
        help="examine every image and label",
        description="Examine every pair: existence, gzip checksum, shape, affine, orientation, "
        "values, declared labels, copies, patients. Prints shapes, voxels and the volume of each "
        "label. What did not change since the last time is not read "
        "again.",
        epilog="examples:\n  python -m medvision.data check ~/msd/Task04_Hippocampus\n"
        "  python -m medvision.data check ~/msd --json > findings.json",
        formatter_class=raw,
    )
    check.add_argument(
        "folder", metavar="D", type=Path, help="one task's folder, or a folder of them"
    )
    check.add_argument(
        "--patients",
        metavar="F",
        type=Path,
        help="CSV file with the columns case and patient (default: the task's patients.csv)",
    )
    check.add_argument(
        "--workers",
        type=int,
        choices=range(1, 65),
        default=4,
        metavar="N",
        help="cases read at once (default 4)",
    )
    check.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
