"""MLflow servers for tests: one of its own process, and a gate before it that fails on demand."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.waiting import wait_for
from tools.tracking_screenshots import free_port


def server_command(port: int, database: Path) -> list[str]:
    """`mlflow server` on loopback over a SQLite file, with one worker."""
    return [
        *[sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)],
        *["--workers", "1", "--backend-store-uri", f"sqlite:///{database}"],
    ]


class Server:
    """`mlflow server` on loopback with a SQLite file; `start` and `kill` as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, **variables: str) -> None:
        command = server_command(self.port, self.folder / "server.db")
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        command += options
        quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | variables
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=quiet, start_new_session=True
            )
        log = self.folder / "server.log"

        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, log.read_text()
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.uri}/health", timeout=5),  # noqa: S310
            ):
                return True
            return False

        wait_for("an answer of the server", answers, more=log.read_text)

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


class Gate:
    """Stands before the server `behind` (or alone) and does what `mode` says to each request.

    pass: hand it on. lose: hand it on and cut the line instead of answering. 500, 401: refuse.
    hang: never answer. password: hand it on if it carries user `ann` with password `pa55`.
    """

    def __init__(self) -> None:
        self.mode, self.behind, self.requests = "pass", "", 0
        self.let_go = threading.Event()
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                gate.requests += 1
                mode = gate.mode
                if mode == "hang":
                    gate.let_go.wait(120)
                    self.close_connection = True
                    return
                if mode == "password":
                    expected = "Basic " + base64.b64encode(b"ann:pa55").decode()
                    mode = "pass" if self.headers.get("Authorization") == expected else "401"
                if mode in ("500", "401"):
                    self.answer(int(mode), b"no", "text/plain")
                    return
                host = gate.behind.removeprefix("http://")
                line = http.client.HTTPConnection(host, timeout=60)
                line.request(self.command, self.path, body, {**dict(self.headers), "Host": host})
                answer = line.getresponse()
                content = answer.read()
                line.close()
                if mode == "lose":
                    self.close_connection = True
                    return
                self.answer(
                    answer.status, content, answer.headers.get("Content-Type", "text/plain")
                )

            def answer(self, status: int, content: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

            def log_message(self, *_: Any) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.let_go.set()
        self.http.shutdown()
        self.http.server_close()
