"""MLflow's data in one SQLite file beside the studies, also after the folder was moved: MLflow
keeps absolute paths of artifacts and has no command to change them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from record.store import Store

PREFIX = "sqlite:///"
WAIT_SECONDS = 20.0  # for other drivers that write into the same file, as MLflow itself waits
_PLACES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("experiments", "artifact_location"),
)


def file_beside(store: Store) -> str:
    """The SQLite file next to a study's folder, or in this folder where its storage is remote."""
    folder = Path(store.root).parent.resolve() if store.local else Path.cwd()
    return f"{PREFIX}{folder / 'mlflow.db'}"


def database(uri: str) -> Path | None:
    """The file of a SQLite address; None where MLflow's data lie elsewhere."""
    return Path(uri.removeprefix(PREFIX).partition("?")[0]) if uri.startswith(PREFIX) else None


def repair_artifacts(file: Path, experiment: str, folder: str, *, anyway: bool) -> bool:
    """Let an experiment's artifacts lie in `folder` (a `file:` URI) where its old place is gone;
    whether anything was changed.

    Args:
        file: MLflow's database.
        experiment: its id.
        folder: where the artifacts lie now.
        anyway: also where the old place is still there: the database is a copy, too.

    Raises:
        sqlite3.Error: the database is locked, or is not as MLflow makes it.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=WAIT_SECONDS)) as connection:
        row = connection.execute(
            "SELECT artifact_location FROM experiments WHERE experiment_id = ?", (experiment,)
        ).fetchone()
        old = str(row[0]) if row else folder
        there = Path(url2pathname(urlsplit(old).path)).is_dir()
        if old == folder or (there and not anyway):
            return False
        with connection:  # all of them or none
            for table, column in _PLACES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                    f"WHERE experiment_id = ? AND ({column} = ? OR substr({column}, 1, ?) = ?)",
                    (folder, len(old) + 1, experiment, old, len(old) + 1, f"{old}/"),
                )
    return True
