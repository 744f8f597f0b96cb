"""What the files of a study hold, typed: one place that writers and readers share.

Every type reads what earlier versions wrote: fields that came later have defaults, fields that it
does not know are kept, and `to_json` gives back exactly the keys that were set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import Field, field_validator

from record.metric import Metric
from record.stored import Stored

SCHEMA_VERSION = 1
CELL = ("model", "task", "fraction", "fold", "seed")


@dataclass(frozen=True)
class Cell:
    """One place of the grid; `model` is the name shown in tables."""

    model: str
    task: str
    fraction: float
    fold: int
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.model} {self.task} fraction {self.fraction:g} fold {self.fold} seed {self.seed}"
        )


class Scoring(Stored):
    """Definitions of the surface metrics, and each task's NSD tolerances in mm, the tables' one
    first.
    """

    nsd: str
    hd95: str
    tolerances: dict[str, list[float]]


class Comparison(Stored):
    """Paired tests of candidates against a baseline; `family`: the columns that share a correction;
    `equivalence`: per metric, the largest difference without practical importance.
    """

    baseline: str
    candidates: list[str]
    metrics: list[str]
    family: list[str]
    equivalence: dict[str, float] = {}


class Recipe(Stored):
    """What defaults decide: sizes of the network's input and of a patch in voxels, and the epochs
    (None where steps say how long).
    """

    image_size: list[int] | None = None
    patch_size: list[int] | None = None
    epochs: int | None = None


class PlannedTrial(Stored):
    """A cell of the grid with its ids (None while its settings are searched), and what it costs:
    seconds of arithmetic, GPUs held, and whether nothing is trained.
    """

    model: str
    task: str
    fraction: float
    fold: int
    seed: int
    train_id: str | None
    eval_id: str | None
    notes: list[str] = []
    arithmetic_seconds: float = 1.0
    gpus: float = 0.0
    rescore: bool = False

    @property
    def place(self) -> str:
        """Its cell as reports name it: `model ViT_Baseline, task Task04, ...`."""
        return ", ".join(f"{name} {getattr(self, name)}" for name in CELL)


class StudyPlan(Stored):
    """plan.json: all that reports know of the spec, and every trial in the order of the grid.

    `settings`: model -> its resolved settings; `blocks`: model -> fingerprint of its block;
    `excluded`: task -> broken case -> reasons; `doubts`: what is odd about the data in use;
    `searches`: ids of the searches that chose settings.
    """

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema")
    name: str
    models: list[str]
    tasks: list[str]
    fractions: list[float]
    metrics: dict[str, Metric]
    both_empty: str
    scoring: Scoring
    comparisons: list[Comparison]
    descriptions: dict[str, str] = {}
    settings: dict[str, dict[str, Any]] = {}
    modalities: dict[str, str] = {}
    recipe: Recipe = Recipe()
    resources: dict[str, float] = {}
    trials: list[PlannedTrial]
    blocks: dict[str, str | None] = {}
    excluded: dict[str, dict[str, list[str]]] = {}
    doubts: list[str] = []
    searches: list[str] = []

    @field_validator("metrics", mode="before")
    @classmethod
    def _of_version_1(cls, metrics: dict[str, Any]) -> dict[str, Any]:
        """Metrics as plans hold them, those of version 1 completed."""
        return {
            name: about
            if isinstance(about, Metric) or "perfect" in about
            else Metric.known(name, about)
            for name, about in metrics.items()
        }

    def finished(self, commits: Mapping[str, Commit]) -> list[tuple[PlannedTrial, Commit]]:
        """The trials that are finished, each with its marker."""
        return [
            (trial, commits[trial.eval_id])
            for trial in self.trials
            if trial.eval_id and trial.eval_id in commits
        ]

    def missing(self, commits: Mapping[str, Commit]) -> list[PlannedTrial]:
        """The trials that are not."""
        return [trial for trial in self.trials if trial.eval_id not in commits]


class StudyFile(Stored):
    """study.json: the resolved spec, the fingerprints of the blocks by model, and where the data
    lie; workers read it.
    """

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema")
    spec: dict[str, Any]
    blocks: dict[str, str | None]
    data_root: str


class SplitFold(Stored):
    """`order`: units (lists of case ids) that are not tested, in the study's order."""

    test: list[str]
    order: list[list[str]]


class Split(Stored):
    """splits/TASK.json: every case's fingerprint, its patient where a grouping is given, and every
    fold; `order`: the study's units in order, where cases came or went since its folds were made;
    `excluded`: broken case -> reasons; `reserved_for_search`: units of no fold.
    """

    rule: str = ""
    settings: dict[str, Any] = {}
    cases: dict[str, str]
    patients: dict[str, str] = {}
    folds: list[SplitFold]
    order: list[list[str]] = []
    excluded: dict[str, list[str]] = {}
    reserved_for_search: list[list[str]] = []


class Needs(Stored):
    """needs.json: what every machine of a cluster must have."""

    uri: str
    root: str
    embedded: bool
    assets: list[str]
    versions: dict[str, str]


class Claim(Stored):
    """claims/TRAIN_ID.json: the attempt that may commit, and the evaluation that it is for."""

    remedy: ClassVar[str] = "remove it and run the study's command again"
    token: str
    eval_id: str | None = None


class Cost(Stored):
    """What a training and its evaluation took, over all attempts: seconds, bytes, and joules where
    a GPU counts them.
    """

    seconds: float
    epochs: int = 0
    chosen_epoch: int
    parameters: int
    trained_parameters: int
    peak_memory_bytes: int
    energy_joules: float | None = None


class Attempt(Stored):
    """Where and how an attempt ran: processes, threads of each, cases at once after a lack of
    memory.
    """

    world: int
    threads: int
    micro_batch: int | None = None
    device: str = "cpu"
    host: str = ""
    pid: int = 0


class Identity(Stored):
    """What an evaluation's two ids are the digests of."""

    train: dict[str, Any] = {}
    eval: dict[str, Any] = {}


class Commit(Stored):
    """commits/EVAL_ID.json: an evaluation is finished. `files`: kind -> path in the study,
    `sha256`: kind -> digest of that file; `finished`: UTC, ISO 8601.
    """

    remedy: ClassVar[str] = "remove it and run the study's command again, which runs its trial anew"
    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema")
    eval_id: str
    train_id: str
    token: str
    cell: Cell
    identity: Identity = Identity()
    files: dict[str, str]
    cost: Cost
    notes: list[str] = []
    attempt: Attempt
    finished: str
    sha256: dict[str, str] = {}

    @property
    def finished_at(self) -> datetime:
        """When it was committed."""
        return datetime.strptime(self.finished, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


class Failure(Stored):
    """failures/EVAL_ID/TOKEN.json: why an attempt failed; `kind`: that of
    `orchestrator.planning.retry`, `epoch`: how many were finished, `time`: seconds since 1970.
    """

    remedy: ClassVar[str] = "remove it and run the study's command again"
    token: str = ""
    kind: str = "exception"
    reason: str
    details: str = ""
    epoch: int = 0
    micro_batch: int | None = None
    time: float = 0.0
    cell: Cell | None = None


class SearchTrial(Stored):
    """search/ID/NUMBER.json: a trial of a search. `state`: complete, pruned or failed; `value`: the
    validation Dice; `curve`: (steps, validation Dice) by epoch.
    """

    remedy: ClassVar[str] = "remove it and run the study's command again"
    number: int
    settings: dict[str, Any]
    state: str
    value: float | None = None
    curve: list[tuple[int, float]] = []
    seconds: float | None = None
    reason: str = ""


class SearchOutcome(Stored):
    """An entry of search.json: what a search found for a model and task, for one fold or for all
    (`fold` None). `settings` None: every trial failed, and `reason` says how.
    """

    model: str
    task: str
    fold: int | None
    settings: dict[str, Any] | None
    value: float | None = None
    number: int | None = None
    reason: str
    counts: dict[str, int]
    cases: dict[str, int]
    trials: list[SearchTrial]
    identity: dict[str, Any]
