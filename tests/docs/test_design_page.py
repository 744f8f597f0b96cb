"""The example of docs/design.md prints what the page shows."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from orchestrator.design import main


def test_the_example_prints_what_the_page_shows(
    guides: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (page,) = (guide for guide in guides if guide.path.name == "design.md")
    spec, command, shown = page.blocks[:3]
    (tmp_path / "depth.yaml").write_text(spec.text)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command.text.replace("\\\n", " "))
    assert words[:3] == ["python", "-m", "orchestrator.design"]
    assert main(words[3:]) == 0
    printed = capsys.readouterr().out.splitlines()
    missing = [line for line in shown.text.splitlines() if line and line not in printed]
    assert missing == []
    assert (tmp_path / "runs/depth/design/design.png").is_file()
