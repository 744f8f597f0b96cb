"""The result store: a study's files on any path or fsspec URI; written whole or not at all in
folders and object stores.

    spec.json study.json plan.json manifest.json what is to be run, and where (the driver's)
    splits/TASK.json which case plays which role claims/TRAIN_ID.json the token of the attempt that
    may commit checkpoints/TRAIN_ID/ an unfinished training trials/TRAIN_ID/TOKEN/ the files of one
    attempt commits/EVAL_ID.json the marker: this evaluation is finished, and these are its files
    failures/EVAL_ID/TOKEN.json why an attempt failed report/ tables and figures

An attempt's files lie in a folder named by its token and count only once a commit names them, so a
half-written or orphaned attempt is never read. Object stores need no rename for this: writing the
marker is one atomic put.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

SCHEMA_VERSION = 1
CELL = ("model", "task", "fraction", "fold", "seed")


class StoreError(RuntimeError):
    """The store cannot be read or written, or holds something that it should not; the message says
    what to do.
    """


class FencedError(StoreError):
    """The attempt's token is not the claimed one: a newer driver has taken the trial over, and
    nothing was committed.
    """


class Store:
    """The files of one study by relative path. `uri`: a local folder or any fsspec URI."""

    def __init__(self, uri: str) -> None:
        self.uri = str(uri).rstrip("/")
        try:
            self.filesystem, self.root = fsspec.core.url_to_fs(self.uri)
        except (ValueError, ImportError) as error:
            raise StoreError(f"storage {uri!r} cannot be used: {error}") from error
        self.local = "file" in (
            self.filesystem.protocol
            if isinstance(self.filesystem.protocol, tuple)
            else (self.filesystem.protocol,)
        )

    def path(self, relative: str) -> str:
        """Full path of a file, as the file system knows it."""
        return f"{self.root}/{relative}"

    def read(self, relative: str) -> bytes | None:
        """A file's content, None where there is none.

        Raises:
            StoreError: the storage is out of reach.
        """
        with _told(self.path(relative), "read"):
            try:
                return bytes(self.filesystem.cat_file(self.path(relative)))
            except FileNotFoundError:
                return None

    def write(self, relative: str, content: bytes) -> None:
        """Write a file whole or not at all; on an object store, one put is that. SFTP and HDFS
        promise it not.

        Raises:
            StoreError: the disk is full, read-only or out of reach; nothing half-written is left.
        """
        target = self.path(relative)
        with _told(target, "written"):
            if self.local:
                _write_local(Path(target), content)
            else:
                self.filesystem.pipe_file(target, content)

    def create(self, relative: str, content: bytes) -> bool:
        """Write a file that is not there yet, whole; False where it is there. Of several at once,
        one succeeds.

        On a file system without conditional writes (S3 has them: `If-None-Match`) two may both
        believe so: read it back.
        """
        target = self.path(relative)
        with _told(target, "written"):
            try:
                if self.local:
                    _write_local(Path(target), content, _link)
                else:
                    self.filesystem.pipe_file(target, content, mode="create")
            except FileExistsError:
                return False
            except Exception:
                if self.local:
                    raise
                self.filesystem.invalidate_cache()
                if self.filesystem.exists(target):
                    return False
                self.filesystem.pipe_file(target, content)
            return True

    def read_json(self, relative: str) -> Any:
        """A file's JSON, None where there is none.

        Raises:
            StoreError: the file is no JSON.
        """
        content = self.read(relative)
        if content is None:
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise StoreError(
                f"{self.path(relative)}: is not valid JSON ({error}); remove it and run again"
            ) from error

    def write_json(self, relative: str, value: Any) -> None:
        """Write JSON whole or not at all."""
        self.write(relative, json.dumps(value, indent=1, sort_keys=True).encode())

    def remove(self, relative: str) -> None:
        """Remove a file or folder; nothing happens where there is none."""
        with _told(self.path(relative), "removed"):
            if self.filesystem.exists(self.path(relative)):
                self.filesystem.rm(self.path(relative), recursive=True)

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; empty where there is none."""
        # object stores remember listings, and others write here too
        self.filesystem.invalidate_cache()
        with _told(self.path(folder), "listed"):
            try:
                entries = self.filesystem.ls(self.path(folder), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        names = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return sorted(name for name in names if not name.startswith("."))

    def read_folder(self, folder: str) -> dict[str, Any]:
        """Every JSON file of a folder by its name without suffix."""
        names = [name for name in self.names(folder) if name.endswith(".json")]
        return {name.removesuffix(".json"): self.read_json(f"{folder}/{name}") for name in names}

    def commits(self) -> dict[str, dict[str, Any]]:
        """Commit markers by evaluation id."""
        return self.read_folder("commits")

    def commit(self, marker: Mapping[str, Any]) -> None:
        """Make an attempt's result count; the first commit of an evaluation stays.

        Args:
            marker: `eval_id`, `train_id`, `token`, `cell`, `identity`, `files` (kind -> relative
                path), `cost`, `attempt`.

        Raises:
            FencedError: another attempt holds the claim.
            StoreError: a named file is missing.
        """
        self.require_claim(marker["train_id"], marker["token"])
        checksums = {}
        for kind, relative in marker["files"].items():
            content = self.read(relative)
            if content is None:
                raise StoreError(f"{self.path(relative)}: is named by a commit and is missing")
            checksums[kind] = hashlib.sha256(content).hexdigest()
        name = f"commits/{marker['eval_id']}.json"
        if self.read(name) is None:
            self.write_json(name, {"schema": SCHEMA_VERSION, **marker, "sha256": checksums})

    def require_claim(self, train_id: str, token: str) -> None:
        """Refuse an attempt that was superseded.

        Raises:
            FencedError: another attempt holds the claim.
        """
        claim = self.read_json(f"claims/{train_id}.json") or {}
        if claim.get("token") != token:
            raise FencedError(
                f"attempt {token} of trial {train_id[:12]} may not commit: the claim is now held "
                f"by {claim.get('token')}"
            )

    def failures(self) -> dict[str, list[dict[str, Any]]]:
        """Failed attempts by evaluation id, in the order of time."""
        return {eval_id: self.failures_of(eval_id) for eval_id in self.names("failures")}

    def failures_of(self, eval_id: str) -> list[dict[str, Any]]:
        """Failed attempts at one trial, in the order of time."""
        return sorted(
            self.read_folder(f"failures/{eval_id}").values(), key=lambda entry: entry["time"]
        )


@contextlib.contextmanager
def _told(target: str, done: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each file system has errors of its own; botocore's are no OSErrors
        raise StoreError(
            f"{target}: cannot be {done}: {error}. Free space or mend the access, then run the "
            "same command again"
        ) from error


def _write_local(
    target: Path, content: bytes, place: Callable[[str, Path], None] = os.replace
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        place(name, target)
    finally:
        Path(name).unlink(missing_ok=True)


def _link(source: str, target: Path) -> None:
    """A hard link fails where its name is taken; a file system without them gets an exclusive
    open.
    """
    try:
        os.link(source, target)
    except OSError:  # also of a taken name, where this fails, too
        with target.open("xb") as file:
            file.write(Path(source).read_bytes())


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


def read_results(store: Store, kind: str, commits: Mapping[str, Any] | None = None) -> pd.DataFrame:
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

    plan = read_plan(store)
    commits = store.commits() if commits is None else commits
    trials = [trial for trial in plan["trials"] if trial["eval_id"] in commits]
    if not trials:
        return pd.DataFrame(columns=[*CELL, "eval_id"])
    tables = []
    for trial in trials:
        table = read_table(store, commits[trial["eval_id"]]["files"][kind])
        tables.append(
            table.drop_columns([name for name in (*CELL, *_IDS) if name in table.column_names])
        )
    counts = [table.num_rows for table in tables]
    rows = pa.concat_tables(tables, promote_options="permissive").to_pandas()
    cell = {
        name: np.repeat(_column([trial[name] for trial in trials]), counts)
        for name in (*CELL, "eval_id")
    }
    return pd.concat([pd.DataFrame(cell), rows], axis=1)


_IDS = ("train_id", "eval_id")


def _column(values: list[Any]) -> np.ndarray:
    """Texts stay Python's, shared by all their rows, which takes a tenth of the memory of
    fixed-width ones.
    """
    import numpy as np

    return np.array(values, dtype=object if isinstance(values[0], str) else None)


def read_plan(store: Store) -> dict[str, Any]:
    """The plan that the last run wrote.

    Raises:
        StoreError: there is none: this is no study.
    """
    plan: dict[str, Any] | None = store.read_json("plan.json")
    if plan is None:
        raise StoreError(
            f"{store.uri}: holds no plan.json, so it is no study; give the folder <storage>/<name> "
            "of a run"
        )
    return plan
