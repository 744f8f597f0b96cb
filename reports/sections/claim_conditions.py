"""In what a study is not the one that a claims file is about: its data, models and recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.sections.claim_study import Study


def unmet_data(
    claim: Mapping[str, Any], tasks: Mapping[str, Any], conditions: Mapping[str, Any], study: Study
) -> Iterator[str]:
    """In what the study's cases differ from the paper's, as far as this claim needs them."""
    if absent := [task for task in tasks if task not in study.plan.tasks]:
        yield f"{len(absent)} of its {len(tasks)} tasks are not in the study"
    counts: Mapping[Any, int] = (
        study.scores.groupby("task", observed=True)["case"].nunique().to_dict()
        if len(study.scores)
        else {}
    )
    with_nsd = "nsd" in (claim.get("metric"), *claim.get("metrics", ()))
    tolerances = study.plan.scoring.tolerances
    for task, facts in tasks.items():
        if task not in absent and counts.get(task, 0) != facts["cases"]:
            yield f"{task} has {counts.get(task, 0)} cases, not {facts['cases']}"
        if task not in absent and with_nsd and "tolerance" in facts:
            used = tolerances.get(task, [None])[0]
            if used != facts["tolerance"]:
                yield (
                    f"the NSD's tolerance of {task} is {_shown(used)} mm, not {facts['tolerance']}"
                )
    known = conditions.get("tasks", {})
    if extra := [task for task in study.plan.tasks if known and task not in known]:
        yield f"other tasks: {', '.join(extra)}"


def recipe_deviations(conditions: Mapping[str, Any], study: Study) -> tuple[list[str], list[str]]:
    """In what its trials' recipes differ from the paper's: what refuses the study, and what the
    file declares ours.
    """
    papers = conditions.get("recipe", {})
    declared = [one for one in conditions.get("declared", []) if "model" not in one]
    found = [unlike(recipe, papers, declared, "setting") for recipe in study.recipes]
    refused = [one for refuses, _ in found for one in refuses]
    ours = {one for _, told in found for one in told}
    told = [one["text"] for one in declared if "setting" not in one or one["text"] in ours]
    return list(dict.fromkeys(refused)), told


def model_deviations(
    values: Mapping[str, Any], papers: Mapping[str, Any], conditions: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """In what a model's settings differ from the paper's: what refuses it, and what the file
    declares ours.

    Args:
        papers: the accepted values of its label's settings.
    """
    declared = [one for one in conditions.get("declared", []) if "model" in one]
    return unlike(values, papers, declared, "model")


def unlike(
    values: Mapping[str, Any],
    papers: Mapping[str, Sequence[Any]],
    declared: Sequence[Mapping[str, Any]],
    key: str,
) -> tuple[list[str], list[str]]:
    """What of `values` is neither the paper's nor declared, and the texts of what is declared."""
    ours = {one[key]: one for one in declared if key in one}
    told, rest = [], {}
    for name, accepted in papers.items():
        value = _at(values, name)
        if name in ours and not _fits(value, accepted) and _fits(value, ours[name]["values"]):
            told.append(ours[name]["text"])
        else:
            rest[name] = accepted
    return list(deviations(values, rest)), list(dict.fromkeys(told))


def deviations(values: Mapping[str, Any], accepted: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    for key, allowed in accepted.items():
        if not _fits(value := _at(values, key), allowed):
            yield (
                f"{key} is {_shown(value)}, not "
                f"{'off' if allowed[0] is None else _shown(allowed[0])}"
            )


def _fits(value: Any, allowed: Sequence[Any]) -> bool:
    """Is a value among the accepted ones? None among them: absent or off (null, false, 0 or all
    0).
    """
    off = not value or (isinstance(value, list) and not any(value))
    return value in allowed or (None in allowed and off)


def _at(values: Any, key: str) -> Any:
    """A nested mapping's value at a dotted key, None where it is absent."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _shown(value: Any) -> str:
    return (
        "absent" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
