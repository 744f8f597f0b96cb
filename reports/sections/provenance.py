"""Table 7: where the numbers come from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from record import paths
from record.damage import read_committed
from record.manifest import Manifest
from record.schema import Commit, StudyPlan
from record.search import SearchOutcome
from record.study import StoredStudy
from reports.render.layout import Section, Table, share, text_cell

Commits = Mapping[str, Commit]


def provenance_section(study: StoredStudy, table: pd.DataFrame) -> Section:
    """Table 7: versions, commit, hardware, data, weights, splits, definitions, exclusions and what
    failed.
    """
    plan, manifest, commits = study.plan, study.manifest, study.finished.commits
    facts = [
        *_software(manifest),
        *(("software", f"mixture: {name}", said) for name, said in mixtures(plan, commits)),
        *_hardware(manifest, plan, commits),
        *_data(study),
        *_training(plan, commits),
        *_search(study.searched),
        *_chosen(study),
        *_definitions(plan),
        *_exclusions(plan, table),
        *_trials(study),
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
        [Table("", ["Part", "What", "Value"], "lll", rows, note, keys=2)],
        data,
        [note],
        place="folded",
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


def mixtures(plan: StudyPlan, commits: Commits) -> list[tuple[str, str]]:
    """Versions in which finished trials differ: `torch`, `2.13.0 in 4 trials, 2.12.0 in 2`."""
    known = [one.environment for _, one in plan.finished(commits) if one.environment]
    found = []
    for name in dict.fromkeys(name for one in known for name in one):
        counts = Counter(one.get(name, "none") for one in known)
        if len(counts) > 1:
            said = ", ".join(f"{version} in {count}" for version, count in sorted(counts.items()))
            found.append((name, f"{said} trials"))
    return found


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
    attempts = [marker.attempt for _, marker in plan.finished(commits) if marker.cost.known]
    kinds: dict[str, int] = {}
    for attempt in attempts:
        kinds[str(attempt)] = kinds.get(str(attempt), 0) + 1
    return [
        *facts,
        *(("hardware", kind, f"{count} trials") for kind, count in sorted(kinds.items())),
    ]


def _data(study: StoredStudy) -> list[Fact]:
    facts, plan, manifest = [], study.plan, study.manifest
    for task, split in study.splits.items():
        if split.cases:
            facts.append(("data", task, f"{len(split.cases)} cases, sha256 {_short(split.cases)}"))
        if split.settings:
            text = ", ".join(
                f"{name} {value}"
                for name, value in sorted(split.settings.items())
                if value is not None
            )
            facts.append(("splits", task, f"{text}; file sha256 {_short(split.to_json())}"))
    facts += [
        ("subgroups", f"{name}, {task}", f"table sha256 {digest[:16]}")
        for name, division in plan.divisions.items()
        for task, digest in division.files.items()
    ]
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
        if key in planned and "training" in marker.identity.train  # not of other tools' masks
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


def _chosen(study: StoredStudy) -> list[Fact]:
    """What of the ways to segment a case was chosen on validation cases, in how many trainings."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    trainings: Counter[tuple[str, str]] = Counter()
    for trial, marker in study.plan.finished(study.finished.commits):
        if paths.INFERENCE in marker.files:
            place = (trial.model, trial.task)
            found = json.loads(read_committed(study.store, marker, paths.INFERENCE))
            trainings[place] += 1
            used = [*(["mirror images"] if found["mirror"] else [])]
            used += [f"largest component of {name}" for name in found["largest"]]
            used += [f"least volume of {name}" for name in found["least_ml"]]
            counts.setdefault(place, Counter()).update(used)
    return [
        (
            "inference",
            f"{model}, {task}",
            "chosen on validation cases: "
            + (
                ", ".join(f"{what} in {n}" for what, n in sorted(of.items()))
                or "none of what could be"
            )
            + f" of {trainings[model, task]} trainings",
        )
        for (model, task), of in counts.items()
    ]


def _search(searched: Sequence[SearchOutcome]) -> list[Fact]:
    """What was searched before the grid, on which cases, and what every model got."""
    facts = []
    for search in {
        json.dumps(one.identity["search"], sort_keys=True): one for one in searched
    }.values():
        settings = search.identity["search"]
        ranges = {
            key: {kind: value for kind, value in values.items() if value is not None}
            for key, values in settings["space"].items()
        }
        facts.append(("search", "space", _flat(ranges)))
        own = {key: value for key, value in settings.items() if key != "space"}
        facts.append(("search", "budget of every model", _flat(own)))
    for one in searched:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(one.counts.items()))
        cases = f"on {one.cases['train']} + {one.cases['validation']} cases"
        found = one.reason
        if one.settings is not None:
            found = f"{_flat(one.settings)}; validation Dice {one.value:.4f} in trial {one.number}"
        facts.append(("search", _place(one), f"{found}; {counts}, {cases}"))
    return facts


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


def _trials(study: StoredStudy) -> list[Fact]:
    missing, total = study.missing, len(study.plan.trials)
    facts = [("trials", "finished", f"{total - len(missing)} of {total}")]
    failures = study.failures if missing else {}
    for trial in missing:
        if problem := study.finished.damaged.get(trial.eval_id or ""):
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
