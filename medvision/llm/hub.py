"""Checkpoints on the Hugging Face hub, read by HTTP ranges; from a server without them, shard by
shard.

No torch. Endpoint, token and offline mode are huggingface_hub's own: `HF_ENDPOINT`, `HF_TOKEN` and
`HF_HUB_OFFLINE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import (
    HfApi,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import (  # type: ignore[attr-defined] # public, but not in an __all__
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
)

from medvision.llm.bytefile import ByteFile, LocalFile, check_range
from medvision.llm.errors import BlockError
from medvision.llm.repositories import Folder, Repository

_SMALL = 20_000_000  # files up to this size (configurations, indices) are downloaded whole
_TIMEOUT = 60.0  # seconds without a byte
_RESUMES = 4


def open_repository(repo: str, revision: str | None) -> Repository:
    """A repository of the hub at one commit; without a connection, the copy that huggingface_hub
    has.

    Raises:
        BlockError: no such repository or revision, no access, or no connection and nothing
            downloaded.
    """
    at = f" at revision {revision!r}" if revision else ""
    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT)
    except GatedRepoError as error:
        raise BlockError(
            f"hub model {repo!r} is gated: accept its licence on its page, then set HF_TOKEN or "
            "run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise BlockError(f"hub model {repo!r} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise BlockError(
            f"no language model at {repo!r}: there is no such local folder, and the hub has no "
            "such model or does not show it to you (private ones need HF_TOKEN)"
        ) from error
    except (
        Exception
    ) as error:  # the kinds differ between versions of huggingface_hub; all mean: no answer
        try:
            return Folder(Path(snapshot_download(repo, revision=revision, local_files_only=True)))
        except Exception:
            raise BlockError(
                f"hub model {repo!r}{at} cannot be reached ({error}) and has not been downloaded "
                "before: check the connection, HF_ENDPOINT and HF_HUB_OFFLINE, or give a local "
                "folder"
            ) from error
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or ()}
    return HubRepository(repo, str(info.sha), sizes)


class HubRepository:
    """The files of one commit."""

    def __init__(self, repo: str, commit: str, sizes: dict[str, int | None]) -> None:
        self.repo, self.commit = repo, commit
        self.where = f"hub model {repo}"
        self.names = tuple(
            sorted(name for name in sizes if "/" not in name or name.endswith(".gguf"))
        )
        self._sizes = sizes

    def open(self, name: str) -> ByteFile:
        """The file, to be read by ranges; small and already downloaded ones from disk.

        Raises:
            BlockError: no such file, or the hub does not give it.
        """
        if name not in self._sizes:
            raise BlockError(
                f"{self.where} has no file {name!r}; it has {', '.join(self.names[:8])}"
            )
        have = try_to_load_from_cache(self.repo, name, revision=self.commit)
        if isinstance(have, str):
            return LocalFile(Path(have))
        size = self._sizes[name]
        if size is None or (
            size <= _SMALL and not name.endswith((".safetensors", ".bin", ".gguf"))
        ):
            return LocalFile(self.download(name))
        return _HubFile(self, name, size)

    def download(self, name: str) -> Path:
        """The whole file, in huggingface_hub's cache.

        Raises:
            BlockError: the download fails.
        """
        try:
            return Path(hf_hub_download(self.repo, name, revision=self.commit))
        except Exception as error:
            raise BlockError(f"{self.where}: {name} could not be downloaded: {error}") from error


class _HubFile:
    """One large file behind HTTP."""

    def __init__(self, repository: HubRepository, name: str, size: int) -> None:
        self.name = f"{repository.where}/{name}"
        self.size = size
        self._repository, self._file = repository, name
        self._local: LocalFile | None = None

    def read(self, offset: int, length: int) -> bytearray:
        """Exactly `length` bytes from `offset`, resumed where a connection breaks.

        Raises:
            BlockError: the range leaves the file, or the hub does not give it.
        """
        check_range(self, offset, length)
        buffer, done = bytearray(length), 0
        for attempt in range(_RESUMES):
            try:
                while self._local is None and done < length:
                    for chunk in self._chunks(offset + done, length - done):
                        buffer[done : done + len(chunk)] = chunk
                        done += len(chunk)
                break
            except BlockError:
                raise
            except Exception as error:
                if attempt == _RESUMES - 1:
                    raise BlockError(
                        f"{self.name} could not be read from the hub: {error}"
                    ) from error
        return buffer if self._local is None else self._local.read(offset, length)

    def local(self) -> Path:
        """The whole file, in huggingface_hub's cache.

        Raises:
            BlockError: the download fails.
        """
        return self._repository.download(self._file)

    def _chunks(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes of one request; none from a server without ranges, for then the file is
        downloaded.
        """
        url = hf_hub_url(self._repository.repo, self._file, revision=self._repository.commit)
        headers = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
        with http_stream_backoff(
            "GET", url, headers={**build_hf_headers(), **headers}, timeout=_TIMEOUT
        ) as response:
            hf_raise_for_status(response)
            if response.status_code == 206:
                yield from response.iter_raw()
                return
        self._local = LocalFile(self.local())
