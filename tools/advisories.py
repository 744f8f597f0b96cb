"""Known vulnerabilities of the pinned versions, out of a copy of a database, without a network:
`python -m tools.advisories all.zip`.

The copy is OSV's of PyPI, a zip of JSON files by https://ossf.github.io/osv-schema: on a machine
with a network, https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip. Exit code 0: none,
1: some.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from tools.sbom import PINS, pins


def found(pinned: Mapping[str, str], advisories: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each pinned version that an advisory names, sorted.

    Args:
        pinned: distribution -> version.
        advisories: entries of OSV.
    """
    versions = {_normal(name): version for name, version in pinned.items()}
    lines = set()
    for advisory in advisories:
        if advisory.get("withdrawn"):
            continue
        for affected in advisory.get("affected", []):
            package = affected.get("package", {})
            name = _normal(package.get("name", ""))
            ours = package.get("ecosystem") == "PyPI" and name in versions
            if ours and _affects(affected, versions[name]):
                about = " ".join(advisory.get("summary", "").split())
                lines.add(f"{name} {versions[name]}: {advisory['id']} {about}".rstrip())
    return sorted(lines)


def read(copy: Path) -> Iterator[Mapping[str, Any]]:
    """The entries of a copy."""
    with zipfile.ZipFile(copy) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield json.loads(archive.read(name))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _affects(affected: Mapping[str, Any], version: str) -> bool:
    """Whether an entry's list of versions or one of its ranges holds a version."""
    if version in affected.get("versions", []):
        return True
    ranges = [one for one in affected.get("ranges", []) if one.get("type") == "ECOSYSTEM"]
    return any(_inside(one.get("events", []), version) for one in ranges)


def _inside(events: Iterable[Mapping[str, str]], version: str) -> bool:
    """By the events in their order of versions: introduced, fixed (no longer), last affected."""
    now, inside = Version(version), False
    for kind, place in sorted(
        ((kind, place) for one in events for kind, place in one.items()),
        key=lambda change: (_version(change[1]), change[0] != "introduced"),
    ):
        at = _version(place)
        if kind == "introduced" and now >= at:
            inside = True
        elif (kind == "fixed" and now >= at) or (kind == "last_affected" and now > at):
            inside = False
    return inside


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:  # a commit, or the "0" of all versions written otherwise
        return Version("0")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("copy", type=Path, metavar="ZIP")
    copy = parser.parse_args().copy
    try:
        lines = found(pins(PINS.read_text()), read(copy))
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        print(f"error: {copy}: cannot be read as a ZIP of OSV's entries: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines) or "no known vulnerability")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
