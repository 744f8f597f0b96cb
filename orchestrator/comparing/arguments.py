"""What a comparison is given, checked: folders, files or arrays become truths and trainings."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from medvision.data.grouping import patients_of, read_patients
from medvision.data.label_files import Source, label_files
from medvision.data.readers.registry import read_declared
from medvision.data.settings import LabelGroups
from medvision.data.tasks import tolerance_mm
from medvision.errors import DataError
from medvision.metrics.definitions import USUAL
from medvision.metrics.settings import Scoring
from orchestrator.comparing.scored import UNIT_SPACING, MasksError, Truths, check_places
from orchestrator.comparing.study import Design
from orchestrator.comparing.trainings import Found, Training, arranged, found_in
from record.names import checked as checked_name
from record.names import checked_folder
from record.stored import problems

LABEL_FOLDERS = ("labelsTr", "labelsTs", "labels", "masks", "truth")
FOREGROUND: LabelGroups = {"foreground": "all"}
BOTH_EMPTY = ("exclude", "perfect")


def checked(
    truth: Any,
    masks: Mapping[str, Any],
    *,
    spacing: Any,
    labels: Mapping[str, Any] | None,
    labels_of: Mapping[str, Mapping[str, Any]],
    patients: str | Path | Mapping[str, str] | None,
    pattern: str | None,
    baseline: str | None,
    metrics: Sequence[str],
    tolerances: Sequence[float] | None,
    nsd: str,
    hd95: str,
    both_empty: str,
    equivalence: Mapping[str, float],
    allow_empty: bool,
    probabilities: Collection[str],
    name: str | None,
) -> tuple[Truths, list[Training], Design]:
    """The truths, the trainings and the design (arguments as `orchestrator.compare.compare`).

    Raises:
        DataError: whatever is wrong, masks of all cases at once.
    """
    folder = Path(truth) if isinstance(truth, str | Path) else None
    task = name or (task_name(folder) if folder else "data")
    if "/" in task or task.startswith("."):
        raise DataError(f"name {task!r}: cannot be the name of a file")
    try:
        checked_folder(task)
        for chosen in (task, *masks, *(labels or {})):
            checked_name(str(chosen))
    except ValueError as error:
        raise DataError(str(error)) from error
    sources = _sources(truth, "truth")
    if not masks:
        raise DataError("no method: give the masks of one at least")
    _known(baseline, masks, "baseline")
    for method in labels_of:
        _known(method, masks, "labels_of")
    for method in probabilities:
        _known(method, masks, "probabilities")
        if method in labels_of:
            raise DataError(
                f"labels of {method}: probabilities have no values; leave one of the two out"
            )
    for metric in (*metrics, *equivalence):
        if metric not in USUAL:
            raise DataError(f"unknown metric {metric!r}; known metrics: {', '.join(USUAL)}")
    if both_empty not in BOTH_EMPTY:
        raise DataError(f"both_empty: {both_empty!r} is unknown; give {' or '.join(BOTH_EMPTY)}")
    for metric, margin in equivalence.items():
        if not isinstance(margin, float | int | np.number) or not 0 < margin < math.inf:
            raise DataError(f"equivalence of {metric}: a number above 0 is needed, got {margin!r}")
    declared = read_declared(folder.parent).structures if folder else {}
    groups = _groups(labels) if labels else (_groups(declared) if declared else FOREGROUND)
    try:
        limits = list(tolerances or [tolerance_mm(task)])
        scoring = Scoring.model_validate({"nsd": nsd, "hd95": hd95, "tolerances": limits})
    except ValidationError as error:
        raise DataError(f"scoring: {problems(error)}") from error
    truths = Truths(
        sources,
        groups,
        scoring,
        limits,
        strict=bool(declared) and not labels,
        groups_of={method: _of(method, given, groups) for method, given in labels_of.items()},
        spacings=_spacings(spacing, sources),
        allow_empty=allow_empty,
        probabilities=frozenset(probabilities),
    )
    found = {method: _trainings(method, given, pattern) for method, given in masks.items()}
    trainings, lines = arranged(found, sorted(sources))
    if not lines:
        lines = check_places(truths, trainings)
    if lines:
        raise MasksError(lines)
    design = Design(
        task,
        baseline or next(iter(masks)),
        list(dict.fromkeys(metrics)),
        both_empty,
        _patients(patients, sources),
        {metric: float(margin) for metric, margin in equivalence.items()},
    )
    return truths, trainings, design


def task_name(truth: Path) -> str:
    """What tables call the data: the folder of the truth, or the one above `labelsTs` and such."""
    truth = truth.expanduser().resolve()
    return truth.parent.name if truth.name in LABEL_FOLDERS and truth.parent.name else truth.name


def _sources(given: Any, what: str) -> dict[str, Source]:
    """Files of a folder, or files and arrays by case."""
    if isinstance(given, str | Path):
        return dict(label_files(Path(given).expanduser()))
    if not isinstance(given, Mapping) or not given:
        raise DataError(f"{what}: a folder, or a mapping of case to file or array is needed")
    return {
        str(case): Path(one) if isinstance(one, str | Path) else np.asarray(one)
        for case, one in given.items()
    }


def _trainings(method: str, given: Any, pattern: str | None) -> list[Found]:
    if isinstance(given, str | Path):
        return found_in(Path(given).expanduser(), pattern)
    if isinstance(given, Sequence):
        return [
            Found(f"{method}, training {number}", _sources(one, method), seed=str(number))
            for number, one in enumerate(given)
        ]
    return [Found(method, _sources(given, method))]


def _known(name: str | None, masks: Mapping[str, Any], what: str) -> None:
    if name is not None and name not in masks:
        raise DataError(f"{what}: there is no method {name!r}; there are {', '.join(masks)}")


def _groups(labels: Mapping[str, Any]) -> LabelGroups:
    """Structures as lists of values.

    Raises:
        DataError: a value that is no whole number from 1 upward.
    """
    found: LabelGroups = {}
    for name, values in labels.items():
        if isinstance(values, str) and values == "all":
            found[str(name)] = "all"
            continue
        listed = list(values) if isinstance(values, Iterable) else [values]
        if not listed or not all(isinstance(one, int | np.integer) and one > 0 for one in listed):
            raise DataError(f"labels: {name!r} has {values!r}; give values from 1 upward, or all")
        found[str(name)] = [int(one) for one in listed]
    return found


def _of(method: str, given: Mapping[str, Any], groups: LabelGroups) -> LabelGroups:
    """A method's values in the order of the groups."""
    own = _groups(given)
    if set(own) != set(groups):
        raise DataError(
            f"labels of {method}: names {', '.join(own)}, the structures are {', '.join(groups)}"
        )
    return {name: own[name] for name in groups}


def _spacings(spacing: Any, sources: Mapping[str, Source]) -> dict[str, tuple[float, float, float]]:
    """Of every case that is an array."""
    arrays = [case for case, source in sources.items() if not isinstance(source, Path)]
    by_case = dict.fromkeys(arrays, UNIT_SPACING if spacing is None else spacing)
    if isinstance(spacing, Mapping):
        by_case = {str(case): given for case, given in spacing.items()}
    if lacking := sorted(set(arrays) - set(by_case)):
        raise DataError(
            f"spacing: {len(lacking)} cases have none: {', '.join(lacking[:5])}; give three "
            "numbers of mm for every case that is an array"
        )
    found = {}
    for case in arrays:
        given = by_case[case]
        try:
            values = np.asarray(given, dtype=float)
        except (TypeError, ValueError):
            values = np.empty(0)
        if values.shape != (3,) or not np.isfinite(values).all() or not (values > 0).all():
            raise DataError(f"spacing of {case}: three numbers of mm above 0, got {given!r}")
        found[case] = (float(values[0]), float(values[1]), float(values[2]))
    return found


def _patients(
    given: str | Path | Mapping[str, str] | None, sources: Mapping[str, Source]
) -> dict[str, str]:
    """Case -> patient of every case; empty where none are given."""
    if given is None:
        return {}
    listed = given if isinstance(given, Mapping) else read_patients(Path(given).expanduser())
    if lacking := sorted(set(sources) - set(listed)):
        raise DataError(
            f"patients: {len(lacking)} cases have none: {', '.join(lacking[:5])}; name the patient "
            "of every case"
        )
    return patients_of(sources, patients=listed)
