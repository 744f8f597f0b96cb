"""Findings that are published with the product: every table comes out of the published numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from record import paths
from record.published import publish
from record.schema import StudyFile
from record.store import Store
from record.study import StoredStudy
from tests.reports.studies import plan, rows, study
from tools.findings import ROOT, TABLES, main, published, tables

PAGES = sorted(ROOT.glob("docs/findings/*.md"))


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / TABLES).glob("*.md")}


@pytest.mark.parametrize("folder", published(), ids=lambda folder: folder.name)
def test_every_table_is_made_of_what_is_published(folder: Path) -> None:
    assert tables(folder) == written(folder), f"python -m tools.findings {folder}"


@pytest.mark.parametrize("folder", published(), ids=lambda folder: folder.name)
def test_a_finding_holds_no_image_mask_or_weight(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".parquet", ".md", ".png"}
    assert sum(path.stat().st_size for path in files if path.suffix == ".parquet") < 5_000_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_repeats_its_tables_as_they_are(page: Path) -> None:
    """Lines between `<!-- NAME/tables/FILE -->` and `<!-- end -->` stand in that file."""
    parts = page.read_text().split("<!-- ")
    assert page.with_suffix("").is_dir() == any("/tables/" in part for part in parts)
    for part in parts[1:]:
        source, _, text = part.partition(" -->\n")
        if source != "end":
            lines = (page.with_suffix("") / source).read_text().splitlines()
            assert [line for line in text.splitlines() if line and line not in lines] == []


def test_the_command_writes_what_the_page_repeats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = study(tmp_path / "made", rows(), plan())
    store.save(paths.STUDY, StudyFile(schema=1, spec={"name": "study"}, blocks={}, data_root=""))
    folder = tmp_path / "finding"
    publish(StoredStudy.opened(store), Store(str(folder)))
    assert main([str(folder)]) == 0
    assert "tables" in capsys.readouterr().out
    assert written(folder) == tables(folder)
    assert "| Dice |" in written(folder)["significance.md"]
    assert "runs/finding" in written(folder)["cases.md"]
    assert main([str(tmp_path)]) == 2
    assert "nothing was published there" in capsys.readouterr().err
