"""Builds a study's report from its result store alone: `python -m reports.build STUDY`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from record import paths
from record.command import begin_command
from record.index import write_index
from record.store import Store, StoreError
from record.study import StoredStudy
from record.terminal import say

if TYPE_CHECKING:
    from reports.render.html import Page

# Of reports.figures.paper.FIGURES, which takes seconds to import.
FIGURE_NAMES = ("few-shot", "activations", "qualitative")


@dataclass(frozen=True)
class Report:
    """What was written: `markdown` is significance.md without its banner, `complete` whether every
    planned trial is in it, `damaged` a line for each finished trial that is not, because a file of
    it has changed, `health` the banner's lines.
    """

    markdown: str
    files: tuple[str, ...]
    complete: bool
    damaged: tuple[str, ...] = ()
    health: tuple[str, ...] = ()


def build_report(study: StoredStudy) -> Report:
    """Write every table and figure into the study's `report/`.

    A partial study gives a partial report that names what is missing or damaged; the same results
    give the same bytes.

    Raises:
        StoreError: a file of the study is damaged, or the storage is out of reach.
    """
    from reports.beside import second_process
    from reports.contents import contents_of
    from reports.render.layout import to_markdown

    store, plan, missing = study.store, study.plan, study.missing
    with second_process(len(plan.trials)):
        of = contents_of(study)
        contents = _files(of)
    markdown = next(
        to_markdown(section, plan.name)
        for section in of.sections
        if f"{section.name}.md" == paths.SIGNIFICANCE
    )
    for name, content in contents.items():
        store.write(paths.report(name), content)
    write_index(study, [(mark == "failed", text) for mark, text in of.banner])
    damaged = [
        f"{trial.place}: {study.finished.damaged[trial.eval_id]}"
        for trial in missing
        if trial.eval_id in study.finished.damaged
    ]
    return Report(markdown, tuple(sorted(contents)), not missing, tuple(damaged), _said(of))


def _files(of: Page) -> dict[str, bytes]:
    """Every file of the report by name."""
    from reports.render.html import page, wide
    from reports.render.latex import full_latex, latex_document, to_latex
    from reports.render.layout import has_failed, to_csv, to_markdown

    contents: dict[str, bytes] = {}
    for section in of.sections:
        above = of.banner if f"{section.name}.md" == paths.SIGNIFICANCE else ()
        contents[f"{section.name}.md"] = to_markdown(section, of.study, above).encode()
        if section.tables:
            contents[f"{section.name}.tex"] = to_latex(section, of.study).encode()
        if section.tables or not section.data.empty:
            contents[f"{section.name}.csv"] = to_csv(section.data).encode()
        if section.column:
            contents[f"{section.name}_full.tex"] = full_latex(section, of.study).encode()
    shown = [section for section in of.sections if section.tables and section.place != "file"]
    opening = [paragraph for section in of.sections for paragraph in section.opening]
    contents["report.tex"] = latex_document(
        of.study,
        [*_said(of), *opening] if has_failed(of.banner) else [*opening, *_said(of)],
        [section.name for section in shown if section.place == "shown"],
        [(f"{figure.name}.pdf", figure.caption) for figure in wide(of.figures)],
        [
            *(f"{section.name}_full" for section in shown if section.column),
            *(section.name for section in shown if section.place == "folded"),
        ],
    ).encode()
    for figure in of.figures:
        contents |= {f"{figure.name}.{suffix}": content for suffix, content in figure.files.items()}
    contents[paths.HTML] = page(of).encode()
    return contents


def _said(of: Page) -> tuple[str, ...]:
    """The banner's lines."""
    return tuple(f"{mark}: {text}" for mark, text in of.banner)


def build_figures(study: StoredStudy, names: Sequence[str]) -> tuple[str, ...]:
    """Write the paper's figures of these names (`reports.figures.paper.FIGURES`) into `report/`,
    and nothing else; the files that were written.

    Raises:
        StoreError: a committed file is broken, or the storage is out of reach.
    """
    from reports.figures.paper import Drawn, paper_figures
    from reports.figures.saved import saved_arrays

    store, plan, commits = study.store, study.plan, study.finished.commits
    rows, history = study.rows(paths.CASES), study.rows(paths.HISTORY)
    arrays, masks = (
        saved_arrays(store, plan, commits, kind) for kind in (paths.ARRAYS, paths.MASKS)
    )
    contents: dict[str, bytes] = {}
    for figure in paper_figures(Drawn(plan, rows, history, arrays, masks), names):
        contents |= {f"{figure.name}.png": figure.png, f"{figure.name}.pdf": figure.pdf}
        contents[f"{figure.name}.txt"] = f"{figure.caption}\n".encode()
    for name, content in contents.items():
        store.write(paths.report(name), content)
    return tuple(sorted(contents))


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when the report is complete, 1 when trials are missing or damaged, 2 when
    there is no study.
    """
    begin_command()
    parser = argparse.ArgumentParser(
        prog="python -m reports.build",
        description="Rebuild a study's tables and figures from its result store.",
        epilog="example: python -m reports.build runs/quickstart",
    )
    parser.add_argument(
        "study", metavar="STUDY", help="folder or fsspec URI of a study: <storage>/<name>"
    )
    parser.add_argument(
        "--figure",
        action="append",
        default=[],
        metavar="NAME",
        choices=FIGURE_NAMES,
        help="only this figure of the paper, at the width of a column and of a page, with its "
        f"caption: {', '.join(FIGURE_NAMES)}; may be given more than once",
    )
    arguments = parser.parse_args(argv)
    try:
        study = StoredStudy.opened(Store(arguments.study))
        if arguments.figure:
            return _figures_only(study, arguments.figure)
        report = build_report(study)
    except StoreError as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    say(report.markdown)
    for line in report.health:
        say(line)
    for line in report.damaged:
        say(f"damaged: {line}", file=sys.stderr)
    for name in report.files:
        say(f"{arguments.study.rstrip('/')}/{paths.report(name)}")
    return 0 if report.complete else 1


def _figures_only(study: StoredStudy, names: Sequence[str]) -> int:
    """Draw these figures; 1 when the study cannot fill one of them yet."""
    files = build_figures(study, names)
    for file in files:
        say(f"{study.store.uri}/{paths.report(file)}")
    empty = [
        name
        for name in names
        if not any(file.startswith(f"paper_{name.replace('-', '_')}") for file in files)
    ]
    for name in empty:
        say(f"{name}: the study has nothing to draw it from yet", file=sys.stderr)
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
