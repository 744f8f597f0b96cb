"""The ids of a trial: two that change exactly when the numbers can change.

`train_id` covers all that can change the weights, `eval_id` all that can change the scores.
Resources, storage, names and logging are no part of either. Pure; imports no torch and no Ray.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from medvision.data.splits import Roles
from medvision.seeds import derive_seed
from medvision.settings import counted
from medvision.versions import EVAL_NUMERICS, TOOL_NUMERICS, TRAIN_NUMERICS
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.other_tools import NnUNetV2Settings
from orchestrator.spec.study import Spec
from record import paths
from record.schema import Cell

Identity = dict[str, Any]


@dataclass(frozen=True)
class Tuning:
    """Makes a job one of a search's trials: it trains on the search's cases and tests nothing.

    `medians`: (steps, validation Dice) below which it is ended; none in a trial that may not be
    pruned.
    """

    search: str
    number: int
    medians: Sequence[Sequence[float]] = ()

    def identity(self, training: Identity) -> Identity:
        """The identity of this trial, out of that of its training."""
        return training | {"search": {"id": self.search, "number": self.number}}


@dataclass(frozen=True)
class Job:
    """What a worker is given; everything else is in the study.

    `rescore_of`: evaluation whose masks are scored again. `micro_batch`: at most this many cases of
    a rank at once, after a lack of memory. `settings`: dotted, instead of the spec's, as a
    search chose them.
    """

    cell: Cell
    train_id: str
    eval_id: str
    token: str
    rescore_of: str | None = None
    micro_batch: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    tuning: Tuning | None = None

    @property
    def title(self) -> str:
        """Its name for people."""
        if self.tuning is None:
            return str(self.cell)
        return (
            f"{self.cell.model} {self.cell.task} search "
            f"{self.tuning.search[:8]}/{self.tuning.number}"
        )

    @property
    def record(self) -> str:
        """The study's file that is there when the job is finished."""
        tuning = self.tuning
        return (
            paths.search_trial(tuning.search, tuning.number)
            if tuning
            else paths.commit(self.eval_id)
        )

    def batch_size(self, default: int) -> int:
        """Cases of a step; `default` is the spec's."""
        return int(self.settings.get("training.batch_size", default))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        tuning = Tuning(**value["tuning"]) if value.get("tuning") else None
        return cls(**{**value, "cell": Cell(**value["cell"]), "tuning": tuning})


def train_identity(
    spec: Spec,
    model: Any,
    task: TaskSpec,
    fold: int,
    seed: int,
    roles: Roles,
    fingerprints: Mapping[str, str],
    block: str | None,
) -> Identity:
    """All that can change the weights of one trial.

    Args:
        fingerprints: case id -> content fingerprint.
        block: fingerprint of the language-model block, None without one.
    """
    common = training_settings(spec, model, task, block)
    return training_of(common, role_contents(roles, fingerprints), fold, seed)


@dataclass(frozen=True)
class RoleContents:
    """What is in each role of a fold at a fraction, in short (`_content`)."""

    train: Mapping[str, Any]
    validation: Mapping[str, Any]
    test: Mapping[str, Any]


def role_contents(roles: Roles, fingerprints: Mapping[str, str]) -> RoleContents:
    """The contents of all roles.

    Args:
        fingerprints: case id -> content fingerprint.
    """
    every = (roles.train, roles.validation, roles.test)
    return RoleContents(*(_content(cases, fingerprints) for cases in every))


def training_settings(spec: Spec, model: Any, task: TaskSpec, block: str | None) -> Identity:
    """What all trainings of a model on a task have in common of `train_identity`."""
    settings = counted(model)
    if isinstance(model, NnUNetV2Settings):  # which has a recipe of its own
        return {
            "numerics": f"nnU-Net {TOOL_NUMERICS}",
            "model": settings,
            "task": counted(task),
            "groups": dict(spec.groups(task)),
        }
    with_block = params["match"] if (params := settings.get("params")) else settings
    if llm := with_block.get("llm"):  # `block` is where ids have the content of its weights
        control = {"control": "identity"} if llm.get("block") == "identity" else {}
        llm |= {"block": block} | control
    return {
        "numerics": TRAIN_NUMERICS,
        "model": settings,
        "task": counted(task),
        "data": counted(spec.data),
        "training": counted(spec.training),
    }


def training_of(
    common: Mapping[str, Any], contents: RoleContents, fold: int, seed: int
) -> Identity:
    """`train_identity` out of its parts: thousands of trials share them."""
    return {
        **common,
        "train_cases": contents.train,
        "validation_cases": contents.validation,
        "fold": fold,
        "seed": seed,
    }


def draw_of(training: Identity) -> int:
    """The seed of everything that chance decides in a training: initial weights, a random block,
    the order of the cases, dropout and augmentation.

    It follows from seed, task, fold and training cases, so that the trainings of one seed are draws
    of their own and a mean over folds also averages luck. The models of a cell have it in common.
    The trials of a search do, too, and it is another one than the grid's: what the search chose is
    not trained from the very start that it was chosen on.
    """
    place = (training["seed"], training["task"]["name"], training["fold"])
    cases = training["train_cases"]["sha256"]
    return derive_seed("search" if "search" in training else "grid", *place, cases)


def external_identity(spec: Spec, task: TaskSpec, content: Mapping[str, Any]) -> Identity:
    """What the train_id of other tools' masks is a digest of: what they hold, and the label groups
    that are scored.
    """
    return {"external": dict(content), "groups": dict(spec.groups(task))}


def external_content(
    masks: str, labels: Mapping[str, Any], *, probabilities: bool = False
) -> dict[str, Any]:
    """What other tools' masks hold, in short.

    Args:
        masks: digest of the hash of each tested case's mask.
        labels: the structures' values in them, where they are others than the truth's.
        probabilities: whether they hold these.
    """
    known = {"masks": masks, "labels": dict(labels)}
    return known | ({"probabilities": True} if probabilities else {})


def eval_identity(
    spec: Spec, task: TaskSpec, train_id: str, roles: Roles, fingerprints: Mapping[str, str]
) -> Identity:
    """All that can change the scores of a trained model."""
    return scoring_of(scoring_settings(spec, task), train_id, role_contents(roles, fingerprints))


def scoring_settings(spec: Spec, task: TaskSpec) -> Identity:
    """What all evaluations on a task have in common of `eval_identity`."""
    scoring = counted(spec.evaluation) | {"tolerances": spec.tolerances(task)}
    return {"numerics": EVAL_NUMERICS, "scoring": scoring}


def scoring_of(common: Mapping[str, Any], train_id: str, contents: RoleContents) -> Identity:
    """`eval_identity` out of its parts."""
    return {**common, "train_id": train_id, "test_cases": contents.test}


def digest(identity: Identity) -> str:
    """sha256 of the canonical JSON form."""
    return hashlib.sha256(_canonical(identity).encode()).hexdigest()


def differences(old: Identity, new: Identity) -> list[str]:
    """What changed between two identities, one readable line per key: `training.epochs: 10 ->
    5`.
    """
    before, after = dict(flattened(old)), dict(flattened(new))
    keys = sorted(before.keys() | after.keys())
    return [
        f"{key}: {_shown(before, key)} -> {_shown(after, key)}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _content(cases: Sequence[str], fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """A role's cases in their order, short: their number and one hash over ids and contents."""
    return {
        "count": len(cases),
        "sha256": digest({"cases": [[case, fingerprints[case]] for case in cases]}),
    }


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def split_and_metric(name: str) -> tuple[str, str]:
    """A metric of an epoch as the history calls it: `val_dice` is (val, dice), `lr` is (train,
    lr).
    """
    split, _, metric = name.rpartition("_")
    return split or "train", metric


def flattened(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as pairs of dotted key and value."""
    if not (isinstance(value, Mapping) and value):
        return [(prefix, value)]
    inside = ((f"{prefix}.{name}" if prefix else str(name), inner) for name, inner in value.items())
    return [pair for name, inner in inside for pair in flattened(inner, name)]


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "absent"
    text = _canonical(values[key])
    return text[:11] + '…"' if len(text) > 40 else text
