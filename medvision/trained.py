"""Which file of a study holds which training: from model, task, fold and seed to weights."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvision.errors import DataError
from record import paths
from record.damage import read_committed
from record.schema import Cell, Commit
from record.store import Store
from record.study import StoredStudy


@dataclass(frozen=True)
class Training:
    """A finished training of a study.

    Args:
        cell: its model, task, fraction, fold and seed.
        marker: names its files.
        store: the study's.
    """

    cell: Cell
    marker: Commit
    store: Store

    @property
    def place(self) -> str:
        """Where its weights lie: a path, or a URI."""
        return f"{self.store.uri}/{self.marker.files[paths.WEIGHTS]}"

    def local(self, scratch: Path) -> Path:
        """The weights as a file of this machine; of a remote study a copy under `scratch`.

        Raises:
            StoreError: they are damaged or cannot be read.
        """
        content = read_committed(self.store, self.marker, paths.WEIGHTS)
        if self.store.local:
            return Path(self.store.root, self.marker.files[paths.WEIGHTS])
        copy = scratch / f"{self.marker.eval_id}.safetensors"
        copy.write_bytes(content)
        return copy


def trainings(study: str) -> list[Training]:
    """The finished trainings of a study whose weights were kept, in the order of its plan.

    Raises:
        StoreError: there is no study.
    """
    stored = StoredStudy.opened(Store(study))
    commits = stored.finished.commits
    order = [marker for _, marker in stored.plan.finished(commits)]
    return [
        Training(marker.cell, marker, stored.store)
        for marker in order
        if paths.WEIGHTS in marker.files
    ]


def chosen(
    every: Sequence[Training],
    *,
    model: str | None,
    task: str | None = None,
    fraction: float | None = None,
    folds: Sequence[int] = (),
    seeds: Sequence[int] = (),
) -> list[Training]:
    """The trainings of one model that segment together: by default all folds and seeds of its
    largest training sets.

    Raises:
        DataError: there is none, or the model or task has to be named.
    """
    found = _one(every, "model", model)
    found = _one(found, "task", task)
    fractions = sorted({one.cell.fraction for one in found})
    wanted = fractions[-1] if fraction is None else fraction
    for name, values in (("fraction", [wanted]), ("fold", folds), ("seed", seeds)):
        for value in values:
            known = sorted({getattr(one.cell, name) for one in found})
            if value not in known:
                raise DataError(
                    f"--{name} {value:g}: no finished training has it; there are "
                    f"{', '.join(f'{one:g}' for one in known)}"
                )
        found = [one for one in found if not values or getattr(one.cell, name) in values]
    if not found:
        raise DataError("no finished training has these folds and seeds together")
    return found


def listed(every: Iterable[Training]) -> list[str]:
    """Lines of a table: model, task, fraction, fold, seed, and the file of the weights."""
    rows: list[tuple[Any, ...]] = [("model", "task", "fraction", "fold", "seed", "weights")]
    for one in every:
        cell = one.cell
        rows.append((cell.model, cell.task, f"{cell.fraction:g}", cell.fold, cell.seed, one.place))
    widths = [max(len(str(row[column])) for row in rows) for column in range(5)]
    return [
        "  ".join([*(f"{row[column]!s:{widths[column]}}" for column in range(5)), row[5]])
        for row in rows
    ]


def _one(found: Sequence[Training], name: str, value: str | None) -> list[Training]:
    """Those of one model or task; the only one where none is named."""
    known = list(dict.fromkeys(str(getattr(one.cell, name)) for one in found))
    if not known:
        raise DataError("no training of this study has finished and kept its weights")
    if value is None and len(known) > 1:
        raise DataError(f"--{name}: name one of {', '.join(known)}")
    if value is not None and value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise DataError(f"--{name} {value}: no finished training has it; {hint}")
    return [one for one in found if getattr(one.cell, name) == (value or known[0])]
