"""The paper's claims against a study's rows: `confirmed`, `contradicted` or `cannot be tested`,
with evidence and reason.

A claim is a row of YAML with a rule (`reports.sections.claim_rules`). Whatever the rows say, a
study whose models, data or recipe are not what the file's `conditions` accept decides nothing about
the paper: its verdict is `cannot be tested`, and the evidence says which way its rows point. What
this service does differently on purpose is named beside every other verdict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from reports.render.layout import Cell, Section, Table
from reports.sections.claim_conditions import model_deviations, recipe_deviations, unmet_data
from reports.sections.claim_rules import RULES
from reports.sections.claim_study import Evidence, Study, UntestableError

FOLDER = Path(__file__).resolve().parents[2] / "ablations" / "claims"
NOT_THE_PAPERS = "not the paper's study"
CONFIRMED, CONTRADICTED, OPEN = "confirmed", "contradicted", "cannot be tested"


class ClaimsError(ValueError):
    """A claims file holds something that no rule understands; the message names file, claim and
    what is known.
    """


@dataclass(frozen=True)
class Finding:
    """One claim's verdict. `agrees`: whether the study's own rows point the claim's way; None where
    they say nothing; `why`: what the verdict rests on; `details`: in what the study is not the
    paper's, or what of our recipe is not."""

    id: str
    text: str
    verdict: str
    agrees: bool | None
    evidence: str
    why: str
    details: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """`why` with its details."""
        return f"{self.why}: {'; '.join(self.details)}" if self.details else self.why


def read_claims(path: Path) -> dict[str, Any]:
    """A claims file; conditions that are the name of a file beside it are those of that file, and
    with `like: FILE` those that they do not give themselves.

    Raises:
        ClaimsError: no mapping with `claims`, an unknown rule, a claim without id, text or
            candidate, or a condition whose accepted values are no list.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("claims"), list):
        raise ClaimsError(f"{path}: must be a mapping with a list `claims`")
    for place, claim in enumerate(content["claims"], start=1):
        if missing := [key for key in ("id", "rule", "text", "candidate") if key not in claim]:
            raise ClaimsError(f"{path}: claim {place} lacks {', '.join(missing)}")
        if claim["rule"] not in RULES:
            raise ClaimsError(
                f"{path}: claim {claim['id']}: unknown rule {claim['rule']!r}; known: "
                f"{', '.join(RULES)}"
            )
    if isinstance(conditions := content.get("conditions", {}), str):
        return content | {"conditions": read_claims(path.with_name(conditions))["conditions"]}
    if "like" in conditions:
        others = read_claims(path.with_name(conditions["like"]))["conditions"]
        conditions = others | {key: part for key, part in conditions.items() if key != "like"}
        content |= {"conditions": conditions}
    for where, accepted in {
        "recipe": conditions.get("recipe", {}),
        **conditions.get("models", {}),
    }.items():
        if wrong := [
            key for key, values in accepted.items() if not (isinstance(values, list) and values)
        ]:
            raise ClaimsError(
                f"{path}: conditions of {where}: {wrong[0]} needs a list of accepted values"
            )
    return content


def judge(content: Mapping[str, Any], study: Study) -> list[Finding]:
    """Every claim of a file, in its order."""
    return [_judge(claim, content.get("conditions", {}), study) for claim in content["claims"]]


def _judge(claim: Mapping[str, Any], conditions: Mapping[str, Any], study: Study) -> Finding:
    tasks = {
        task: facts
        for task, facts in conditions.get("tasks", {}).items()
        if claim.get("modality") in (None, facts.get("modality"))
    }
    try:
        found_models = {
            role: _model(claim[role], conditions, study)
            for role in ("candidate", "baseline")
            if role in claim
        }
        names = {role: name for role, (name, _) in found_models.items()}
        asked = {**claim, **names} | ({"tasks": list(tasks)} if "modality" in claim else {})
        found: Evidence = RULES[claim["rule"]](asked, study)
    except UntestableError as error:
        return Finding(claim["id"], claim["text"], OPEN, None, "", f"{error}")
    aliases = [f"{claim[role]}: {name}" for role, name in names.items() if name != claim[role]]
    evidence = "; ".join([found.text, *aliases])
    unmet = [*found.lacks, *unmet_data(claim, tasks, conditions, study)]
    unmet += [f"{name}: {one}" for name, (refused, _) in found_models.values() for one in refused]
    refused, declared = recipe_deviations(conditions, study)
    of_models = [text for _, (_, told) in found_models.values() for text in told]
    declared = list(dict.fromkeys([*of_models, *declared]))
    if unmet := [*unmet, *refused]:
        return Finding(
            claim["id"], claim["text"], OPEN, found.agrees, evidence, NOT_THE_PAPERS, tuple(unmet)
        )
    verdict = OPEN if found.agrees is None else CONFIRMED if found.agrees else CONTRADICTED
    why = f"{found.rule}; under our recipe" if declared else found.rule
    return Finding(
        claim["id"], claim["text"], verdict, found.agrees, evidence, why, tuple(declared)
    )


def _model(
    label: str, conditions: Mapping[str, Any], study: Study
) -> tuple[str, tuple[list[str], list[str]]]:
    """The model that a label stands for, the nearest to the paper's of those with it, and its
    deviations: those that refuse it, and those that are declared ours.

    Raises:
        UntestableError: there is none, or several are equally near.
    """
    settings = {name: study.settings.get(name, {}) for name in study.plan.models}
    accepted = conditions.get("models", {}).get(label, {})
    lacks = {
        name: model_deviations(values, accepted, conditions)
        for name, values in settings.items()
        if values.get("label", name) == label
    }
    if not lacks:
        raise UntestableError(f"no {label} in the study")
    counts = {name: (len(refused), len(ours)) for name, (refused, ours) in lacks.items()}
    fewest = min(counts.values())
    nearest = [name for name, count in counts.items() if count == fewest]
    if len(nearest) > 1:
        told = [f"{name} ({', '.join(lacks[name][0])})" if fewest[0] else name for name in nearest]
        raise UntestableError(
            f"{label} is ambiguous, these are equally near to the paper's: {', '.join(told)}"
        )
    return nearest[0], lacks[nearest[0]]


def claim_hashes() -> dict[str, str]:
    """File -> sha256 of the claims that every report judges."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(FOLDER.glob("*.yaml"))
    }


def claims_section(findings: Sequence[tuple[str, Sequence[Finding]]]) -> Section:
    """The verdicts, one table per claims file (title and findings); the page shows those files of
    which the study decides a claim.
    """
    header = ["Claim", "Verdict", "In this study", "Evidence", "Reason"]
    words = {True: "agrees", False: "disagrees", None: "says nothing"}
    tables, decided, made = [], [], []
    for title, found in findings:
        numbers = {
            text: str(number)
            for number, text in enumerate(dict.fromkeys(t for one in found for t in one.details), 1)
        }
        rows = [
            [
                Cell(one.text),
                Cell(one.verdict),
                Cell(words[one.agrees]),
                Cell(one.evidence),
                Cell(
                    f"{one.why} ({', '.join(numbers[text] for text in one.details)})"
                    if one.details
                    else one.why
                ),
            ]
            for one in found
        ]
        counts = ", ".join(
            f"{sum(one.verdict == name for one in found)} {name}"
            for name in (CONFIRMED, CONTRADICTED, OPEN)
        )
        told = " ".join(f"({number}) {text}." for text, number in numbers.items())
        footer = f"Verdicts: {counts}." + (f" Reasons: {told}" if told else "")
        tables.append(Table(f"Claims of {title}", header, "lllll", rows, footer=footer))
        if any(one.verdict != OPEN for one in found):
            decided.append(tables[-1])
        made += [
            {
                "id": one.id,
                "text": one.text,
                "verdict": one.verdict,
                "agrees": words[one.agrees],
                "evidence": one.evidence,
                "reason": one.reason,
                "paper": title,
            }
            for one in found
        ]
    notes = [
        "Recomputed from the result rows. A study with other models, data or settings than the "
        "paper's can neither confirm nor contradict it; the third column says which way its own "
        "rows point."
    ]
    return Section(
        "claims",
        "The paper's claims",
        tables,
        pd.DataFrame(made),
        notes,
        short=decided if len(decided) < len(tables) else (),
        place="shown" if decided else "file",  # a study that is not the paper's decides none
    )
