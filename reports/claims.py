"""The paper's claims against a study's rows: `confirmed`, `contradicted` or `cannot be tested`, with evidence and reason.

A claim is a row of YAML with a rule (`reports.claim_rules`). Whatever the rows say, a study that used other weights, data
or settings than the file's `conditions` decides nothing about the paper: its verdict is `cannot be tested`, and the
evidence says which way its rows point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from reports.claim_rules import RULES, Evidence, Study, UntestableError
from reports.details import model_settings
from reports.layout import Cell, Section, Table

FOLDER = Path(__file__).resolve().parents[1] / "ablations" / "claims"
NOT_THE_PAPERS = "not the paper's study"
CONFIRMED, CONTRADICTED, OPEN = "confirmed", "contradicted", "cannot be tested"


class ClaimsError(ValueError):
    """A claims file holds something that no rule understands; the message names file, claim and what is known."""


@dataclass(frozen=True)
class Finding:
    """One claim's verdict. `agrees`: whether the study's own rows point the claim's way; None where they say nothing;
    `unmet`: in what the study is not the paper's."""

    id: str
    text: str
    verdict: str
    agrees: bool | None
    evidence: str
    reason: str
    unmet: tuple[str, ...] = ()


def read_claims(path: Path) -> dict[str, Any]:
    """A claims file.

    Raises:
        ClaimsError: no mapping with `claims`, an unknown rule, or a claim without id, text or candidate.
    """
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict) or not isinstance(content.get("claims"), list):
        raise ClaimsError(f"{path}: must be a mapping with a list `claims`")
    for place, claim in enumerate(content["claims"], start=1):
        if missing := [key for key in ("id", "rule", "text", "candidate") if key not in claim]:
            raise ClaimsError(f"{path}: claim {place} lacks {', '.join(missing)}")
        if claim["rule"] not in RULES:
            raise ClaimsError(f"{path}: claim {claim['id']}: unknown rule {claim['rule']!r}; known: {', '.join(RULES)}")
    return content


def judge(content: Mapping[str, Any], study: Study) -> list[Finding]:
    """Every claim of a file, in its order."""
    return [_judge(claim, content.get("conditions", {}), study) for claim in content["claims"]]


def _judge(claim: Mapping[str, Any], conditions: Mapping[str, Any], study: Study) -> Finding:
    try:
        found: Evidence = RULES[claim["rule"]](claim, study)
    except UntestableError as error:
        return Finding(claim["id"], claim["text"], OPEN, None, "", f"{error}")
    unmet = unmet_conditions(claim, conditions, study)
    if unmet:
        reason = f"{NOT_THE_PAPERS}: {'; '.join(unmet)}"
        return Finding(claim["id"], claim["text"], OPEN, found.agrees, found.text, reason, tuple(unmet))
    verdict = OPEN if found.agrees is None else CONFIRMED if found.agrees else CONTRADICTED
    return Finding(claim["id"], claim["text"], verdict, found.agrees, found.text, found.rule)


def unmet_conditions(claim: Mapping[str, Any], conditions: Mapping[str, Any], study: Study) -> list[str]:
    """In what the study differs from the paper's, as far as this claim needs it."""
    unmet = []
    cases: Mapping[str, int] = conditions.get("cases", {})
    if modality := claim.get("modality"):
        cases = {task: count for task, count in cases.items() if study.modality(task) in (modality, None)}
    if absent := [task for task in cases if task not in study.plan["tasks"]]:
        unmet.append(f"{len(absent)} of its {len(cases)} tasks are not in the study")
    counts: Mapping[Any, int] = (
        study.scores.groupby("task", observed=True)["case"].nunique().to_dict() if len(study.scores) else {}
    )
    for task, count in cases.items():
        if task not in absent and counts.get(task, 0) != count:
            unmet.append(f"{task} has {counts.get(task, 0)} cases, not {count}")
    if extra := [task for task in study.plan["tasks"] if conditions.get("cases") and task not in conditions["cases"]]:
        unmet.append(f"other tasks: {', '.join(extra)}")
    for name in ("image_size", "patch_size", "epochs"):
        if name in conditions:
            used = study.recipe.get(name)
            if used != conditions[name]:
                unmet.append(f"{name} is {used if used is not None else 'unknown'}, not {conditions[name]}")
    for label, sources in conditions.get("weights", {}).items():
        if label in (claim["candidate"], claim.get("baseline")) and (model := study.named(label)):
            llm = study.settings.get(model, {}).get("llm") or {}
            if llm.get("source") not in sources:
                unmet.append(
                    f"{model} uses the block of {llm.get('source') or 'an unknown checkpoint'}, not of {sources[0]}"
                )
    return unmet


def study_of(
    plan: Mapping[str, Any],
    commits: Mapping[str, Any],
    table: pd.DataFrame,
    scores: pd.DataFrame,
    means: pd.DataFrame,
    history: pd.DataFrame,
    focus: pd.DataFrame,
) -> Study:
    """What the rules see of a study."""
    return Study(plan, model_settings(plan, commits), _recipe(plan, commits), _trained(plan, commits), table, scores,
                 means, history, focus)  # fmt: skip


def _recipe(plan: Mapping[str, Any], commits: Mapping[str, Any]) -> dict[str, Any]:
    """Image size, patch size and epochs; from a finished trial where the plan of an older study lacks them."""
    known = plan.get("recipe")
    if known:
        return dict(known)
    for marker in commits.values():
        if train := marker.get("identity", {}).get("train"):
            return {
                **{name: train["data"][name] for name in ("image_size", "patch_size")},
                "epochs": train["training"]["epochs"],
            }
    return {}


def _trained(plan: Mapping[str, Any], commits: Mapping[str, Any]) -> dict[str, int]:
    return {
        trial["model"]: commits[trial["eval_id"]]["cost"]["trained_parameters"]
        for trial in plan["trials"]
        if "cost" in commits.get(trial["eval_id"], {})
    }


def claims_section(findings: Sequence[tuple[str, Sequence[Finding]]]) -> Section:
    """The verdicts, one table per claims file (title and findings)."""
    header = ["Claim", "Verdict", "In this study", "Evidence", "Reason"]
    words = {True: "agrees", False: "disagrees", None: "says nothing"}
    tables, made = [], []
    for title, found in findings:
        numbers = {
            text: str(number) for number, text in enumerate(dict.fromkeys(t for one in found for t in one.unmet), 1)
        }
        rows = [
            [
                Cell(one.text),
                Cell(one.verdict),
                Cell(words[one.agrees]),
                Cell(one.evidence),
                Cell(
                    f"{NOT_THE_PAPERS} ({', '.join(numbers[text] for text in one.unmet)})" if one.unmet else one.reason
                ),
            ]
            for one in found
        ]
        counts = ", ".join(
            f"{sum(one.verdict == name for one in found)} {name}" for name in (CONFIRMED, CONTRADICTED, OPEN)
        )
        told = " ".join(f"({number}) {text}." for text, number in numbers.items())
        footer = f"Verdicts: {counts}." + (f" {NOT_THE_PAPERS.capitalize()}: {told}" if told else "")
        tables.append(Table(f"Claims of {title}", header, "lllll", rows, footer=footer))
        made += [
            {name: value for name, value in vars(one).items() if name != "unmet"}
            | {"paper": title, "agrees": words[one.agrees]}
            for one in found
        ]
    notes = [
        "Recomputed from the result rows. A study with other weights, data or settings than the paper's can neither confirm "
        "nor contradict it; the third column says which way its own rows point."
    ]
    return Section("claims", "The paper's claims", tables, pd.DataFrame(made), notes)
