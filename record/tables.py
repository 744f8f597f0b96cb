"""The tables of a study: Parquet files of its finished trials, one by one and all together."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from record.schema import CELL, Commit
from record.store import Store, StoreError

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


def read_table(store: Store, relative: str) -> pa.Table:
    """A Parquet file of the store.

    Raises:
        StoreError: it is missing or broken.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = store.read(relative)
    if content is None:
        raise StoreError(
            f"{store.path(relative)}: is missing; remove its commit to run the trial again"
        )
    try:
        return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    except pa.ArrowException as error:
        raise StoreError(f"{store.path(relative)}: is no valid Parquet file: {error}") from error


def read_results(
    store: Store, kind: str, commits: Mapping[str, Commit] | None = None
) -> pd.DataFrame:
    """All `cases` or `history` rows of the current plan's finished trials, in the plan's order.

    Columns of the cell (model, task, fraction, fold, seed) come from the plan, so a renamed model
    needs no new run.

    Args:
        commits: the store's, where the caller has read them.

    Raises:
        StoreError: the study has no plan, or a committed file is missing or broken.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    plan = store.plan()
    commits = store.commits() if commits is None else commits
    finished = plan.finished(commits)
    if not finished:
        return pd.DataFrame(columns=[*CELL, "eval_id"])
    tables = []
    for _, marker in finished:
        table = read_table(store, marker.files[kind])
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
