"""Rows that are not in the frozen analysis are marked in every table, corrected apart, and what has
changed is listed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from record.frozen import Analysis, freeze
from record.schema import StudyPlan
from record.store import Store
from record.study import StoredStudy
from reports.build import build_report
from reports.sections.claims import claim_hashes
from reports.sections.exploratory import Exploratory
from tests.reports.studies import plan, rows, study

COMPARISON = {"baseline": "base", "candidates": ["cand"], "family": ["candidate"]}


def compared(*metrics: str, **changed: Any) -> StudyPlan:
    return plan(comparisons=[COMPARISON | {"metrics": list(metrics)} | changed])


def report(tmp_path: Path, frozen: StudyPlan | None, now: StudyPlan) -> tuple[Any, Store]:
    store = study(tmp_path, rows(), now)
    if frozen is not None:
        freeze(store, frozen, claim_hashes())
    return build_report(StoredStudy.opened(store)), store


def read(store: Store, name: str) -> str:
    return (store.read(f"report/{name}") or b"").decode()


def marks(store: Store) -> dict[str, bool]:
    table = pd.read_csv(f"{store.uri}/report/significance.csv")
    return dict(zip(table["metric"], table["exploratory"], strict=True))


def test_without_a_freeze_nothing_is_marked(tmp_path: Path) -> None:
    made, store = report(tmp_path, None, compared("dice", "hd95"))
    table = pd.read_csv(f"{store.uri}/report/significance.csv")
    assert table["exploratory"].isna().all()
    assert "exploratory" not in made.markdown + read(store, "claims.md")


def test_an_added_metric_is_exploratory_everywhere_and_changes_no_other_p(tmp_path: Path) -> None:
    made, store = report(tmp_path, compared("dice"), compared("dice", "hd95"))
    assert marks(store) == {"dice": False, "hd95": True}
    table = pd.read_csv(f"{store.uri}/report/significance.csv").set_index("metric")
    assert table.loc["dice", "p_holm"] == table.loc["dice", "p_methods"]
    assert table.loc["hd95", "family"].endswith(" | exploratory")
    for name in ("significance.md", "significance.tex", "report.html", "tests.md", "means.md"):
        lines = [line for line in read(store, name).splitlines() if "exploratory" in line]
        assert any("HD95" in line for line in lines) or name == "report.html"
        assert lines
    assert "1 of 2 rows are not in the frozen analysis" in made.markdown
    assert (
        "Changed since the freeze: tests that were not frozen: cand against base, hd95 in T_1 (1 "
        "row)." in made.markdown
    )


def test_the_hash_and_what_was_finished_stand_below_the_latex_table(tmp_path: Path) -> None:
    now = compared("dice")
    _, store = report(tmp_path, now, now)
    sha256 = Analysis.of(now, claim_hashes()).sha256
    for name in ("significance.tex", "significance_full.tex"):
        notes = read(store, name).replace(r"\allowbreak{}", "")
        assert f"(sha256 {sha256})" in notes
        assert "after 10 trials had finished, so that it may follow their results" in notes
    assert marks(store) == {"dice": False}


@pytest.mark.parametrize(
    ("frozen", "now", "line"),
    [
        ({"family": []}, {}, "family [] -> [candidate]: cand against base, dice"),
        ({"equivalence": {"dice": 0.01}}, {}, "margin 0.01 -> none"),
        ({}, {"variance": "nadeau-bengio"}, "variance independent -> nadeau-bengio"),
    ],
)
def test_a_changed_rule_makes_its_rows_exploratory(
    frozen: dict[str, Any], now: dict[str, Any], line: str
) -> None:
    against = Exploratory(
        Analysis.of(compared("dice", **frozen), {}), Analysis.of(compared("dice", **now), {})
    )
    assert against.row(("base", "cand", "T_1", 1.0, "dice"))
    assert any(line in found for found in against.differences())


def test_a_family_that_has_lost_a_test_is_exploratory_as_a_whole() -> None:
    against = Exploratory(
        Analysis.of(compared("dice", "hd95"), {}), Analysis.of(compared("dice"), {})
    )
    assert against.row(("base", "cand", "T_1", 1.0, "dice"))
    assert "frozen tests that are left out: cand against base, hd95" in against.differences()[0]


def test_a_changed_row_still_counts_in_its_frozen_family(tmp_path: Path) -> None:
    now = compared("dice", "hd95", equivalence={"hd95": 1.0})
    _, store = report(tmp_path, compared("dice", "hd95"), now)
    assert marks(store) == {"dice": False, "hd95": True}
    table = pd.read_csv(f"{store.uri}/report/significance.csv")
    assert table["family"].nunique() == 1
    assert table["p_holm"].max() > table["p_methods"].max()


SPLITS = {"scheme": "kfold", "seed": 0, "validation": "fraction"}


@pytest.mark.parametrize(
    ("changed", "exploratory"),
    [
        ({}, (False, False)),
        ({"both_empty": "perfect"}, (True, True)),
        ({"training": {"epochs": 5}}, (True, True)),
        ({"splits": SPLITS | {"seed": 7}}, (True, True)),
        ({"splits": SPLITS | {"validation": "fold"}}, (True, True)),
        ({"search": {"trials": 20}}, (True, True)),
        ({"counted": {"cand": {"depth": 2}}}, (True, True)),
        ({"counted": {"other": {"depth": 2}}}, (False, False)),
        ({"excluded": {"T_1": {"c00": ["broken"]}}}, (True, True)),
        (
            {"scoring": {"nsd": "surfel", "hd95": "surfel", "tolerances": {"T_1": [1.0]}}},
            (False, True),
        ),
    ],
)
def test_what_the_numbers_come_from_counts_where_it_matters(
    changed: dict[str, Any], exploratory: tuple[bool, bool]
) -> None:
    before: dict[str, Any] = {"splits": SPLITS, "search": {}, "counted": {}}
    now = plan(**before | changed)
    against = Exploratory(Analysis.of(plan(**before), {}), Analysis.of(now, {}))
    tests = [("base", "cand", "T_1", 1.0, metric) for metric in ("dice", "hd95")]
    assert tuple(map(against.row, tests)) == exploratory
    assert bool(against.differences()) == bool(changed)


OWN = {
    "function": "a:f",
    "sha256": "1",
    "higher_is_better": True,
    "perfect": 1.0,
    "empty": "defined",
}


def own_plan(**own: Any) -> StudyPlan:
    """Dice and a metric of one's own, `size`, are compared; `own`: what the plan says of it."""
    scoring = {"nsd": "surfel", "hd95": "voxel-max", "tolerances": {"T_1": [1.0]}}
    comparison = COMPARISON | {"metrics": ["dice", "size"]}
    return plan(comparisons=[comparison], scoring=scoring | ({"own": own} if own else {}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("sha256", "2"), ("function", "a:g"), ("higher_is_better", False), ("perfect", 0.0)],
)
def test_a_changed_metric_of_ones_own_makes_its_rows_exploratory(name: str, value: Any) -> None:
    changed = own_plan(size=OWN | {name: value})
    against = Exploratory(Analysis.of(own_plan(size=OWN), {}), Analysis.of(changed, {}))
    rows_of = [("base", "cand", "T_1", 1.0, metric) for metric in ("dice", "size")]
    assert [against.row(test) for test in rows_of] == [False, True]
    (line,) = against.differences()
    assert line.startswith(f"scoring own size {name}: ")


def test_a_freeze_that_is_older_than_the_record_of_own_metrics_is_not_changed_by_it() -> None:
    against = Exploratory(Analysis.of(own_plan(), {}), Analysis.of(own_plan(size=OWN), {}))
    assert not against.row(("base", "cand", "T_1", 1.0, "size"))
    assert against.differences() == []
    assert "own" not in Analysis.of(own_plan(), {}).model_dump(mode="json")["scoring"]
    assert "own" not in own_plan().to_json()["scoring"]


@pytest.mark.parametrize(("model", "exploratory"), [("cand", True), ("other", False)])
def test_of_an_older_freeze_the_whole_settings_count(model: str, exploratory: bool) -> None:
    now = plan(settings={model: {"depth": 2}}, splits=SPLITS, search={}, counted={"cand": {}})
    against = Exploratory(Analysis.of(plan(), {}), Analysis.of(now, {}))
    assert against.row(("base", "cand", "T_1", 1.0, "dice")) == exploratory
    assert against.differences() == [f"models {model}: none -> {{depth: 2}}"]


def test_an_older_freeze_that_knows_no_splits_is_not_changed_by_them() -> None:
    of_both = plan(splits=SPLITS, search={"trials": 20}, counted={"cand": {"depth": 2}})
    against = Exploratory(Analysis.of(plan(), {}), Analysis.of(of_both, {}))
    assert not against.row(("base", "cand", "T_1", 1.0, "dice"))
    assert against.differences() == []


def test_changed_claims_are_marked(tmp_path: Path) -> None:
    now = compared("dice")
    store = study(tmp_path, rows(), now)
    name, *_ = claim_hashes()
    freeze(store, now, claim_hashes() | {name: "another"})
    build_report(StoredStudy.opened(store))
    text = read(store, "claims.md")
    titles = [line for line in text.splitlines() if line.startswith("## Claims of")]
    assert sum("; exploratory" in title for title in titles) == 1
    assert f"claims {name}: another ->" in read(store, "significance.md")


def entries(*metrics: tuple[str, ...]) -> StudyPlan:
    """A plan with a comparison for each of these tuples of metrics."""
    return plan(comparisons=[COMPARISON | {"metrics": list(names)} for names in metrics])


TOGETHER, APART = entries(("dice", "hd95")), entries(("dice",), ("hd95",))


@pytest.mark.parametrize(("frozen", "now"), [(TOGETHER, APART), (APART, TOGETHER)])
def test_a_family_that_was_split_or_joined_is_exploratory(
    tmp_path: Path, frozen: StudyPlan, now: StudyPlan
) -> None:
    made, store = report(tmp_path, frozen, now)
    assert marks(store) == {"dice": True, "hd95": True}
    assert (
        "Changed since the freeze: frozen families that were split or joined: cand against base, "
        "dice, hd95 in T_1 (2 rows)." in made.markdown
    )


def test_a_comparison_may_be_written_in_another_order_or_get_a_neighbour() -> None:
    frozen = Analysis.of(APART, {})
    for now in (entries(("hd95",), ("dice",)), entries(("hd95",), ("dice", "nsd"))):
        against = Exploratory(frozen, Analysis.of(now, {}))
        rows_now = [("base", "cand", "T_1", 1.0, metric) for metric in ("dice", "hd95")]
        assert [against.row(test) for test in rows_now] == [False, False]
