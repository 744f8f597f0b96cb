"""Which finished trials were scored again with their block knocked out (`medvision reliance`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from record import paths
from record.damage import FinishedTrials, finished_of
from record.schema import Cell, Commit, PlannedTrial, StudyPlan
from record.store import Store
from record.stored import Stored

# In the order of tables, and what the trained network then lacks.
KNOCK_OUTS: Mapping[str, str] = {
    "none": "nothing: predicted again as it is",
    "identity": "the block: its input stands for its output",
    "permuted": "the place of what the block says: its tokens in another order",
    "mean": "what the block says of single tokens: their mean stands at each",
    "swapped": "its own branch: mappers and block of another seed's training",
}


class Knocked(Stored):
    """A trained cell without its block. `of`: its own evaluation, of the weights with the digest
    `weights`; `train_id`, `eval_id`: those of its scores without the block.
    """

    model: str
    task: str
    fraction: float
    fold: int
    seed: int
    knock_out: str
    of: str
    weights: str
    train_id: str
    eval_id: str

    @property
    def name(self) -> str:
        """What tables call the model."""
        return knocked_name(self.model, self.knock_out)

    @property
    def cell(self) -> Cell:
        """Of its scores."""
        return Cell(self.name, self.task, self.fraction, self.fold, self.seed)

    def planned(self, repeat: int) -> PlannedTrial:
        """As a trial of a plan."""
        return PlannedTrial(
            model=self.name,
            task=self.task,
            fraction=self.fraction,
            fold=self.fold,
            seed=self.seed,
            train_id=self.train_id,
            eval_id=self.eval_id,
            repeat=repeat,
        )


class RelianceFile(Stored):
    """reliance.json: in the order in which they were scored."""

    remedy: ClassVar[str] = "remove it, and knock out again (medvision reliance)"
    trials: list[Knocked] = []


def knocked_name(model: str, knock_out: str) -> str:
    """What tables call a model without its block."""
    return f"{model}, {knock_out}"


def knocked_trials(store: Store) -> list[Knocked]:
    """Those of a study, damaged and outdated ones, too."""
    found = store.load(paths.RELIANCE, RelianceFile)
    return list(found.trials) if found else []


def save_knocked(store: Store, trials: Iterable[Knocked]) -> None:
    """Add some, or put them in the place of earlier ones of the same cell."""
    found = {one.cell: one for one in (*knocked_trials(store), *trials)}
    store.save(paths.RELIANCE, RelianceFile(trials=list(found.values())))


def knocked_of(
    store: Store, plan: StudyPlan, commits: Mapping[str, Commit]
) -> tuple[list[Knocked], FinishedTrials]:
    """Of the plan's finished trials those that were scored without their block with the weights
    that they have now, and of these which are whole.

    Raises:
        StoreError: the storage is out of reach.
    """
    cells = {(t.model, t.task, t.fraction, t.fold, t.seed): t.eval_id for t in plan.trials}
    wanted = [
        one
        for one in knocked_trials(store)
        if (marker := commits.get(one.of))
        and cells.get((one.model, one.task, one.fraction, one.fold, one.seed)) == one.of
        and marker.sha256.get(paths.WEIGHTS) == one.weights
    ]
    if not wanted:
        return [], FinishedTrials({}, {})
    committed = store.committed()
    names = [one.eval_id for one in wanted if one.eval_id in committed]
    return wanted, finished_of(store, list(dict.fromkeys(names)))
