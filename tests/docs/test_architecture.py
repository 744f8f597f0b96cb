"""docs/architecture.md: what it names exists, and every room is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("medvision", "orchestrator", "record", "reports")


def _page() -> str:
    return (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def _named() -> set[str]:
    return set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.(?:py|yaml|md))?)`", _page()))


@pytest.mark.parametrize("name", sorted(_named()))
def test_what_the_page_names_exists(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_named(package: str) -> None:
    rooms = {f"{package}/"} | {
        f"{package}/{folder.name}/"
        for folder in (ROOT / package).iterdir()
        if (folder / "__init__.py").is_file()
    }
    assert rooms <= _named()
