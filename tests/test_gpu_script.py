"""`benchmarks.gpu --all`, rehearsed on the CPU, so that it runs on the day when there is a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_checks import Bench, Row, checked_all


def test_every_check_runs_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "gpu.md"
    monkeypatch.setattr(sys, "argv", ["gpu", "--all", "--cpu", "--out", str(table)])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    text = table.read_text()
    assert end.value.code == 0, text
    assert text in capsys.readouterr().out
    for words in ("bit by bit", "through the buffer", "by graphs", "channels last", "a checkpoint"):
        assert words in text
    assert "the time is over" not in text
    assert text.count("| yes |") >= 10


def test_a_check_that_fails_is_a_row_and_one_too_late_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(bench: Bench) -> list[Row]:
        raise RuntimeError("CUDA error: an illegal memory access\nand more")

    def fine(bench: Bench) -> list[Row]:
        return [Row("one and one", "2", True)]

    monkeypatch.setattr("benchmarks.gpu_checks.CHECKS", (breaks, fine))
    bench = Bench((16, 16, 16), 2, "", torch.device("cpu"), 60.0)
    text, holds = checked_all(bench)
    assert "| breaks | RuntimeError: CUDA error: an illegal memory access | NO |" in text
    assert "| one and one | 2 | yes |" in text
    assert not holds
    late, _ = checked_all(Bench((16, 16, 16), 2, "", bench.device, -1.0))
    assert late.count("not begun: the time is over") == 2
