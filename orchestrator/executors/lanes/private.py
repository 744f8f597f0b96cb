"""A Ray on this machine that only its user can use, on a machine that others use, too.

Ray 2.60 alone leaves its token readable for all, its folders writable for all, listens on all
addresses, and answers for its metrics without a token. Here everything lies in a folder that only
the user can enter, every port is on loopback, all of them ask for the token, and there are no
metrics. `tests/cluster/test_another_user.py` tries it as another user; docs/security.md says what
stays open.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray._private import services

from orchestrator.executors.base import ClusterError
from orchestrator.executors.lanes.dashboard import modules_option
from record.terminal import say

LOOPBACK = "127.0.0.1"
MODE, TOKEN, TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
NO_PORT = "70000"  # no such port: the dashboard goes on without its metrics, and logs why


@contextlib.contextmanager
def private_ray() -> Iterator[dict[str, Any]]:
    """While this lasts, a Ray that this process starts is its user's own.

    Yields:
        What `ray.init` is to be given for it.

    Raises:
        ClusterError: its folder or its token could be another user's, or read by others.
    """
    folder = private_folder()
    with _token(folder), _loopback():
        yield {
            "_temp_dir": str(folder / "ray"),  # Ray makes it writable for all; nobody gets there
            "_node_ip_address": LOOPBACK,
            "dashboard_host": LOOPBACK,
            "_system_config": {"enable_metrics_collection": False},  # they ask for no token
        }


def private_folder() -> Path:
    """The folder of this user's Ray, `mv-UID` in RAY_TMPDIR or the folder of temporary files; a
    short name, because sockets lie in it. Only the user can enter it.

    Raises:
        ClusterError: it is another user's, or cannot be made.
    """
    root = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    folder = root / f"mv-{os.getuid()}"
    root.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    about = folder.lstat()  # not what a link leads to
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
        raise ClusterError(
            f"{folder}: is not a folder of yours, so that its owner could use your Ray: remove it, "
            "or set RAY_TMPDIR to a short folder of your own"
        )
    if stat.S_IMODE(about.st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


@contextlib.contextmanager
def _token(folder: Path) -> Iterator[None]:
    """The token that every port asks for: the user's own where variables give one, else a file in
    the folder.
    """
    if os.environ.get(MODE, "token").lower() != "token":
        say(
            f"warning: {MODE} is {os.environ[MODE]}: every user of this machine can run code in "
            "this Ray, as you, while it lasts; unset it where others use the machine",
            file=sys.stderr,
        )
        yield
        return
    if os.environ.get(TOKEN):
        yield
        return
    if given := os.environ.get(TOKEN_FILE):
        place = Path(given).expanduser()
        if place.exists() and stat.S_IMODE(place.stat().st_mode) & 0o077:
            raise ClusterError(
                f"{place}: {TOKEN_FILE} names it, and other users can read it and run code as you: "
                f"chmod 600 {place}"
            )
        yield
        return
    place = folder / "token"
    if not place.exists() or not place.stat().st_size:  # a run may have died while it wrote
        handle, name = tempfile.mkstemp(dir=folder, prefix="token.")  # with rights 0600
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        if place.exists():
            os.replace(name, place)
        else:
            with contextlib.suppress(FileExistsError):  # another run of ours has made it
                os.link(name, place)
            Path(name).unlink()
    os.environ[TOKEN_FILE] = str(place)
    _forget_token()
    try:
        yield
    finally:
        del os.environ[TOKEN_FILE]


def _forget_token() -> None:
    """Ray reads its token once a process; the file may be a new one."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Ray turns 127.0.0.1 into the machine's address, and gives two of its processes a port for
    metrics. It has no settings for either.
    """
    start, resolve = services.start_ray_process, services.resolve_ip_for_localhost

    def start_closed(command: list[str], process_type: str, *given: Any, **options: Any) -> Any:
        if process_type == "dashboard":
            command = [*command, *modules_option()]
            with _variable("DASHBOARD_METRIC_PORT", NO_PORT):
                return start(command, process_type, *given, **options)
        if process_type == "monitor":
            command = [part for part in command if not part.startswith("--monitor-ip=")]
        return start(command, process_type, *given, **options)

    services.start_ray_process, services.resolve_ip_for_localhost = start_closed, _as_it_is
    try:
        yield
    finally:
        services.start_ray_process, services.resolve_ip_for_localhost = start, resolve


def _as_it_is(host: str) -> str:
    return host


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
