"""Gathers what a plan needs to know of data and checkpoints.

A dry run takes only what is remembered (`remembered`): it reads no image and no weight. A real run makes it (`gathered`):
it fetches embedded assets, hashes what changed, and extracts the language-model blocks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from medvision.assets import ASSETS, AssetError, fetch
from medvision.data.embedded import embedded_root, write_embedded_task
from medvision.data.fingerprints import CaseIndex, cached_index, index_cases
from medvision.data.msd import DataError, Task, read_task
from medvision.data.splits import Fold, make_folds
from medvision.models.settings import LlmSettings, block_of
from orchestrator.plan import BlockInputs, Inputs, TaskInputs
from orchestrator.spec import Spec, TaskSpec, model_name

DATA_VARIABLE = "MEDVISION_DATA"
EMBEDDED = "embedded"


class InputError(ValueError):
    """Data or checkpoints that a run needs are missing or wrong; `str()` has one line each."""


def data_root(spec: Spec) -> Path | None:
    """Folder of the tasks: `data.root`, or the variable MEDVISION_DATA; None where neither says."""
    if spec.data.root == EMBEDDED:
        return embedded_root()
    root = spec.data.root or os.environ.get(DATA_VARIABLE)
    return Path(root).expanduser().resolve() if root else None


def remembered(spec: Spec) -> Inputs:
    """What is known without reading data: whatever is not is named in `Inputs.missing`."""
    return Inputs(
        tasks={task.name: _task(spec, task, measure=False) for task in spec.tasks},
        blocks={name: _remembered_block(llm) for name, llm in _with_block(spec).items()},
    )


def gathered(spec: Spec) -> Inputs:
    """Everything a run needs, made where it is not there.

    Raises:
        InputError: whatever cannot be had, all at once.
    """
    problems: list[str] = []
    if spec.data.root == EMBEDDED:
        try:
            write_embedded_task()
        except AssetError as error:
            problems.append(str(error))
    tasks = {task.name: _task(spec, task, measure=True) for task in spec.tasks}
    blocks = {name: _prepared_block(name, llm) for name, llm in _with_block(spec).items()}
    inputs = Inputs(tasks, blocks)
    if problems := [*problems, *inputs.missing]:
        raise InputError("\n".join(problems))
    return inputs


def _with_block(spec: Spec) -> dict[str, LlmSettings]:
    return {model_name(model): llm for model in spec.models if (llm := block_of(model))}


def _task(spec: Spec, task: TaskSpec, *, measure: bool) -> TaskInputs:
    root = data_root(spec)
    if root is None:
        return TaskInputs(missing=f"no data folder is set: give data.root, or the variable {DATA_VARIABLE}")
    try:
        found = read_task(root, task.name)
        cases = index_cases(found) if measure else cached_index(found)
        if cases is None:
            return TaskInputs(missing=f"task {task.name!r} was not read yet ({found.folder}); the first run does")
        return TaskInputs(_folds(spec, task, found, cases), {case.id: case.fingerprint for case in cases})
    except DataError as error:
        return TaskInputs(missing=str(error))


def _folds(spec: Spec, task: TaskSpec, found: Task, cases: list[CaseIndex]) -> tuple[Fold, ...]:
    tested = [case.id for case in found.test_cases] if spec.splits.scheme == "fixed" else []
    ignored = set() if tested else {case.id for case in found.test_cases}
    volumes = {case.id: case.volume_mm3 for case in cases if case.id not in ignored}
    try:
        folds = make_folds(
            volumes,
            scheme=spec.splits.scheme,
            seed=spec.splits.seed,
            folds=spec.folds,
            test_fraction=spec.splits.test_fraction,
            fixed_test=tested,
            group_pattern=spec.splits.group_pattern,
        )
    except ValueError as error:
        raise DataError(f"task {task.name!r}: {error}") from error
    return tuple(folds)


def _remembered_block(llm: LlmSettings) -> BlockInputs:
    from medvision.llm import BlockError, cached_fingerprint

    try:
        fingerprint = cached_fingerprint(llm.source, llm.layer)
    except (AssetError, BlockError) as error:
        return BlockInputs(size=_size(llm), missing=str(error))
    if fingerprint is None:
        return BlockInputs(size=_size(llm), missing=f"block {llm.source!r} was not read yet; the first run does")
    return BlockInputs(fingerprint, _size(llm))


def _prepared_block(name: str, llm: LlmSettings) -> BlockInputs:
    from medvision.llm import BlockError, prepare_block

    try:
        if llm.source in ASSETS:
            fetch(llm.source)
        return BlockInputs(prepare_block(llm.source, llm.layer), _size(llm))
    except (AssetError, BlockError) as error:
        return BlockInputs(missing=f"model {name}: llm.source: {error}")


def _size(llm: LlmSettings) -> dict[str, Any] | None:
    """Width and weights of a layer, for the estimate only."""
    from medvision.llm import BlockError, describe_block

    try:
        about = describe_block(llm.source)
        width, inner = (
            int(about["hidden_size"]),
            int(about.get("intermediate_size") or 4 * about["hidden_size"]),
        )
    except (AssetError, BlockError, KeyError, TypeError):
        return None
    return {"hidden_size": width, "parameters": 4 * width**2 + 3 * width * inner}
