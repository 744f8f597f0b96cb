"""A server of archives for tests, which fails as it is asked to, and the archives."""

from __future__ import annotations

import gzip
import http.server
import io
import re
import tarfile
from dataclasses import dataclass, field

TASK = "Task04_Hippocampus"


NOISE = bytes(range(256)) * 2000


def archive(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


GOOD = archive(
    (f"./{TASK}/dataset.json", b"{}"),
    (f"./{TASK}/._dataset.json", b"AppleDouble"),
    (f"./{TASK}/imagesTr/a.nii.gz", NOISE),
    (f"./{TASK}/imagesTr/._a.nii.gz", b"AppleDouble"),
)


@dataclass
class Server:
    """`content` is served; `cut` bytes per connection at most; `refusals` are status codes of the
    first answers.
    """

    url: str = ""
    content: bytes = GOOD
    cut: int | None = None
    ranges: bool = True
    refusals: list[int] = field(default_factory=list)
    redirect: str = ""
    asked: list[str | None] = field(default_factory=list)

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if self.refusals:
            handler.send_error(self.refusals.pop(0))
            return
        if self.redirect:
            handler.send_response(302)
            handler.send_header("Location", self.redirect)
            handler.end_headers()
            return
        first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0  # type: ignore[index]
        total = len(self.content)
        if first >= total:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{total}")
            handler.end_headers()
            return
        handler.send_response(206 if wanted and self.ranges else 200)
        handler.send_header("Content-Length", str(total - first))
        if wanted and self.ranges:
            handler.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        handler.end_headers()
        handler.wfile.write(self.content[first:][: self.cut])


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def damaged(volume: bytes) -> bytes:
    """A compressed archive that breaks in the middle of its large member."""
    content = bytearray(
        gzip.compress(archive((f"{TASK}/dataset.json", b"{}"), (f"{TASK}/volume", volume)))
    )
    middle = len(content) // 2
    content[middle : middle + 200] = b"\xff" * 200
    return bytes(content)
