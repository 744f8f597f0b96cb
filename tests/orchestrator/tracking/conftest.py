"""An empty database of MLflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"
