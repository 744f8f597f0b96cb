"""The worked examples of docs/statistics.md hold: every Python block runs, in order, in one
namespace.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


def blocks(page: str) -> Iterator[tuple[int, str]]:
    """The line on which each Python block of a page starts, and its code."""
    for found in re.finditer(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        yield page.count("\n", 0, found.start(1)) + 1, found[1]


def run(page: str, name: str = str(PAGE)) -> dict[str, Any]:
    """Run a page's blocks one after the other; a traceback shows the page's own line numbers."""
    namespace: dict[str, Any] = {"__name__": name}
    for line, code in blocks(page):
        # our own page
        exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)  # noqa: S102
    return namespace


def test_every_example_of_the_page_holds() -> None:
    run(PAGE.read_text(encoding="utf-8"))


def test_every_block_of_the_page_asserts_something() -> None:
    found = [code for _, code in blocks(PAGE.read_text(encoding="utf-8"))]
    assert len(found) >= 3
    for code in found:
        assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(code))), code


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("[7.0, 6.45, 1.45]", "[7.0, 6.45, 1.46]"),
        ("[3.0, 53.0]", "[3.0, 54.0]"),
        ("== 0.375", "== 0.461"),
        ("[0.004, 0.06, 0.06, 0.06]", "[0.004, 0.06, 0.06, 0.04]"),
    ],
)
def test_a_wrong_value_on_the_page_fails(right: str, wrong: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(right) == 1
    with pytest.raises(AssertionError):
        run(page.replace(right, wrong))


def test_every_file_that_the_page_names_exists() -> None:
    named = set(
        re.findall(
            r"`((?:reports|medvision|tests|orchestrator|ablations)/[\w/.]*)`",
            PAGE.read_text("utf-8"),
        )
    )
    assert named
    assert not [path for path in named if not (PAGE.parents[1] / path).exists()]
