"""What a plan needs to know that is not in the spec: folds, contents and blocks, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvision.data.splits import Fold
from orchestrator.planning.subgroups import TaskParts
from orchestrator.planning.volumes import Volumes
from record.schema import Cell


@dataclass(frozen=True)
class TaskInputs:
    """A task's folds and content fingerprints, or in `missing` what is not there, a line each.

    Attributes:
        excluded: broken cases that no model sees, with their reasons.
        reserved: patients that are in no fold, for the search.
        patients: case to patient, where a grouping is given.
        order, repeated_orders, changes: as of `orchestrator.planning.folds.Divided`.
        doubts: what is odd about cases in use, a line each.
        parts: by name, the divisions of the cases that comparisons declare.
        volumes: what their size costs, where networks see patches.
        unread: whether nothing is wrong, and only nobody has read the cases yet.
    """

    folds: tuple[Fold, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reserved: tuple[tuple[str, ...], ...] = ()
    patients: Mapping[str, str] = field(default_factory=dict)
    order: tuple[tuple[str, ...], ...] = ()
    repeated_orders: Mapping[int, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    changes: str = ""
    doubts: tuple[str, ...] = ()
    parts: Mapping[str, TaskParts] = field(default_factory=dict)
    volumes: Volumes | None = None
    unread: bool = False


@dataclass(frozen=True)
class BlockInputs:
    """Fingerprint and size of a model's language-model block; `missing` says what is not there,
    `unread` whether nobody has read it yet.
    """

    fingerprint: str | None = None
    size: Mapping[str, Any] | None = None
    missing: str = ""
    unread: bool = False


@dataclass(frozen=True)
class Tuned:
    """The settings that a search found for one model, task and fold, or `missing`: why there are
    none. `search`: its id.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""
    search: str = ""


@dataclass(frozen=True)
class Inputs:
    """What is not in the spec: `tasks` by task name, `blocks` by model name (models with a
    block only), `tuned` by model, task and fold (where the spec has a search), `masks` what
    other tools' masks hold (`external_content`), by cell, `wrong_masks` why there are none,
    `tools` which are not installed here."""

    tasks: Mapping[str, TaskInputs]
    blocks: Mapping[str, BlockInputs]
    tuned: Mapping[tuple[str, str, int], Tuned] = field(default_factory=dict)
    masks: Mapping[Cell, Mapping[str, Any]] = field(default_factory=dict)
    wrong_masks: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        every: list[TaskInputs | BlockInputs] = [*self.tasks.values(), *self.blocks.values()]
        lines = [line for item in every for line in item.missing.splitlines()]
        return list(dict.fromkeys([*lines, *self.wrong_masks, *self.tools]))

    @property
    def parts(self) -> dict[str, Mapping[str, TaskParts]]:
        """Of every task."""
        return {name: task.parts for name, task in self.tasks.items()}

    @property
    def unread(self) -> list[str]:
        """Those lines of `missing` that a run takes care of."""
        every: list[TaskInputs | BlockInputs] = [*self.tasks.values(), *self.blocks.values()]
        return [line for item in every if item.unread for line in item.missing.splitlines()]

    @property
    def doubts(self) -> list[str]:
        """What is odd about the data but prevents nothing."""
        return [f"{name}: {line}" for name, task in self.tasks.items() for line in task.doubts]
