"""Builds a study's report from its result store alone: `python -m reports.build STUDY`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.store import CELL, Store, StoreError, read_plan, read_results

TABLES = ("significance.md", "significance.tex", "significance.csv")


@dataclass(frozen=True)
class Report:
    """What was written: `markdown` is significance.md, `complete` whether every planned trial is in it."""

    markdown: str
    files: tuple[str, ...]
    complete: bool


def build_report(store: Store) -> Report:
    """Write every table and figure into the study's `report/`.

    A partial study gives a partial report that names what is missing; the same results give the same bytes.

    Raises:
        StoreError: this is no study, or a committed file is missing or broken.
    """
    from reports.figures import training_curves
    from reports.significance import significance_table
    from reports.tables import to_csv, to_latex, to_markdown

    plan, commits = read_plan(store), store.commits()
    missing = [trial for trial in plan["trials"] if trial["eval_id"] not in commits]
    rows = read_results(store, "cases")
    if plan["comparisons"] and not rows.empty:
        table = significance_table(rows, plan, commits)
        notes = _notes(plan, commits, missing, store, capped=int(table["capped"].fillna(0).sum()))
        contents = {
            "significance.md": to_markdown(table, plan, notes).encode(),
            "significance.tex": to_latex(table, plan, notes).encode(),
            "significance.csv": to_csv(table).encode(),
        }
    else:
        reason = "no trial has finished yet" if rows.empty else "the spec compares nothing (it has one model)"
        notes = _notes(plan, commits, missing, store, capped=0)
        text = f"# Significance: {plan['name']}\n\nNo table: {reason}.\n\n" + "".join(f"- {note}\n" for note in notes)
        contents = {"significance.md": text.encode()}
    contents |= training_curves(read_results(store, "history"), plan)
    for name, content in contents.items():
        store.write(f"report/{name}", content)
    return Report(contents["significance.md"].decode(), tuple(sorted(contents)), not missing)


def _notes(
    plan: Mapping[str, Any],
    commits: Mapping[str, Any],
    missing: list[dict[str, Any]],
    store: Store,
    *,
    capped: int,
) -> list[str]:
    """What a reader must know, one sentence or two each."""
    total = len(plan["trials"])
    notes = [f"{total - len(missing)} of {total} trials are in this report."]
    failures = store.failures() if missing else {}
    for trial in missing:
        cell = ", ".join(f"{name} {trial[name]}" for name in CELL)
        failed = failures.get(trial["train_id"])
        why = f"{len(failed)} failed attempts, the last: {failed[-1]['reason']}" if failed else "not run yet"
        notes.append(f"Missing: {cell} ({why}).")
    notes += [f"{task}: {description}." for task, description in plan["descriptions"].items() if description]
    scoring = plan["scoring"]
    tolerances = ", ".join(f"{task} {values[0]:g} mm" for task, values in scoring["tolerances"].items())
    notes.append(
        "Scores are per test case, on its own grid, in mm; mean ± standard deviation over cases (n). "
        f"NSD: definition {scoring['nsd']}, tolerance {tolerances}. HD95: definition {scoring['hd95']}."
    )
    if capped:
        notes.append(f"{capped} infinite distances (a structure missed) count as the volume's diagonal in the means.")
    notes.append(
        "p: exact two-sided Wilcoxon signed-rank test over paired cases (zeros by Pratt), label groups and seeds averaged "
        "first; Holm and BH: corrected within the declared family; the verdict is Holm at 0.05. 'Not significant' does "
        "not mean 'equal'."
    )
    attempts = [commits[trial["eval_id"]]["attempt"] for trial in plan["trials"] if trial["eval_id"] in commits]
    kinds = sorted({f"{attempt['world']} x {attempt['threads']} threads" for attempt in attempts})
    if len(kinds) > 1:
        notes.append(f"Trials ran with different numbers of processes or threads: {', '.join(kinds)}.")
    rounded = sorted({note for trial in plan["trials"] for note in trial.get("notes", ())})
    notes += [f"Splits: {note}." for note in rounded]
    return notes


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when the report is complete, 1 when trials are missing, 2 when there is no study."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.build",
        description="Rebuild a study's tables and figures from its result store.",
        epilog="example: python -m reports.build runs/quickstart",
    )
    parser.add_argument("study", metavar="STUDY", help="folder or fsspec URI of a study: <storage>/<name>")
    arguments = parser.parse_args(argv)
    try:
        report = build_report(Store(arguments.study))
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report.markdown)
    for name in report.files:
        print(f"{arguments.study.rstrip('/')}/report/{name}")
    return 0 if report.complete else 1


if __name__ == "__main__":
    sys.exit(main())
