"""No command phones home: what the libraries report by default is off, unless the user wants it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import COMMANDS
from record.command import NO_TELEMETRY, begin_command

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
INSIDE = ["unshare", "--net", "--mount", "--fork", "--kill-child", "bash"]
UNDER_TEST = ("CI", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS")  # MLflow is quiet under these
OWN_ADDRESS = "name 1.0.99.10.in-addr.arpa"  # a process asks its machine's resolver who it is


def bare() -> dict[str, str]:
    """The environment of a user who has set nothing, outside of a test."""
    left_out = {*NO_TELEMETRY, *UNDER_TEST}
    return {name: value for name, value in os.environ.items() if name not in left_out}


def said_by(code: str) -> list[str]:
    """The words that Python code prints in that environment."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=bare(), capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.split()


def test_telemetry_is_off_unless_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_TELEMETRY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    begin_command()
    assert {name: os.environ[name] for name in NO_TELEMETRY} == NO_TELEMETRY | {
        "RAY_USAGE_STATS_ENABLED": "1"
    }


@pytest.mark.parametrize("module", sorted({module for module, _ in COMMANDS.values()}))
def test_every_command_turns_it_off_before_it_loads_a_library(module: str) -> None:
    """MLflow decides when it is imported, so the first line of `main` is the last moment."""
    look = f"""
import os, sys
import {module} as door
assert "mlflow" not in sys.modules and "ray" not in sys.modules
try:
    door.main(["--no-such-flag"])
except SystemExit:
    pass
print(*(os.environ[name] for name in {list(NO_TELEMETRY)}))
"""
    assert said_by(look)[-len(NO_TELEMETRY) :] == list(NO_TELEMETRY.values())


def test_the_libraries_agree_that_it_is_off() -> None:
    look = """
from record.command import begin_command
begin_command()
from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY
from mlflow.telemetry.utils import is_telemetry_disabled
from ray._common.usage.usage_lib import usage_stats_enabled
print(HF_HUB_DISABLE_TELEMETRY, is_telemetry_disabled(), usage_stats_enabled())
"""
    assert said_by(look) == ["True", "True", "False"]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Where the names and packets go; skips where this machine gives no namespace of our own."""
    path = tmp_path / "record"
    probe = [*INSIDE, str(HERE / "namespace.sh"), str(path), sys.executable]
    look_up = "import socket; socket.gethostbyname_ex('canary.example')"
    done = subprocess.run(
        [*probe, sys.executable, "-c", look_up], capture_output=True, text=True, check=False
    )
    if not path.is_file() or "name canary.example" not in path.read_text():
        pytest.skip(f"no network namespace with a recorder here: {done.stderr.strip()[-200:]}")
    return path


@pytest.mark.slow
def test_a_study_asks_nobody_outside(record: Path, tmp_path: Path) -> None:
    """The quickstart's commands, shortened, with MLflow's server: every look-up of a name and every
    packet to another machine is written down, and there is none.
    """
    short = [
        "fractions=[full]",
        "folds=2",
        "seeds=[0]",
        "training.steps=2",
        f"storage={tmp_path / 'runs'}",
    ]
    sets = [word for key in short for word in ("--set", key)]
    spec = str(ROOT / "ablations/quickstart.yaml")
    study = str(tmp_path / "runs/quickstart")
    commands = [
        ["orchestrator.run", spec, "--dry-run", *sets],
        ["orchestrator.run", spec, *sets],
        ["orchestrator.status", study],
        ["orchestrator.track", study],
        ["reports.build", study],
        ["medvision.models"],
    ]
    namespace = str(HERE / "namespace.sh")
    for command in commands:
        done = subprocess.run(
            [*INSIDE, namespace, str(record), sys.executable, sys.executable, "-m", *command],
            env=bare() | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
        asked = set(record.read_text().splitlines()) - {"ready", OWN_ADDRESS}
        assert not asked, f"{command[0]} asked the outside: {sorted(asked)}"
