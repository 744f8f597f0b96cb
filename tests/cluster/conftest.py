"""Three machines on this one: network namespaces on a bridge, each with its own processes, home
folder and SSH server.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.machines import Cluster
from tests.waiting import wait_for


def missing() -> str | None:
    """Why machines cannot be made here; None where they can."""
    for program in ("ip", "unshare", "rsync", "ssh", "ssh-keygen", "/usr/sbin/sshd"):
        if shutil.which(program) is None:
            return (
                f"{program} is not installed (Debian: iproute2 util-linux rsync openssh-client "
                "openssh-server)"
            )
    probe = (
        "ip netns exec medvision-probe unshare -m -p -u -f --mount-proc true && ip link add "
        "mvprobe type bridge"
    )
    made = subprocess.run(
        ["bash", "-c", f"ip netns add medvision-probe && {probe}"],
        capture_output=True,
        text=True,
        check=False,
    )
    for kind, name in (("netns", "medvision-probe"), ("link", "mvprobe")):
        subprocess.run(["ip", kind, "del", name], check=False, capture_output=True)
    return f"namespaces are not allowed here: {made.stderr.strip()}" if made.returncode else None


def fetch_wheels(folder: Path) -> None:
    """What pip needs to build this package, for machines that have no internet."""
    words = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "-d",
        str(folder),
        "setuptools>=77",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(
            "no package index gives setuptools: "
            f"{(done.stderr.strip().splitlines() or ['no reason'])[-1]}"
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three machines that answer to SSH; nothing of them is left afterwards."""
    if reason := missing():
        pytest.skip(reason)
    three = Cluster(tmp_path_factory.mktemp("cluster"))
    fetch_wheels(three.folder / "wheels")
    three.remove()  # what an earlier run that was killed has left
    try:
        three.prepare()
        for number, machine in enumerate(three.machines):
            log = machine.folder / "sshd.log"
            wait_for(
                f"SSH on {machine.name}",
                lambda at=number: three.logs_in(at),
                120,
                more=log.read_text,
            )
        yield three
    finally:
        three.remove()
