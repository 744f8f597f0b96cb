"""Builds a study's report from its result store alone: `python -m reports.build STUDY`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from record import paths
from record.damage import finished_trials
from record.schema import Split
from record.store import Store, StoreError
from record.tables import read_results
from record.terminal import plain_output


@dataclass(frozen=True)
class Report:
    """What was written: `markdown` is significance.md, `complete` whether every planned trial is in
    it, `damaged` a line for each finished trial that is not, because a file of it has changed.
    """

    markdown: str
    files: tuple[str, ...]
    complete: bool
    damaged: tuple[str, ...] = ()


def build_report(store: Store) -> Report:
    """Write every table and figure into the study's `report/`.

    A partial study gives a partial report that names what is missing or damaged; the same results
    give the same bytes.

    Raises:
        StoreError: this is no study, or the storage is out of reach.
    """
    import pandas as pd

    from reports.figures.curves import few_shot_curves, training_curves
    from reports.figures.diagrams import draw_comparisons
    from reports.figures.panels import (
        activation_figures,
        focus_rows,
        qualitative_panels,
        saved_arrays,
    )
    from reports.render.html import Figure, page
    from reports.render.layout import Section, latex_document, to_csv, to_latex, to_markdown
    from reports.sections.claim_study import study_of
    from reports.sections.claims import FOLDER, claims_section, judge, read_claims
    from reports.sections.details import ablations_section, cost_section
    from reports.sections.groups import groups_section
    from reports.sections.model_ranks import rank_models
    from reports.sections.notes import notes
    from reports.sections.overview import (
        few_shot_section,
        means_section,
        models_section,
    )
    from reports.sections.provenance import provenance_section
    from reports.sections.significance import COLUMNS, counts, significance_table
    from reports.sections.significance_layout import significance_section
    from reports.sections.tests_in_detail import details_section
    from reports.statistics.pairing import with_patients
    from reports.statistics.scores import case_scores, task_means

    plan = store.plan()
    found = finished_trials(store, plan)
    commits, missing = found.commits, plan.missing(found.commits)
    rows, history = (read_results(store, kind, commits) for kind in (paths.CASES, paths.HISTORY))
    splits = {task: store.load(paths.split(task), Split) for task in plan.tasks}
    patients = {task: split.patients if split else {} for task, split in splits.items()}
    rows = with_patients(rows, patients)
    contents: dict[str, bytes] = {}
    sections: list[Section] = []
    table = pd.DataFrame(columns=list(COLUMNS))
    facts = [("trials", f"{len(plan.trials) - len(missing)} of {len(plan.trials)}")]
    if plan.comparisons and not rows.empty:
        table = significance_table(rows, plan, commits)
        told = notes(plan, found, store, rows, table)
        sections += [significance_section(table, plan, told), details_section(table, plan)]
        facts += _count_facts(counts(table))
    else:
        reason = (
            "no trial has finished yet"
            if rows.empty
            else "the spec compares nothing (it has one model)"
        )
        told = notes(plan, found, store, rows, table)
        text = f"# Significance: {plan.name}\n\nNo table: {reason}.\n\n" + "".join(
            f"- {note}\n" for note in told
        )
        contents[paths.SIGNIFICANCE] = text.encode()
    figures: list[Figure] = []
    if not rows.empty:
        scores = case_scores(rows, plan, commits)
        means = task_means(scores)
        ranking = rank_models(scores, means, plan)
        if not table.empty:
            sections.append(means_section(table, means, plan))
        sections += [
            models_section(scores, means, plan, ranking),
            few_shot_section(means, history, plan),
            ablations_section(means, plan, commits),
            cost_section(plan, commits),
        ]
        if by_group := groups_section(rows, plan):
            sections.append(by_group)
        arrays, masks = (
            saved_arrays(store, plan, commits),
            saved_arrays(store, plan, commits, paths.MASKS),
        )
        study = study_of(plan, commits, table, scores, means, history, focus_rows(arrays))
        claims = [read_claims(path) for path in sorted(FOLDER.glob("*.yaml"))]
        sections.append(
            claims_section([(content["title"], judge(content, study)) for content in claims])
        )
        figures += draw_comparisons(scores, table, ranking, plan)
        figures += [*few_shot_curves(means, plan), *training_curves(history, plan)]
        figures += [*qualitative_panels(arrays, masks, plan), *activation_figures(arrays, plan)]
    sections.append(provenance_section(store, plan, found, table))
    for section in sections:
        contents[f"{section.name}.md"] = to_markdown(section, plan.name).encode()
        contents[f"{section.name}.tex"] = to_latex(section).encode()
        contents[f"{section.name}.csv"] = to_csv(section.data).encode()
    for figure in figures:
        contents |= {f"{figure.name}.png": figure.png, f"{figure.name}.pdf": figure.pdf}
    names = [f"{figure.name}.pdf" for figure in figures]
    contents["report.tex"] = latex_document(
        [section.name for section in sections], names, plan.name
    ).encode()
    contents[paths.HTML] = page(plan.name, facts, sections, figures).encode()
    for name, content in contents.items():
        store.write(paths.report(name), content)
    markdown = contents[paths.SIGNIFICANCE].decode()
    damaged = [
        f"{trial.place}: {found.damaged[trial.eval_id]}"
        for trial in missing
        if trial.eval_id in found.damaged
    ]
    return Report(markdown, tuple(sorted(contents)), not missing, tuple(damaged))


def _count_facts(counted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The counts of the significance table for the top of the page."""
    methods = ("raw", "Holm", "BH")
    return [
        (f"p < 0.05 of the methods, {name}" if name in methods else name, count)
        for name, count in counted
    ]


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when the report is complete, 1 when trials are missing or damaged, 2 when
    there is no study.
    """
    plain_output()
    parser = argparse.ArgumentParser(
        prog="python -m reports.build",
        description="Rebuild a study's tables and figures from its result store.",
        epilog="example: python -m reports.build runs/quickstart",
    )
    parser.add_argument(
        "study", metavar="STUDY", help="folder or fsspec URI of a study: <storage>/<name>"
    )
    arguments = parser.parse_args(argv)
    try:
        report = build_report(Store(arguments.study))
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report.markdown)
    for line in report.damaged:
        print(f"damaged: {line}", file=sys.stderr)
    for name in report.files:
        print(f"{arguments.study.rstrip('/')}/{paths.report(name)}")
    return 0 if report.complete else 1


if __name__ == "__main__":
    sys.exit(main())
