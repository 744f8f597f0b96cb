"""From a study's folder to its report: Markdown, CSV, LaTeX that compiles, a page that opens."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from record.store import Store, StoreError
from record.study import StoredStudy
from reports.build import build_report, main
from reports.sections.significance_layout import to_latex
from tests.reports.studies import FOLDS, plan, rows, study, table


def test_a_report_from_the_store_alone_is_the_same_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = study(tmp_path, rows(), plan())
    report = build_report(StoredStudy.opened(store))
    assert report.complete
    names = (
        "significance",
        "tests",
        "means",
        "models",
        "few_shot",
        "gaps",
        "ablations",
        "cost",
        "claims",
        "cases",
        "provenance",
    )
    tables = {f"{name}.{suffix}" for name in names for suffix in ("md", "tex", "csv")}
    tables.remove("cases.tex")  # nobody prints thousands of cases
    drawn = ["training_curves", "paired_differences_cand_vs_base"]
    drawn += [f"forest_cand_vs_base_{width}" for width in ("column", "page")]
    figures = {f"{name}.{suffix}" for name in drawn for suffix in ("png", "pdf")}
    others = {"report.html", "report.tex", "significance_full.tex"}
    assert set(report.files) == tables | figures | others
    before = {name: store.read(f"report/{name}") for name in report.files}
    assert main([store.uri]) == 0
    assert {name: store.read(f"report/{name}") for name in report.files} == before
    assert "2/2 Holm" in capsys.readouterr().out
    assert (
        "different numbers of processes or threads: 1 x 1 threads, 1 x 2 threads" in report.markdown
    )


def test_a_study_of_several_seeds_shows_each_model_against_itself(tmp_path: Path) -> None:
    frame = pd.concat([rows(seed=draw).assign(seed=draw) for draw in range(3)])
    of = plan()
    several = [
        {"model": m, "task": "T_1", "fraction": 1.0, "fold": f, "seed": s}
        | {"train_id": f"t{m}{f}{s}", "eval_id": f"e{m}{f}{s}"}
        for m, f, s in itertools.product(of.models, range(FOLDS), range(3))
    ]
    store = study(tmp_path, frame, plan(trials=several))
    report = build_report(StoredStudy.opened(store))
    assert {f"self.{kind}" for kind in ("md", "csv", "tex", "png", "pdf")} <= set(report.files)
    assert "Each model against itself, seed against seed: p cases < 0.05 in " in report.markdown
    page = (store.read("report/report.html") or b"").decode()
    assert 'id="self"' in page
    assert "A model against itself" in page


def test_one_figure_of_the_paper_is_drawn_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = study(tmp_path, rows(), plan(fractions=[0.1, 1.0]))
    assert main([store.uri, "--figure", "few-shot"]) == 0
    names = {f"paper_few_shot_{width}" for width in ("column", "page")}
    assert set(store.names("report")) == {
        f"{name}.{suffix}" for name in names for suffix in ("png", "pdf", "txt")
    }
    assert (
        "Few-shot: validation Dice"
        in (store.read("report/paper_few_shot_page.txt") or b"").decode()
    )
    before = {name: store.read(f"report/{name}") for name in store.names("report")}
    assert main([store.uri, "--figure", "few-shot", "--figure", "qualitative"]) == 1
    assert "qualitative: the study has nothing to draw it from yet" in capsys.readouterr().err
    assert {name: store.read(f"report/{name}") for name in before} == before  # the same bytes


def test_a_partial_study_names_what_is_missing_and_why(tmp_path: Path) -> None:
    store = study(tmp_path, rows(), plan())
    store.remove("commits/ecand1.json")
    store.write_json("failures/ecand1/x.json", {"reason": "RuntimeError: boom", "time": 1.0})
    report = build_report(StoredStudy.opened(store))
    assert not report.complete
    assert "9 of 10 trials are in this report" in report.markdown
    assert (
        "Missing: model cand, task T_1, fraction 1.0, fold 1, seed 0 (1 failed attempts, the "
        "last: RuntimeError: boom)" in report.markdown
    )
    assert main([store.uri]) == 1


def test_no_study_and_broken_files_are_clear_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nothing")]) == 2
    assert "is no study" in capsys.readouterr().err
    store = study(tmp_path, rows(), plan())
    store.write("plan.json", b"broken")
    assert main([store.uri]) == 2
    assert "plan.json: is not valid JSON" in capsys.readouterr().err


def test_the_store_works_on_any_fsspec_uri(tmp_path: Path) -> None:
    store = Store("memory://bucket/study")
    store.write_json("plan.json", {"a": 1})
    assert store.read_json("plan.json") == {"a": 1}
    assert store.read("absent") is None
    assert store.names("") == ["plan.json"]
    with pytest.raises(StoreError, match="cannot be used"):
        Store("nosuchscheme://x")


def test_a_failed_write_leaves_the_old_file_and_no_half_written_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    store.write("file", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store.write("file", b"new")
    monkeypatch.undo()
    assert store.read("file") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_latex_escapes_what_it_must() -> None:
    text = to_latex(table(rows(), plan()), plan(), ["100 % of a_b & c < d"])
    assert r"100 \% of a\_b \& c $<$ d" in text
    assert r"\toprule" in text
    assert "$^{*}$" in text


def test_a_report_without_any_structure_in_the_test_cases_is_built(tmp_path: Path) -> None:
    frame = rows(n=4).assign(fold=0, dice=np.nan, hd95=np.nan, status="both-empty")
    store = study(tmp_path, frame, plan(folds=1))
    report = build_report(StoredStudy.opened(store))
    assert report.complete
    assert "2/2 not testable" in report.markdown


@pytest.mark.parametrize(
    ("models", "folds", "said"),
    [
        (("base", "cand"), FOLDS, "One seed: the test of the methods rests on the folds alone"),
        (("base", "cand"), 1, "2 rows are not testable for methods: from one training set"),
        (("base",), FOLDS, ""),
    ],
)
def test_what_one_seed_cannot_say_follows_the_folds(
    tmp_path: Path, models: tuple[str, ...], folds: int, said: str
) -> None:
    frame = rows(models=models)
    of = plan(models, folds, **({} if len(models) > 1 else {"comparisons": []}))
    store = study(tmp_path, frame.assign(fold=frame["fold"] % folds), of)
    markdown = build_report(StoredStudy.opened(store)).markdown
    assert said in markdown
    assert ("rests on the folds" in markdown) == said.startswith("One seed")


def test_one_training_set_is_no_valid_test_where_no_row_can_be_tested(tmp_path: Path) -> None:
    store = study(tmp_path, rows(n=4).assign(fold=0), plan(folds=1))
    markdown = build_report(StoredStudy.opened(store)).markdown
    assert "One training set: no row is testable for methods" in markdown
    assert "is valid" not in markdown
