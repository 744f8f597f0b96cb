"""The table of every test case: its values, its size, and names that are no code."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from record.study import StoredStudy
from reports.build import build_report
from reports.sections import cases
from reports.sections.cases import cases_section, held_cases
from tests.reports.studies import plan, rows, study
from tools.report_screenshots import chromium

HOSTILE = "</script><img src=x onerror=\"document.title='broken in'\">"


def page_values(html: str) -> dict:
    found = re.search(r'id="case-data">(.*?)</script>', html)
    assert found
    return json.loads(found[1])


def test_a_row_holds_the_scores_of_every_model_by_metric() -> None:
    frame = rows(n=3).assign(eval_id="e")
    section = cases_section(frame, plan(), held={("T_1", "c01")}, study="runs/s")
    page = page_values(section.html)
    assert page["models"] == ["base", "cand"]
    assert page["pairs"] == [[0, 1]]
    assert [metric["title"] for metric in page["metrics"]] == ["Dice", "HD95 [mm]"]
    dice = {key: one["dice"].iloc[0] for key, one in frame.groupby(["model", "case"])}
    hd95 = {key: one["hd95"].iloc[0] for key, one in frame.groupby(["model", "case"])}
    for task, fraction, case, *scores in page["rows"]:
        assert (task, fraction) == (0, 0)
        keys = [("base", case), ("cand", case)]
        wanted = [*(dice[key] for key in keys), *(hd95[key] for key in keys)]
        assert scores == pytest.approx(wanted, abs=6e-4)
    assert len(page["rows"]) == 3


def test_seeds_and_groups_are_averaged_and_a_case_that_was_not_tested_has_no_score() -> None:
    first, second = rows(n=2).assign(dice=0.25), rows(n=2).assign(dice=0.75, seed=1)
    frame = pd.concat([first, second]).assign(eval_id=lambda one: one["seed"].astype(str))
    frame = frame[(frame["model"] == "base") | (frame["case"] == "c00")]
    section = cases_section(frame, plan(), held=(), study="runs/s")
    assert set(section.data["trainings"]) == {2}
    scores = {row[2]: row[3:5] for row in page_values(section.html)["rows"]}
    assert scores == {"c00": [0.5, 0.5], "c01": [0.5, None]}


def test_infinite_distances_are_capped_and_missing_scores_stay_empty() -> None:
    frame = rows(n=2).assign(eval_id="e")
    frame.loc[frame["case"] == "c00", ["hd95", "status"]] = [np.inf, "missed"]
    frame.loc[frame["case"] == "c01", ["dice", "hd95", "status"]] = [np.nan, np.nan, "both-empty"]
    page = page_values(cases_section(frame, plan(), held=(), study="runs/s").html)
    scores = {row[2]: row[3:] for row in page["rows"]}
    assert scores["c00"][2:] == [50.0, 50.0]
    assert scores["c01"] == [None] * 4


def test_an_infinite_score_of_a_metric_that_has_no_cap_is_left_empty() -> None:
    about = {"higher_is_better": True, "unit": "", "title": "Ratio"}
    frame = rows(n=2).assign(eval_id="e", ratio=[np.inf, 0.5, -np.inf, 0.25])
    page = page_values(
        cases_section(frame, plan(metrics={"ratio": about}), held=(), study="runs/s").html
    )
    assert {row[2]: row[3:] for row in page["rows"]} == {"c00": [None, None], "c01": [0.5, 0.25]}


def test_thousands_of_cases_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    models = tuple(f"model {number}" for number in range(8))
    frame = rows(models=models, n=5000).assign(eval_id="e")
    section = cases_section(
        frame, plan(("base", *models), comparisons=[]), held={("T_1", "c01")}, study="runs/s"
    )
    assert len(page_values(section.html)["rows"]) == 5000
    assert len(page_values(section.html)["metrics"]) == 2
    assert len(section.html) < 1_000_000
    monkeypatch.setattr(cases, "NUMBERS", 1000)
    shortened = cases_section(
        frame, plan(("base", *models), comparisons=[]), held={("T_1", "c01")}, study="runs/s"
    )
    assert [one["title"] for one in page_values(shortened.html)["metrics"]] == ["Dice"]
    assert set(shortened.data.columns) >= {"dice", "hd95"}


def test_the_page_links_what_the_viewer_holds_and_names_the_studys_own_folder() -> None:
    frame = rows(n=3).assign(eval_id="e")
    written = b'<script type="application/json" id="index">{"tasks":[%s]}</script>'
    held = held_cases(written % b'{"name":"T_1","cases":[["c\\u003c1","best"],["c02","worst"]]}')
    assert held == {("T_1", "c<1"), ("T_1", "c02")}
    section = cases_section(frame, plan(), held=held, study="my runs/s")
    page = page_values(section.html)
    assert page["held"] == [[0, "c02"], [0, "c<1"]]
    assert page["study"] == "'my runs/s'"
    assert "`medvision view 'my runs/s' --case C`" in section.notes[1]
    for other in (None, b"<title>another</title>", written % b"1", b"", written % b"{"):
        assert held_cases(other) == set()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium is installed")
def test_the_table_sorts_and_searches_in_a_browser_and_names_are_text(tmp_path: Path) -> None:
    frame = rows(n=120).replace({"case": {"c07": HOSTILE}})
    store = study(tmp_path, frame, plan())
    index = json.dumps({"tasks": [{"name": "T_1", "cases": [["c02", "best"]]}]})
    script = f'<script type="application/json" id="index">{index}</script>'
    store.write("report/viewer.html", script.encode())
    build_report(StoredStudy.opened(store))
    page = Path(store.uri) / "report" / "report.html"
    probe = """<script>addEventListener("DOMContentLoaded", () => {
      const cells = (n) => Array.from(document.querySelectorAll("#case-table tbody tr"),
        (row) => row.cells[n].textContent);
      const heads = () => document.querySelectorAll("#case-table th");
      const found = [heads().length, cells(0).length, heads()[0].getAttribute("aria-sort")];
      found.push(cells(0).slice(1, 4).join(), cells(3).some((one) => /^-0[.]0*$/.test(one)));
      const links = document.querySelectorAll("#case-table a");
      found.push(Array.from(links, (one) => one.getAttribute("href")).join());
      const command = document.querySelectorAll("#case-table code")[1].textContent;
      found.push(command.slice(command.indexOf("--task")));
      heads()[3].click(); heads()[3].click();
      const numbers = cells(3).map(Number);
      found.push(numbers.every((one, at) => !at || one <= numbers[at - 1]), numbers[0]);
      const field = document.getElementById("case-find");
      field.value = "onerror"; field.dispatchEvent(new Event("input"));
      const shown = document.querySelector("#case-table code").textContent;
      found.push(cells(0).length, shown.includes("onerror"));
      document.title = JSON.stringify(found); }); </script></body>"""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text().replace("</body>", probe))
    shown = re.search("<title>(.*?)</title>", chromium(probed, "--dump-dom"))
    wide = frame.pivot_table(index="case", columns="model", values="dice")
    best = round(float((wide["cand"] - wide["base"]).max()), 3)
    assert shown
    opened = [5, 100, "ascending", "c00,c01,c02", False, "viewer.html#T_1/c02"]
    command = "--task 'T_1' --case 'c00'"
    assert json.loads(shown[1]) == [*opened, command, True, best, 1, True]
