"""Links, images, anchors and paths of all Markdown files lead somewhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

CODE = re.compile(r"(`+)(.+?)\1", re.S)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+(\S+)", re.M)
USED = re.compile(r"\[[^\]]+\]\[([^\]]*)\]")
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$", re.M)
PATH = re.compile(
    r"^(?:\.ci|ablations|benchmarks|cluster|docs|medvision|orchestrator|reports|tests)/[\w./*+-]*$"
)
ROOT_FILES = re.compile(
    r"^(?:[A-Z]+\.md|main\.py|Makefile|Dockerfile|pyproject\.toml|constraints\.txt|cluster[\w-]*\.(?:yaml|sh))$"
)


def anchors(document: Any) -> set[str]:
    """Anchors of a file's headings, as GitHub makes them."""
    found: Counter[str] = Counter()
    names = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", document.prose))
    for _, title in HEADING.findall(document.prose):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return names


def links(document: Any) -> list[str]:
    prose = CODE.sub("", document.prose)
    return [*LINK.findall(prose), *REFERENCE.findall(prose)]


def problem(document: Any, target: str, by_path: dict[Path, Any]) -> str:
    """Why a link leads nowhere; empty if it does not."""
    parts = urlsplit(target)
    if parts.scheme:
        good = parts.scheme == "mailto" or (
            parts.scheme in ("http", "https") and "." in parts.netloc
        )
        return "" if good else "not an address"
    path = (document.path.parent / unquote(parts.path)).resolve() if parts.path else document.path
    if not path.exists():
        return "no such file"
    if parts.fragment and (path not in by_path or parts.fragment not in anchors(by_path[path])):
        return "no such heading"
    return ""


def mentioned(document: Any) -> Iterator[str]:
    """Paths of this repository in backticks and in the words of code blocks."""
    for _, code in CODE.findall(document.prose):
        yield from (word.strip("`,;") for word in code.split())
    for block in (
        block for block in document.blocks if block.info in ("", "sh", "bash", "console")
    ):
        yield from (word.strip("'\",;()") for word in block.text.split())


def made_here(document: Any) -> set[str]:
    """Files that the document's own examples write."""
    return set(
        re.findall(
            r"^# ([\w./]+)$",
            "\n".join(block.text.splitlines()[0] for block in document.blocks),
            flags=re.M,
        )
    )


def test_every_link_leads_somewhere(documents: list[Any]) -> None:
    by_path = {document.path.resolve(): document for document in documents}
    found = [(document, target) for document in documents for target in links(document)]
    assert len(found) >= 30
    told = [
        (document.name, target, problem(document, target, by_path)) for document, target in found
    ]
    assert [f"{name}: {target}: {text}" for name, target, text in told if text] == []


def test_every_reference_has_its_definition(documents: list[Any]) -> None:
    for document in documents:
        prose = CODE.sub("", document.prose)
        defined = {name.lower() for name in re.findall(r"^ {0,3}\[([^\]]+)\]:", prose, flags=re.M)}
        assert [
            name for name in USED.findall(prose) if name and name.lower() not in defined
        ] == [], document.name


def test_every_file_that_is_mentioned_exists(documents: list[Any], root: Path) -> None:
    found = [
        (document, word)
        for document in documents
        for word in mentioned(document)
        if (PATH.match(word) or ROOT_FILES.match(word)) and word not in made_here(document)
    ]
    assert len(found) >= 40
    assert [
        f"{document.name}: {word}"
        for document, word in found
        if not any(root.glob(word.rstrip("/")))
    ] == []


def test_every_image_is_shown_somewhere(documents: list[Any], root: Path) -> None:
    shown = {
        (document.path.parent / target).resolve()
        for document in documents
        for target in links(document)
    }
    assert [
        path.name for path in (root / "docs").glob("*.png") if path.resolve() not in shown
    ] == []


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("#a-b-c", ""),
        ("#a-b-c-1", ""),
        ("#nothing", "no such heading"),
        ("other.md#code-and_words", ""),
        ("missing.md", "no such file"),
        ("https://example.org/x", ""),
        ("https://example", "not an address"),
    ],
)
def test_a_link_is_judged_as_github_would(tmp_path: Path, target: str, expected: str) -> None:
    page = FakePage(tmp_path / "page.md", "# A: b (c)\n## A b c\n")
    other = FakePage(tmp_path / "other.md", "## `Code` and_words!\n")
    for each in (page, other):
        each.path.write_text(each.prose)
    assert problem(page, target, {each.path.resolve(): each for each in (page, other)}) == expected


class FakePage:
    def __init__(self, path: Path, prose: str) -> None:
        self.path, self.prose = path.resolve(), prose
