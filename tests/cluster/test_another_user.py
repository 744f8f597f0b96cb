"""As another user of the machine: no job, no metrics and no file of a Ray that a study has
started.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")
from orchestrator.executors.base import ClusterError
from orchestrator.executors.lanes import private

NOBODY = 65534
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux",
    reason="only root of a Linux can become another user",
)
STUDY = """\
import json, sys, time
import psutil, ray
from orchestrator.executors.lanes.cluster import cluster
with cluster(None):
    assert ray.get(ray.remote(lambda: 7).remote()) == 7
    me, listening = psutil.Process(), set()
    for process in (me, *me.children(recursive=True)):
        for one in process.net_connections(kind="inet"):
            if one.status == psutil.CONN_LISTEN:
                listening.add((one.laddr.ip, one.laddr.port))
    about = {"address": ray.get_runtime_context().gcs_address, "listening": sorted(listening)}
    print(json.dumps(about), flush=True)
    sys.stdin.read()
"""
ASK = """\
import sys
from ray._raylet import GcsClient
try:
    print("it answered", len(GcsClient(address=sys.argv[1]).get_all_node_info()))
except Exception as error:
    print("refused", error)
"""
# Whoever becomes another user may no longer read the folder that Python lies in: all is imported.
KNOCK = """\
import encodings.idna, json, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
found = []
for port in json.loads(sys.argv[1]):
    for asked in ("GET /metrics", "GET /api/jobs/", "POST /api/jobs/", "GET /logs"):
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.settimeout(10)
            try:
                connection.sendall(asked.encode() + b" HTTP/1.0\\r\\nContent-Length: 0\\r\\n\\r\\n")
                answer = connection.recv(64)
            except OSError:
                answer = b""
        first = answer.split(b" ")
        found.append(int(first[1]) if first[0].startswith(b"HTTP/") else 0)
print(json.dumps(found))
"""
FILES = """\
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    print("it lists", os.listdir(sys.argv[1]))
except PermissionError:
    print("refused")
"""


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[dict[str, object], Path]]:
    """A Ray of ours, where it listens, and its folder."""
    folder.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_TMPDIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-c", STUDY],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        yield json.loads(process.stdout.readline()), folder / f"mv-{os.getuid()}"
    finally:
        process.stdin.close()
        process.wait(120)


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a name that leaves room for sockets."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="au"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@needs_root
def test_another_user_gets_no_job_no_metrics_and_no_file(short: Path) -> None:
    with running(short) as (about, folder):
        listening = about["listening"]
        assert isinstance(listening, list)
        outside = [ip for ip, _ in listening if ip.removeprefix("::ffff:") != "127.0.0.1"]
        assert listening
        assert not outside
        answers = json.loads(_run(KNOCK, json.dumps([port for _, port in listening])))
        assert set(answers) <= {0, 401, 404, 405}  # 0: it speaks no HTTP
        assert 401 in answers
        token = folder / "token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for place in (folder, folder / "ray", next((folder / "ray").glob("session_2*/sockets"))):
            assert _run(FILES, str(place)) == "refused\n"
        address = str(about["address"])
        assert _run(ASK, address, token=token.read_text()) == "it answered 1\n"
        for wrong in ("0" * 64, ""):
            told = _run(ASK, address, token=wrong)
            assert told.startswith("refused"), told
            assert "token" in told.lower(), told


def _run(program: str, argument: str, *, token: str = "") -> str:
    """What a program prints whose environment has this token alone of Ray's variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
    environment |= {"HOME": "/nonexistent", "RAY_AUTH_MODE": "disabled"} | mode
    done = subprocess.run(
        [sys.executable, "-c", program, argument],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout or done.stderr


def test_the_folder_of_ones_ray_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    folder = private.private_folder()
    assert folder == tmp_path / f"mv-{os.getuid()}"
    folder.chmod(0o777)
    assert stat.S_IMODE(private.private_folder().stat().st_mode) == 0o700
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ClusterError, match="is not a folder of yours"):
        private.private_folder()


@needs_root
def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    os.chown(private.private_folder(), NOBODY, NOBODY)
    with pytest.raises(ClusterError, match="is not a folder of yours"):
        private.private_folder()


def test_a_token_that_others_can_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (private.MODE, private.TOKEN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    monkeypatch.setenv(private.TOKEN_FILE, str(token))
    with pytest.raises(ClusterError, match=f"chmod 600 {token}"), private.private_ray():
        pytest.fail("started")
    token.chmod(0o600)
    with private.private_ray():
        assert os.environ[private.TOKEN_FILE] == str(token)


def test_a_ray_without_a_token_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv(private.MODE, "disabled")
    with private.private_ray():
        pass
    assert "every user of this machine can run code in this Ray" in capsys.readouterr().err
