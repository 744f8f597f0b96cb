"""A shipped spec that compares models has three seeds, or its header says what one can and cannot
say; and the trials that README's table counts are those of the spec.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.planning.plan import fold_count
from orchestrator.spec.yaml_file import load_spec

ROOT = Path(__file__).parents[3]
SPECS = sorted(path for path in (ROOT / "ablations").rglob("*.yaml") if "claims" not in path.parts)


def header(path: Path) -> str:
    """The comments above the spec's first key, as one text."""
    lines = path.read_text(encoding="utf-8").splitlines()
    above = lines[: next(number for number, line in enumerate(lines) if line[:1].isalpha())]
    return " ".join(line.lstrip("# ") for line in above)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_few_seeds_are_explained(path: Path) -> None:
    spec = load_spec(path)
    if not spec.all_comparisons() or len(spec.seeds) >= 3:
        return
    assert re.search(r"One seed\b.*\bcannot\b", header(path)), path


def test_readme_counts_the_trials_of_the_specs() -> None:
    table = re.findall(
        r"^\| `(ablations/\w+\.yaml)` \|.*\| ([\d,]+) \|$",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        flags=re.M,
    )
    assert len(table) >= 3
    for name, count in table:
        spec = load_spec(ROOT / name)
        places = len(spec.models) * len(spec.tasks) * len(spec.fractions)
        assert places * fold_count(spec) * len(spec.seeds) == int(count.replace(",", "")), name


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_header_with_a_product_counts_right(path: Path) -> None:
    found = re.search(r"(\d+) models x (\d+) tasks x (\d+) folds = ([\d,]+) trials", header(path))
    if not found:
        return
    models, tasks, folds = map(int, found.groups()[:3])
    spec = load_spec(path)
    assert (models, tasks, folds) == (len(spec.models), len(spec.tasks), spec.folds)
    assert int(found[4].replace(",", "")) == models * tasks * folds * len(spec.seeds)
    again = re.search(r"seeds=\[0,1,2\]`, ([\d,]+) trials", header(path))
    assert again is None or int(again[1].replace(",", "")) == 3 * models * tasks * folds
