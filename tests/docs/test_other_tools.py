"""The example of docs/other-tools.md runs as it is."""

from __future__ import annotations

from pathlib import Path

from tests.docs.test_statistics_page import blocks, run

PAGE = Path(__file__).parents[2] / "docs" / "other-tools.md"


def test_the_example_of_the_page_holds() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert sum(code.count("assert ") for _, code in blocks(page)) >= 3
    run(page, str(PAGE))
