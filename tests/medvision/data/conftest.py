"""A server of archives."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.medvision.data.archives import TASK, Server


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(
            target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        state.url = f"http://127.0.0.1:{running.server_port}/{TASK}.tar"
        yield state
        running.shutdown()
