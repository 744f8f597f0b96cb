"""Figures need no backend, so none that the caller's environment names can stop a report."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import os, sys
from reports.figures.canvas import new_figure
from reports.figures.printing import finish
figure, axes = new_figure(2, 1, columns=2)
axes[0, 1].plot([1, 2])
made = finish(figure, "name", "caption")
assert made.png.startswith(b"\\x89PNG") and made.pdf.startswith(b"%PDF")
assert axes.shape == (1, 2)
assert "matplotlib.pyplot" not in sys.modules
import matplotlib
print(os.environ.get("MPLBACKEND"), matplotlib.rcParams._get("backend"))
"""


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("module://matplotlib_inline.backend_inline", None),  # a notebook's, without its package
        ("nonsense", None),
        ("pdf", "pdf"),  # a good one stays the caller's for whatever else he draws
        ("", None),
    ],
)
def test_a_backend_of_the_environment_neither_stops_a_figure_nor_is_lost(
    named: str, kept: str | None
) -> None:
    environment = os.environ | {"MPLBACKEND": named}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    variable, backend = done.stdout.rstrip("\n").split(" ", 1)
    assert variable == named
    if kept:
        assert backend == kept
