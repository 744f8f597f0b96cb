"""`python -m medvision.data check`: every case of one or several tasks, as a table, lines or JSON.

What is wrong with a file is `medvision.data.validate`'s to find; `medvision.data.fingerprints`
remembers it, so that a second check reads only what changed, and a study's start needs no check of
its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from medvision.data.described import PATIENTS, Patients, check_patients, describe
from medvision.data.fingerprints import CaseIndex, index_cases
from medvision.data.readers.base import Case, Declared, Task
from medvision.data.readers.registry import is_task, read_task
from medvision.data.validate import undeclared, validate
from medvision.errors import DataError
from record.names import visible
from record.terminal import say


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
    there is no task; `found` of each case, `names` of the labels, what the patients' file says in
    `patients`, and in `layout` what the folder was taken for.
    """

    task: str
    cases: int = 0
    reasons: dict[str, Reasons] = field(default_factory=dict)
    error: str = ""
    found: Sequence[CaseIndex] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    patients: Patients | None = None
    layout: str = ""

    @property
    def errors(self) -> int:
        of_cases = sum(len(reasons.errors) for reasons in self.reasons.values())
        return of_cases + bool(self.error) + bool(self.patients and self.patients.error)

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
    return _reasons(index_cases(task, workers, on_case))


def _reasons(found: Sequence[CaseIndex]) -> dict[str, Reasons]:
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
    folder: Path,
    workers: int = 4,
    on_case: Callable[[], object] = lambda: None,
    patients: Path | None = None,
) -> Report:
    """Check the task in a folder; a task that cannot be read is an error of the report.

    Args:
        folder: of the task.
        workers: cases read at once.
        on_case: called after each case that was read.
        patients: which file says whose each case is; by default the task's patients.csv, if there.
    """
    try:
        task = read_task(folder.parent, folder.name)
        found = index_cases(task, workers, on_case)
        own = folder / PATIENTS
        listed = patients or (own if own.exists() else None)
        # a label's own name after that of a region which has it, too
        labels = sorted(task.declared.labels.items(), key=lambda label: -len(label[1]))
        names = {value: name for name, values in labels for value in values}
        return Report(
            folder.name,
            len(task.cases) + len(task.test_cases),
            _reasons(found),
            found=found,
            names=names,
            patients=check_patients(listed, [case.id for case in found]) if listed else None,
            layout=task.layout,
        )
    except DataError as error:
        return Report(folder.name, error=str(error))


def show(reports: Sequence[Report], file: TextIO | None = None) -> None:
    """Print what was found: a table on a terminal, otherwise one line for each reason; then one
    line for each task.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = file or sys.stdout
    console, rows = Console(file=out), list(_rows(reports))
    if rows and console.is_terminal:
        table = Table("task", "case", "kind", "what is wrong")
        for task, case, kind, reason in rows:
            colour = "red" if kind == "error" else "yellow"
            shown = [Text(visible(text)) for text in (task, case, kind, reason)]
            shown[2].stylize(colour)
            table.add_row(*shown)
        console.print(table)
    else:
        for task, case, kind, reason in rows:
            say(f"{kind}: {task}{f', {case}' if case else ''}: {reason}", file=out)
    for report in reports:
        bad = sum(bool(reasons.errors) for reasons in report.reasons.values())
        say(
            f"{report.task}: {report.cases} cases, {bad} unusable; {report.errors} errors, "
            f"{report.warnings} warnings",
            file=out,
        )
        if report.layout:
            say(f"  read as {visible(report.layout)}", file=out)
        for line in (*describe(report.found, report.names), *_patients(report)):
            say(f"  {line}", file=out)


def _patients(report: Report) -> Iterator[str]:
    if (found := report.patients) and not found.error:
        yield found.text


def as_json(reports: Sequence[Report]) -> str:
    """The same for programs: a list of tasks, each with its cases' errors and warnings."""
    values: list[dict[str, Any]] = [
        {
            "task": report.task,
            "cases": report.cases,
            "error": report.error or None,
            "patients": report.patients and (report.patients.error or report.patients.text),
            "found": {
                case.id: {
                    "shape": case.shape,
                    "spacing_mm": case.spacing,
                    "channels": case.channels,
                    "volumes_mm3": case.volumes_mm3,
                }
                for case in report.found
            },
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
        if report.patients and report.patients.error:
            yield report.task, "", "error", report.patients.error
        for kind in ("error", "warning"):
            for case, reasons in report.reasons.items():
                for reason in reasons.errors if kind == "error" else reasons.warnings:
                    yield report.task, case, kind, reason
