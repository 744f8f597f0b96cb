"""Between a client and an object store: a share of the requests goes wrong."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

KINDS = ("500", "503", "slow", "dropped", "applied but failed", "applied but dropped")
SLOW_SECONDS = 0.5
_OF_ONE_CONNECTION = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on to an endpoint; of every kind of fault there is this share.

    `faults` counts them.
    """

    daemon_threads = True

    def __init__(self, endpoint: str, kinds: tuple[str, ...], share: float, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.kinds, self.share = urlsplit(endpoint).netloc, kinds, share
        self.faults = dict.fromkeys(kinds, 0)
        self._rng, self._lock = random.Random(seed), threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self) -> str:
        """What goes wrong with the next request; empty where nothing does."""
        with self._lock:
            place = self._rng.random() / self.share
            kind = self.kinds[int(place)] if place < len(self.kinds) else ""
            if kind:
                self.faults[kind] += 1
            return kind

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault()
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        elif fault == "dropped":
            return self._drop()
        elif fault in ("500", "503"):
            return self._fail(int(fault))
        connection = http.client.HTTPConnection(self.server.behind, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
        connection.request(self.command, self.path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        if fault == "applied but failed":
            return self._fail(500)
        if fault == "applied but dropped":
            return self._drop()
        self.send_response_only(reply.status, reply.reason)
        for name, value in reply.getheaders():
            if name.lower() not in _OF_ONE_CONNECTION:
                self.send_header(name, value)
        length = reply.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _fail(self, status: int) -> None:
        code = {500: "InternalError", 503: "SlowDown"}[status]
        content = f"<Error><Code>{code}</Code><Message>Try again.</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
