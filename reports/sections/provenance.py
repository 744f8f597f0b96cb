"""Table 7: where the numbers come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from record import paths
from record.damage import FinishedTrials
from record.manifest import Manifest
from record.schema import Commit, SearchOutcome, Split, StudyPlan
from record.store import Store
from reports.render.layout import Section, Table, share, text_cell

Commits = Mapping[str, Commit]


def provenance_section(
    store: Store, plan: StudyPlan, found: FinishedTrials, table: pd.DataFrame
) -> Section:
    """Table 7: versions, commit, hardware, data, weights, splits, definitions, exclusions and what
    failed.
    """
    manifest, commits = store.load(paths.MANIFEST, Manifest), found.commits
    facts = [
        *_software(manifest),
        *_hardware(manifest, plan, commits),
        *_data(store, plan, manifest),
        *_training(plan, commits),
        *_search(store, plan),
        *_definitions(plan),
        *_exclusions(plan, table),
        *_trials(store, plan, found),
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


def _software(manifest: Manifest | None) -> list[Fact]:
    if manifest is None:
        return [("software", "manifest", "not written")]
    dirty = ", with uncommitted changes" if manifest.git.uncommitted_changes else ""
    facts = [("software", "git commit", f"{manifest.git.commit or 'unknown'}{dirty}")]
    versions = {"python": manifest.python, **manifest.packages}
    return [
        *facts,
        (
            "software",
            "versions",
            ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        ),
    ]


def _hardware(manifest: Manifest | None, plan: StudyPlan, commits: Commits) -> list[Fact]:
    facts = []
    if manifest and (hardware := manifest.hardware):
        gpus = ", ".join(hardware.gpus or ["none"])
        facts.append(
            (
                "hardware",
                "main job",
                f"{hardware.processor}, {hardware.cores} cores, GPUs: {gpus}",
            )
        )
    attempts = [marker.attempt for _, marker in plan.finished(commits)]
    kinds: dict[str, int] = {}
    for attempt in attempts:
        kind = f"{attempt.device}, {attempt.world} x {attempt.threads} threads"
        kinds[kind] = kinds.get(kind, 0) + 1
    return [
        *facts,
        *(("hardware", kind, f"{count} trials") for kind, count in sorted(kinds.items())),
    ]


def _data(store: Store, plan: StudyPlan, manifest: Manifest | None) -> list[Fact]:
    facts = []
    for task in plan.tasks:
        split = store.load(paths.split(task), Split)
        if split is None:
            continue
        if split.cases:
            facts.append(("data", task, f"{len(split.cases)} cases, sha256 {_short(split.cases)}"))
        if split.settings:
            text = ", ".join(
                f"{name} {value}"
                for name, value in sorted(split.settings.items())
                if value is not None
            )
            facts.append(("splits", task, f"{text}; file sha256 {_short(split.to_json())}"))
    facts += [("data", "warning", doubt) for doubt in plan.doubts]
    made_with = manifest.fingerprints.get("blocks", {}) if manifest else {}
    blocks = plan.blocks or made_with
    facts += [
        ("weights", model, f"frozen block sha256 {str(value)[:16]}")
        for model, value in blocks.items()
    ]
    return facts


def _training(plan: StudyPlan, commits: Commits) -> list[Fact]:
    planned = {trial.eval_id for trial in plan.trials}
    used = [
        marker.identity
        for key, marker in commits.items()
        if key in planned and marker.identity.train
    ]
    if not used:
        return []
    numerics = sorted(
        {f"train {one.train['numerics']}, eval {one.eval['numerics']}" for one in used}
    )
    facts = [("training", "numerics", "; ".join(numerics))]
    for name in ("training", "data"):
        values = sorted({json.dumps(one.train[name], sort_keys=True) for one in used})
        facts += [
            ("training", "recipe" if name == "training" else "input", _flat(json.loads(value)))
            for value in values
        ]
    return facts


def _search(store: Store, plan: StudyPlan) -> list[Fact]:
    """What was searched before the grid, on which cases, and what every model got."""
    frozen = ran_searches(store, plan)
    facts = []
    for search in {
        json.dumps(one.identity["search"], sort_keys=True): one for one in frozen
    }.values():
        settings = search.identity["search"]
        ranges = {
            key: {kind: value for kind, value in values.items() if value is not None}
            for key, values in settings["space"].items()
        }
        facts.append(("search", "space", _flat(ranges)))
        own = {key: value for key, value in settings.items() if key != "space"}
        facts.append(("search", "budget of every model", _flat(own)))
    for one in frozen:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(one.counts.items()))
        cases = f"on {one.cases['train']} + {one.cases['validation']} cases"
        found = one.reason
        if one.settings is not None:
            found = f"{_flat(one.settings)}; validation Dice {one.value:.4f} in trial {one.number}"
        facts.append(("search", _place(one), f"{found}; {counts}, {cases}"))
    return facts


def ran_searches(store: Store, plan: StudyPlan) -> list[SearchOutcome]:
    """The outcomes of the current plan's searches, in its order."""
    frozen = store.outcomes() if plan.searches else {}
    return [frozen[name] for name in plan.searches if name in frozen]


def _place(search: SearchOutcome) -> str:
    fold = "" if search.fold is None else f", fold {search.fold}"
    return f"{search.model}, {search.task}{fold}"


def _flat(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {json.dumps(value)}".replace('"', "") for name, value in values.items()
    )


def _definitions(plan: StudyPlan) -> list[Fact]:
    scoring = plan.scoring
    tolerances = ", ".join(
        f"{task} {values[0]:g} mm" for task, values in scoring.tolerances.items()
    )
    return [
        ("metrics", "NSD", f"definition {scoring.nsd}; tolerance {tolerances}"),
        ("metrics", "HD95", f"definition {scoring.hd95}, in mm on the case's own grid"),
        ("metrics", "both empty", f"{plan.both_empty} (cases without structure in the truth)"),
    ]


def _exclusions(plan: StudyPlan, table: pd.DataFrame) -> list[Fact]:
    facts = [
        ("exclusions", f"{task}, {case}", f"left out for all models: {why}")
        for task, case, why in excluded_cases(plan)
    ]
    if table.empty:
        return facts
    scored = ", ".join(about.title for about in plan.metrics.values() if about.empty == "defined")
    for (task, fraction), rows in table.groupby(["task", "fraction"], sort=False):
        dropped, capped = int(rows["dropped"].fillna(0).max()), int(rows["capped"].fillna(0).sum())
        if dropped:
            facts.append(
                (
                    "exclusions",
                    f"{task}, {share(float(str(fraction)))}",
                    f"{dropped} cases without structure in the truth left out, whatever is "
                    f"predicted there (scored there, too: {scored})",
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


def excluded_cases(plan: StudyPlan) -> list[tuple[str, str, str]]:
    """Task, case and reasons of the broken cases that the study was run without."""
    return [
        (task, case, "; ".join(reasons))
        for task, cases in plan.excluded.items()
        for case, reasons in cases.items()
    ]


def _trials(store: Store, plan: StudyPlan, found: FinishedTrials) -> list[Fact]:
    missing = plan.missing(found.commits)
    facts = [("trials", "finished", f"{len(plan.trials) - len(missing)} of {len(plan.trials)}")]
    failures = store.failures() if missing else {}
    for trial in missing:
        if problem := found.damaged.get(trial.eval_id or ""):
            facts.append(("trials", f"damaged: {trial.place}", problem))
            continue
        if failed := failures.get(trial.eval_id or ""):
            facts.append(
                (
                    "trials",
                    f"failed: {trial.place}",
                    f"{len(failed)} attempts, the last: {failed[-1].reason}",
                )
            )
    return facts


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
