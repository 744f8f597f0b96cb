"""Reads which cases belong to one patient."""

from __future__ import annotations

import csv
from pathlib import Path

from medvision.errors import DataError


def read_patients(path: Path) -> dict[str, str]:
    """Case id to patient, out of a CSV file with a header that names the columns `case` and
    `patient`.

    Raises:
        DataError: unreadable, without those columns, a line without a case or a patient, or a case
            of two patients.
    """
    patients: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            if lacking := {"case", "patient"} - set(reader.fieldnames or ()):
                raise DataError(
                    f"{path}:1: lacks the column {', '.join(sorted(lacking))}; its header must be "
                    "case,patient"
                )
            for row in reader:
                case, patient = (row["case"] or "").strip(), (row["patient"] or "").strip()
                if not case or not patient:
                    raise DataError(
                        f"{path}:{reader.line_num}: expected `case,patient`, got {case!r}, "
                        f"{patient!r}"
                    )
                if patients.setdefault(case, patient) != patient:
                    raise DataError(
                        f"{path}:{reader.line_num}: {case} is of {patients[case]} and of {patient}"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a table of cases and patients: {error}"
        ) from error
    return patients
