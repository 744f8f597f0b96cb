"""Names that are markup, code, formulas or paths, through everything that a report writes: each
stays text in its place, and nothing runs.
"""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from orchestrator import status
from orchestrator.console.live_page import Results, live_page
from orchestrator.tracking.parent import report_metrics, study_params
from record import paths
from record.progress import LaneProgress, Progress
from record.schema import Cell, StudyFile
from record.store import Store
from record.study import StoredStudy
from reports import build
from reports.figures.panels import qualitative_panels
from tests.record.test_names import ESCAPES, HOSTILE
from tests.reports.figures.pictures import drawn
from tests.reports.studies import FOLDS, METRICS, plan, rows, study
from tools.report_screenshots import chromium, compile_latex

PARTS = ("base", "cand", "other", "case", "group", "title", "unit", "description")
TAME = {part: f"a {part}" for part in PARTS}
NAMES = [name for name in HOSTILE if name.isprintable()]
# Every name is everything once, in as many studies as it takes.
STUDIES = [dict(zip(PARTS, NAMES[at:] + NAMES[:at], strict=False)) for at in range(0, 30, 8)]


def built(folder: Path, named: dict[str, str]) -> Path:
    """The report of a study with these names."""
    models = (named["base"], named["cand"], named["other"])
    trials = [
        {"model": model, "task": "T_1", "fraction": 1.0, "fold": fold, "seed": 0}
        | {"train_id": f"t{place}{fold}", "eval_id": f"e{place}{fold}"}
        for place, model in enumerate(models)
        for fold in range(FOLDS)
    ]
    dice = METRICS["dice"] | {"title": named["title"], "unit": named["unit"]}
    compared = {"baseline": models[0], "candidates": list(models[1:])}
    of = plan(
        models,
        trials=trials,
        metrics=METRICS | {"dice": dice},
        comparisons=[compared | {"metrics": ["dice", "hd95"], "family": ["candidate"]}],
        descriptions={"T_1": named["description"]},
    )
    frame = rows(models=models)
    half = [frame.assign(group=group) for group in (named["group"], "whole")]
    frame = pd.concat([one.assign(case=named["case"] + one["case"]) for one in half])
    store = study(folder, frame, of)
    build.build_report(StoredStudy.opened(store))
    return Path(store.uri) / paths.REPORT


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        for name, value in attrs:
            self.handlers += [name] if name.startswith("on") else []
            self.addresses += [value or ""] if name in ("href", "src") else []


def commands(text: str) -> set[str]:
    """The commands of a LaTeX file."""
    return set(re.findall(r"\\(?:[A-Za-z]+|.)", text)) - {"\\textbackslash", "\\allowbreak"}


@pytest.fixture(scope="module")
def tame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("tame"), TAME)


def wrong_in(folder: Path, tame: Path) -> list[str]:
    """What a hostile report has that a tame one has not."""
    found = []
    for path in sorted(folder.iterdir()):
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,180}\.(md|tex|csv|html|png|pdf)", path.name):
            found.append(f"{path.name!r} is a file")
        if path.suffix == ".csv":
            cells = [cell for line in csv.reader(path.open(newline="")) for cell in line]
            signs = [cell for cell in cells if cell[:1] in tuple("=+-@\t\r") and cell]
            signs = [one for one in signs if not re.fullmatch(r"-?[\d.e-]+", one)]
            found += [f"{path.name}: {one}" for one in signs]
        if path.suffix == ".md":
            tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text())
            inline = {child.type for token in tokens for child in token.children or ()}
            kinds = {token.type for token in tokens} & {"html_block", "fence", "code_block"}
            active = inline & {"html_inline", "link_open", "image"}
            found += [f"{path.name}: {kind}" for kind in kinds | active]
        if path.suffix == ".tex" and (tame / path.name).exists():
            added = commands(path.read_text()) - commands((tame / path.name).read_text())
            known = {f"\\{sign}" for sign in "$&%#_{}"} | {r"\textasciicircum", r"\textasciitilde"}
            known |= {r"\dots", r"\textbf", r"\parbox", r"\raggedright", r"\par", r"\shortstack"}
            known |= {r"\\", r"\times", r"\geq", r"\leq", r"\pm", r"\textit"}
            found += [f"{path.name}: {one}" for one in added - known]
    pages = [Page((one / paths.HTML).read_text()) for one in (folder, tame)]
    differs = pages[0].elements - pages[1].elements
    found += [f"elements {differs}"] if differs else []
    found += pages[0].handlers
    inside = ("data:image/png;base64,", "#", "viewer.html")
    found += [address for address in pages[0].addresses if not address.startswith(inside)]
    names = [path.name.lower() for path in folder.iterdir()]
    return found + [name for name, count in Counter(names).items() if count > 1]


@pytest.mark.parametrize(
    "number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))]
)
def test_every_output_holds_names_as_text(tmp_path: Path, tame: Path, number: int) -> None:
    named = STUDIES[number]
    folder = built(tmp_path, named)
    assert wrong_in(folder, tame) == []
    outside = [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".pdf", ".tex")]
    assert {path.parent for path in outside} == {folder}
    store = Store(str(folder.parent))
    contents = {paths.report(path.name): path.read_bytes() for path in folder.glob("*.csv")}
    metrics = report_metrics(contents)
    assert len([name for name in metrics if name.startswith("Dice/")]) == 3
    assert len([name for name in metrics if name.startswith("difference/")]) == 2
    taken = re.compile(r"[/\w.\- :]{1,250}")
    assert all(taken.fullmatch(name) for name in (*metrics, *study_params(store.plan())))


def test_no_name_in_a_picture_is_a_formula() -> None:
    saved, kept, frame, of = drawn()
    bad = {"good": "$\\frac{", "nothing": "$x$ \\$", "everything": "a $\\undefined$ b"}
    renamed = {(bad[model], task): arrays for (model, task), arrays in saved.items()}
    masks = {(bad[model], task): arrays for (model, task), arrays in kept.items()}
    of = of.model_copy(update={"models": list(bad.values())})
    assert qualitative_panels(renamed, masks, frame.assign(model=frame["model"].map(bad)), of)


def hostile_page(folder: Path) -> Path:
    """The page of a running study with every name in it."""
    cells = [Cell(name, "T_1", 1.0, 0, 0) for name in NAMES]
    lanes = [LaneProgress(number=1, title=cell.model, cell=cell, since=0.0) for cell in cells]
    failures = [(name, name) for name in NAMES]
    progress = Progress(name="study", time=0.0, written=1e9, lanes=lanes, failures=failures)
    results: Any = Results([(name, name, 1.0, 1, 1, np.nan) for name in NAMES])
    page = folder / "live.html"
    page.write_text(live_page(progress, results))
    return page


def test_the_page_of_a_running_study_holds_names_as_text(tmp_path: Path) -> None:
    found = Page(hostile_page(tmp_path).read_text())
    assert not found.handlers
    assert not found.addresses
    assert not found.elements["img"]
    assert found.elements["script"] == 1


def test_a_terminal_obeys_no_name_of_a_study_of_somebody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = TAME | {"base": ESCAPES, "cand": "\u202eevil", "other": "a\rb", "group": "\x9b2J"}
    folder = built(tmp_path, named).parent
    store = Store(str(folder))
    spec = {"name": "study", "models": ["ViT_Baseline"], "tasks": ["T_1"]}
    store.save(paths.STUDY, StudyFile(spec=spec, blocks={}, data_root=""))
    store.remove(paths.commit("e00"))
    assert build.main([str(folder)]) == 1
    assert status.main([str(folder)]) == 0
    shown = "".join(capsys.readouterr())
    assert "\\x1b[2J" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium is installed")
@pytest.mark.parametrize("number", [0, 2])
def test_in_a_browser_nothing_runs(tmp_path: Path, number: int) -> None:
    pages = [built(tmp_path, STUDIES[number]) / paths.HTML, hostile_page(tmp_path)]
    for page in pages:
        before = re.search(r"<title>(.*?)</title>", page.read_text(), re.DOTALL)
        dom = chromium(page, "--dump-dom", "--host-resolver-rules=MAP * ~NOTFOUND")
        after = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
        assert before
        assert after
        assert html.unescape(after[1]) == html.unescape(before[1])
        assert "<img src=" not in re.sub(r'<img src="data:', "", dom).lower()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX compiler is installed")
@pytest.mark.parametrize("number", range(4))
def test_latex_takes_every_name_for_text(tmp_path: Path, number: int) -> None:
    folder = built(tmp_path, STUDIES[number])
    assert compile_latex(folder, tmp_path / "whole").stat().st_size > 10_000
    log = (tmp_path / "whole" / "report.log").read_text(errors="replace")
    assert "/etc/passwd" not in re.sub(r"\s", "", log)
    assert "Undefined control sequence" not in log


def test_a_table_of_csv_reads_back(tame: Path) -> None:
    models = pd.read_csv(io.BytesIO((tame / "models.csv").read_bytes()))
    assert set(models["model"]) == {"a base", "a cand", "a other"}
