"""Vulnerabilities out of a copy of OSV's database: entries in the form that OSV publishes."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tools.advisories import found, read
from tools.sbom import PINS, pins


def advisory(**affected: Any) -> dict[str, Any]:
    package = {"name": "Some_Package", "ecosystem": "PyPI"}
    return {"id": "GHSA-1", "summary": "It\nleaks.", "affected": [{"package": package} | affected]}


def between(*events: dict[str, str]) -> dict[str, Any]:
    return advisory(ranges=[{"type": "ECOSYSTEM", "events": list(events)}])


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("1.9", False),
        ("2.0rc1", False),
        ("2.0", True),
        ("2.10", True),
        ("3.0", False),
        ("4.1", True),
        ("4.1.1", False),
    ],
)
def test_a_range_holds_what_lies_between_its_events(version: str, *, affected: bool) -> None:
    entry = between(
        {"introduced": "2.0"}, {"fixed": "3.0"}, {"introduced": "4.0"}, {"last_affected": "4.1"}
    )
    told = found({"some-package": version}, [entry])
    assert told == ([f"some-package {version}: GHSA-1 It leaks."] if affected else [])


def test_a_version_may_be_listed_an_entry_withdrawn_and_another_ecosystems() -> None:
    listed = advisory(versions=["1.0"])
    assert found({"some.package": "1.0"}, [listed])
    assert not found({"some.package": "1.1"}, [listed])
    assert not found({"some.package": "1.0"}, [listed | {"withdrawn": "2026-01-01T00:00:00Z"}])
    other = advisory(versions=["1.0"])
    other["affected"][0]["package"]["ecosystem"] = "npm"
    assert not found({"some.package": "1.0"}, [other])
    assert found({"some.package": "0.1"}, [between({"introduced": "0"})])


def test_the_pins_are_compared_with_the_copy_that_is_named(tmp_path: Path) -> None:
    """MEDVISION_OSV: the zip of docs/security.md; without it, a made-up one that names a pin."""
    name, version = next(iter(pins(PINS.read_text()).items()))
    entry = advisory(versions=[version])
    entry["affected"][0]["package"]["name"] = name
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("GHSA-1.json", json.dumps(entry))
        archive.writestr("README", "no entry")
    assert len(found(pins(PINS.read_text()), read(tmp_path / "all.zip"))) == 1
    if copy := os.environ.get("MEDVISION_OSV"):
        assert found(pins(PINS.read_text()), read(Path(copy))) == []
