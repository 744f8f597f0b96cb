"""The tables of a study: Parquet files of its finished trials, one by one and all together."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from record import paths
from record.damage import read_all_committed, read_committed
from record.schema import CELL, Commit, PlannedTrial
from record.store import DamagedError, Store

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

_IDS = ("train_id", "eval_id")


def table_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as a Parquet file; floats keep every bit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), buffer)
    return buffer.getvalue()


def read_table(store: Store, marker: Commit, kind: str) -> pa.Table:
    """The CASES or HISTORY of a finished trial.

    Raises:
        DamagedError: it is missing, not what was committed, or no Parquet file.
    """
    return _table(store, marker, kind, read_committed(store, marker, kind))


def mean_dice(store: Store, marker: Commit) -> float:
    """The mean Dice of a finished trial over its test cases and label groups; NaN where none has a
    structure.

    Raises:
        DamagedError: as `read_table`.
        KeyError: the table has no Dice.
    """
    dice = read_table(store, marker, paths.CASES)["dice"].to_pylist()
    known = [value for value in dice if value is not None and not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


def _table(store: Store, marker: Commit, kind: str, content: bytes) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    except pa.ArrowException as error:
        place = store.path(marker.files[kind])
        raise DamagedError(f"{place}: is no valid Parquet file: {error}") from error


def read_results(store: Store, kind: str) -> pd.DataFrame:
    """All CASES or HISTORY rows of a study's finished trials, as its files are now.

    Raises:
        StoreError: the study has no plan.
        DamagedError: a committed file is missing or not what was committed.
    """
    return rows_of(store, kind, store.plan().finished(store.commits()))


def rows_of(
    store: Store, kind: str, finished: Sequence[tuple[PlannedTrial, Commit]]
) -> pd.DataFrame:
    """All CASES or HISTORY rows of these trials, in their order.

    Columns of the cell (model, task, fraction, fold, seed) come from the plan, so a renamed model
    needs no new run.

    Args:
        store: the study's.
        kind: CASES or HISTORY.
        finished: trials of the plan, each with its marker.

    Raises:
        DamagedError: a committed file is missing or not what was committed.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if not finished:
        return pd.DataFrame(columns=[*CELL, "eval_id"])
    tables, markers = [], [marker for _, marker in finished]
    contents = read_all_committed(store, markers, kind)
    for marker, content in zip(markers, contents, strict=True):
        table = _table(store, marker, kind, content)
        known = set(table.column_names) & {*CELL, *_IDS}
        tables.append(table.drop_columns(sorted(known)) if known else table)
    counts = [table.num_rows for table in tables]
    # Texts as Python's strings, each once: pandas takes several times as long to group and select
    # Arrow's, which hold a copy for every row.
    with pd.option_context("mode.string_storage", "python"):
        rows = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        cell = {
            name: np.repeat(_column([getattr(trial, name) for trial, _ in finished]), counts)
            for name in (*CELL, "eval_id")
        }
        return pd.concat([pd.DataFrame(cell), rows], axis=1)


def _column(values: list[Any]) -> np.ndarray:
    """Texts stay Python's, shared by all their rows, which takes a tenth of the memory of
    fixed-width ones.
    """
    import numpy as np

    return np.array(values, dtype=object if isinstance(values[0], str) else None)
