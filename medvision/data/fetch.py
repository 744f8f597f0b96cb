"""Fetches a task's archive, resumes it when it is cut off, checks it and unpacks it safely."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import lzma
import os
import shutil
import ssl
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from medvision.data.readers.registry import LISTINGS, is_task

ATTEMPTS = 6  # connections in a row that bring nothing new
LONGEST_WAIT_SECONDS = 60.0
TIMEOUT_SECONDS = 60.0
_CHUNK = 1 << 20
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
Progress = Callable[[int, int | None], object]


class FetchError(RuntimeError):
    """The archive could not be had, is not the right one, or cannot be unpacked; the message says
    what to do.
    """


class BadArchiveError(FetchError):
    """The archive itself is wrong: its md5, its format, or what it would write."""


def fetch_task(
    name: str,
    root: Path,
    *,
    md5: str | None,
    url: str | None = None,
    file: Path | None = None,
    expected_bytes: int = 0,
    progress: Progress = lambda done, total: None,
    note: Callable[[str], object] = lambda text: None,
    wait: Callable[[float], object] = time.sleep,
) -> Path:
    """Make `root/name` out of an archive unless it is there; returns the folder.

    Args:
        md5: of the archive, None where it is not known.
        url: where to download it from; not with `file`.
        file: an archive that is here already; not with `url`.
        expected_bytes: its size for the check of the free space, until the server says.
        progress: takes bytes so far and in all.
        note: takes a line about what goes on.

    Raises:
        FetchError: no connection, a refusal, no space, or something else in the way at `root/name`.
        BadArchiveError: a wrong md5, no tar, or an unsafe one; a downloaded archive is removed.
    """
    folder = root / name
    if is_task(folder):  # unpacking is all or nothing, so the list of cases is proof
        return folder
    if folder.exists():
        raise FetchError(
            f"{folder} exists and is no task (neither {' nor '.join(LISTINGS)}): move it away first"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        if file is not None:
            _check_md5(file, md5, "give another file")
            _unpack(file, folder)
            return folder
        if url is None:
            raise FetchError("neither a URL nor a file was given")
        part = root / f".{name}.tar.part"
        need_space(root, 2 * expected_bytes - _size(part))
        download(url, part, progress=progress, note=note, wait=wait)
        note("checking and unpacking")
        try:
            _check_md5(
                part,
                md5,
                "the file was removed; fetch it again, or from elsewhere with --url or --file",
            )
            _unpack(part, folder)
        except BadArchiveError:
            part.unlink()
            raise
        part.unlink()
    except OSError as error:
        raise FetchError(f"{name}: {error}") from error
    return folder


def download(
    url: str,
    part: Path,
    *,
    progress: Progress = lambda done, total: None,
    note: Callable[[str], object] = lambda text: None,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Bring the whole of `url` into the file `part`, going on from what is there; http and https
    only.

    Each connection that ends early is followed by another that asks for the rest, at once where it
    brought something, otherwise after 1, 2, 4, ... seconds.

    Raises:
        FetchError: another kind of URL, an answer that repeating cannot cure, or `ATTEMPTS`
            fruitless connections in a row.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(
            f"{url}: only http and https are fetched; for a file on this machine use --file"
        )
    failed, problem = 0, ""
    while failed < ATTEMPTS:
        if failed:
            seconds = min(2.0 ** (failed - 1), LONGEST_WAIT_SECONDS)
            note(f"{problem}; trying again in {seconds:.0f} s")
            wait(seconds)
        before = _size(part)
        try:
            if _receive(url, part, before, progress):
                return
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # there is no rest
                if before and error.headers.get("Content-Range") == f"bytes */{before}":
                    return
                part.unlink(missing_ok=True)  # what lies here belongs to something else
            elif error.code not in _RETRIED:
                raise FetchError(
                    f"{url}: the server answers {error.code} {error.reason}"
                ) from error
            problem = f"the server answers {error.code} {error.reason}"
        except urllib.error.URLError as error:
            if isinstance(
                error.reason, str | ssl.SSLCertVerificationError
            ):  # an unknown kind of URL, or no trusted certificate
                raise FetchError(f"{url}: {error.reason}") from error
            problem = str(error.reason)
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            problem = str(error) or type(error).__name__
        failed = 0 if _size(part) > before else failed + 1
    raise FetchError(
        f"{url}: {problem}, {ATTEMPTS} times in a row; run the same command again to go on from "
        "here"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, part: Path, have: int, progress: Progress) -> bool:
    """One connection; whether the file is whole after it."""
    request = urllib.request.Request(  # noqa: S310
        url, headers={"User-Agent": "medvision", "Accept-Encoding": "identity"}
    )
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _opener().open(request, timeout=TIMEOUT_SECONDS) as answer:
        start = _start(answer) if answer.status == 206 else 0
        if start not in (0, have):
            raise http.client.HTTPException(
                f"asked for bytes from {have}, the server sends them from {start}"
            )
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        need_space(
            part.parent, 2 * total - start if total else 0
        )  # the archive's rest, and what is in it
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            done = start
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    return total is None or done == total


def _start(answer: Any) -> int:
    """First byte of `Content-Range: bytes 100-199/200`."""
    first = str(answer.headers.get("Content-Range", "")).removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def _opener() -> urllib.request.OpenerDirector:
    """Python's own way of opening URLs, without its handlers for file: and ftp:, which a redirect
    could reach.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def need_space(folder: Path, needed: int) -> None:
    """Raise FetchError where a folder's disk has fewer free bytes than these."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FetchError(
            f"{folder}: {needed / 1e9:.2f} GB are needed for the archive and its content, "
            f"{free / 1e9:.2f} GB are free: make space, or give another --root"
        )


def _check_md5(archive: Path, expected: str | None, remedy: str) -> None:
    if expected is None:
        return
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected.lower():
        raise BadArchiveError(f"{archive}: md5 is {found}, it must be {expected.lower()}: {remedy}")


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack into a scratch folder and move the task to its place whole."""
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f".{folder.name}.unpack-"
    ) as scratch:
        inside = Path(scratch) / "archive"
        try:
            with tarfile.open(archive) as tar:
                members = list(_members(tar))
                need_space(folder.parent, sum(member.size for member in members))
                tar.extractall(inside, members=members, filter="data")
                while tar.fileobj and tar.fileobj.read(
                    _CHUNK
                ):  # a compressed archive's checksum is at its end
                    pass
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            raise BadArchiveError(
                f"{archive}: cannot be unpacked: {type(error).__name__}: {error}"
            ) from error
        found = next((path for path in (inside, *sorted(inside.glob("*"))) if is_task(path)), None)
        if found is None:
            raise BadArchiveError(
                f"{archive}: holds no task: there is neither {' nor '.join(LISTINGS)} at its top"
            )
        os.replace(found, folder)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Files and folders, without the `._*` that macOS adds.

    Raises:
        BadArchiveError: a link or a device, which no archive of images needs. Paths that lead out
            are the data filter's.
    """
    for member in tar:
        if PurePosixPath(member.name).name.startswith("._"):
            continue
        if not (member.isfile() or member.isdir()):
            raise BadArchiveError(
                f"{tar.name!s}: unsafe archive: {member.name!r} is neither a file nor a folder"
            )
        yield member
