"""Findings of this repository: the tables of a published study, out of its folder alone.

    medvision publish runs/NAME --into docs/findings/FINDING/NAME
    python -m tools.findings docs/findings/FINDING/NAME

writes them as Markdown into the folder's `tables/`. A page of docs/findings repeats
lines of them; tests/docs/test_findings.py makes them again and compares.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from record import paths
from record.arguments import folder as existing
from record.published import restore
from record.store import Store, StoreError
from reports.build import build_report

ROOT = Path(__file__).parents[1]
TABLES = "tables"


def published() -> list[Path]:
    """The folders of docs/findings that hold a study."""
    return sorted(path.parent for path in ROOT.glob(f"docs/findings/*/*/{paths.PUBLISHED}"))


def tables(folder: Path) -> dict[str, str]:
    """Every Markdown table of the study's report by file name, as if it lay in `runs/`.

    Raises:
        StoreError: the folder is damaged.
    """
    with tempfile.TemporaryDirectory() as place:
        study = restore(Store(str(folder)), Store(f"{place}/{folder.name}"))
        report = build_report(study)
        contents = {name: study.store.read(paths.report(name)) or b"" for name in report.files}
    return {
        name: content.decode().replace(place, "runs")
        for name, content in contents.items()
        if name.endswith(".md")
    }


def main(argv: list[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.findings",
        description="Write the Markdown tables of a published study beside it.",
        epilog="example: python -m tools.findings docs/findings/hippocampus/hippocampus_controls",
    )
    parser.add_argument("folder", metavar="FOLDER", type=existing, help="of docs/findings")
    folder = parser.parse_args(argv).folder
    try:
        made = tables(folder)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    into = folder / TABLES
    into.mkdir(exist_ok=True)
    for old in into.glob("*.md"):
        old.unlink()
    for name, text in made.items():
        (into / name).write_text(text)
    print(f"{into}: {len(made)} tables")
    return 0


if __name__ == "__main__":
    sys.exit(main())
