"""Table 7, where the numbers come from, and the notes that stand under every report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from record.store import CELL, Store
from reports.render.layout import Section, Table, share, text_cell

Plan = Mapping[str, Any]
Commits = Mapping[str, Mapping[str, Any]]
LISTED = 20


def provenance_section(store: Store, plan: Plan, commits: Commits, table: pd.DataFrame) -> Section:
    """Table 7: versions, commit, hardware, data, weights, splits, definitions, exclusions and what
    failed.
    """
    manifest = store.read_json("manifest.json") or {}
    facts = [
        *_software(manifest),
        *_hardware(manifest, plan, commits),
        *_data(store, plan, manifest),
        *_training(plan, commits),
        *_search(store, plan),
        *_definitions(plan),
        *_exclusions(plan, table),
        *_trials(store, plan, commits),
    ]
    data = pd.DataFrame(facts, columns=["part", "what", "value"])
    rows = [[text_cell(value) for value in fact] for fact in facts]
    note = (
        "The manifest is written by the run that last trained something; fingerprints are sha256 "
        "of contents, shortened."
    )
    return Section(
        "provenance",
        "Provenance",
        [Table("", ["Part", "What", "Value"], "lll", rows, note)],
        data,
        [note],
    )


Fact = tuple[str, str, str]


def _software(manifest: Mapping[str, Any]) -> list[Fact]:
    if not manifest:
        return [("software", "manifest", "not written")]
    git = manifest.get("git", {})
    dirty = ", with uncommitted changes" if git.get("uncommitted_changes") else ""
    facts = [("software", "git commit", f"{git.get('commit') or 'unknown'}{dirty}")]
    versions = {"python": manifest.get("python"), **manifest.get("packages", {})}
    return [
        *facts,
        (
            "software",
            "versions",
            ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        ),
    ]


def _hardware(manifest: Mapping[str, Any], plan: Plan, commits: Commits) -> list[Fact]:
    hardware = manifest.get("hardware", {})
    facts = []
    if hardware:
        gpus = ", ".join(hardware.get("gpus") or ["none"])
        facts.append(
            (
                "hardware",
                "main job",
                f"{hardware.get('processor')}, {hardware.get('cores')} cores, GPUs: {gpus}",
            )
        )
    attempts = [
        commits[trial["eval_id"]]["attempt"]
        for trial in plan["trials"]
        if trial["eval_id"] in commits
    ]
    kinds: dict[str, int] = {}
    for attempt in attempts:
        kind = (
            f"{attempt.get('device', 'unknown')}, {attempt['world']} x {attempt['threads']} threads"
        )
        kinds[kind] = kinds.get(kind, 0) + 1
    return [
        *facts,
        *(("hardware", kind, f"{count} trials") for kind, count in sorted(kinds.items())),
    ]


def _data(store: Store, plan: Plan, manifest: Mapping[str, Any]) -> list[Fact]:
    facts = []
    for task in plan["tasks"]:
        split = store.read_json(f"splits/{task}.json") or {}
        cases = split.get("cases", {})
        if cases:
            facts.append(("data", task, f"{len(cases)} cases, sha256 {_short(cases)}"))
        if settings := split.get("settings"):
            text = ", ".join(
                f"{name} {value}" for name, value in sorted(settings.items()) if value is not None
            )
            facts.append(("splits", task, f"{text}; file sha256 {_short(split)}"))
    blocks = plan.get("blocks") or manifest.get("fingerprints", {}).get("blocks", {})
    facts += [
        ("weights", model, f"frozen block sha256 {str(value)[:16]}")
        for model, value in blocks.items()
    ]
    return facts


def _training(plan: Plan, commits: Commits) -> list[Fact]:
    planned = {trial["eval_id"] for trial in plan["trials"]}
    used = [
        marker["identity"]
        for key, marker in commits.items()
        if key in planned and "identity" in marker
    ]
    if not used:
        return []
    numerics = sorted(
        {f"train {one['train']['numerics']}, eval {one['eval']['numerics']}" for one in used}
    )
    facts = [("training", "numerics", "; ".join(numerics))]
    for name in ("training", "data"):
        values = sorted({json.dumps(one["train"][name], sort_keys=True) for one in used})
        facts += [
            ("training", "recipe" if name == "training" else "input", _flat(json.loads(value)))
            for value in values
        ]
    return facts


def _search(store: Store, plan: Plan) -> list[Fact]:
    """What was searched before the grid, on which cases, and what every model got."""
    frozen = _searches(store, plan)
    facts = []
    for search in {
        json.dumps(one["identity"]["search"], sort_keys=True): one for one in frozen
    }.values():
        settings = search["identity"]["search"]
        ranges = {
            key: {kind: value for kind, value in values.items() if value is not None}
            for key, values in settings["space"].items()
        }
        facts.append(("search", "space", _flat(ranges)))
        own = {key: value for key, value in settings.items() if key != "space"}
        facts.append(("search", "budget of every model", _flat(own)))
    for one in frozen:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(one["counts"].items()))
        cases = f"on {one['cases']['train']} + {one['cases']['validation']} cases"
        found = one["reason"]
        if one["settings"] is not None:
            found = (
                f"{_flat(one['settings'])}; validation Dice {one['value']:.4f} in trial "
                f"{one['number']}"
            )
        facts.append(("search", _place(one), f"{found}; {counts}, {cases}"))
    return facts


def _searches(store: Store, plan: Plan) -> list[Mapping[str, Any]]:
    """The outcomes of the current plan's searches, in its order."""
    frozen = (store.read_json("search.json") or {}) if plan.get("searches") else {}
    return [frozen[name] for name in plan.get("searches", ()) if name in frozen]


def _place(search: Mapping[str, Any]) -> str:
    fold = "" if search["fold"] is None else f", fold {search['fold']}"
    return f"{search['model']}, {search['task']}{fold}"


def _flat(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {json.dumps(value)}".replace('"', "") for name, value in values.items()
    )


def _definitions(plan: Plan) -> list[Fact]:
    scoring = plan["scoring"]
    tolerances = ", ".join(
        f"{task} {values[0]:g} mm" for task, values in scoring["tolerances"].items()
    )
    return [
        ("metrics", "NSD", f"definition {scoring['nsd']}; tolerance {tolerances}"),
        ("metrics", "HD95", f"definition {scoring['hd95']}, in mm on the case's own grid"),
        ("metrics", "both empty", f"{plan['both_empty']} (no structure and no prediction)"),
    ]


def _exclusions(plan: Plan, table: pd.DataFrame) -> list[Fact]:
    facts = [
        ("exclusions", f"{task}, {case}", f"left out for all models: {why}")
        for task, case, why in _excluded(plan)
    ]
    if table.empty:
        return facts
    for (task, fraction), rows in table.groupby(["task", "fraction"], sort=False):
        dropped, capped = int(rows["dropped"].fillna(0).max()), int(rows["capped"].fillna(0).sum())
        if dropped:
            facts.append(
                (
                    "exclusions",
                    f"{task}, {share(float(str(fraction)))}",
                    f"{dropped} cases empty in truth and prediction left out",
                )
            )
        if capped:
            facts.append(
                (
                    "exclusions",
                    f"{task}, {share(float(str(fraction)))}",
                    f"{capped} infinite distances capped",
                )
            )
    return facts


def _excluded(plan: Plan) -> list[tuple[str, str, str]]:
    """Task, case and reasons of the broken cases that the study was run without."""
    excluded: Mapping[str, Mapping[str, Sequence[str]]] = plan.get("excluded", {})
    return [
        (task, case, "; ".join(reasons))
        for task, cases in excluded.items()
        for case, reasons in cases.items()
    ]


def _trials(store: Store, plan: Plan, commits: Commits) -> list[Fact]:
    missing = [trial for trial in plan["trials"] if trial["eval_id"] not in commits]
    facts = [
        ("trials", "finished", f"{len(plan['trials']) - len(missing)} of {len(plan['trials'])}")
    ]
    failures = store.failures() if missing else {}
    for trial in missing:
        if failed := failures.get(trial["eval_id"]):
            facts.append(
                (
                    "trials",
                    f"failed: {_cell(trial)}",
                    f"{len(failed)} attempts, the last: {failed[-1]['reason']}",
                )
            )
    return facts


def notes(
    plan: Plan,
    commits: Commits,
    missing: Sequence[Mapping[str, Any]],
    store: Store,
    rows: pd.DataFrame,
    table: pd.DataFrame,
) -> list[str]:
    """What a reader of the tests must know, one sentence or two each.

    Args:
        rows: the scores.
        table: the significance table.
    """
    total = len(plan["trials"])
    found = [f"{total - len(missing)} of {total} trials are in this report."]
    failures = store.failures() if missing else {}
    # Failed cells are named first: of a large unfinished study the rest is only counted.
    ordered = sorted(missing, key=lambda trial: trial["eval_id"] not in failures)
    shown = [trial for trial in ordered if trial["eval_id"] in failures]
    shown += [trial for trial in ordered if trial["eval_id"] not in failures][:LISTED]
    for trial in shown:
        failed = failures.get(trial["eval_id"])
        why = (
            f"{len(failed)} failed attempts, the last: {failed[-1]['reason']}"
            if failed
            else "not run yet"
        )
        found.append(f"Missing: {_cell(trial)} ({why}).")
    if rest := len(missing) - len(shown):
        found.append(f"Missing: {rest} more trials that have not run yet.")
    found += [
        f"{task}: {description}."
        for task, description in plan["descriptions"].items()
        if description
    ]
    if searched := _searches(store, plan):
        counts = sorted({sum(one["counts"].values()) for one in searched})
        found.append(
            f"Settings were chosen before these trials by {len(searched)} searches of "
            f"{', '.join(map(str, counts))} trials, on no test case of the trials that use them "
            "(provenance.md); no trial of this report was ended on a metric."
        )
    found += [
        f"Left out for all models: {task}, {case} ({why})." for task, case, why in _excluded(plan)
    ]
    scoring = plan["scoring"]
    tolerances = ", ".join(
        f"{task} {values[0]:g} mm" for task, values in scoring["tolerances"].items()
    )
    found.append(
        "Scores are per test case, on its own grid, in mm; mean ± standard deviation over cases "
        f"(n), the better one bold. NSD: definition {scoring['nsd']}, tolerance {tolerances}. "
        f"HD95: definition {scoring['hd95']}."
    )
    if "patient" in rows:
        found.append(
            "Where a grouping is given, n counts patients, each the mean over its cases, which are "
            "not independent."
        )
    distances = [
        name
        for name, about in plan["metrics"].items()
        if about["unit"] and name in _compared(plan, rows)
    ]
    if capped := int(np.isinf(rows[distances].to_numpy(dtype=float)).sum()):
        found.append(
            f"{capped} infinite distances (a structure missed) count as the volume's diagonal in "
            "the means."
        )
    found.append(
        "Difference: candidate minus baseline, t interval over cases, widened for skew. Shift: "
        "Hodges-Lehmann, its interval the inverted test. r: matched-pairs rank-biserial "
        "correlation, from -1 to 1."
    )
    approximate = int((table["method"] == "asymptotic").sum())
    but = (
        f", the normal approximation in the {approximate} rows of more than about 1,000 pairs"
        if approximate
        else ""
    )
    found.append(
        f"p: exact two-sided Wilcoxon signed-rank test over paired cases (zeros by Pratt{but}), "
        "label groups and seeds averaged first; Holm and BH: corrected within the declared family; "
        "the verdict is Holm at 0.05. 'Not significant' does not mean 'equal'."
    )
    attempts = [
        commits[trial["eval_id"]]["attempt"]
        for trial in plan["trials"]
        if trial["eval_id"] in commits
    ]
    kinds = sorted({f"{attempt['world']} x {attempt['threads']} threads" for attempt in attempts})
    if len(kinds) > 1:
        found.append(
            f"Trials ran with different numbers of processes or threads: {', '.join(kinds)}."
        )
    rounded = sorted({note for trial in plan["trials"] for note in trial.get("notes", ())})
    return found + [f"Splits: {note}." for note in rounded]


def _compared(plan: Plan, rows: pd.DataFrame) -> set[str]:
    """Metrics of the comparisons that the scores have."""
    return {name for comparison in plan["comparisons"] for name in comparison["metrics"]} & set(
        rows.columns
    )


def _cell(trial: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {trial[name]}" for name in CELL)


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
