"""Checks masks against the truth and scores them, case by case on all cores.

The truth of a case is read once for all methods. Threads are enough: reading, packing and the
metrics' kernels run without Python's lock.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medvision.data.header import Grid, misplaced
from medvision.data.label_files import (
    LabelMap,
    Source,
    bits_of,
    labels_in,
    read_labels,
    read_probabilities,
    wrong_mask,
)
from medvision.data.nifti import Truth, group_masks, open_volume
from medvision.data.settings import LabelGroups
from medvision.errors import DataError
from medvision.metrics.settings import Scoring
from medvision.scoring import score
from orchestrator.comparing.trainings import Training

LISTED = 20
UNIT_SPACING = (1.0, 1.0, 1.0)
ALLOW = "where the tool found nothing, give --allow-empty, and it counts as a miss"


class MasksError(DataError):
    """Masks that cannot be compared; `problems`: a line each, the case first."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        more = len(problems) - LISTED
        shown = [*problems[:LISTED], *([f"and {more} more"] if more > 0 else [])]
        super().__init__(f"{len(problems)} masks cannot be compared: " + "; ".join(shown))


@dataclass(frozen=True)
class Truths:
    """What masks are scored against. `sources`: by case; `groups`: values of each label group;
    `strict`: whether a mask may hold no values but these and `others`; `spacings`: of arrays, mm by
    case; `probabilities`: methods that have these in place of masks (`read_probabilities`).
    """

    sources: Mapping[str, Source] = field(repr=False)
    groups: LabelGroups
    scoring: Scoring
    tolerances: Sequence[float]
    strict: bool = False
    others: frozenset[int] = frozenset()
    groups_of: Mapping[str, LabelGroups] = field(default_factory=dict)
    spacings: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    allow_empty: bool = False
    probabilities: frozenset[str] = frozenset()

    def mask(self, one: Training, case: str) -> LabelMap:
        """What a training has of a case."""
        source, name, spacing = one.masks[case], f"{one.folder}, {case}", self.spacing(case)
        if one.method in self.probabilities:
            return read_probabilities(source, name, spacing, len(self.groups))
        return read_labels(source, name, spacing)

    def of(self, case: str) -> LabelMap:
        """A case's truth."""
        return read_labels(self.sources[case], f"truth of {case}", self.spacing(case))

    def spacing(self, case: str) -> tuple[float, float, float]:
        """Of a case that is an array."""
        return self.spacings.get(case, UNIT_SPACING)

    def values(self, method: str) -> LabelGroups:
        """The values of the label groups in a method's masks."""
        if method in self.probabilities:
            return bits_of(self.groups)
        return self.groups_of.get(method, self.groups)


Rows = dict[str, list[dict[str, Any]]]  # by case


def check_places(truths: Truths, trainings: Sequence[Training]) -> list[str]:
    """Which masks do not lie on their truth, by their headers alone, a line each."""

    def look(case: str) -> list[str]:
        try:
            truth = _grid(truths.sources[case], lambda: truths.of(case))
        except DataError as error:
            return [f"{case}: {error}"]
        lines = []
        for one in trainings:
            if case not in one.masks:
                continue
            read = functools.partial(truths.mask, one, case)
            try:
                wrong, _ = misplaced(truth, _grid(one.masks[case], read), "truth")
            except DataError as error:
                wrong = [str(error)]
            lines += [f"{case}: {problem}" for problem in wrong]
        return lines

    with ThreadPoolExecutor(cores()) as pool:
        return [line for lines in pool.map(look, sorted(truths.sources)) for line in lines]


def _grid(source: Source, read: Callable[[], LabelMap]) -> Grid:
    """How a mask lies in space, a file's by its header alone."""
    return open_volume(source).grid if isinstance(source, Path) else read().grid


def score_trainings(
    truths: Truths,
    trainings: Sequence[Training],
    on_mask: Callable[[], object] = lambda: None,
    workers: int | None = None,
    keep: Callable[[int, str, np.ndarray], object] = lambda number, case, masks: None,
) -> list[Rows]:
    """The rows of every training, in their order: of each case one for each label group.

    Args:
        on_mask: called after each mask.
        keep: called with the training's place, the case and its label groups, bool [G, X, Y, Z],
            from several threads.
        workers: threads; by default as many as there are cores.

    Raises:
        MasksError: masks that are damaged, misplaced, without any group where the truth has one, or
            with values of no group; all of them at once.
    """
    found: list[Rows] = [{} for _ in trainings]
    problems: list[str] = []

    def of_case(case: str) -> list[tuple[int, list[dict[str, Any]] | str]]:
        return list(_scored(case, truths, trainings, on_mask, keep))

    with ThreadPoolExecutor(workers or cores()) as pool:
        cases = sorted({case for one in trainings for case in one.masks})
        for case, results in zip(cases, pool.map(of_case, cases), strict=True):
            for number, rows in results:
                if isinstance(rows, str):
                    problems.append(f"{case}: {rows}")
                else:
                    found[number][case] = rows
    if problems:
        raise MasksError(list(dict.fromkeys(problems)))
    return found


def _scored(
    case: str,
    truths: Truths,
    trainings: Sequence[Training],
    on_mask: Callable[[], object],
    keep: Callable[[int, str, np.ndarray], object],
) -> Iterator[tuple[int, list[dict[str, Any]] | str]]:
    """The rows of one case by training, or what is wrong with it."""
    mine = [number for number, one in enumerate(trainings) if case in one.masks]
    try:
        label = truths.of(case)
    except DataError as error:
        yield mine[0], str(error)
        return
    truth = Truth(group_masks(label.values, truths.groups), label.grid.spacing)
    present = truth.masks.any(axis=(1, 2, 3))
    for number in mine:
        one = trainings[number]
        values = truths.values(one.method)
        try:
            mask = truths.mask(one, case)
        except DataError as error:
            yield number, str(error)
            continue
        problem = wrong_mask(mask, label, values, strict=truths.strict, others=truths.others)
        if problem is not None:
            yield number, problem
            continue
        predicted = group_masks(mask.values, values)
        if present.any() and not predicted.any() and (why := _missed(mask, label, one, truths)):
            yield number, f"{_named(one, case)}: {why}"
            continue
        keep(number, case, predicted)
        yield number, scored_rows(predicted, truth, truths)
        on_mask()


def scored_rows(predicted: np.ndarray, truth: Truth, truths: Truths) -> list[dict[str, Any]]:
    """One row a label group, as a trial's (`medvision.scoring.score`)."""
    return score(predicted, truth, list(truths.groups), truths.scoring, truths.tolerances)


def _missed(mask: LabelMap, truth: LabelMap, one: Training, truths: Truths) -> str | None:
    """Why a mask without any group's value counts as no miss, if so.

    Values that the truth's file has, too, are other structures, of which the tool may have found
    some; others, such as 255 for 1, say that its values are not those that were given.
    """
    if not mask.values.any():
        return None if truths.allow_empty else f"is empty, and the truth is not; {ALLOW}"
    held = labels_in(mask.values) - {0}
    groups = truths.values(one.method)
    listed = ", ".join(map(str, sorted(held)[:5]))
    named = ", ".join(f"{name} {values}" for name, values in groups.items())
    said = f"holds the label {listed} and none of the structures ({named}), and the truth has some"
    if one.method not in truths.groups_of and not held & labels_in(truth.values):
        return f"{said}; say the method's own values by --labels or --labels-of"
    return None if truths.allow_empty else f"{said}; {ALLOW}"


def _named(one: Training, case: str) -> str:
    source = one.masks[case]
    return str(source) if isinstance(source, Path) else f"{one.folder}, {case}"


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
