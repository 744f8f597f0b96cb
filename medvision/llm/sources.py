"""From what a user writes (path, asset name, hub id) to the files of one checkpoint. No torch
here.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medvision import assets
from medvision.llm.errors import BlockError
from medvision.llm.gguf_header import Header, read_header
from medvision.llm.repositories import Folder, Repository

_HUB_ID = re.compile(
    r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:/(?P<file>[\w./-]+\.gguf))?(?:@(?P<revision>[\w./-]+))?"
)
_SUPPORTED = (
    "config.json with model.safetensors or pytorch_model.bin (each with or without an index of "
    "shards), params.json with consolidated.*.pth, or a .gguf file"
)


@dataclass(frozen=True)
class Layout:
    """Which files of a repository make the checkpoint.

    `format` is safetensors, torch, meta or gguf; `config` holds the settings (for GGUF the file
    itself), `index` the map from tensors to shards where there is one, `weights` the files with
    tensors.
    """

    format: str
    config: str
    index: str | None
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint found: its files, not yet read."""

    repository: Repository
    layout: Layout

    @property
    def where(self) -> str:
        """What to call it in messages."""
        return self.repository.where

    @cached_property
    def gguf_header(self) -> Header:
        """The head of its GGUF file, read once.

        Raises:
            BlockError: as `read_header`.
        """
        return read_header(self.repository.open(self.layout.weights[0]))

    def json(self, name: str) -> dict[str, Any]:
        """One of its small JSON files.

        Raises:
            BlockError: no JSON object in it.
        """
        file = self.repository.open(name)
        try:
            value = json.loads(bytes(file.read(0, file.size)))
        except (ValueError, RecursionError) as error:
            raise BlockError(f"{file.name} is no JSON: {error}") from error
        if not isinstance(value, dict):
            raise BlockError(
                f"{file.name} holds a {type(value).__name__} where a JSON object is expected"
            )
        return value


@dataclass(frozen=True)
class HubId:
    """A repository of the Hugging Face hub: `organisation/name[/file.gguf][@revision]`."""

    repo: str
    file: str | None
    revision: str | None


def locate(source: str | Path) -> Path | HubId:
    """Where `source` is: an existing path, a fetched asset, or a hub id, tried in this order. No
    network.

    Raises:
        BlockError: it is none of them.
        medvision.assets.AssetError: an asset that has not been fetched.
    """
    path = Path(os.path.expanduser(source))
    if os.path.exists(path):  # False also for what no file system takes
        # A file keeps its name: in huggingface_hub's cache it is a link to a file that is called by
        # a hash.
        return path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    if isinstance(source, str):
        if (asset := assets.locate(source)) is not None:
            return asset.resolve()
        if match := _HUB_ID.fullmatch(source):
            return HubId(match["repo"], match["file"], match["revision"])
    raise BlockError(
        f"no language model at {str(source)!r}: there is no such file or folder, no asset of that "
        f"name ({', '.join(assets.ASSETS)}), and a hub id reads organisation/name[@revision]"
    )


def open_checkpoint(place: Path | HubId) -> Checkpoint:
    """Find the files of the checkpoint at a place that `locate` gave.

    Raises:
        BlockError: no supported checkpoint there, or a hub that does not answer.
    """
    if isinstance(place, HubId):
        from medvision.llm.hub import open_repository

        repository = open_repository(place.repo, place.revision)
        return Checkpoint(repository, layout_of(repository, place.file))
    if place.is_dir():
        repository = Folder(place)
        return Checkpoint(repository, layout_of(repository))
    repository = Folder(place.parent)
    return Checkpoint(repository, layout_of(repository, place.name))


def layout_of(repository: Repository, only: str | None = None) -> Layout:
    """Decide the format from the names of the files; `only` is a file that the user named.

    Raises:
        BlockError: no supported checkpoint, or several GGUF files to choose from.
    """
    names = (only,) if only else repository.names

    def having(pattern: str) -> tuple[str, ...]:
        return tuple(name for name in names if fnmatch.fnmatchcase(name.lower(), pattern))

    def beside(config: str, weights: tuple[str, ...]) -> str:
        if config not in repository.names:
            raise BlockError(
                f"{repository.where}: {weights[0]} needs a {config} beside it, and there is none"
            )
        return config

    for fmt, stem, ending in (
        ("safetensors", "model", "safetensors"),
        ("torch", "pytorch_model", "bin"),
    ):
        if only:  # a file that the user named may be called anything
            stem = "*"
        if index := having(f"{stem}.{ending}.index.json"):
            return Layout(fmt, beside("config.json", index), index[0], ())
        if whole := having(f"{stem}.{ending}"):
            return Layout(fmt, beside("config.json", whole), None, whole)
    if shards := having("consolidated*.pth"):
        # A file that the user named means its siblings, too: each holds a part of every tensor.
        shards = tuple(
            name
            for name in repository.names
            if fnmatch.fnmatchcase(name.lower(), "consolidated*.pth")
        )
        return Layout("meta", beside("params.json", shards), None, tuple(sorted(shards)))
    ggufs = having("*.gguf")
    if len(ggufs) == 1:
        return Layout("gguf", ggufs[0], None, ggufs)
    if ggufs:
        raise BlockError(
            f"{repository.where} holds several GGUF files; name one of them: {', '.join(ggufs)}"
        )
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "nothing"
    raise BlockError(
        f"{repository.where} holds no supported checkpoint ({shown}); what works: {_SUPPORTED}"
    )
