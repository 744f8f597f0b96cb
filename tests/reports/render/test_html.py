"""The page in a browser: what is seen first, what is folded, and what is left out."""

from __future__ import annotations

import html
import itertools
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from record.schema import StudyPlan
from record.store import Store
from record.study import StoredStudy
from reports.build import build_report
from tests.reports.studies import FOLDS, plan, rows, study
from tools.report_screenshots import NARROWEST, chromium, photograph

browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium is installed")


def built(tmp_path: Path, frame: pd.DataFrame, of: StudyPlan) -> tuple[Store, str]:
    store = study(tmp_path, frame, of)
    build_report(StoredStudy.opened(store))
    return store, (store.read("report/report.html") or b"").decode()


def places(page: str) -> list[str]:
    """Ids of what the page has, from top to bottom."""
    return re.findall(r'<(?:header|section|details|figure) id="([\w+]+)"', page)


def test_the_sentence_comes_first_then_the_forest_pictures_table_and_what_is_folded(
    tmp_path: Path,
) -> None:
    _, page = built(tmp_path, rows(), plan())
    found = places(page)
    order = ["top", "forest_cand_vs_base_page", "pictures", "training_curves", "significance"]
    order += ["figures", "tests", "cost", "provenance"]
    assert [name for name in found if name in order] == order
    header = page[page.index('<header id="top">') : page.index("<main>")]
    assert "significant (methods: Holm p = " in header
    assert header.index("significant") < header.index('<figure id="forest')
    for name in ("tests", "cost", "provenance"):
        assert f'<details id="{name}">' in page


def test_what_has_nothing_to_say_is_a_file_only(tmp_path: Path) -> None:
    store, page = built(tmp_path, rows(), plan())
    for name in ("means", "few_shot", "claims"):
        assert name not in places(page)
        assert store.read(f"report/{name}.csv")
        assert rf"\input{{{name}}}" not in (store.read("report/report.tex") or b"").decode()
    _, page = built(tmp_path / "shares", rows(), plan(fractions=[0.1, 1.0]))
    assert "few_shot" in places(page)


def test_the_table_has_seven_columns_with_the_verdict_beside_the_metric(tmp_path: Path) -> None:
    _, page = built(tmp_path, rows(), plan())
    table = page[page.index('<table class="short">') :].split("</table>")[0]
    header = re.findall(r"<th[^>]*>([^<]*)</th>", table)
    assert len(header) == 7
    assert header[1:3] == ["Metric", "Verdict"]
    assert table.count("<tr>") == 3  # the header and two metrics


def test_what_is_missing_is_never_folded(tmp_path: Path) -> None:
    store = study(tmp_path, rows(), plan())
    store.remove("commits/ecand1.json")
    build_report(StoredStudy.opened(store))
    page = (store.read("report/report.html") or b"").decode()
    assert "9 of 10 trials" in page
    significance = page[page.index('<section id="significance">') :]
    opened = significance[: significance.index("<details>")]
    assert "Missing: model cand, task T_1, fraction 1.0, fold 1, seed 0" in opened
    assert "incomplete: 1 of 10 trials missing" in page[: page.index("<main>")]


def test_a_study_that_compares_nothing_says_so(tmp_path: Path) -> None:
    _, page = built(tmp_path, rows(models=("base",)), plan(("base",), comparisons=[]))
    assert "No table: the spec compares nothing" in page
    assert not any(name.startswith("forest") for name in places(page))


def probed(page: Path, folder: Path, script: str, width: int = 1200) -> object:
    """What a script finds in the page, at a width of the window."""
    probe = f"<script>addEventListener('load', function () {{{script}}});</script></body>"
    asked = folder / "probed.html"
    asked.write_text(page.read_text().replace("</body>", probe))
    if width < NARROWEST:
        frame = folder / "frame.html"
        frame.write_text(
            f'<iframe src="{asked.as_uri()}" style="width:{width}px;height:2000px"></iframe>'
            "<script>addEventListener('message', e => document.title = e.data)</script>"
        )
        asked = frame
    shown = chromium(
        asked, "--dump-dom", f"--window-size={width},2000", "--virtual-time-budget=5000"
    )
    title = re.search(r"<title>(.*?)</title>", shown)
    assert title
    return json.loads(html.unescape(title[1]))


@pytest.mark.slow
@browser
@pytest.mark.parametrize("width", [1600, 1200, 390])
def test_the_table_is_visible_at_every_width_with_its_verdict(tmp_path: Path, width: int) -> None:
    store, _ = built(tmp_path, rows(), plan())
    script = (
        "const wide = window.innerWidth, cells = [...document.querySelectorAll('.short td')]"
        ".filter(c => c.textContent).map(c => c.getBoundingClientRect());"
        "const said = JSON.stringify({hidden: cells.filter(c => c.width < 1 || c.left < 0 || "
        "c.right > wide).length, cells: cells.length, scrolls: "
        "document.documentElement.scrollWidth > wide});"
        "document.title = said; parent.postMessage(said, '*');"
    )
    found = probed(Path(store.uri) / "report" / "report.html", tmp_path, script, width)
    assert found == {"hidden": 0, "cells": 14, "scrolls": False}


@pytest.mark.slow
@browser
def test_links_wrap_a_heading_stands_below_them_and_a_wide_table_uses_the_window(
    tmp_path: Path,
) -> None:
    store, _ = built(tmp_path, rows(), plan())
    script = (
        "const nav = document.querySelector('nav'), first = nav.innerHTML;"
        "nav.innerHTML = first + first + first + first; measure();"
        "document.querySelector('#significance details').open = true;"
        "document.getElementById('significance').scrollIntoView();"
        "const box = nav.getBoundingClientRect();"
        "const wide = document.querySelector('#significance .wide');"
        "document.title = JSON.stringify([nav.scrollWidth <= nav.clientWidth, box.height > 60,"
        "document.querySelector('#significance h2').getBoundingClientRect().top >= box.bottom,"
        "wide.clientWidth > 1240, wide.getBoundingClientRect().right <= 1600,"
        "document.documentElement.scrollWidth <= 1600]);"
    )
    page = Path(store.uri) / "report" / "report.html"
    assert probed(page, tmp_path, script, 1600) == [True] * 6


@pytest.mark.slow
@browser
def test_the_page_opens_offline_sorts_and_draws_every_picture(tmp_path: Path) -> None:
    frame = pd.concat([rows(seed=draw).assign(seed=draw) for draw in range(2)])
    of = plan()
    trials = [
        {"model": m, "task": "T_1", "fraction": 1.0, "fold": f, "seed": s}
        | {"train_id": f"t{m}{f}{s}", "eval_id": f"e{m}{f}{s}"}
        for m, f, s in itertools.product(of.models, range(FOLDS), range(2))
    ]
    store, _ = built(tmp_path, frame, plan(trials=trials))
    page = Path(store.uri) / "report" / "report.html"
    shown = chromium(page, "--dump-dom", "--host-resolver-rules=MAP * ~NOTFOUND")
    assert "cand against base" in shown
    script = (
        "document.querySelector('.short th:nth-child(7)').click();"
        "document.title = JSON.stringify([[...document.images].filter(i => !i.naturalWidth).length,"
        "document.images.length, document.querySelector('.short th[aria-sort]').textContent]);"
    )
    assert probed(page, tmp_path, script) == [0, 4, "p\N{NO-BREAK SPACE}(Holm)"]
    assert all(
        picture.stat().st_size > 10_000 for picture in photograph(page, tmp_path / "pictures")
    )
