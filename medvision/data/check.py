"""`python -m medvision.data check`: every case of one or several tasks, as a table, lines or JSON.

What is wrong with a file is `medvision.data.validate`'s to find; `medvision.data.fingerprints`
remembers it, so that a second check reads only what changed, and a study's start needs no check of
its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from medvision.data.fingerprints import index_cases
from medvision.data.readers.base import Case, Declared, Task
from medvision.data.readers.registry import is_task, read_task
from medvision.data.validate import undeclared, validate
from medvision.errors import DataError


@dataclass(frozen=True)
class Reasons:
    """What is wrong with one case: `errors` make it unusable, `warnings` do not. Every reason
    begins with its file.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """One task: `cases` were read, `reasons` by case id (only where there are some), `error` if
    there is no task.
    """

    task: str
    cases: int = 0
    reasons: dict[str, Reasons] = field(default_factory=dict)
    error: str = ""

    @property
    def errors(self) -> int:
        return sum(len(reasons.errors) for reasons in self.reasons.values()) + bool(self.error)

    @property
    def warnings(self) -> int:
        return sum(len(reasons.warnings) for reasons in self.reasons.values())


def check_case(case: Case, declared: Declared | None = None) -> Reasons:
    """One case by itself; where no labels are declared any label will do."""
    found = validate(case)
    unknown = undeclared(case, found.labels, declared) if declared else []
    return Reasons((*found.errors, *unknown), found.warnings)


def check_task(
    task: Task, workers: int = 4, on_case: Callable[[], object] = lambda: None
) -> dict[str, Reasons]:
    """Every case of a task that has errors or warnings, by its id; `on_case` is called after each
    that was read.
    """
    found = index_cases(task, workers, on_case)
    return {
        case.id: Reasons(case.errors, case.warnings)
        for case in found
        if case.errors or case.warnings
    }


def task_folders(folder: Path) -> list[Path]:
    """The folder itself where it is a task, otherwise the tasks in it, by name."""
    if is_task(folder):
        return [folder]
    return (
        sorted(path for path in folder.glob("*") if not path.name.startswith(".") and is_task(path))
        if folder.is_dir()
        else []
    )


def check_folder(
    folder: Path, workers: int = 4, on_case: Callable[[], object] = lambda: None
) -> Report:
    """Check the task in a folder; a task that cannot be read is an error of the report."""
    try:
        task = read_task(folder.parent, folder.name)
        return Report(
            folder.name, len(task.cases) + len(task.test_cases), check_task(task, workers, on_case)
        )
    except DataError as error:
        return Report(folder.name, error=str(error))


def show(reports: Sequence[Report], file: TextIO | None = None) -> None:
    """Print what was found: a table on a terminal, otherwise one line for each reason; then one
    line for each task.
    """
    from rich.console import Console
    from rich.table import Table

    out = file or sys.stdout
    console, rows = Console(file=out), list(_rows(reports))
    if rows and console.is_terminal:
        table = Table("task", "case", "kind", "what is wrong")
        for task, case, kind, reason in rows:
            table.add_row(task, case, f"[{'red' if kind == 'error' else 'yellow'}]{kind}", reason)
        console.print(table)
    else:
        for task, case, kind, reason in rows:
            print(f"{kind}: {task}{f', {case}' if case else ''}: {reason}", file=out)
    for report in reports:
        bad = sum(bool(reasons.errors) for reasons in report.reasons.values())
        print(
            f"{report.task}: {report.cases} cases, {bad} unusable; {report.errors} errors, "
            f"{report.warnings} warnings",
            file=out,
        )


def as_json(reports: Sequence[Report]) -> str:
    """The same for programs: a list of tasks, each with its cases' errors and warnings."""
    values: list[dict[str, Any]] = [
        {
            "task": report.task,
            "cases": report.cases,
            "error": report.error or None,
            "reasons": {
                case: {"errors": list(reasons.errors), "warnings": list(reasons.warnings)}
                for case, reasons in report.reasons.items()
            },
        }
        for report in reports
    ]
    return json.dumps(values, indent=1)


def _rows(reports: Sequence[Report]) -> Iterator[tuple[str, str, str, str]]:
    """Task, case, kind and reason, errors before warnings."""
    for report in reports:
        if report.error:
            yield report.task, "", "error", report.error
        for kind in ("error", "warning"):
            for case, reasons in report.reasons.items():
                for reason in reasons.errors if kind == "error" else reasons.warnings:
                    yield report.task, case, kind, reason
