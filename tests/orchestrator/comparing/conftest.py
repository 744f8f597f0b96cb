"""Folders of a truth and of two tools' masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.orchestrator.comparing.masks import moved, truths, written


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    written(tmp_path / "truth", truths())
    written(tmp_path / "A", moved(truths(), 1))
    written(tmp_path / "B", moved(truths(), 2))
    return tmp_path
