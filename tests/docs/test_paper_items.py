"""Every table and figure of the paper has a spec that makes it: the table in docs/claims.md, whose
commands are planned and whose costs are the dry run's.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from orchestrator.run import main
from reports.build import FIGURE_NAMES
from reports.figures.paper import FIGURES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "claims.md").read_text()
SECTION = TEXT.partition("## Every table and figure of the paper")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in SECTION.splitlines()
    if line.startswith("|")
][2:]


def test_the_table_names_every_figure_that_can_be_drawn() -> None:
    assert len(ROWS) >= 10
    assert tuple(FIGURES) == FIGURE_NAMES
    drawn = {name for row in ROWS for name in re.findall(r"--figure ([a-z-]+)", row[0])}
    assert drawn == set(FIGURE_NAMES)


@pytest.mark.parametrize("command", sorted({row[2].strip("`") for row in ROWS}))
def test_its_command_plans_the_spec_at_the_printed_cost(
    command: str,
    tmp_path: Path,
    isolated_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("MEDVISION_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    program, *flags = shlex.split(command.removeprefix("python -m "))
    assert program == "orchestrator.run"
    assert main([*flags, "--dry-run", "--set", f"storage={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    [name, costs] = [
        [row[column] for row in ROWS if row[2].strip("`") == command] for column in (1, 3)
    ]
    assert {f"ablations/{each.strip('`')}.yaml" for each in name} == {flags[0]}
    assert re.search(r"^\w+: [0-9]+ trials: ", shown)
    estimate = re.search(r"([0-9.,]+) GPU-hours", shown)
    assert estimate is not None
    hours = float(estimate[1].replace(",", ""))
    assert all(abs(float(cost) - hours) <= 1 for cost in costs), (hours, costs)
