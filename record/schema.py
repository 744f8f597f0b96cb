"""What the files of a study hold, typed: one place that writers and readers share.

Every type reads what earlier versions wrote: fields that came later have defaults, fields that it
does not know are kept, and `to_json` gives back exactly the keys that were set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from record.comparison import Comparison, Division
from record.metric import Metric
from record.stored import SCHEMA_VERSION, TIME_FORMAT, Stored

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
    first; `own`: metric of one's own -> what decides its numbers and how they are read. Older
    plans lack `own`, and it is stored only where there are such metrics.
    """

    nsd: str
    hd95: str
    tolerances: dict[str, list[float]]
    own: dict[str, dict[str, Any]] = {}

    @model_serializer(mode="wrap")
    def _without_empty(self, stored: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = stored(self)
        return {name: value for name, value in values.items() if name != "own" or value}


class Recipe(Stored):
    """What defaults decide: sizes of the network's input and of a patch in voxels, and the epochs
    (None where steps say how long); `validation`: whose cases validate at a fraction.
    """

    image_size: list[int] | None = None
    patch_size: list[int] | None = None
    epochs: int | None = None
    validation: str = "fraction"


class PlannedTrial(Stored):
    """A cell of the grid with its ids (None while its settings are searched), and what it costs:
    seconds of arithmetic, GPUs held, and whether nothing is trained. `fold` counts through all
    repeats of a cross-validation, `repeat` is which one it belongs to.
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
    repeat: int = 0

    @property
    def place(self) -> str:
        """Its cell as reports name it: `model ViT_Baseline, task Task04, ...`."""
        return ", ".join(f"{name} {getattr(self, name)}" for name in CELL)


class StudyPlan(Stored):
    """plan.json: all that reports know of the spec, and every trial in the order of the grid.

    `settings`: model -> its resolved settings; `blocks`: model -> fingerprint of its block;
    `excluded`: task -> broken case -> reasons; `doubts`: what is odd about the data in use;
    `searches`: ids of the searches that chose settings; `training`, `data`: the settings that count
    in ids, as the spec has them. Not in older plans: `counted`, model -> those of its settings that
    decide its numbers; `splits`, how folds are made; `search`, its settings, {} without one;
    `divisions`, by name what the comparisons' subgroups are.
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
    training: dict[str, Any] = {}
    data: dict[str, Any] = {}
    resources: dict[str, float] = {}
    trials: list[PlannedTrial]
    blocks: dict[str, str | None] = {}
    excluded: dict[str, dict[str, list[str]]] = {}
    doubts: list[str] = []
    searches: list[str] = []
    counted: dict[str, dict[str, Any]] | None = None
    splits: dict[str, Any] | None = None
    search: dict[str, Any] | None = None
    divisions: dict[str, Division] = {}

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
    """`order`: units (lists of case ids) that are not tested, in the order of the repeat;
    `repeat`: which cross-validation it belongs to.
    """

    test: list[str]
    order: list[list[str]]
    repeat: int = 0


class Split(Stored):
    """splits/TASK.json: every case's fingerprint, its patient where a grouping is given, and every
    fold; `order`: the study's units in order, where cases came or went since its folds were made
    (`repeated_orders`: those of later repeats, by repeat);
    `excluded`: broken case -> reasons; `reserved_for_search`: units of no fold.
    """

    remedy: ClassVar[str] = (
        "put back the file, or remove it and run the study's command again, which makes its folds "
        "anew"
    )
    rule: str = ""
    settings: dict[str, Any] = {}
    cases: dict[str, str]
    patients: dict[str, str] = {}
    folds: list[SplitFold]
    order: list[list[str]] = []
    repeated_orders: dict[str, list[list[str]]] = {}
    excluded: dict[str, list[str]] = {}
    reserved_for_search: list[list[str]] = []


class Claim(Stored):
    """claims/TRAIN_ID.json: the attempt that may commit, and the evaluation that it is for."""

    remedy: ClassVar[str] = "remove it and run the study's command again"
    token: str
    eval_id: str | None = None


class Cost(Stored):
    """What a training and its evaluation took, over all attempts: seconds, bytes, and joules where
    a GPU counts them. `known`: False of masks that another tool made, whose numbers are all 0.
    """

    seconds: float
    epochs: int = 0
    chosen_epoch: int
    parameters: int
    trained_parameters: int
    peak_memory_bytes: int
    energy_joules: float | None = None
    known: bool = True


class Attempt(Stored):
    """Where and how an attempt ran; `micro_batch`: cases at once after a lack of memory."""

    world: int
    threads: int
    micro_batch: int | None = None
    device: str = "cpu"
    tf32: bool | None = None
    host: str = ""
    pid: int = 0

    def __str__(self) -> str:  # what changes last digits
        tf32 = ", TF32" if self.tf32 else ""
        return f"{self.device}, {self.world} x {self.threads} threads{tf32}"


class Identity(Stored):
    """What the two ids of an evaluation are digests of."""

    train: dict[str, Any] = {}
    eval: dict[str, Any] = {}


class Commit(Stored):
    """commits/EVAL_ID.json: an evaluation is finished. `files`: kind -> path in the study,
    `sha256`: kind -> digest of that file; `finished`: UTC, ISO 8601; `environment`: git commit and
    versions that made it, empty of older ones.
    """

    remedy: ClassVar[str] = "run the study's command again, which runs its trial again"
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
    environment: dict[str, str] = {}

    @property
    def finished_at(self) -> datetime:
        """When it was committed."""
        return datetime.strptime(self.finished, TIME_FORMAT).replace(tzinfo=UTC)


class SpentFile(Stored):
    """spent.json: GPU-seconds that attempts at each evaluation held, whatever became of them."""

    remedy: ClassVar[str] = "remove it: limits.gpu_hours then counts finished trials alone"
    gpu_seconds: dict[str, float] = {}


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
