"""Three machines on this one: network namespaces on a bridge, each with its own processes, home
folder and SSH server.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import site
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.waiting import Barrier, end

ROOT = Path(__file__).resolve().parents[2]


BRIDGE = "medvision0"


LAPTOP = "10.77.0.254"  # where `ray up` runs: this process's own network


ADDRESSES = ("10.77.0.1", "10.77.0.2", "10.77.0.3")


def command(*words: str | Path, **settings: Any) -> str:
    """Run a program to its end and give what it printed; what failed is told with its output."""
    done = subprocess.run(
        [str(word) for word in words],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **settings,
    )
    assert done.returncode == 0, (
        f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}"
    )
    return done.stdout


class Machine:
    """One machine; `stop` is a power cut."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.address = folder, ADDRESSES[number]
        self.name, self.link = f"medvision-{number + 1}", f"mv-link{number + 1}"
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(self, key: Path, on_workers: Mapping[str, str]) -> None:
        """Home folder with an environment that sees this Python's packages, so that pip has nothing
        to download.

        Args:
            key: of whom may log in.
            on_workers: environment of whoever logs in; its PYTHONPATH comes last, because bash
                reads these settings in Ray's workers, too, whose path begins with shipped code.
        """
        variables = dict(on_workers)
        path = variables.pop("PYTHONPATH").split(os.pathsep)
        (self.folder / "ray").mkdir(parents=True)
        environment = self.folder / "home" / "medvision-venv"
        command(sys.executable, "-m", "venv", "--without-pip", environment)
        packages = next((environment / "lib").glob("python*/site-packages"))
        (packages / "host.pth").write_text("\n".join([*site.getsitepackages(), *path]))
        ray = environment / "bin" / "ray"
        ray.write_text(
            f"#!{environment}/bin/python\nfrom ray.scripts.scripts import main\nmain()\n"
        )
        ray.chmod(0o755)
        wheels = self.folder.parent / "wheels"
        # Not nice, because other work may run here beside the test.
        variables |= {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "RAY_worker_niceness": "0",
        }
        exports = "".join(
            f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()
        )
        (self.folder / "home" / ".bashrc").write_text(exports)
        users = re.sub(
            "^root:.*$",
            f"root:x:0:0:root:{self.folder}/home:/bin/bash",
            Path("/etc/passwd").read_text(),
            flags=re.M,
        )
        (self.folder / "passwd").write_text(users)
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "host_key")
        shutil.copy(f"{key}.pub", self.folder / "authorized_keys")
        command("ip", "netns", "add", self.name)
        command(
            "ip",
            "link",
            "add",
            self.link,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            self.name,
        )
        command("ip", "link", "set", self.link, "master", BRIDGE, "up")
        for words in (
            ["addr", "add", f"{self.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
        ):
            command("ip", "-n", self.name, *words)
        command("ip", "-n", self.name, "link", "set", "lo", "up")
        command(
            "ip", "-n", self.name, "route", "add", "default", "dev", "eth0"
        )  # leads nowhere; Ray finds its address by it

    def start(self) -> None:
        # A power cut, too, when the test itself is killed.
        words = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.name]
        words += ["unshare", "-m", "-p", "-u", "-f", "--mount-proc", "--kill-child"]
        words += [
            "bash",
            str(Path(__file__).with_name("host.sh")),
            str(self.folder),
            self.name,
            self.address,
        ]
        clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                words, stdout=log, stderr=log, env=clean, start_new_session=True
            )

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        self.stop()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self.link], check=False, capture_output=True)


class Cluster:
    """Three machines, and the cluster file that names them, on a fourth that has its own home
    folder: the laptop.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "laptop"
        self.address = ADDRESSES[0]
        self.file = folder / "cluster.yaml"
        self.barrier = Barrier(folder / "barrier")  # for the trials of all machines
        self.started: list[subprocess.Popen[bytes]] = []
        self.machines = [
            Machine(folder / f"machine{number + 1}", number) for number in range(len(ADDRESSES))
        ]
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "MEDVISION_"))
        }
        self.environment |= {
            "HOME": str(self.home),
            "RAY_TMPDIR": str(folder / "ray"),
            "RAY_AUTH_MODE": "token",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def prepare(self) -> None:
        """A bridge with three machines, and `cluster-onprem.yaml` with their addresses; a `wheels`
        folder is there.
        """
        key = self.home / "key"
        for folder in (self.home / ".ray", self.folder / "ray"):
            folder.mkdir(parents=True)
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        command("ip", "link", "add", BRIDGE, "type", "bridge")
        command("ip", "addr", "add", f"{LAPTOP}/24", "dev", BRIDGE)
        command("ip", "link", "set", BRIDGE, "up")
        for machine in self.machines:
            machine.prepare(key, self.barrier.environment)
            machine.start()
        config = yaml.safe_load((ROOT / "cluster-onprem.yaml").read_text())
        config["provider"] |= {"head_ip": ADDRESSES[0], "worker_ips": list(ADDRESSES[1:])}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
        for name in ("head_start_ray_commands", "worker_start_ray_commands"):
            config[name][-1] += (
                " --num-cpus=1"  # one trial a machine, however many cores this one has
            )
        self.file.write_text(yaml.safe_dump(config))

    def ray(self, *words: str | Path, **settings: Any) -> str:
        """A `ray` command on the laptop, in the repository's root."""
        return command("ray", *words, cwd=ROOT, env=self.environment, **settings)

    def as_logged_in(self, script: str) -> str:
        return f"bash -c {shlex.quote(f'source ~/.bashrc; {script}')}"

    def background(self, number: int, script: str) -> subprocess.Popen[bytes]:
        """A script that runs on one of the machines; ended with the cluster at the latest."""
        words = ["ssh", *self.ssh, f"root@{ADDRESSES[number]}", self.as_logged_in(script)]
        quiet = subprocess.DEVNULL
        self.started.append(subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet))
        return self.started[-1]

    def logs_in(self, number: int) -> bool:
        words = ["ssh", *self.ssh, "-o", "ConnectTimeout=5", f"root@{ADDRESSES[number]}", "true"]
        return subprocess.run(words, check=False).returncode == 0

    def answers(self, url: str) -> bool:
        """Whether anything listens at a URL; what it says does not matter."""
        host, _, port = url.removeprefix("http://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    def on(self, number: int, script: str) -> str:
        """A script on one of the machines, through SSH, to its end."""
        return command(
            "ssh",
            *self.ssh,
            f"root@{ADDRESSES[number]}",
            self.as_logged_in(script),
            env=self.environment,
        )

    @property
    def ssh(self) -> list[str]:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        return [
            "-q",
            "-i",
            str(self.home / "key"),
            *(word for option in options for word in ("-o", option)),
        ]

    def remove(self) -> None:
        for process in self.started:
            end(process)
        for machine in self.machines:
            machine.remove()
        subprocess.run(["ip", "link", "del", BRIDGE], check=False, capture_output=True)
