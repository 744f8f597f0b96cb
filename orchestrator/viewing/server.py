"""Serves the viewer's page and the cases that it asks for, to this machine alone."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from medvision.errors import DataError
from orchestrator.viewing.page import served_page
from orchestrator.viewing.scenes import Scenes
from record.store import StoreError

HOST = "127.0.0.1"


class ViewerServer(ThreadingHTTPServer):
    """Listens on loopback, on a port that the system chooses. A secret in the address keeps other
    users of the machine out, and the check of `Host` pages of other servers.

    Args:
        scenes: the study's cases.
        first: task and case that the page opens with.
    """

    daemon_threads = True

    def __init__(self, scenes: Scenes, first: tuple[str, str] | None = None) -> None:
        super().__init__((HOST, 0), _Handler)
        self.scenes, self.reading = scenes, threading.Lock()
        self.page = served_page(scenes.cases, first).encode()
        self.folder = f"/{secrets.token_urlsafe(16)}/"

    @property
    def address(self) -> str:
        """What a browser is given."""
        return f"http://{HOST}:{self.server_port}{self.folder}"


class _Handler(BaseHTTPRequestHandler):
    server: ViewerServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The page or a case."""
        asked = urlsplit(self.path)
        if self.headers.get("Host") != f"{HOST}:{self.server.server_port}":
            self._answer(HTTPStatus.FORBIDDEN, b"another host", "text/plain")
        elif asked.path == self.server.folder:
            self._answer(HTTPStatus.OK, self.server.page, "text/html")
        elif asked.path == f"{self.server.folder}case":
            given = parse_qs(asked.query)
            self._case(given.get("task", [""])[0], given.get("case", [""])[0])
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there is nothing at this address", "text/plain")

    def _case(self, task: str, case: str) -> None:
        try:
            with self.server.reading:  # a case may take a gigabyte while it is read
                scene = self.server.scenes.scene(task, case)
            content = json.dumps(scene).encode()
        except (DataError, StoreError, OSError) as error:
            self._answer(HTTPStatus.NOT_FOUND, str(error).encode(), "text/plain")
        except Exception as error:  # the page shows why; the server goes on with the next case
            why = f"{task}, {case}: cannot be shown: {type(error).__name__}: {error}"
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, why.encode(), "text/plain")
        else:
            self._answer(HTTPStatus.OK, content, "application/json")

    def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        with contextlib.suppress(ConnectionError):  # the tab was closed meanwhile
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Requests are no news."""
