"""The file system of a storage, by its address; what all of them raise here."""

from __future__ import annotations

from typing import Any

import fsspec

from record.redact import shown


class StoreError(RuntimeError):
    """The store cannot be read or written, or holds something that it should not; the message says
    what to do.
    """


class DamagedError(StoreError):
    """A file is there and is not what it should be; the message says which, and what to do."""


def opened(uri: str) -> tuple[Any, str]:
    """The file system of a storage, and the folder on it.

    Raises:
        StoreError: fsspec has no such file system, or what it needs is not installed.
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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200].strip()
        raise StoreError(f"storage {shown(uri)} cannot be used: {reason}{needs}") from error


_HADOOP = (
    "; hdfs:// needs Java and Hadoop on every machine (JAVA_HOME, HADOOP_HOME, CLASSPATH): install "
    "them, or set storage to a folder that all machines share, or to s3://"
)
_NEEDS = {"hdfs": _HADOOP, "arrow_hdfs": _HADOOP}
