"""Hub ids against a small hub on the loopback address: what is asked for, with ranges and
without.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from medvision.llm import BlockError, cached_fingerprint, describe_block, load_block, prepare_block

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves one folder as the model `lab/tiny`, and counts the bytes that it sends of each
    file.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.ranges = True
        self.break_after: int | None = None
        self.sent: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _json(self, status: int, value: object, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, content in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        if re.fullmatch(r"/api/models/lab/tiny(/revision/(main|v1))?", path):
            names = sorted(file.name for file in hub.folder.iterdir())
            files = [{"rfilename": n, "size": (hub.folder / n).stat().st_size} for n in names]
            self._json(
                200,
                {
                    "id": "lab/tiny",
                    "modelId": "lab/tiny",
                    "sha": COMMIT,
                    "siblings": files,
                    "tags": [],
                },
            )
        elif path.startswith("/api/models/lab/tiny/revision/"):
            self._json(404, {"error": "no revision"}, X_Error_Code="RevisionNotFound")
        elif path.startswith("/api/models/lab/gated"):
            self._json(403, {"error": "gated"}, X_Error_Code="GatedRepo")
        elif match := re.fullmatch(rf"/lab/tiny/resolve/(?:{COMMIT}|main)/([\w.-]+)", path):
            self._file(match[1])
        else:
            self._json(404, {"error": "no repository"}, X_Error_Code="RepoNotFound")

    def _file(self, name: str) -> None:
        hub = self.server
        content = (hub.folder / name).read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        body, status = content, 200
        if wanted and hub.ranges:
            body, status = content[int(wanted[1]) : int(wanted[2]) + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return
        if hub.break_after is not None and len(body) > hub.break_after:
            body, hub.break_after = body[: hub.break_after], None
            self.close_connection = True
        hub.sent[name] = hub.sent.get(name, 0) + len(body)
        self.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Hub]]:
    """`hub(folder)`: serve it, and let huggingface_hub know nothing else."""
    from huggingface_hub import constants

    servers: list[Hub] = []

    def serve(folder: Path) -> Hub:
        server = Hub(folder)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            server.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        return server

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("fmt", ["safetensors", "sharded safetensors", "bin", "sharded bin"])
def test_only_the_layers_bytes_are_downloaded(fmt, hub, make_model, write):
    model = make_model("llama", num_hidden_layers=16, hidden_size=128, intermediate_size=512)
    folder = write(model, fmt)
    server = hub(folder)
    assert cached_fingerprint("lab/tiny") is None
    block = load_block("lab/tiny", 7)
    layer = sum(parameter.numel() * 4 for parameter in block.parameters())
    weights = sum(sent for name, sent in server.sent.items() if not name.endswith(".json"))
    assert layer <= weights <= 1.2 * layer
    local = load_block(folder, 7)
    assert local.fingerprint == block.fingerprint == cached_fingerprint("lab/tiny", 7)
    assert all(
        torch.equal(a, b) for a, b in zip(local.parameters(), block.parameters(), strict=True)
    )
    server.sent.clear()
    assert prepare_block("lab/tiny", 7) == load_block("lab/tiny", 7).fingerprint
    assert server.sent == {}


def test_files_from_before_zip_are_downloaded_whole(hub, make_model, write):
    folder = write(make_model("bert"), "legacy bin")
    hub(folder)
    assert load_block("lab/tiny").fingerprint == load_block(folder).fingerprint


def test_without_ranges_only_the_needed_shards_are_downloaded(hub, make_model, write):
    folder = write(make_model("llama", num_hidden_layers=8), "sharded safetensors")
    server = hub(folder)
    server.ranges = False
    block = load_block("lab/tiny", 3)
    assert block.fingerprint == load_block(folder, 3).fingerprint
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    needed = {
        file for name, file in index.items() if name.startswith(("model.layers.3.", "model.norm."))
    }
    assert {name for name in server.sent if name.endswith(".safetensors")} == needed
    assert len(needed) < len(set(index.values()))


def test_a_broken_connection_is_resumed(hub, make_model, write):
    folder = write(make_model("llama"))
    server = hub(folder)
    server.break_after = 5000
    assert load_block("lab/tiny").fingerprint == load_block(folder).fingerprint
    assert server.break_after is None


def test_gguf_on_the_hub(hub, make_model, write_gguf):
    path = write_gguf(make_model("llama"))
    server = hub(path.parent)
    (path.parent / "second.gguf").write_bytes(b"")
    with pytest.raises(BlockError, match="several GGUF files"):
        load_block("lab/tiny")
    assert load_block(f"lab/tiny/{path.name}@v1").fingerprint == load_block(path).fingerprint
    assert sum(server.sent.values()) < 2.2 * path.stat().st_size
    assert describe_block(f"lab/tiny/{path.name}")["layers"] == 3


def test_what_the_hub_refuses(hub, make_model, write, cache):
    hub(write(make_model("llama")))
    for source, match in (
        ("lab/nothing", "no such model or does not show it"),
        ("lab/gated", "gated: accept its licence"),
        ("lab/tiny@v9", "no revision 'v9'"),
        ("lab/tiny/none.gguf", "no file 'none.gguf'"),
    ):
        with pytest.raises(BlockError, match=match):
            load_block(source)
    assert {path.name for path in cache.iterdir()} <= {".lock"}


def test_a_truncated_file_on_the_hub(hub, make_model, write, cache):
    folder = write(make_model("llama"))
    os.truncate(
        folder / "model.safetensors", (folder / "model.safetensors").stat().st_size - 10_000
    )
    hub(folder)
    with pytest.raises(BlockError, match=r"hub model lab/tiny/model.safetensors.*truncated"):
        load_block("lab/tiny")
    assert not cache.exists() or {path.name for path in cache.iterdir()} <= {".lock"}


def test_without_a_connection_what_was_downloaded_serves(hub, make_model, write, monkeypatch):
    from huggingface_hub import constants, hf_hub_download

    folder = write(make_model("llama"))
    server = hub(folder)
    for name in ("config.json", "model.safetensors"):
        hf_hub_download("lab/tiny", name)
    server.shutdown()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_block("lab/tiny").fingerprint == load_block(folder).fingerprint
    with pytest.raises(
        BlockError, match=r"cannot be reached.*not been downloaded before.*HF_HUB_OFFLINE"
    ):
        load_block("lab/other")


def test_the_endpoint_of_the_environment(hub, make_model, write, tmp_path):
    folder = write(make_model("qwen3"), "sharded safetensors")
    server = hub(folder)
    code = "import sys; from medvision.llm import describe_block\n"
    code += "print(describe_block('lab/tiny@main')['family'], 'torch' in sys.modules)"
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.url,
        "HF_HUB_CACHE": str(tmp_path / "elsewhere"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.split() == ["qwen3", "False"]
