"""A study whose cases change keeps its folds, says what changed, and runs only what is new."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.console.plan import print_plan
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.spec.yaml_file import load_spec
from record import paths
from record.store import DamagedError
from tests.conftest import TASK, write_task
from tests.orchestrator.planning.test_search import SEARCH

ONE_MODEL = "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"
FRACTIONS = "fractions=[0.25, 1.0]"  # of 8 and of 9 cases a quarter is 2


def look(tiny_spec: Path, data: Path, *changes: str) -> Study:
    spec = load_spec(tiny_spec, [ONE_MODEL, FRACTIONS, f"data.root={data}", *changes])
    return Study.gathered(spec, open_store(spec))


@pytest.fixture
def twelve(tmp_path: Path) -> Path:
    return write_task(tmp_path / "twelve", cases=12)


@pytest.fixture
def thirteen(tmp_path: Path) -> Path:
    """The same twelve cases and one more."""
    return write_task(tmp_path / "thirteen", cases=13)


def test_an_added_case_moves_nobody_and_the_plan_says_where_it_is(
    tiny_spec: Path, twelve: Path, thirteen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = look(tiny_spec, twelve)
    assert before.inputs.tasks[TASK].changes == ""
    before.write()
    assert "order" not in before.store.read_json(paths.split(TASK))
    after = look(tiny_spec, thirteen)
    known = after.inputs.tasks[TASK]
    (fold,) = (number for number, one in enumerate(known.folds) if "case_12" in one.test)
    assert known.changes == (
        f"1 new: case_12 (fold {fold}); no other moves; folds with other test cases: {fold}"
    )
    for old, new in zip(before.inputs.tasks[TASK].folds, known.folds, strict=True):
        assert set(new.test) - {"case_12"} == set(old.test)
        assert new.order[: len(old.order)] == old.order
    print_plan(after)
    assert f"  cases of {TASK}: {known.changes}\n" in capsys.readouterr().out

    ids = [{trial.cell: trial.eval_id for trial in study.plan.trials} for study in (before, after)]
    same = {(cell.fraction, cell.fold) for cell in ids[0] if ids[0][cell] == ids[1][cell]}
    assert same == {(0.25, other) for other in range(3) if other != fold}

    after.write()
    again = look(tiny_spec, thirteen)
    assert again.inputs.tasks[TASK].changes == ""
    assert again.inputs.tasks[TASK].folds == known.folds
    assert after.store.read_json(paths.split(TASK))["order"][-1] == ["case_12"]


def test_a_case_that_is_gone_leaves_the_others_where_they_are(
    tiny_spec: Path, twelve: Path, thirteen: Path
) -> None:
    look(tiny_spec, thirteen).write()
    known = look(tiny_spec, twelve).inputs.tasks[TASK]
    assert known.changes.startswith("1 gone: case_12; no other moves")


@pytest.mark.parametrize(
    "change", ["splits.seed=1", "folds=4", "splits.scheme=holdout", "splits.group_pattern=(case.*)"]
)
def test_another_way_of_dividing_makes_new_folds(
    tiny_spec: Path, twelve: Path, thirteen: Path, change: str
) -> None:
    look(tiny_spec, twelve).write()
    known = look(tiny_spec, thirteen, change).inputs.tasks[TASK]
    fresh = look(tiny_spec, thirteen, change, "name=another").inputs.tasks[TASK]
    assert known == fresh
    assert known.changes == ""


def test_the_cases_of_a_search_stay_its_own(tiny_spec: Path, twelve: Path, thirteen: Path) -> None:
    search = SEARCH.replace("reserved_fraction: 0.34", "reserved_fraction: 0.42")
    before = look(tiny_spec, twelve, search)
    before.write()
    after = look(tiny_spec, thirteen, search)
    reserved = [study.inputs.tasks[TASK].reserved for study in (before, after)]
    assert len(reserved[0]) == len(reserved[1]) == 5
    assert reserved[0] == reserved[1]
    assert after.inputs.tasks[TASK].changes.startswith("1 new: case_12 (fold ")
    other = look(tiny_spec, thirteen, search.replace("0.42", "0.5")).inputs.tasks[TASK]
    assert len(other.reserved) == 6  # another share is another way of dividing
    assert other.changes == ""


def test_a_split_file_that_is_none_is_named_and_made_anew_without_it(
    tiny_spec: Path, twelve: Path
) -> None:
    study = look(tiny_spec, twelve)
    study.write()
    good = study.store.read(paths.split(TASK))
    study.store.write_json(paths.split(TASK), {"folds": 3})
    with pytest.raises(DamagedError, match=f"{TASK}.json: is not what this version reads"):
        look(tiny_spec, twelve)
    study.store.remove(paths.split(TASK))
    look(tiny_spec, twelve).write()
    assert study.store.read(paths.split(TASK)) == good
