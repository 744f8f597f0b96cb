"""What a study was made with: git commit, package versions, hardware. Holds no secrets and
only one environment variable.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from pydantic import Field

from record.stored import Stored

COMMIT_VARIABLE = "MEDVISION_COMMIT"  # what an image was built from: `Dockerfile`
PACKAGES = (
    "ray",
    "torch",
    "transformers",
    "peft",
    "nibabel",
    "monai",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "mlflow",
    "numba",
    "optuna",
    "gguf",
    "safetensors",
)


class Git(Stored):
    """The commit of the code; None where it is not known."""

    commit: str | None = None
    uncommitted_changes: bool = False


class Hardware(Stored):
    """The machine of the main job."""

    platform: str = ""
    processor: str = ""
    cores: int | None = None
    gpus: list[str] = Field(default_factory=list)


class Needs(Stored):
    """needs.json: what every machine of a cluster must have."""

    uri: str
    root: str
    embedded: bool
    assets: list[str]
    versions: dict[str, str]


class Manifest(Stored):
    """manifest.json: what the run that last trained something was made with."""

    git: Git = Git()
    python: str | None = None
    packages: dict[str, str | None] = Field(default_factory=dict)
    hardware: Hardware | None = None
    fingerprints: dict[str, Any] = Field(default_factory=dict)
    spec: dict[str, Any] = Field(default_factory=dict)


def manifest(spec: dict[str, Any], fingerprints: dict[str, Any]) -> Manifest:
    """Versions, commit and hardware beside the resolved spec and the fingerprints of data and
    blocks.
    """
    return Manifest(
        git=_git(),
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        hardware=Hardware(
            platform=platform.platform(),
            processor=_processor(),
            cores=os.cpu_count(),
            gpus=_gpus(),
        ),
        fingerprints=fingerprints,
        spec=spec,
    )


@functools.lru_cache(maxsize=1)
def environment() -> dict[str, str]:
    """What a trial of this process is made with: git commit, Python and packages."""
    git = _git()
    changed = " with uncommitted changes" if git.uncommitted_changes else ""
    versions = {"python": platform.python_version()} | {
        name: version for name in PACKAGES if (version := _version(name)) is not None
    }
    return ({"git": f"{git.commit}{changed}"} if git.commit else {}) | versions


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> Git:
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # installed, perhaps below somebody else's repository
        return Git(commit=os.environ.get(COMMIT_VARIABLE) or None, uncommitted_changes=False)
    commit = _output(["git", "-C", str(root), "rev-parse", "HEAD"])
    changed = _output(["git", "-C", str(root), "status", "--porcelain"])
    return Git(commit=commit or None, uncommitted_changes=bool(changed))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor()


def _gpus() -> list[str]:
    return _output(
        ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    ).splitlines()


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
