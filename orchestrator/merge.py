"""Studies of one spec that were run at different places, united: `medvision merge A B --into C`.

Ids are hashes of contents, so a trial is the same wherever it ran. What would make one table of
unlike numbers is refused by name: other settings, data, folds, weights or numerics. Exit codes: 0
done, 1 trials are missing still, 2 the studies do not fit together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medvision.data.split_files import from_split
from orchestrator.planning.found import BlockInputs, Inputs, TaskInputs
from orchestrator.planning.identity import differences
from orchestrator.planning.other_tools import planned_masks, with_others
from orchestrator.planning.plan import make_plan
from orchestrator.planning.study_files import stored_spec, study_plan
from orchestrator.spec.study import Spec, model_name
from record import paths
from record.command import begin_command
from record.external import ExternalMethod, external_methods, save_method, united_methods
from record.frozen import left_behind, note_trainings
from record.lock import StudyLockedError, study_lock
from record.reliance import knocked_of, knocked_trials, save_knocked
from record.schema import Split, StudyFile
from record.spent import save_spent, united_spent
from record.store import Store, StoreError
from record.stored import SCHEMA_VERSION, problems
from record.study import StoredStudy
from record.terminal import say

# What the united studies may have of their own: parts of the grid, and what changes no number.
PARTS = ("models", "tasks", "fractions", "seeds")
OWN = ("name", "storage", "resources", "tracking", "limits", "comparisons", *PARTS)
SHOWN = 5


class MergeError(ValueError):
    """The studies do not fit together; the message has a line for each reason."""


def merge(sources: Sequence[Store], into: Store) -> StoredStudy:
    """Copy every finished trial into one study, and write its plan and what all of it cost.

    Args:
        sources: the studies, in the order in which models, tasks, fractions and seeds stand then.
        into: a new study, or one that was merged before, which is then the first of them.

    Raises:
        MergeError: why they cannot be one study.
        StoreError: one is no study, or cannot be read or written.
    """
    stores = [into, *sources] if into.read(paths.PLAN) is not None else list(sources)
    studies = [StoredStudy.opened(store) for store in stores]
    for study in studies:
        stored_spec(study)  # of this version
    methods, unlike = _other_tools(studies)
    masks, others = planned_masks([(study, stored_spec(study)) for study in studies])
    if wrong := [*_settings(studies), *_contents(studies), *_numerics(studies), *unlike, *others]:
        raise MergeError("\n".join(dict.fromkeys(wrong)))
    spec, spent = _united(studies, into), united_spent(sources, into)
    splits = {task: split for study in reversed(studies) for task, split in study.splits.items()}
    blocks = {
        name: found for study in reversed(studies) for name, found in study.settings.blocks.items()
    }
    inputs = Inputs(
        {task: _task_inputs(split) for task, split in splits.items()},
        {
            name: BlockInputs(fingerprint=found)
            for name, found in blocks.items()
            if found is not None
        },
        masks=masks,
    )
    commits = {name: one for study in studies for name, one in study.finished.commits.items()}
    plan = make_plan(spec, inputs, commits, {})
    described = {
        task: text for study in studies for task, text in study.plan.descriptions.items() if text
    }
    for method in methods:
        save_method(into, method)
    stored = study_plan(spec, inputs, plan, described)
    doubts = list(dict.fromkeys(line for study in studies for line in study.plan.doubts))
    stored = stored.model_copy(update={"doubts": doubts} if doubts else {})
    stored = with_others(into, spec, inputs, stored)
    wanted = {trial.eval_id for trial in stored.trials}
    for study in reversed(studies):  # the first result of a trial stays
        save_knocked(into, knocked := knocked_trials(study.store))
        wanted |= {one.eval_id for one in knocked}
    for study in studies:
        if study.store.uri != into.uri:
            _copy(study, into, wanted)
    for task in stored.tasks:
        into.save(paths.split(task), splits[task])
    values = {**studies[0].settings.spec, **spec.model_dump(mode="json", include=set(OWN))}
    root = next(study.settings.data_root for study in studies)
    into.save(
        paths.STUDY, StudyFile(schema=SCHEMA_VERSION, spec=values, blocks=blocks, data_root=root)
    )
    if (manifest := next((one.manifest for one in studies if one.manifest), None)) is not None:
        into.save(paths.MANIFEST, manifest)
    save_spent(into, spent)
    note_trainings(into, stored)
    into.save(paths.PLAN, stored)
    return StoredStudy.opened(into)


def _settings(studies: Sequence[StoredStudy]) -> list[str]:
    """Settings beside the parts of the grid that differ from the first study's."""
    first, lines = studies[0], list[str]()
    for study in studies[1:]:
        one, other = (_shared(each.settings.spec) for each in (first, study))
        lines += [
            f"{first.store.uri} and {study.store.uri}: {line}" for line in differences(one, other)
        ]
    for part in ("models", "tasks"):
        known: dict[str, tuple[str, Any]] = {}
        for study in studies:
            for entry in study.settings.spec[part]:
                name = str(entry.get("name") or entry.get("label"))
                where, earlier = known.setdefault(name, (study.store.uri, entry))
                if earlier != entry:
                    changed = "; ".join(differences(earlier, entry))
                    lines.append(f"{where} and {study.store.uri}: {part} {name}: {changed}")
    if any(study.settings.spec.get("search") for study in studies):
        lines.append("studies with a search cannot be merged: its trials are not shared")
    return lines


def _shared(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same in all of them."""
    values = {name: value for name, value in spec.items() if name not in OWN}
    return values | {"data": {k: v for k, v in spec["data"].items() if k != "root"}}


def _contents(studies: Sequence[StoredStudy]) -> list[str]:
    """Cases, folds and blocks that differ under one name, and results that are damaged."""
    lines: list[str] = []
    tasks: dict[str, tuple[str, Split]] = {}
    blocks: dict[str, tuple[str, str | None]] = {}
    for study in studies:
        uri = study.store.uri
        lines += [f"damaged: {line}" for line in study.finished.damaged.values()]
        for task, split in study.splits.items():
            where, first = tasks.setdefault(task, (uri, split))
            cases = sorted(
                case
                for case in {*first.cases, *split.cases}
                if first.cases.get(case) != split.cases.get(case)
            )
            if cases:
                more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
                lines.append(
                    f"{where} and {uri}: data of {task} differ: {', '.join(cases[:SHOWN])}{more}"
                )
            elif from_split(first) != from_split(split) or first.patients != split.patients:
                lines.append(f"{where} and {uri}: the folds of {task} differ")
        for model, found in study.settings.blocks.items():
            where, block = blocks.setdefault(model, (uri, found))
            if block != found:
                lines.append(
                    f"{where} and {uri}: the language-model block of {model} differs "
                    f"({str(block)[:12]} and {str(found)[:12]})"
                )
    return lines


def _numerics(studies: Sequence[StoredStudy]) -> list[str]:
    """Versions of the arithmetic that differ: their trials would never have one plan's ids."""
    first: dict[str, tuple[str, Any]] = {}
    lines = []
    for study in studies:
        for _, marker in study.plan.finished(study.finished.commits):
            for kind in ("train", "eval"):
                numerics = getattr(marker.identity, kind).get("numerics")
                if numerics is None:  # of other tools' masks
                    continue
                where, known = first.setdefault(kind, (study.store.uri, numerics))
                if known != numerics:
                    lines.append(
                        f"{where} and {study.store.uri}: {kind} numerics {known} and {numerics}: "
                        "run one of them again with the other's version of medvision"
                    )
    return lines


def _other_tools(studies: Sequence[StoredStudy]) -> tuple[list[ExternalMethod], list[str]]:
    """The methods of other tools, with what each study has of them, and what does not fit."""
    methods, lines = united_methods(
        [(study.store.uri, external_methods(study.store)) for study in studies]
    )
    own = {name for study in studies for name in map(model_name, stored_spec(study).models)}
    return methods, lines + [
        f"{method.name} is a model of one study and another tool's masks in another"
        for method in methods
        if method.name in own
    ]


def _united(studies: Sequence[StoredStudy], into: Store) -> Spec:
    """The spec of all of them: every part of the grid that one has, in the order in which they
    come.
    """
    values = dict(studies[0].settings.spec)
    for part in PARTS:
        values[part] = _once(entry for one in studies for entry in one.settings.spec[part])
    values["comparisons"] = _once(
        entry for one in studies for entry in one.settings.spec["comparisons"]
    )
    storage, _, name = into.uri.rpartition("/")
    values |= {"name": name, "storage": storage or "."}
    try:
        return Spec.model_validate(values)
    except ValidationError as error:
        raise MergeError(f"the united spec is not valid: {problems(error)}") from error


def _once(entries: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        if entry not in found:
            found.append(entry)
    return found


def _task_inputs(split: Split) -> TaskInputs:
    return TaskInputs(
        tuple(from_split(split)),
        split.cases,
        excluded=split.excluded,
        reserved=tuple(map(tuple, split.reserved_for_search)),
        patients=split.patients,
    )


def _copy(study: StoredStudy, into: Store, wanted: set[str | None]) -> None:
    """Copy what a study has finished, files first and the marker last; the first result of a trial
    stays.
    """
    there, own = into.committed(), study.finished.commits
    _, without_block = knocked_of(study.store, study.plan, own)
    for eval_id, marker in sorted({**own, **without_block.commits}.items()):
        if eval_id not in wanted or eval_id in there:
            continue
        for relative in marker.files.values():
            content = study.store.read(relative)
            if content is None:
                raise StoreError(f"{study.store.path(relative)}: is named by a commit and missing")
            into.write(relative, content)
        claim = study.store.read(paths.claim(marker.train_id))
        if claim is not None:
            into.write(paths.claim(marker.train_id), claim)
        into.save(paths.commit(eval_id), marker)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    parser = argparse.ArgumentParser(
        prog="medvision merge",
        description="Unite studies of one spec that were run at different places, each a part of "
        "its models, tasks, fractions or seeds; what they are merged from stays as it is.",
        epilog="example: medvision merge host1/full host2/full host3/full --into runs/full",
    )
    parser.add_argument(
        "studies", nargs="+", metavar="STUDY", help="folders or fsspec URIs: <storage>/<name>"
    )
    parser.add_argument("--into", required=True, metavar="STUDY", help="the united study")
    options = parser.parse_args(argv)
    into = options.into
    try:
        target = Store(into if "://" in into else str(Path(into).expanduser().resolve()))
        sources = [Store(uri) for uri in options.studies]
        for source in sources:  # before anything is written
            StoredStudy.opened(source)
        with study_lock(target):
            study = merge(sources, target)
        from reports.build import build_report

        report = build_report(study)
        for line in left_behind(sources):
            say(f"warning: {line}", file=sys.stderr)
    except (MergeError, StoreError, StudyLockedError) as error:
        for line in str(error).splitlines():
            say(f"error: {line}", file=sys.stderr)
        return 2
    say(report.markdown)
    return 0 if report.complete else 1


if __name__ == "__main__":
    sys.exit(main())
