"""The tables of a study: Parquet files of its finished trials, one by one and all together."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from record.damage import read_all_committed, read_committed
from record.schema import CELL, Commit
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


def _table(store: Store, marker: Commit, kind: str, content: bytes) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    except pa.ArrowException as error:
        place = store.path(marker.files[kind])
        raise DamagedError(f"{place}: is no valid Parquet file: {error}") from error


def read_results(
    store: Store, kind: str, commits: Mapping[str, Commit] | None = None
) -> pd.DataFrame:
    """All `cases` or `history` rows of the current plan's finished trials, in the plan's order.

    Columns of the cell (model, task, fraction, fold, seed) come from the plan, so a renamed model
    needs no new run.

    Args:
        commits: the store's, where the caller has read them.

    Raises:
        StoreError: the study has no plan.
        DamagedError: a committed file is missing or not what was committed.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    plan = store.plan()
    commits = store.commits() if commits is None else commits
    finished = plan.finished(commits)
    if not finished:
        return pd.DataFrame(columns=[*CELL, "eval_id"])
    tables, markers = [], [marker for _, marker in finished]
    contents = read_all_committed(store, markers, kind)
    for marker, content in zip(markers, contents, strict=True):
        table = _table(store, marker, kind, content)
        tables.append(
            table.drop_columns([name for name in (*CELL, *_IDS) if name in table.column_names])
        )
    counts = [table.num_rows for table in tables]
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
