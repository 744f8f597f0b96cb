"""Which part of the test cases a case is in, for each division that the spec's comparisons declare.

It is decided by the truth, or by a table, when a study is planned, so that no score can have a part
in it. It is no part of an id.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvision.data.fingerprints import CaseIndex
from medvision.data.grouping import read_column
from medvision.data.readers.base import Task
from medvision.errors import DataError
from orchestrator.spec.study import Spec
from orchestrator.spec.subgroups import SubgroupSpec
from record.comparison import Division

Groups = Mapping[str, Sequence[int] | str]
MM3_PER_ML = 1000.0
TERCILES = ("small", "medium", "large")
MOST = 20  # parts of a table's column; more are no grouping


@dataclass(frozen=True)
class TaskParts:
    """A division of a task's cases, as `record.comparison.Division` has it of all tasks."""

    parts: tuple[str, ...]
    cases: Mapping[str, str]
    borders_ml: tuple[float, ...] = ()
    sha256: str = ""


def declared(spec: Spec) -> dict[str, SubgroupSpec]:
    """Every division by name."""
    return {one.name: one for each in spec.comparisons for one in each.subgroups}


def parts_of_task(
    spec: Spec, task: Task, cases: Sequence[CaseIndex], groups: Groups
) -> dict[str, TaskParts]:
    """The parts of a task's cases in use, by the name of the division.

    Raises:
        DataError: a table that cannot be read, lacks a case, or whose column is no grouping; sizes
            of which there are too few.
    """
    return {
        name: _by_table(one, task, cases) if one.file else _by_size(one, task, cases, groups)
        for name, one in declared(spec).items()
    }


def _by_table(one: SubgroupSpec, task: Task, cases: Sequence[CaseIndex]) -> TaskParts:
    path = task.folder / Path(str(one.file)).expanduser()
    listed = read_column(path, str(one.column))
    if lacking := [case.id for case in cases if case.id not in listed]:
        shown = ", ".join(lacking[:3]) + (" ..." if len(lacking) > 3 else "")
        raise DataError(f"{path}: has no {one.column} of {len(lacking)} cases: {shown}")
    found = {case.id: listed[case.id] for case in cases}
    parts = tuple(sorted(set(found.values())))
    if len(parts) > MOST:
        raise DataError(
            f"{path}: column {one.column!r} has {len(parts)} values in {len(cases)} cases: give "
            f"one of at most {MOST} values"
        )
    return TaskParts(parts, found, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _by_size(
    one: SubgroupSpec, task: Task, cases: Sequence[CaseIndex], groups: Groups
) -> TaskParts:
    sizes = {case.id: _volume(case, one, groups) / MM3_PER_ML for case in cases}
    sizes = {case: size for case, size in sizes.items() if size > 0}
    if one.borders_ml:
        borders, parts = list(one.borders_ml), _between(one.borders_ml)
    else:
        if len(set(sizes.values())) < len(TERCILES):
            raise DataError(
                f"task {task.name!r}: subgroups: {one.name}: the structures of {len(sizes)} cases "
                "have fewer than three sizes, which have no terciles: give borders_ml"
            )
        borders = [float(edge) for edge in np.quantile(list(sizes.values()), (1 / 3, 2 / 3))]
        parts = TERCILES
    found = {case: parts[bisect.bisect_right(borders, size)] for case, size in sizes.items()}
    return TaskParts(parts, found, tuple(borders))


def _volume(case: CaseIndex, one: SubgroupSpec, groups: Groups) -> float:
    """Of the label groups together, in mm3; a voxel of two groups counts once."""
    labels = [of for name, of in groups.items() if one.groups is None or name in one.groups]
    if any(isinstance(of, str) for of in labels):
        return case.volume_mm3
    wanted = {int(label) for of in labels for label in of}
    return sum(volume for label, volume in case.volumes_mm3.items() if label in wanted)


def _between(borders: Sequence[float]) -> tuple[str, ...]:
    inner = [f"{low:g} to {high:g} ml" for low, high in itertools.pairwise(borders)]
    return (f"below {borders[0]:g} ml", *inner, f"from {borders[-1]:g} ml")


def divisions(spec: Spec, parts: Mapping[str, Mapping[str, TaskParts]]) -> dict[str, Division]:
    """What the plan holds of every division.

    Args:
        parts: of every task, as `parts_of_task` gives them.
    """
    found = {}
    for name, one in declared(spec).items():
        of_task = {task: here[name] for task, here in parts.items() if name in here}
        every = dict.fromkeys(part for here in of_task.values() for part in here.parts)
        found[name] = Division(
            parts=sorted(every) if one.file else list(every),
            cases={task: dict(here.cases) for task, here in of_task.items()},
            borders_ml={t: list(here.borders_ml) for t, here in of_task.items() if not one.file},
            files={task: here.sha256 for task, here in of_task.items() if one.file},
        )
    return found
