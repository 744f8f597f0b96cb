"""Folders of this machine: what can be made again, and files of a study that are appended to."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from record.store import Store

ENVIRONMENT_VARIABLE = "MEDVISION_CACHE"


def cache_root() -> Path:
    """`$MEDVISION_CACHE`, or `medvision` in the user's cache folder (`$XDG_CACHE_HOME`,
    `~/.cache`).
    """
    if explicit := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(explicit).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "medvision"


def local_folder(store: Store, name: str) -> Path:
    """A folder of the study for appended files: inside it, or in this machine's cache where the
    storage is remote.
    """
    if store.local:
        return Path(store.root, name)
    return cache_root() / "studies" / hashlib.sha256(store.uri.encode()).hexdigest()[:16] / name
