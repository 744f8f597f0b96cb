"""Gathers what a plan needs to know of data and checkpoints.

A dry run takes only what is remembered (`remembered`): it reads no image and no weight. A real run
makes it (`gathered`): it fetches embedded assets, hashes what changed, and extracts the
language-model blocks.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medvision.assets import ASSETS, AssetError, fetch
from medvision.cache import limit_bytes
from medvision.data.embedded import embedded_root, write_embedded_task
from medvision.data.fingerprints import CaseIndex, cached_index, index_cases
from medvision.data.readers.base import Task
from medvision.data.readers.registry import read_declared, read_task
from medvision.data.settings import PROTOCOL_SETTINGS
from medvision.data.summary import absent_groups, doubts
from medvision.errors import DataError
from medvision.models.language.settings import LlmSettings
from orchestrator.planning.folds import divided, patients_in
from orchestrator.planning.plan import BlockInputs, Inputs, TaskInputs
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.study import Spec, model_name
from record.schema import Split

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


def remembered(spec: Spec, splits: Mapping[str, Split | None] = MappingProxyType({})) -> Inputs:
    """What is known without reading data: whatever is not is named in `Inputs.missing`.

    Args:
        splits: task -> what the study's split file says, of a study that has one.
    """
    return Inputs(
        tasks={
            task.name: _task(spec, task, splits.get(task.name), measure=False)
            for task in spec.tasks
        },
        blocks={name: _remembered_block(llm) for name, llm in _with_block(spec).items()},
    )


def gathered(spec: Spec, splits: Mapping[str, Split | None] = MappingProxyType({})) -> Inputs:
    """Everything a run needs, made where it is not there.

    Args:
        splits: as for `remembered`.

    Raises:
        InputError: whatever cannot be had, all at once.
    """
    problems: list[str] = []
    try:
        limit_bytes()
    except ValueError as error:
        problems.append(str(error))
    if spec.data.root == EMBEDDED:
        try:
            write_embedded_task()
        except AssetError as error:
            problems.append(str(error))
    tasks = {
        task.name: _task(spec, task, splits.get(task.name), measure=True) for task in spec.tasks
    }
    blocks = {name: _prepared_block(name, llm) for name, llm in _with_block(spec).items()}
    inputs = Inputs(tasks, blocks)
    if problems := [*problems, *inputs.missing]:
        raise InputError("\n".join(problems))
    return inputs


def resolved(spec: Spec) -> Spec:
    """The spec with what each task's own dataset.json decides, so that planner and workers go by
    the same values.

    That is the label groups where they are `each`, and the modality for a protocol that reads it. A
    task whose folder is not there stays as it is: `gathered` says so.

    Raises:
        InputError: a dataset.json that does not say what is asked of it.
    """
    root, problems, tasks = data_root(spec), [], []
    for task in spec.tasks:
        try:
            folder = root / task.name if root else None
            declared = read_declared(folder) if folder and folder.is_dir() else None
        except DataError as error:
            problems.append(str(error))
            continue
        changes: dict[str, Any] = {}
        if declared and spec.data.label_groups == "each" and task.label_groups is None:
            changes["label_groups"] = declared.structures
            if not declared.structures:
                problems.append(
                    f"data.label_groups: each: the dataset.json of {task.name} declares no labels; "
                    "name them"
                )
        asks = "modality" in PROTOCOL_SETTINGS[spec.data.protocol]
        if declared and asks and task.modality is None:
            changes["modality"] = list(declared.modality)
            if not declared.modality:
                problems.append(
                    f"data.protocol: {spec.data.protocol}: say `modality: [CT]` or `[MRI]` of the "
                    f"task {task.name}"
                )
        tasks.append(task.model_copy(update=changes))
    if problems:
        raise InputError("\n".join(problems))
    return spec.model_copy(update={"tasks": tasks})


def _with_block(spec: Spec) -> dict[str, LlmSettings]:
    return {model_name(model): llm for model in spec.models if (llm := model.block)}


def _task(spec: Spec, task: TaskSpec, split: Split | None, *, measure: bool) -> TaskInputs:
    root = data_root(spec)
    if root is None:
        return TaskInputs(
            missing=f"no data folder is set: give data.root, or the variable {DATA_VARIABLE}"
        )
    try:
        found = read_task(root, task.name)
        cases = index_cases(found) if measure else cached_index(found)
        if cases is None:
            return TaskInputs(
                missing=f"task {task.name!r} was not read yet ({found.folder}); the first run does"
            )
        unused = {case.id for case in found.test_cases} if spec.splits.scheme != "fixed" else set()
        paths = {case.id: case.image for case in (*found.cases, *found.test_cases)}
        usual = Counter(case.channels for case in cases if not case.errors).most_common(1)
        bad = {
            case.id: why
            for case in cases
            if case.id not in unused
            and (why := case.errors or _channels(case, paths[case.id], task, usual[0][0]))
        }
        if bad and spec.data.on_bad_case == "stop":
            return TaskInputs(missing=_bad_cases(found, len(cases), bad))
        good = [case for case in cases if not case.errors and case.id not in bad]
        shortened = {
            case: [reason.replace(f"{found.folder}/", "") for reason in why]
            for case, why in bad.items()
        }
        fingerprints = {case.id: case.fingerprint for case in good}
        used = [case for case in good if case.id not in unused]
        if absent := absent_groups(used, _groups(spec, task, found)):
            lines = [f"task {task.name!r}: {line}" for line in absent]
            return TaskInputs(missing="\n".join(lines))
        patients = patients_in(spec, found, [case.id for case in used])
        parts = divided(spec, found, used, patients, split)
        return TaskInputs(
            parts.folds,
            fingerprints,
            excluded=shortened,
            reserved=parts.reserved,
            patients=patients,
            order=parts.order,
            changes=parts.changes,
            doubts=tuple(doubts(used, found.folder)),
        )
    except DataError as error:
        return TaskInputs(missing=str(error))


def _groups(spec: Spec, task: TaskSpec, found: Task) -> Mapping[str, Sequence[int] | str]:
    """The task's label groups, also where dataset.json names them."""
    return spec.groups(task) or found.declared.structures


def _channels(case: CaseIndex, image: Path, task: TaskSpec, usual: int) -> tuple[str, ...]:
    """Why the number of a case's channels is no use to this study, if so."""
    if task.channel == "all":
        wanted = (
            ""
            if case.channels == usual
            else f"most cases have {usual}, and channel: all takes them all"
        )
    else:
        wanted = "" if case.channels > task.channel else f"channel {task.channel} was asked for"
    return (f"{image}: has {case.channels} channels, {wanted}",) if wanted else ()


def _bad_cases(task: Task, cases: int, bad: Mapping[str, Sequence[str]]) -> str:
    """Every bad case with every reason, a line each, and what to do."""
    lines = [
        f"task {task.name!r}, case {case}: {reason}"
        for case, reasons in bad.items()
        for reason in reasons
    ]
    remedy = (
        f"mend them (python -m medvision.data check {task.folder}), or set data.on_bad_case: "
        "exclude"
    )
    return "\n".join(
        [*lines, f"task {task.name!r}: {len(bad)} of {cases} cases cannot be used: {remedy}"]
    )


def _remembered_block(llm: LlmSettings) -> BlockInputs:
    from medvision.llm import BlockError, cached_fingerprint

    try:
        fingerprint = cached_fingerprint(llm.source, llm.layer)
    except (AssetError, BlockError) as error:
        return BlockInputs(size=_size(llm), missing=str(error))
    if fingerprint is None:
        return BlockInputs(
            size=_size(llm), missing=f"block {llm.source!r} was not read yet; the first run does"
        )
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
    """Width of a layer and weights of its matrices, for the estimate only."""
    from medvision.llm import BlockError, describe_block

    try:
        about = describe_block(llm.source)
    except (AssetError, BlockError):
        return None
    width = int(about["hidden_size"])
    attention = 2 * about["head_dim"] * (about["heads"] + about["kv_heads"])
    feed_forward = (3 if about["gated"] else 2) * about["intermediate_size"]
    return {"hidden_size": width, "parameters": width * int(attention + feed_forward)}
