"""What a task's cases look like, in a few lines: shapes, voxels, volumes of labels, patients."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvision.data.fingerprints import CaseIndex
from medvision.data.grouping import read_patients
from medvision.errors import DataError

PATIENTS = "patients.csv"  # in a task's folder
MM3_PER_ML = 1000.0
_SHOWN = 5  # cases of a long list


@dataclass(frozen=True)
class Patients:
    """What a file of patients says of a task: `text` of one that fits, `error` of one that does
    not.
    """

    text: str = ""
    error: str = ""


def describe(cases: Sequence[CaseIndex], names: Mapping[int, str]) -> Iterator[str]:
    """Lines about the cases that can be read: shapes and voxels from least to most, and the volume
    of each label where it is.

    Args:
        cases: as they were examined.
        names: of the labels, as the task declares them.
    """
    read = [case for case in cases if case.shape and not case.errors]
    if not read:
        return
    shapes = " x ".join(_range([case.shape[axis] for case in read]) for axis in range(3))
    edges = " x ".join(_range([case.spacing[axis] for case in read]) for axis in range(3))
    channels = _range([case.channels for case in read])
    plural = "" if channels == "1" else "s"
    yield f"images: {shapes} voxels of {edges} mm, {channels} channel{plural}"
    values = sorted({value for case in read for value in case.volumes_mm3})
    for value in values:
        held = [case.volumes_mm3[value] for case in read if value in case.volumes_mm3]
        volumes = [volume / MM3_PER_ML for volume in held]
        name = f" ({names[value]})" if value in names else ""
        yield (
            f"label {value}{name}: in {len(volumes)} of {len(read)} cases, "
            f"{min(volumes):.3g} to {max(volumes):.3g} ml, median {statistics.median(volumes):.3g}"
        )


def check_patients(path: Path, cases: Sequence[str]) -> Patients:
    """Whether a file gives every case a patient, and what it says then.

    Args:
        path: a CSV file with the columns case and patient.
        cases: ids.
    """
    try:
        patients = read_patients(path)
    except DataError as error:
        return Patients(error=str(error))
    if lacking := [case for case in cases if case not in patients]:
        return Patients(error=f"{path}: names no patient of {len(lacking)} cases: {_some(lacking)}")
    counts = Counter(patients[case] for case in cases)
    text = f"{path.name}: {len(counts)} patients, {_range(list(counts.values()))} cases each"
    if unknown := [case for case in patients if case not in set(cases)]:
        text += f"; it also names {len(unknown)} that are no cases here: {_some(unknown)}"
    return Patients(text)


def _range(values: Sequence[float]) -> str:
    least, most = f"{min(values):.4g}", f"{max(values):.4g}"
    return least if least == most else f"{least} to {most}"


def _some(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else ""
    return ", ".join(cases[:_SHOWN]) + more
