"""Where the next network, reader, data mode or way to run goes in: it is found, known to its
registry, and unknown to its neighbours. No list here names one of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Seam:
    """A package whose modules but these are exchangeable.

    Args:
        package: its name.
        shared: what is no part of any one of them, beside `registry`.
    """

    package: str
    shared: str = ""

    def parts(self) -> list[str]:
        """The exchangeable modules and packages."""
        folder = ROOT / self.package.replace(".", "/")
        found = [path.stem for path in folder.glob("*.py")]
        found += [path.parent.name for path in folder.glob("*/__init__.py")]
        fixed = {"__init__", "registry", *self.shared.split()}
        return sorted(set(found) - fixed)


SEAMS = (
    Seam("medvision.models", "__main__ arithmetic bottleneck family labels language layers sizes"),
    Seam("medvision.data.readers", "base layout"),
    Seam("medvision.data.views", "base"),
    Seam("orchestrator.executors", "base search_rounds"),
)
EVERY = pytest.mark.parametrize(
    ("seam", "part"),
    [pytest.param(seam, part, id=part) for seam in SEAMS for part in seam.parts()],
)


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("medvision", "orchestrator", "record", cache_dir=None)


def test_every_seam_has_several_parts() -> None:
    assert all(len(seam.parts()) > 1 for seam in SEAMS)


@EVERY
def test_the_registry_names_it(seam: Seam, part: str) -> None:
    """What it does not name is either forgotten, or shared, and then belongs in the list above."""
    registry = ROOT / seam.package.replace(".", "/") / "registry.py"
    assert re.search(rf"\b{re.escape(seam.package)}\.{part}\b", registry.read_text())


@EVERY
def test_it_imports_no_neighbour_and_not_its_registry(
    seam: Seam, part: str, imports: grimp.ImportGraph
) -> None:
    inside = f"{seam.package}.{part}"
    mine = {inside, *imports.find_descendants(inside)}
    others = {f"{seam.package}.{name}" for name in (*seam.parts(), "registry") if name != part}
    taken = {
        found for module in mine for found in imports.find_modules_directly_imported_by(module)
    }
    assert not [
        module
        for module in taken
        if any(module == other or module.startswith(f"{other}.") for other in others)
    ]
