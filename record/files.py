"""Files of one folder, on any path or fsspec URI, each written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from record import paths
from record.atomic import link, write_local
from record.filesystems import DamagedError, StoreError, opened
from record.stored import SCHEMA_VERSION, Stored, problems, sealed, unsealed

S = TypeVar("S", bound=Stored)
Stamp = list[Any]  # [bytes, time in ns] of a local file, [bytes, ETag] of an object
READS_AT_ONCE = 16  # from an object store


class Files:
    """Files by relative path.

    Args:
        uri: a local folder or any fsspec URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = str(uri).rstrip("/")
        self.filesystem, self.root = opened(self.uri)
        self.local = "file" in (
            self.filesystem.protocol
            if isinstance(self.filesystem.protocol, tuple)
            else (self.filesystem.protocol,)
        )

    def path(self, relative: str) -> str:
        """Full path of a file, as the file system knows it.

        Raises:
            DamagedError: it leads out of the study, as a marker of somebody else's study may.
        """
        if ".." in relative and ".." in relative.split("/"):
            raise DamagedError(f"{self.uri}: a file of it names {relative!r}, which lies elsewhere")
        return f"{self.root}/{relative}"

    def read(self, relative: str) -> bytes | None:
        """A file's content, None where there is none.

        Raises:
            StoreError: the storage is out of reach.
        """
        with _explained(self.path(relative), "read"):
            try:
                if self.local:  # a tenth of what the way through fsspec costs
                    with open(self.path(relative), "rb") as file:
                        return file.read()
                return bytes(self.filesystem.cat_file(self.path(relative)))
            except (FileNotFoundError, IsADirectoryError):
                return None

    def read_many(self, relatives: Sequence[str]) -> Iterator[bytes | None]:
        """`read` of many files in their order; several at once where each is a request to a
        server.
        """
        if self.local:
            yield from map(self.read, relatives)
        else:
            with ThreadPoolExecutor(READS_AT_ONCE) as pool:
                yield from pool.map(self.read, relatives)

    def write(self, relative: str, content: bytes) -> None:
        """Write a file whole or not at all; on an object store, one put is that. SFTP and HDFS
        do not promise it.

        Raises:
            StoreError: the disk is full, read-only or out of reach; nothing half-written is left.
        """
        target = self.path(relative)
        with _explained(target, "written"):
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
        with _explained(target, "written"):
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

    def read_json(self, relative: str, remedy: str = "remove it and run again") -> Any:
        """A file's JSON without its checksum, None where there is none.

        Raises:
            DamagedError: the file is no JSON, or not what `write_json` wrote there.
            StoreError: a newer version wrote it.
        """
        content = self.read(relative)
        return None if content is None else self._json(relative, content, remedy)

    def _json(self, relative: str, content: bytes, remedy: str) -> Any:
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DamagedError(
                f"{self.path(relative)}: is not valid JSON ({error}); {remedy}"
            ) from error
        newer = values.get("schema") if isinstance(values, dict) else None
        if isinstance(newer, int) and newer > SCHEMA_VERSION:  # no damage: nothing may be set aside
            raise StoreError(
                f"{self.path(relative)}: was written by a newer version of medvision (schema "
                f"{newer}, this one reads up to {SCHEMA_VERSION}): install that version"
            )
        try:
            return unsealed(values, relative)
        except ValueError as error:
            raise DamagedError(
                f"{self.path(relative)}: has changed since it was written, or belongs elsewhere; "
                f"{remedy}"
            ) from error

    def write_json(self, relative: str, values: Mapping[str, Any]) -> None:
        """Write JSON whole or not at all, with a checksum (`record.stored.sealed`)."""
        self.write(relative, sealed(values, relative))

    def remove(self, relative: str) -> None:
        """Remove a file or folder; nothing happens where there is none."""
        with _explained(self.path(relative), "removed"):
            if self.filesystem.exists(self.path(relative)):
                self.filesystem.rm(self.path(relative), recursive=True)

    def move(self, relative: str, to: str) -> None:
        """Move a file to another place of the study; nothing happens where there is none."""
        source, target = self.path(relative), self.path(to)
        with _explained(source, "moved"):
            if self.filesystem.exists(source):
                self.filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
                self.filesystem.mv(source, target)

    def below(self, folder: str) -> list[str]:
        """Every file below a folder, relative to the study, sorted."""
        self.filesystem.invalidate_cache()
        with _explained(self.path(folder), "listed"):
            found = self.filesystem.find(self.path(folder))
        return sorted(str(file).removeprefix(self.root).lstrip("/") for file in found)

    def stamps(self, relatives: Iterable[str]) -> dict[str, Stamp]:
        """What tells that a file is another one than before, of those that are there and of whom
        the storage says it; of an object store by listing their folders.
        """
        if self.local:
            return {name: stamp for name in relatives if (stamp := _stamp(self.path(name)))}
        wanted, found = set(relatives), dict[str, Stamp]()
        self.filesystem.invalidate_cache()
        for folder in sorted({name.partition("/")[0] for name in wanted}):
            with _explained(self.path(folder), "listed"):
                entries = self.filesystem.find(self.path(folder), detail=True)
            for place, about in entries.items():
                name = str(place).removeprefix(self.root).lstrip("/")
                if name in wanted and (tag := about.get("ETag") or about.get("etag")):
                    found[name] = [about["size"], tag]
        return found

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; empty where there is none."""
        if self.local:  # fsspec would ask for the size of each
            with _explained(self.path(folder), "listed"):
                try:
                    found = os.listdir(self.path(folder))
                except (FileNotFoundError, NotADirectoryError):
                    return []
            return sorted(name for name in found if not name.startswith("."))
        # object stores remember listings, and others write here too
        self.filesystem.invalidate_cache()
        with _explained(self.path(folder), "listed"):
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
        return self.parsed(relative, self.read(relative), kind)

    def parsed(self, relative: str, content: bytes | None, kind: type[S]) -> S | None:
        """`load` of a file that was read already."""
        if content is None:
            return None
        value = self._json(relative, content, kind.remedy)
        return None if value is None else typed(value, kind, self.path(relative))

    def save(self, relative: str, value: Stored) -> None:
        """Write a typed file whole or not at all."""
        self.write_json(relative, value.to_json())

    def load_folder(self, folder: str, kind: type[S]) -> dict[str, S]:
        """Every JSON file of a folder by its name without suffix."""
        names = self.names(folder)
        places = [f"{folder}/{name}" for name in names]
        contents = self.read_many(places)
        found = (
            (name, self.parsed(place, content, kind))
            for name, place, content in zip(names, places, contents, strict=True)
        )
        return {paths.stem(name): value for name, value in found if value is not None}


def _stamp(place: str) -> Stamp | None:
    try:
        about = os.stat(place)  # pathlib takes twice as long, for 30,000 files
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns]


def typed(value: Any, kind: type[S], place: str) -> S:
    """JSON as its type.

    Args:
        value: the JSON.
        kind: its type.
        place: where it was read, for the message.

    Raises:
        DamagedError: it is not of that type.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise DamagedError(
            f"{place}: is not what this version reads: {problems(error)}; {kind.remedy}"
        ) from error


@contextlib.contextmanager
def _explained(target: str, done: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each file system has errors of its own; botocore's are no OSErrors
        raise StoreError(
            f"{target}: cannot be {done}: {error}. Free space or restore the access, then run the "
            "same command again"
        ) from error
