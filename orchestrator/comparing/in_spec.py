"""Masks of other tools that a spec names as models (`label: external`): found and checked before
anything starts, planned as trials of the grid, and scored by the driver.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from medvision.errors import DataError
from orchestrator.planning.inputs import InputError, data_root
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import split_of
from orchestrator.spec.other_tools import ExternalSettings
from orchestrator.spec.study import model_name

if TYPE_CHECKING:  # nibabel, which a study without such masks does not need to be planned
    from orchestrator.comparing.in_study import TaskMasks, Wanted


def with_masks(study: Study, *, refuse: bool = False) -> tuple[Study, list[TaskMasks]]:
    """The study with what the masks hold, or why they cannot be used (`Inputs.wrong_masks`), and
    the masks. Without them, or where data are missing, the study is as it was.

    Raises:
        InputError: with `refuse`, masks that cannot be used, every one by its case.
    """
    named = [model for model in study.spec.models if isinstance(model, ExternalSettings)]
    root = data_root(study.spec)
    if not named or root is None or any(task.missing for task in study.found.tasks.values()):
        return study, []
    from orchestrator.comparing.in_study import Grid, found_masks

    splits = {name: split_of(study.spec, known) for name, known in study.found.tasks.items()}
    grid = Grid(study.spec, splits, root)
    found: list[TaskMasks] = []
    wrong: list[str] = []
    for wanted in map(_wanted, named):
        try:
            mine, lines = found_masks(grid, wanted)
        except DataError as error:
            mine, lines = [], [str(error)]
        found += [] if lines else mine
        wrong += [f"model {wanted.name}: {line}" for line in lines]
    if wrong and refuse:
        raise InputError("\n".join(wrong))
    masks = {one.cell: one.content for task in found for one in task.cells}
    inputs = replace(study.found, masks=masks, wrong_masks=tuple(wrong))
    return replace(study, found=inputs), found


def score_planned(study: Study, found: list[TaskMasks], say: Callable[[str], object]) -> Study:
    """Score the masks of the trials that are not finished, and look at the study again.

    Raises:
        InputError: masks that cannot be scored, every one by its case; none is committed.
        StoreError: the study cannot be written.
    """
    cells = {one.cell for task in found for one in task.cells}
    todo = {t.eval_id: t.cell for t in study.plan.trials if t.to_run and t.cell in cells}
    if not todo:
        return study
    from orchestrator.comparing.in_study import score_masks

    count = 0

    @contextlib.contextmanager
    def counting(total: int) -> Iterator[Callable[[], None]]:
        nonlocal count
        count = total
        yield lambda: None

    try:
        score_masks(study.store, found, {str(eval_id) for eval_id in todo}, counting)
    except DataError as error:
        lines = getattr(error, "problems", [str(error)])
        raise InputError("\n".join(lines)) from error
    names = ", ".join(sorted({cell.model for cell in todo.values()}))
    say(f"{names}: {count} masks of other tools are scored")
    return study.again()


def _wanted(model: ExternalSettings) -> Wanted:
    from orchestrator.comparing.in_study import Wanted

    return Wanted(
        model_name(model),
        model.masks,
        labels=model.labels,
        folds=model.folds,
        allow_empty=model.allow_empty,
        probabilities=model.probabilities,
    )
