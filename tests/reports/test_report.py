"""From rows to tables: pairing, families, missing cells, infinities, Markdown, CSV and LaTeX that
compiles.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from record.schema import Claim, Commit, StudyPlan
from record.store import Store, StoreError
from record.tables import table_bytes
from reports.build import build_report, main
from reports.sections.significance import significance_table
from reports.sections.significance_layout import to_csv, to_latex, to_markdown
from reports.statistics.pairing import PairingError, pair
from tests.record.builders import commit, study_plan
from tools.report_screenshots import chromium, compile_latex, photograph

FOLDS = 5
METRICS = {
    "dice": {"higher_is_better": True, "unit": "", "title": "Dice"},
    "hd95": {"higher_is_better": False, "unit": "mm", "title": "HD95"},
}


def plan(
    models: tuple[str, ...] = ("base", "cand"), folds: int = FOLDS, **changes: Any
) -> StudyPlan:
    trials = [
        {
            "model": m,
            "task": "T_1",
            "fraction": 1.0,
            "fold": f,
            "seed": 0,
            "train_id": f"t{m}{f}",
            "eval_id": f"e{m}{f}",
        }
        for m, f in itertools.product(models, range(folds))
    ]
    comparison = {
        "baseline": "base",
        "candidates": list(models[1:]),
        "metrics": ["dice", "hd95"],
        "family": ["candidate"],
    }
    values = {
        "models": list(models),
        "tasks": ["T_1"],
        "metrics": METRICS,
        "scoring": {"nsd": "surfel", "hd95": "voxel-max", "tolerances": {"T_1": [1.0]}},
        "comparisons": [comparison],
        "descriptions": {"T_1": "a 100 % synthetic_task"},
        "trials": trials,
    }
    return study_plan(**values | changes)


def rows(
    gain: float = 0.05, models: tuple[str, ...] = ("base", "cand"), n: int = 20, seed: int = 0
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.4, 0.8, n)
    made = []
    for number, model in enumerate(models):
        dice = base + number * gain + rng.normal(0, 0.02, n) * (number > 0)
        for index in range(n):
            made.append(
                {
                    "model": model,
                    "task": "T_1",
                    "fraction": 1.0,
                    "fold": index % FOLDS,
                    "seed": 0,
                    "case": f"c{index:02d}",
                    "group": "foreground",
                    "status": "ok",
                    "diagonal": 50.0,
                    "dice": dice[index],
                    "hd95": 10 * (1 - dice[index]),
                }
            )
    return pd.DataFrame(made)


def commits(of: StudyPlan) -> dict[str, Commit]:
    return {str(trial.eval_id): commit(eval_id=trial.eval_id) for trial in of.trials}


def table(frame: pd.DataFrame, of: StudyPlan | None = None) -> pd.DataFrame:
    of = of or plan()
    return significance_table(frame, of, commits(of))


def test_a_planted_effect_is_found_and_flips_with_its_sign() -> None:
    better, worse = table(rows(0.05)), table(rows(-0.05))
    assert list(better["verdict"]) == ["significant", "significant"]
    assert list(better["better"]) == ["cand", "cand"]  # a higher Dice and a lower distance
    assert list(worse["better"]) == ["base", "base"]
    assert (better["p_methods"] <= better["p_bh"]).all()
    assert (better["p_bh"] <= better["p_holm"]).all()


def test_equal_models_differ_by_nothing() -> None:
    frame = rows()
    same = pd.concat(
        [frame[frame["model"] == "base"], frame[frame["model"] == "base"].assign(model="cand")]
    )
    result = table(same)
    assert list(result["p_cases"]) == [1.0, 1.0]
    assert list(result["verdict"]) == [
        "not testable",
        "not testable",
    ]  # twenty zeros: no p below 1 can be had
    assert list(result["better"]) == ["", ""]


def test_five_cases_are_not_testable_and_no_p_is_printed() -> None:
    result = table(rows(n=5))
    assert list(result["verdict"]) == ["not testable", "not testable"]
    assert result["p_floor"].iloc[0] == pytest.approx(0.0625)
    assert result["p_holm"].isna().all()
    assert "not testable: smallest attainable p 0.062" in to_markdown(result, plan(), [])


def test_a_missing_trial_gives_no_test_and_is_counted() -> None:
    of = plan()
    some = {key: value for key, value in commits(of).items() if key != "ecand1"}
    frame = rows()
    result = significance_table(
        frame[~((frame["model"] == "cand") & (frame["fold"] == 1))], of, some
    )
    assert list(result["verdict"]) == ["incomplete: 1 of 10 trials missing"] * 2
    assert result["p_methods"].isna().all()


def test_families_are_corrected_apart() -> None:
    models = ("base", "cand", "other")
    of = plan(models)
    frame = rows(0.01, models)
    apart = table(frame, of)
    of.comparisons[0].family.clear()
    together = table(frame, of)
    assert (together["p_methods"] == apart["p_methods"]).all()
    assert (together["p_holm"] >= apart["p_holm"]).all()
    assert (together["p_holm"] > apart["p_holm"]).any()


def test_missed_structures_are_capped_in_means_counted_and_ranked_last() -> None:
    frame = rows(0.0)
    missed = (frame["model"] == "cand") & (frame["case"] == "c03")
    frame.loc[missed, ["hd95", "dice"]] = [np.inf, 0.0]
    result = table(frame).set_index("metric")
    expected = frame[frame["model"] == "cand"]["hd95"].replace(np.inf, 50.0).mean()
    assert result.loc["hd95", "candidate_mean"] == pytest.approx(expected)
    assert result.loc["hd95", "capped"] == 1
    both = frame["case"] == "c03"
    frame.loc[both, "hd95"] = np.inf
    assert table(frame).set_index("metric").loc["hd95", "capped"] == 2


def test_an_empty_case_is_left_out_for_both_or_counts_as_perfect() -> None:
    frame = rows(0.0)
    frame.loc[frame["case"] == "c00", ["dice", "hd95", "status"]] = [np.nan, np.nan, "both-empty"]
    frame.loc[(frame["case"] == "c00") & (frame["model"] == "cand"), ["dice", "hd95", "status"]] = [
        0.0,
        np.inf,
        "spurious",
    ]
    assert list(table(frame)["n"]) == [19, 19]
    assert list(table(frame)["dropped"]) == [1, 1]
    perfect = pair(frame, candidate="cand", baseline="base", metric="dice", both_empty="perfect")
    assert len(perfect.cases) == 20
    assert (perfect.x[0], perfect.y[0]) == (0.0, 1.0)


def test_groups_then_seeds_are_averaged_before_cases_are_paired() -> None:
    made = [
        {
            "model": m,
            "case": c,
            "seed": s,
            "group": g,
            "fold": 0,
            "status": "ok",
            "diagonal": 1.0,
            "dice": v,
        }
        for m, c, s, g, v in [
            ("a", "c1", 0, "x", 0.2),
            ("a", "c1", 0, "y", 0.4),
            ("a", "c1", 1, "x", 0.6),
            ("a", "c1", 1, "y", 0.8),
            ("b", "c1", 0, "x", 0.1),
            ("b", "c1", 0, "y", 0.1),
            ("b", "c1", 1, "x", 0.1),
            ("b", "c1", 1, "y", 0.1),
        ]
    ]
    pairs = pair(pd.DataFrame(made), candidate="a", baseline="b", metric="dice")
    assert pairs.x == pytest.approx([0.5])
    assert pairs.y == pytest.approx([0.1])


def test_unequal_case_sets_are_refused_with_the_difference() -> None:
    frame = rows()
    with pytest.raises(PairingError, match=r"only base has c07 \(seed 0, foreground\)"):
        pair(
            frame[~((frame["model"] == "cand") & (frame["case"] == "c07"))],
            candidate="cand",
            baseline="base",
            metric="dice",
        )


@given(st.permutations(range(40)))
@settings(deadline=None, max_examples=20)
def test_the_order_of_rows_changes_no_byte(order: list[int]) -> None:
    frame = rows()
    assert to_csv(table(frame.iloc[order].reset_index(drop=True))) == to_csv(table(frame))


def study(tmp_path: Path, frame: pd.DataFrame, of: StudyPlan) -> Store:
    store = Store(str(tmp_path / "study"))
    store.save("plan.json", of)
    for trial in of.trials:
        here = frame[(frame["model"] == trial.model) & (frame["fold"] == trial.fold)]
        folder = f"trials/{trial.train_id}/t"
        files = {"cases": f"{folder}/cases.parquet", "history": f"{folder}/history.parquet"}
        store.write(files["cases"], table_bytes(here.to_dict("records")))
        curve = [
            {"epoch": e, "split": "val", "metric": "dice", "value": 0.1 * e} for e in range(1, 4)
        ]
        store.write(files["history"], table_bytes(curve))
        store.save(f"claims/{trial.train_id}.json", Claim(token="t"))
        names = {"train_id": trial.train_id, "eval_id": trial.eval_id, "token": "t"}
        store.commit(commit(**names, files=files, attempt={"threads": 1 + trial.fold}))
    return store


def test_a_report_from_the_store_alone_is_the_same_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = study(tmp_path, rows(), plan())
    report = build_report(store)
    assert report.complete
    names = (
        "significance",
        "tests",
        "means",
        "models",
        "few_shot",
        "ablations",
        "cost",
        "claims",
        "provenance",
    )
    tables = {f"{name}.{suffix}" for name in names for suffix in ("md", "tex", "csv")}
    figures = {
        f"{name}.{suffix}"
        for name in ("training_curves", "paired_differences_cand_vs_base")
        for suffix in ("png", "pdf")
    }
    assert set(report.files) == tables | figures | {"report.html", "report.tex"}
    before = {name: store.read(f"report/{name}") for name in report.files}
    assert main([store.uri]) == 0
    assert {name: store.read(f"report/{name}") for name in report.files} == before
    assert "2/2 Holm" in capsys.readouterr().out
    assert (
        "different numbers of processes or threads: 1 x 1 threads, 1 x 2 threads" in report.markdown
    )


def test_a_partial_study_names_what_is_missing_and_why(tmp_path: Path) -> None:
    store = study(tmp_path, rows(), plan())
    store.remove("commits/ecand1.json")
    store.write_json("failures/ecand1/x.json", {"reason": "RuntimeError: boom", "time": 1.0})
    report = build_report(store)
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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX compiler is installed")
def test_latex_compiles_without_complaint(tmp_path: Path) -> None:
    store = study(tmp_path, rows(), plan())
    build_report(store)
    compile_latex(Path(store.uri) / "report", tmp_path / "whole")
    document = (
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
        + (store.read("report/significance.tex") or b"").decode()
        + "\n\\end{document}\n"
    )
    (tmp_path / "table.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 10_000
    assert "Overfull" not in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium is installed")
def test_the_page_opens_offline_in_a_browser(tmp_path: Path) -> None:
    store = study(tmp_path, rows(), plan())
    build_report(store)
    page = Path(store.uri) / "report" / "report.html"
    shown = chromium(page, "--dump-dom", "--host-resolver-rules=MAP * ~NOTFOUND")
    assert "cand against base" in shown
    # A script that sorts by the column p and counts pictures that were drawn: both must have worked
    # in the browser.
    probe = (
        "<script>document.querySelectorAll('#significance th')[11].click();document.title = "
        "Array.from(document.images).filter(i => i.naturalWidth > 0).length + ' pictures, ' "
        "+document.querySelector('#significance th[aria-sort]').textContent;</script></body>"
    )
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", probe))
    assert "<title>2 pictures, p methods</title>" in chromium(probed, "--dump-dom")
    assert all(
        picture.stat().st_size > 10_000 for picture in photograph(page, tmp_path / "pictures")
    )
