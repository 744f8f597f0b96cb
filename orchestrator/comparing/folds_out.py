"""A study's folds as other tools read them, and other tools' lists of folds read back."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from medvision.data.readers.base import Case
from medvision.data.split_files import from_split
from medvision.data.splits import Roles
from medvision.data.text import read_text
from medvision.data.volume_file import without_suffixes
from medvision.errors import DataError
from record.schema import Split

Kind = Literal["nnunet", "json", "csv", "monai"]
KINDS: tuple[str, ...] = get_args(Kind)
ROLES = ("train", "validation", "test")


def roles_of(split: Split, fractions: Sequence[float]) -> dict[float, list[Roles]]:
    """Fraction -> the roles of every fold."""
    folds = from_split(split)
    return {fraction: [fold.roles(fraction) for fold in folds] for fraction in fractions}


def files_of(
    kind: Kind,
    task: str,
    roles: Mapping[float, Sequence[Roles]],
    cases: Mapping[str, Case] | None = None,
) -> dict[str, str]:
    """The files of one task by their names below the output folder.

    Args:
        kind: `nnunet`: a splits_final.json a fraction, whose `val` are our validation cases and
            whose `test`, which nnU-Net does not read, are our test cases; `monai`: a list of
            images and labels a fold; `json`, `csv`: one file with all.
        task: its name.
        roles: `roles_of`.
        cases: where the images lie, for `monai`.
    """
    if kind == "csv":
        return {f"{task}.csv": _csv(roles)}
    if kind == "json":
        whole = {
            f"{fraction:g}": [_named(one, ROLES) for one in folds]
            for fraction, folds in roles.items()
        }
        return {f"{task}.json": _json({"task": task, "fractions": whole})}
    found = {}
    for fraction, folds in roles.items():
        place = task if fraction == 1 else f"{task}/fraction-{fraction:g}"
        if kind == "nnunet":
            listed = [_named(one, ("train", "val", "test")) for one in folds]
            found[f"{place}/splits_final.json"] = _json(listed)
            continue
        for number, one in enumerate(folds):
            parts = _named(one, ("training", "validation", "testing"))
            entries = {
                part: [_entry((cases or {})[case]) for case in names]
                for part, names in parts.items()
            }
            found[f"{place}/fold_{number}.json"] = _json(entries)
    return found


def read_trained(path: Path, fraction: float) -> list[list[str]]:
    """The cases that a tool trained on, of each fold, from nnU-Net's splits_final.json or from one
    of our own files.

    Args:
        path: the file.
        fraction: the share of the data whose list is read, where the file has several.

    Raises:
        DataError: it cannot be read, is none of these, or has no list of this fraction.
    """
    try:
        text = read_text(path)
        if path.suffix == ".csv":
            return _of_rows(list(csv.DictReader(io.StringIO(text, newline=""))), fraction)
        values: Any = json.loads(text)
        if isinstance(values, dict):
            values = _of_fraction(values["fractions"], fraction)
        return [[without_suffixes(str(case)) for case in one["train"]] for one in values]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as a list of folds ({_why(error)}); it "
            'needs [{"train": [...], "val": [...]}, ...], as nnU-Net\'s splits_final.json, or '
            "a file of medvision splits"
        ) from error


def _why(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)


def _of_rows(rows: Sequence[Mapping[str, str]], fraction: float) -> list[list[str]]:
    listed: dict[str, dict[int, list[str]]] = {}
    for row in rows:
        cases = listed.setdefault(row["fraction"], {}).setdefault(int(row["fold"]), [])
        cases += [row["case"]] if row["role"] == "train" else []
    folds: dict[int, list[str]] = _of_fraction(listed, fraction)
    return [folds[number] for number in sorted(folds)]


def _of_fraction(listed: Mapping[str, Any], fraction: float) -> Any:
    for named, folds in listed.items():
        if math.isclose(float(named), fraction, rel_tol=1e-5):  # a name has six digits
            return folds
    raise ValueError(f"it has no fraction {fraction:g}, but {', '.join(listed) or 'none'}")


def leaks(
    trained: Sequence[Sequence[str]], split: Split, task: str, cases: Collection[str]
) -> list[str]:
    """Tested cases that a tool knew in training, itself or by another scan of their patient, a line
    each.

    Args:
        trained: of each fold the cases that the tool trained on.
        split: the study's folds, and its patients where it has such.
        task: its name.
        cases: every case of the task's data.

    Raises:
        DataError: another number of folds, or names that are no cases, by which nothing would be
            checked.
    """
    folds = from_split(split)
    if len(trained) != len(folds):
        raise DataError(
            f"the tool's list has {len(trained)} folds, the study's of {task} {len(folds)}"
        )
    known = {*cases, *split.cases, *split.excluded}
    if unknown := sorted({case for fold in trained for case in fold} - known):
        raise DataError(
            f"the tool's list names {len(unknown)} cases that {task} does not have: "
            f"{', '.join(unknown[:5])}; name them as the study does (medvision splits), and with "
            "several tasks give each its list by {task} in --folds"
        )
    lines = []
    for number, (fold, seen) in enumerate(zip(folds, trained, strict=True)):
        of_patient = {split.patients.get(case, case): case for case in sorted(seen)}
        for case in fold.test:
            if case in set(seen):
                lines.append(f"{case}: the tool trained on it in fold {number}, which tests it")
            elif other := of_patient.get(split.patients.get(case, case)):
                lines.append(
                    f"{case}: the tool trained on {other}, of the same patient, in fold {number}, "
                    "which tests it"
                )
    return lines


def _named(one: Roles, names: Sequence[str]) -> dict[str, list[str]]:
    parts = (one.train, one.validation, one.test)
    return {name: list(part) for name, part in zip(names, parts, strict=True)}


def _csv(roles: Mapping[float, Sequence[Roles]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["fraction", "fold", "role", "case"])
    table.writerows(
        (f"{fraction:g}", number, role, case)
        for fraction, folds in roles.items()
        for number, one in enumerate(folds)
        for role, cases in _named(one, ROLES).items()
        for case in cases
    )
    return text.getvalue()


def _entry(case: Case) -> dict[str, Any]:
    images = [str(image) for image in case.images]
    return {"image": images if len(images) > 1 else images[0], "label": str(case.label)}


def _json(values: Any) -> str:
    return json.dumps(values, indent=1) + "\n"
