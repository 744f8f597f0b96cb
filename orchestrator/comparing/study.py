"""The record of a comparison: a study's files, so that the same reports are built from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from medvision.data.label_files import contents_of
from medvision.metrics.definitions import USUAL
from medvision.settings import counted
from medvision.versions import EVAL_NUMERICS
from orchestrator.comparing.committed import commit_scores, new_token, whole_of
from orchestrator.comparing.scored import Truths, score_trainings
from orchestrator.comparing.trainings import Training
from orchestrator.planning.identity import digest
from record import paths
from record.comparison import Comparison
from record.damage import finished_of
from record.external import EXTERNAL
from record.frozen import note_trainings
from record.manifest import manifest
from record.metric import Metric
from record.schema import (
    Cell,
    Identity,
    PlannedTrial,
    Scoring,
    Split,
    SplitFold,
    StudyPlan,
)
from record.store import Store, StoreError
from record.stored import SCHEMA_VERSION
from record.study import StoredStudy

RULE = "Masks that other tools made; which cases trained them is not known here."


@dataclass(frozen=True)
class Design:
    """What a comparison tests, and what its report says of it. `patients`: by case, where a
    grouping is given.
    """

    task: str
    baseline: str
    metrics: Sequence[str]
    both_empty: str
    patients: Mapping[str, str] = field(default_factory=dict)
    equivalence: Mapping[str, float] = field(default_factory=dict)


def write_comparison(
    store: Store,
    truths: Truths,
    trainings: Sequence[Training],
    design: Design,
    on_mask: Callable[[], object] = lambda: None,
) -> StoredStudy:
    """Score what is not scored yet, and write the study that reports are built from.

    Raises:
        MasksError: as `score_trainings`; nothing is written then.
        StoreError: the folder holds another study, or cannot be written.
    """
    if store.read(paths.STUDY) is not None:
        raise StoreError(
            f"{store.uri}: holds a study that was trained; name another folder by --output"
        )
    contents = contents_of(truths.sources)
    identities = [_identities(one, truths, contents) for one in trainings]
    ids = [(digest(training), digest(scoring)) for training, scoring in identities]
    every = list(dict.fromkeys(eval_id for _, eval_id in ids))
    committed = store.committed()
    done = finished_of(store, [eval_id for eval_id in every if eval_id in committed]).commits
    todo = [number for number, (_, eval_id) in enumerate(ids) if eval_id not in done]
    for number in set(range(len(trainings))) - set(todo):
        for _ in trainings[number].masks:
            on_mask()
    scored = score_trainings(truths, [trainings[number] for number in todo], on_mask)
    plan = _plan(store.uri.rpartition("/")[2], truths, trainings, design, ids)
    store.save(paths.split(design.task), _split(trainings, design, contents))
    note_trainings(store, plan)
    token, there = new_token(), whole_of(store, every)
    for number, rows in zip(todo, scored, strict=True):
        if ids[number][1] in there:  # equal masks, which the plan gives to both cells
            continue
        there.add(ids[number][1])
        one, (training, scoring) = trainings[number], identities[number]
        cell = Cell(one.method, design.task, 1.0, one.fold, one.seed)
        identity = Identity(train=training, eval=scoring)
        commit_scores(store, token, cell, ids[number], identity, rows, sorted(rows))
    store.save(paths.MANIFEST, manifest({}, {"cases": {design.task: contents}, "blocks": {}}))
    store.save(paths.PLAN, plan)
    return StoredStudy(store, plan.as_read())


def _identities(
    one: Training, truths: Truths, contents: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the ids of a training and of its evaluation are digests of: contents, no names."""
    masks = contents_of(one.masks)
    training = {
        "external": {
            "count": len(masks),
            "masks": digest(masks),
            "groups": dict(truths.values(one.method)),
        }
    }
    if one.method in truths.probabilities:
        training["external"]["probabilities"] = True
    tested = {case: [contents[case], truths.spacing(case)] for case in masks}
    scoring = {
        "numerics": EVAL_NUMERICS,
        "train_id": digest(training),
        "test_cases": {"count": len(tested), "sha256": digest(tested)},
        "groups": dict(truths.groups),
        "scoring": counted(truths.scoring) | {"tolerances": list(truths.tolerances)},
    }
    if truths.allow_empty:  # without it, empty masks are refused in this folder again
        scoring["allow_empty"] = True
    return training, scoring


def _plan(
    name: str,
    truths: Truths,
    trainings: Sequence[Training],
    design: Design,
    ids: Sequence[tuple[str, str]],
) -> StudyPlan:
    models = list(dict.fromkeys(one.method for one in trainings))
    others = [model for model in models if model != design.baseline]
    scoring = truths.scoring
    compared = Comparison(
        baseline=design.baseline,
        candidates=others,
        metrics=list(design.metrics),
        family=["candidate"],
        equivalence=dict(design.equivalence),
    )
    return StudyPlan(
        schema=SCHEMA_VERSION,
        name=name,
        models=models,
        tasks=[design.task],
        fractions=[1.0],
        metrics={name: Metric.model_validate(asdict(info)) for name, info in USUAL.items()},
        both_empty=design.both_empty,
        scoring=Scoring(
            nsd=scoring.nsd,
            hd95=scoring.hd95,
            tolerances={design.task: list(truths.tolerances)},
        ),
        comparisons=[compared] if others else [],
        descriptions={design.task: _description(trainings, truths)},
        settings={model: {"label": EXTERNAL} for model in models},
        trials=[
            PlannedTrial(
                model=one.method,
                task=design.task,
                fraction=1.0,
                fold=one.fold,
                seed=one.seed,
                train_id=train_id,
                eval_id=eval_id,
                repeat=one.repeat,
            )
            for one, (train_id, eval_id) in zip(trainings, ids, strict=True)
        ],
        splits={"scheme": EXTERNAL},
    )


def _description(trainings: Sequence[Training], truths: Truths) -> str:
    """What the report says of the masks, one sentence or two."""
    count = len({(one.fold, one.seed) for one in trainings})
    groups = ", ".join(
        f"{name} ({'every value above 0' if values == 'all' else '+'.join(map(str, values))})"
        for name, values in truths.groups.items()
    )
    said = (
        f"{len(truths.sources)} cases with a truth, {count} training{'s' * (count > 1)} of each "
        f"method, whose masks other tools made and whose cost is unknown; structures: {groups}"
    )
    if any(one.repeat for one in trainings):
        said += (
            ". All trainings test the same cases, and each is taken as a training of its own: "
            "p methods speaks of new trainings that are made as these were; if all of them had one "
            "training set, of new trainings on that one"
        )
    return said


def _split(trainings: Sequence[Training], design: Design, contents: Mapping[str, str]) -> Split:
    first = trainings[0]
    tests = {
        one.fold: (one.repeat, sorted(one.masks))
        for one in trainings
        if one.method == first.method and one.seed == first.seed
    }
    return Split(
        rule=RULE,
        settings={"scheme": EXTERNAL},
        cases=dict(contents),
        folds=[
            SplitFold(test=test, order=[], repeat=repeat)
            for _, (repeat, test) in sorted(tests.items())
        ],
        patients=dict(sorted(design.patients.items())),
    )
