"""The Markdown files of this repository, taken apart: code blocks, and the prose between them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "ablations",
    "benchmarks",
    "cluster",
    "docs",
    "medvision",
    "orchestrator",
    "reports",
    "tests",
)
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$")
LIST = re.compile(r"^([-*+]|\d+[.)])\s")


@dataclass(frozen=True)
class Block:
    """A code block: `info` are the words behind its fence (none of an indented block), `line` is
    that of its first line.
    """

    file: str
    line: int
    info: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Document:
    """`prose` is the text with its code blocks blanked out, so that lines keep their numbers."""

    path: Path
    blocks: tuple[Block, ...]
    prose: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))


def parsed(path: Path) -> Document:
    """Take a Markdown file apart."""
    name, blocks, prose = str(path.relative_to(ROOT)), [], []
    fence, info, start, code = "", "", 0, []
    before, paragraph = "", ""  # the line before, and the first line of what it belongs to

    def close() -> None:
        nonlocal fence, code
        if code:
            blocks.append(Block(name, start, info, "\n".join(code).rstrip() + "\n"))
        fence, code = "", []

    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        found = FENCE.match(line)
        if fence in ("", "    ") and found:
            close()
            fence, info, start = found[1], found[2].strip(), number + 1
        elif fence.strip() and found and found[1].startswith(fence) and not found[2]:
            close()
        elif fence.strip():
            code.append(line)
        elif line.startswith("    ") and (
            fence or (not before.strip() and not LIST.match(paragraph))
        ):
            if not fence:
                fence, info, start = "    ", "", number
            code.append(line[4:])
        elif fence and not line.strip():
            code.append("")
        else:
            close()
            prose.append(line)
            paragraph = line if line[:1].strip() else paragraph
            before = line
            continue
        prose.append("")
        before = "" if not fence else line
    close()
    return Document(path, tuple(blocks), "\n".join(prose))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Every Markdown file of the repository."""
    paths = [
        *ROOT.glob("*.md"),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")),
    ]
    return [parsed(path) for path in sorted(paths)]


@pytest.fixture(scope="session")
def guides(documents: list[Document]) -> list[Document]:
    """README.md and docs/*.md: what people type from."""
    return [
        document
        for document in documents
        if document.name == "README.md" or document.name.startswith("docs/")
    ]
