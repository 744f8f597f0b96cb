"""Modules stay short enough to be read from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "medvision", "orchestrator", "record", "reports", "tests", "tools")
MOST_LINES = 300


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_is_longer_than_a_reader_can_hold(folder: str) -> None:
    lines = {
        str(path.relative_to(ROOT)): path.read_text().count("\n")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert lines
    long = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert not long, f"split them at a natural seam: {long}"
