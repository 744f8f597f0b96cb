"""The parts of a study's cases are decided by the truth or a table when it is planned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medvision.data.fingerprints import index_cases
from medvision.data.readers.registry import read_task
from orchestrator.planning.inputs import InputError, gathered
from orchestrator.planning.plan import make_plan
from orchestrator.planning.study_files import study_plan
from orchestrator.spec.study import Spec
from record.schema import StudyPlan
from tests.conftest import TASK

SpecOf = Callable[..., Spec]
SCANNERS = "case,site,scanner\n" + "".join(f"case_{n:02d},x,{'AB'[n % 2]}\n" for n in range(15))


def compared(*subgroups: str) -> str:
    listed = ", ".join(subgroups)
    return (
        f"comparisons=[{{baseline: ViT_Baseline, candidates: [ViT_Depth], subgroups: [{listed}]}}]"
    )


def planned(spec: Spec) -> StudyPlan:
    inputs = gathered(spec)
    return study_plan(spec, inputs, make_plan(spec, inputs, {}, {}), {})


MODELS = "models=[ViT_Baseline, ViT_Depth]"


def test_terciles_and_borders_divide_by_the_volume_of_the_truth(
    spec: SpecOf, data: Path, isolated_cache: Path
) -> None:
    sizes = {one.id: one.volume_mm3 / 1000 for one in index_cases(read_task(data, TASK))}
    core = {one.id: one.volumes_mm3[2] / 1000 for one in index_cases(read_task(data, TASK))}
    by_core = "{name: core size, groups: [core], borders_ml: [0.05, 0.08]}"
    groups = "data.label_groups={all: all, core: [2]}"
    found = planned(spec(MODELS, groups, compared("{}", by_core))).divisions
    assert list(found) == ["size", "core size"]
    ordered = sorted(sizes, key=lambda case: sizes[case])
    by_size = found["size"].cases[TASK]
    assert [by_size[case] for case in ordered] == ["small"] * 5 + ["medium"] * 5 + ["large"] * 5
    parts = found["core size"].parts
    assert parts == ["below 0.05 ml", "0.05 to 0.08 ml", "from 0.08 ml"]
    assert found["core size"].cases[TASK] == {
        case: parts[(size >= 0.05) + (size >= 0.08)] for case, size in core.items()
    }


def test_a_column_of_a_table_divides_them_and_its_digest_is_kept(
    spec: SpecOf, data: Path, isolated_cache: Path
) -> None:
    (data / TASK / "scans.csv").write_text(SCANNERS)
    by_scanner = compared("{column: scanner, file: scans.csv, metrics: [dice]}")
    plan = planned(spec(MODELS, by_scanner))
    division = plan.divisions["scanner"]
    assert division.parts == ["A", "B"]
    assert division.cases[TASK]["case_03"] == "B"
    assert division.files == {TASK: hashlib.sha256(SCANNERS.encode()).hexdigest()}
    [declared] = plan.comparisons[0].subgroups
    assert (declared.name, declared.metrics) == ("scanner", ["dice"])


def test_they_change_no_id(spec: SpecOf, isolated_cache: Path) -> None:
    with_parts, without = (planned(spec(MODELS, *more)) for more in ((compared("{}"),), ()))
    assert [(t.train_id, t.eval_id) for t in with_parts.trials] == [
        (t.train_id, t.eval_id) for t in without.trials
    ]
    assert without.divisions == {}


@pytest.mark.parametrize(
    ("table", "column", "message"),
    [
        (SCANNERS.rpartition("case_14")[0], "scanner", "has no scanner of 1 cases: case_14"),
        (SCANNERS, "field", "lacks the column field; its header must be case,field"),
        (SCANNERS.replace("case_03,x,B", "case_03,x,"), "scanner", "expected `case,scanner`"),
        (None, "scanner", "cannot be read as a table of case and scanner"),
    ],
)
def test_a_table_that_does_not_divide_them_is_refused(
    table: str | None,
    column: str,
    message: str,
    spec: SpecOf,
    data: Path,
    isolated_cache: Path,
) -> None:
    if table is not None:
        (data / TASK / "scans.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        gathered(spec(MODELS, compared(f"{{column: {column}, file: scans.csv}}")))


@pytest.mark.parametrize(
    ("subgroups", "message"),
    [
        ([{"column": "scanner"}], "column and file belong together"),
        ([{"column": "a", "file": "b", "borders_ml": [1]}], "divide by volume: leave out column"),
        ([{"borders_ml": [2, 1]}], "borders_ml must ascend"),
        ([{}, {"borders_ml": [1]}], "'size' is declared in two ways"),
        ([{"metrics": ["hd"]}], "'hd' is no metric of the comparison"),
        ([{"groups": ["tumour"]}], "'tumour' is no label group of any task; they are foreground"),
    ],
)
def test_subgroups_that_cannot_be_are_refused(
    subgroups: list[dict[str, Any]], message: str
) -> None:
    comparison = {"baseline": "a", "candidates": ["b"], "subgroups": subgroups}
    models = [{"label": "ViT_Baseline", "name": name} for name in "ab"]
    with pytest.raises(ValueError, match=message):
        Spec.model_validate(
            {"name": "s", "models": models, "tasks": ["T"], "comparisons": comparison}
        )
