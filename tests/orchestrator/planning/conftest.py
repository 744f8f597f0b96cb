"""A small study whose data a test may change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import load_spec


@pytest.fixture
def data(spheres: Path, tmp_path: Path) -> Path:
    """A copy of the spheres that a test may change."""
    shutil.copytree(spheres, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def spec(tiny_spec: Path, data: Path) -> Callable[..., Spec]:
    """The tiny study of that copy, with keys overridden: `spec("folds=3")`."""
    return lambda *changes: load_spec(tiny_spec, [f"data.root={data}", *changes])
