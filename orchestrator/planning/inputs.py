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

from medvision.assets import AssetError
from medvision.cache import limit_bytes
from medvision.data.embedded import TASK_NAME, embedded_root, write_embedded_task
from medvision.data.fingerprints import CaseIndex, cached_index, index_cases
from medvision.data.readers.base import Declared, Task
from medvision.data.readers.registry import read_declared, read_task
from medvision.data.settings import PROTOCOL_SETTINGS, Preparation
from medvision.data.shown import what_is_shown, with_warnings
from medvision.data.summary import absent_groups, doubts, lone_groups
from medvision.errors import DataError
from orchestrator.planning.blocks import prepared_block, remembered_block, unkept, with_block
from orchestrator.planning.folds import divided, patients_in
from orchestrator.planning.found import Inputs, TaskInputs
from orchestrator.planning.subgroups import parts_of_task
from orchestrator.planning.volumes import volumes_of
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.other_tools import NnUNetV2Settings, nnunetv2_missing
from orchestrator.spec.search import tuned
from orchestrator.spec.study import Spec
from record.names import checked
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
    """What is known without reading data: what is not known is named in `Inputs.missing`.

    Args:
        splits: task -> what the study's split file says, of a study that has one.
    """
    return Inputs(
        tasks=_tasks(spec, splits, measure=False),
        blocks={name: remembered_block(llm) for name, llm in with_block(spec).items()},
        tools=_missing_tools(spec),
    )


def gathered(spec: Spec, splits: Mapping[str, Split | None] = MappingProxyType({})) -> Inputs:
    """Everything a run needs, made where it is not there.

    Args:
        splits: as for `remembered`.

    Raises:
        InputError: what cannot be had, all problems at once.
    """
    problems: list[str] = []
    try:
        limit_bytes()
    except ValueError as error:
        problems.append(str(error))
    if spec.data.root == EMBEDDED:
        try:
            write_embedded_task()
        except (AssetError, OSError) as error:  # its cases are missing then, which is no news
            raise InputError("\n".join([*problems, unkept(error)])) from error
    tasks = _tasks(spec, splits, measure=True)
    blocks = {name: prepared_block(name, llm) for name, llm in with_block(spec).items()}
    inputs = Inputs(tasks, blocks, tools=_missing_tools(spec))
    if problems := [*problems, *inputs.missing]:
        raise InputError("\n".join(problems))
    return inputs


def _missing_tools(spec: Spec) -> tuple[str, ...]:
    """Other tools that the spec wants to train and that are not installed here."""
    wanted = any(isinstance(model, NnUNetV2Settings) for model in spec.models)
    return (missing,) if wanted and (missing := nnunetv2_missing()) else ()


def resolved(spec: Spec) -> Spec:
    """The spec with what each task's own dataset.json decides, so that planner and workers go by
    the same values.

    That is the label groups where they are `each`, and the modality for a protocol that reads it. A
    task whose folder is not there stays as it is: `gathered` says so.

    Raises:
        InputError: a dataset.json that lacks what is needed of it.
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
        own = task.label_groups is not None
        if declared and (task.label_groups if own else spec.data.label_groups) == "each":
            changes["label_groups"] = declared.structures
            problems += [f"the labels of {task.name}: {wrong}" for wrong in _unfit(declared)]
            if not declared.structures:
                problems.append(
                    f"{'tasks' if own else 'data'}.label_groups: each: the dataset.json of "
                    f"{task.name} declares no labels; name them"
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


def _unfit(declared: Declared) -> list[str]:
    """What is wrong with the names of structures that nobody wrote into a spec."""
    found = []
    for name in declared.structures:
        try:
            checked(name)
        except ValueError as error:
            found.append(str(error))
    return found


def _tasks(
    spec: Spec, splits: Mapping[str, Split | None], *, measure: bool
) -> dict[str, TaskInputs]:
    """Every task's inputs. One that is an earlier one under another name is refused: each of its
    comparisons would count twice."""
    found = {
        task.name: _task(spec, task, splits.get(task.name), measure=measure) for task in spec.tasks
    }
    first: dict[object, str] = {}
    for task in spec.tasks:
        if not (contents := frozenset(found[task.name].fingerprints.values())):
            continue
        settings = task.model_copy(update={"name": "", "tolerances": spec.tolerances(task)})
        earlier = first.setdefault((contents, settings.model_dump_json()), task.name)
        if earlier != task.name:
            found[task.name] = TaskInputs(
                missing=f"tasks {earlier!r} and {task.name!r} are the same {len(contents)} cases "
                "with the same settings, so that each comparison would count twice: name one"
            )
    return found


def _task(spec: Spec, task: TaskSpec, split: Split | None, *, measure: bool) -> TaskInputs:
    root = data_root(spec)
    if root is None:
        return TaskInputs(
            missing=f"no data folder is set: give data.root, or the variable {DATA_VARIABLE}"
        )
    if spec.data.root == EMBEDDED and task.name == TASK_NAME and not (root / TASK_NAME).is_dir():
        made = f"task {TASK_NAME!r} was not read yet; the first run makes it out of its asset"
        return TaskInputs(missing=made, unread=True)
    try:
        found = read_task(root, task.name)
        cases = index_cases(found) if measure else cached_index(found)
        unread = f"task {task.name!r} was not read yet ({found.folder}); the first run does"
        if cases is None:
            return TaskInputs(missing=unread, unread=True)
        unused = {case.id for case in found.test_cases} if spec.splits.scheme != "fixed" else set()
        paths = {case.id: case.image for case in (*found.cases, *found.test_cases)}
        usual = Counter(case.channels for case in cases if not case.errors).most_common(1)
        bad = {
            case.id: why
            for case in cases
            if case.id not in unused
            and (why := case.errors or _channels(case, paths[case.id], spec, task, usual[0][0]))
        }
        if bad and spec.data.on_bad_case == "stop":
            return TaskInputs(missing=_bad_cases(found, len(cases), bad))
        groups = _groups(spec, task, found)
        good = [case for case in cases if not case.errors and case.id not in bad]
        used = [case for case in good if case.id not in unused]
        if absent := absent_groups(used, groups):
            return TaskInputs(missing=_lines(task, absent))
        wanted = _preparation(spec, task, found, groups) if groups else None
        lost = what_is_shown(found, used, wanted, measure=measure) if wanted else {}
        if lost is None and spec.data.crop:  # it decides which cases are in use
            return TaskInputs(missing=unread, unread=True)
        lost = lost or {}
        if outside := {case: one.errors for case, one in lost.items() if one.errors}:
            bad |= outside
            if spec.data.on_bad_case == "stop":
                return TaskInputs(missing=_bad_cases(found, len(cases), outside))
            good, used = ([one for one in these if one.id not in outside] for these in (good, used))
            if absent := absent_groups(used, groups):
                return TaskInputs(missing=_lines(task, absent))
        shortened = {
            case: [reason.replace(f"{found.folder}/", "") for reason in why]
            for case, why in bad.items()
        }
        fingerprints = {case.id: case.fingerprint for case in good}
        patients = patients_in(spec, found, [case.id for case in used])
        parts = divided(spec, found, used, patients, split)
        return TaskInputs(
            parts.folds,
            fingerprints,
            excluded=shortened,
            reserved=parts.reserved,
            patients=patients,
            order=parts.order,
            parts=parts_of_task(spec, found, used, groups),
            volumes=volumes_of(spec, task, used, len(groups)),
            repeated_orders=parts.repeated_orders,
            changes=parts.changes,
            doubts=(
                *doubts(with_warnings(used, lost), found.folder),
                *lone_groups(used, groups),
            ),
        )
    except DataError as error:
        return TaskInputs(missing=str(error))


def _preparation(
    spec: Spec, task: TaskSpec, found: Task, groups: Mapping[str, Sequence[int] | str]
) -> Preparation:
    """What a network gets to see of the task, as `resolved` decides it."""
    modality = task.modality or list(found.declared.modality) or None
    named = {"label_groups": dict(groups), "modality": modality}
    return spec.preparation(task.model_copy(update=named))


def _lines(task: TaskSpec, problems: Sequence[str]) -> str:
    return "\n".join(f"task {task.name!r}: {problem}" for problem in problems)


def _groups(spec: Spec, task: TaskSpec, found: Task) -> Mapping[str, Sequence[int] | str]:
    """The task's label groups, also where dataset.json names them."""
    return spec.groups(task) or found.declared.structures


def _channels(
    case: CaseIndex, image: Path, spec: Spec, task: TaskSpec, usual: int
) -> tuple[str, ...]:
    """Why the number of a case's channels is no use to this study, if so."""
    wanted = ""
    if task.channel != "all" and case.channels <= task.channel:
        wanted = f"channel {task.channel} was asked for"
    elif case.channels != usual and task.channel == "all":
        wanted = f"most cases have {usual}, and channel: all takes them all"
    elif case.channels != usual and any(
        tuned(spec, model, {})[0].data.scaled == "file" for model in spec.models
    ):
        wanted = f"most cases have {usual}, and data.scaled: file scales by them all"
    return (f"{image}: has {case.channels} channels, {wanted}",) if wanted else ()


def _bad_cases(task: Task, cases: int, bad: Mapping[str, Sequence[str]]) -> str:
    """Every bad case with every reason, a line each, and what to do."""
    lines = [
        f"task {task.name!r}, case {case}: {reason}"
        for case, reasons in bad.items()
        for reason in reasons
    ]
    remedy = (
        f"repair them (python -m medvision.data check {task.folder}), or set data.on_bad_case: "
        "exclude"
    )
    return "\n".join(
        [*lines, f"task {task.name!r}: {len(bad)} of {cases} cases cannot be used: {remedy}"]
    )
