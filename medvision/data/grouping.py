"""Which cases belong to one patient: read from a file, or from the names of the cases."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from medvision.data.text import read_text
from medvision.errors import DataError


def read_patients(path: Path) -> dict[str, str]:
    """Case id to patient, out of a CSV file with the columns `case` and `patient`; raises as
    `read_column`.
    """
    return read_column(path, "patient")


def read_column(path: Path, column: str) -> dict[str, str]:
    """Case id to what a column says of it, out of a CSV file with a header that names the columns
    `case` and this one.

    Raises:
        DataError: unreadable, without those columns, a line without a case or a value, or a case
            of two values.
    """
    found: dict[str, str] = {}
    try:
        with io.StringIO(read_text(path), newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            if lacking := {"case", column} - set(reader.fieldnames or ()):
                raise DataError(
                    f"{path}:1: lacks the column {', '.join(sorted(lacking))}; its header must be "
                    f"case,{column}"
                )
            for row in reader:
                case, value = (row["case"] or "").strip(), (row[column] or "").strip()
                if not case or not value:
                    raise DataError(
                        f"{path}:{reader.line_num}: expected `case,{column}`, got {case!r}, "
                        f"{value!r}"
                    )
                if found.setdefault(case, value) != value:
                    raise DataError(
                        f"{path}:{reader.line_num}: {case} is of {found[case]} and of {value}"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a table of case and {column}: {error}"
        ) from error
    return found


def patients_of(
    cases: Iterable[str],
    *,
    group_pattern: str | None = None,
    patients: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Case id -> patient of these cases; empty where neither grouping is given.

    Args:
        group_pattern: regular expression whose one group is the patient of a case id.
        patients: case id -> patient (`read_patients`), instead of a pattern.

    Raises:
        ValueError: a case id that the pattern does not fit or that has no patient.
    """
    if group_pattern is not None:
        return {case: _matched(group_pattern, case) for case in cases}
    if patients is None:
        return {}
    return {case: name for name, members in units_of(cases, patients).items() for case in members}


def _matched(pattern: str, case: str) -> str:
    match = re.search(pattern, case)
    if match is None or match[1] is None:
        raise ValueError(f"splits.group_pattern {pattern!r} does not match the case {case!r}")
    if not match[1]:
        raise ValueError(
            f"splits.group_pattern {pattern!r} matches empty text in the case {case!r}: cases "
            "without a patient in their name would all be of one"
        )
    return match[1]


def units_of(
    cases: Iterable[str], patients: Mapping[str, str] | None
) -> dict[str, tuple[str, ...]]:
    """Patient, or case where none are given -> its cases.

    Raises:
        ValueError: cases that have no patient.
    """
    cases = sorted(cases)
    if patients is not None and (unknown := [case for case in cases if case not in patients]):
        shown = ", ".join(unknown[:5]) + (
            f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        )
        raise ValueError(f"splits.group_file names no patient of {len(unknown)} cases: {shown}")
    units: dict[str, list[str]] = {}
    for case in cases:
        units.setdefault(case if patients is None else patients[case], []).append(case)
    return {name: tuple(members) for name, members in units.items()}
