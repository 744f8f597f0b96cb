"""The result store: a study's files on any path or fsspec URI; written whole or not at all in
folders and object stores. Where each lies is `record.paths`, what it holds `record.schema`.

An attempt's files lie in a folder named by its token and count only once a commit names them, so a
half-written or orphaned attempt is never read. Object stores need no rename for this: writing the
marker is one atomic put.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from pydantic import ValidationError

from record import paths
from record.atomic import link, write_local
from record.redact import shown
from record.schema import SCHEMA_VERSION, Claim, Commit, Failure, SearchOutcome, StudyPlan
from record.stored import Stored, problems

S = TypeVar("S", bound=Stored)
READS_AT_ONCE = 16  # from an object store


class StoreError(RuntimeError):
    """The store cannot be read or written, or holds something that it should not; the message says
    what to do.
    """


class DamagedError(StoreError):
    """A file is there and is not what it should be; the message says which, and what to do."""


class FencedError(StoreError):
    """The attempt's token is not the claimed one: a newer driver has taken the trial over, and
    nothing was committed.
    """


class Store:
    """The files of one study by relative path. `uri`: a local folder or any fsspec URI."""

    def __init__(self, uri: str) -> None:
        self.uri = str(uri).rstrip("/")
        self.filesystem, self.root = _opened(self.uri)
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
            except (FileNotFoundError, IsADirectoryError):
                return None

    def read_many(self, relatives: Sequence[str]) -> Iterator[bytes | None]:
        """`read` of many files in their order; several at once where each is a question to a
        server.
        """
        if self.local:
            yield from map(self.read, relatives)
        else:
            with ThreadPoolExecutor(READS_AT_ONCE) as pool:
                yield from pool.map(self.read, relatives)

    def write(self, relative: str, content: bytes) -> None:
        """Write a file whole or not at all; on an object store, one put is that. SFTP and HDFS
        promise it not.

        Raises:
            StoreError: the disk is full, read-only or out of reach; nothing half-written is left.
        """
        target = self.path(relative)
        with _told(target, "written"):
            if self.local:
                write_local(Path(target), content)
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
                    write_local(Path(target), content, link)
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
            DamagedError: the file is no JSON.
        """
        content = self.read(relative)
        if content is None:
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise DamagedError(
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

    def load(self, relative: str, kind: type[S]) -> S | None:
        """A JSON file as its type, None where there is none.

        Raises:
            DamagedError: the file is no JSON, or not of that type.
        """
        value = self.read_json(relative)
        return None if value is None else _typed(value, kind, self.path(relative))

    def save(self, relative: str, value: Stored) -> None:
        """Write a typed file whole or not at all."""
        self.write_json(relative, value.to_json())

    def load_folder(self, folder: str, kind: type[S]) -> dict[str, S]:
        """Every JSON file of a folder by its name without suffix."""
        found = {
            paths.stem(name): self.load(f"{folder}/{name}", kind) for name in self.names(folder)
        }
        return {name: value for name, value in found.items() if value is not None}

    def committed(self) -> set[str]:
        """Ids of the finished evaluations: a listing, nothing is read."""
        return {paths.stem(name) for name in self.names(paths.COMMITS)}

    def commits(self) -> dict[str, Commit]:
        """Commit markers by evaluation id."""
        return self.load_folder(paths.COMMITS, Commit)

    def commit(self, marker: Commit) -> None:
        """Make an attempt's result count; the first commit of an evaluation stays.

        Args:
            marker: all but `sha256`, which is of what its files hold now.

        Raises:
            FencedError: another attempt holds the claim.
            StoreError: a named file is missing.
        """
        self.require_claim(marker.train_id, marker.token)
        checksums = {}
        for kind, relative in marker.files.items():
            content = self.read(relative)
            if content is None:
                raise StoreError(f"{self.path(relative)}: is named by a commit and is missing")
            checksums[kind] = hashlib.sha256(content).hexdigest()
        name = paths.commit(marker.eval_id)
        if self.read(name) is None:
            added = {"schema_version": SCHEMA_VERSION, "sha256": checksums}
            self.save(name, marker.model_copy(update=added))

    def require_claim(self, train_id: str, token: str) -> None:
        """Refuse an attempt that was superseded.

        Raises:
            FencedError: another attempt holds the claim.
        """
        claim = self.load(paths.claim(train_id), Claim)
        held = claim.token if claim else None
        if held != token:
            raise FencedError(
                f"attempt {token} of trial {train_id[:12]} may not commit: the claim is now held "
                f"by {held}"
            )

    def failures(self) -> dict[str, list[Failure]]:
        """Failed attempts by evaluation id, in the order of time."""
        return {eval_id: self.failures_of(eval_id) for eval_id in self.names(paths.FAILURES)}

    def failures_of(self, eval_id: str) -> list[Failure]:
        """Failed attempts at one trial, in the order of time."""
        found = self.load_folder(paths.failures(eval_id), Failure)
        return sorted(found.values(), key=lambda failure: failure.time)

    def outcomes(self) -> dict[str, SearchOutcome]:
        """What the searches that have ended found, by the search's id."""
        place, found = self.path(paths.SEARCHES), self.read_json(paths.SEARCHES) or {}
        return {name: _typed(value, SearchOutcome, place) for name, value in found.items()}

    def save_outcomes(self, outcomes: Mapping[str, SearchOutcome]) -> None:
        """Write down what the searches found, by the search's id."""
        values = {name: outcome.to_json() for name, outcome in outcomes.items()}
        self.write_json(paths.SEARCHES, values)

    def plan(self) -> StudyPlan:
        """The plan that the last run wrote.

        Raises:
            StoreError: there is none: this is no study.
        """
        plan = self.load(paths.PLAN, StudyPlan)
        if plan is None:
            raise StoreError(
                f"{self.uri}: holds no {paths.PLAN}, so it is no study; give the folder "
                "<storage>/<name> of a run"
            )
        return plan


def _opened(uri: str) -> tuple[Any, str]:
    """The file system of a storage, and the folder on it.

    Raises:
        StoreError: fsspec knows no such file system, or what it needs is not here.
    """
    protocol, mark, rest = uri.partition("://")
    if not mark or protocol in ("file", "local"):
        # Not `url_to_fs`, which takes `::` in a folder's name for a chain of file systems.
        filesystem = fsspec.filesystem("file")
        return filesystem, filesystem._strip_protocol(rest if mark else uri)
    if "::" in uri:
        raise StoreError(
            f"storage {shown(uri)} holds ::, which fsspec takes for a chain of file systems: name "
            "the storage itself, by a folder or bucket without ::"
        )
    try:
        return fsspec.core.url_to_fs(uri)
    except Exception as error:  # each has errors of its own, and needs software of its own
        needs = _NEEDS.get(protocol, "")
        told = (str(error).strip() or type(error).__name__).splitlines()[0][:200].strip()
        raise StoreError(f"storage {shown(uri)} cannot be used: {told}{needs}") from error


_HADOOP = (
    "; hdfs:// needs Java and Hadoop on every machine (JAVA_HOME, HADOOP_HOME, CLASSPATH): install "
    "them, or set storage to a folder that all machines share, or to s3://"
)
_NEEDS = {"hdfs": _HADOOP, "arrow_hdfs": _HADOOP}


def _typed(value: Any, kind: type[S], place: str) -> S:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise DamagedError(
            f"{place}: is not what this version reads: {problems(error)}; {kind.remedy}"
        ) from error


@contextlib.contextmanager
def _told(target: str, done: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each file system has errors of its own; botocore's are no OSErrors
        raise StoreError(
            f"{target}: cannot be {done}: {error}. Free space or mend the access, then run the "
            "same command again"
        ) from error
