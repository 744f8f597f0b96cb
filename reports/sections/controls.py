"""Table of the block's controls: what of the gain over no block survives which control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from record.schema import Commit, StudyPlan
from reports.render.layout import Cell, Section, Table, number, share
from reports.sections.details import model_settings, reference_model
from reports.sections.significance import TESTED
from reports.statistics.scores import common_tasks, matrix

_METRIC = "dice"
# By control: what of the block it keeps.
KEEPS = {
    "identity": "the mappers and the width, no layer",
    "linear": "as many parameters, linear, trained",
    "mlp": "as many operations, an MLP, trained",
    "random": "the architecture, untrained weights",
    "permuted": "the values of the weights, not their places",
    "spectrum": "the singular values of the weights, not their directions",
    "trainable": "all, and is trained with the rest",
    "another layer": "the model, not the layer",
    "another model": "a layer, not the model",
    "other head pairs": "the weights, queries meet the keys of others",
    "norm of ones": "the layer, an untrained final norm",
}


# What a block's settings are where a study does not say.
_UNSAID = {
    "control": "none",
    "block": "layer",
    "weights": "pretrained",
    "trainable": False,
    "kv_pairing": "grouped",
    "final_norm_weights": "pretrained",
    "layer": -1,
    "rope": False,
    "causal": False,
    "final_norm": True,
    "random_seed": None,
}
# Without a layer these mean nothing.
_OF_A_LAYER = {"kv_pairing", "final_norm_weights", "final_norm", "rope", "causal"}


def control_of(llm: Mapping[str, Any], reference: Mapping[str, Any]) -> str | None:
    """What a block's settings change of the reference's in one respect; None for anything else."""
    mine, theirs = {**_UNSAID, **llm}, {**_UNSAID, **reference}
    changed = {name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)}
    changed -= {"random_seed"}
    if mine["control"] in ("linear", "mlp") or mine["block"] == "identity":
        changed -= _OF_A_LAYER
    if "source" in changed:
        changed -= {"layer"}  # which has a meaning in its own model only
    if len(changed) != 1:
        return None
    (name,) = changed
    value = mine.get(name)
    if name == "control":
        return None if value == "none" else str(value)
    found = {
        ("block", "identity"): "identity",
        ("weights", "random"): "random",
        ("trainable", True): "trainable",
        ("kv_pairing", "tiled"): "other head pairs",
        ("final_norm_weights", "ones"): "norm of ones",
    }
    other = {"source": "another model", "layer": "another layer"}.get(name)
    return other or found.get((name, value) if isinstance(value, str | bool) else ("", ""))


def controls_section(
    means: pd.DataFrame, tests: pd.DataFrame, plan: StudyPlan, commits: Mapping[str, Commit]
) -> Section | None:
    """The controls of the reference model's block, most of the block removed first.

    The gain is the reference's mean Dice minus that of ViT_Baseline (no block); of it, a control
    keeps (control - baseline) / (reference - baseline). A share is given only where the gain is
    above 0. Whether a difference between the reference and the control is more than luck is said by
    the tests of the significance table, and by no share.

    Args:
        means: of `task_means`.
        tests: of `significance_table`, empty without comparisons.

    Returns:
        None where the study has no baseline, no block, or no control of it.
    """
    settings, fraction = model_settings(plan, commits), max(plan.fractions)
    reference = reference_model(plan, settings)
    plain = [name for name in plan.models if settings.get(name, {}).get("label") == "ViT_Baseline"]
    block = settings.get(reference, {}).get("llm")
    if not plain or not block or _METRIC not in means:
        return None
    baseline = plain[0]
    kinds = {
        name: kind
        for name in plan.models
        if name != reference
        and _place(settings[name]) == _place(settings[reference])
        and (llm := settings.get(name, {}).get("llm"))
        and (kind := control_of(llm, block))
    }
    here = means[means["fraction"] == fraction]
    done = [name for name in (reference, baseline, *kinds) if (here["model"] == name).any()]
    place = list(KEEPS).index
    controls = sorted((one for one in done if one in kinds), key=lambda one: place(kinds[one]))
    if not controls or not {reference, baseline} <= set(done):
        return None
    tasks = common_tasks(means, done, fraction)
    scores = matrix(means, done, fraction, _METRIC).mean() if tasks else pd.Series(dtype=float)
    gain = float(scores.get(reference, np.nan) - scores.get(baseline, np.nan))
    made: list[dict[str, Any]] = [
        {
            "control": kinds[name],
            "model": name,
            "keeps": KEEPS[kinds[name]],
            "dice": float(scores.get(name, np.nan)),
            "over_baseline": float(scores.get(name, np.nan) - scores.get(baseline, np.nan)),
            "share": float((scores[name] - scores[baseline]) / gain) if gain > 0 else np.nan,
            "tests": _tests(tests, reference, name, fraction),
        }
        for name in controls
    ]
    frame = pd.DataFrame(made)
    rows = [
        [
            Cell(row["control"]),
            Cell(row["model"]),
            Cell(row["keeps"]),
            number(row["dice"]),
            number(row["over_baseline"], sign=True),
            Cell("-") if pd.isna(row["share"]) else number(100 * row["share"], 0, unit="%"),
            Cell(row["tests"]),
        ]
        for row in made
    ]
    whole = _tests(tests, reference, baseline, fraction)
    gained = (
        f"The gain of {reference} over {baseline} is {gain:+.3f} Dice over {len(tasks)} task(s) "
        f"({baseline} against {reference}: {whole}). "
        + (
            "Where the gain itself is luck, so is what survives of it."
            if gain > 0
            else "There is no gain of which anything could survive."
        )
    )
    unknown = (
        f"What of the gain of {reference} over {baseline} survives is not known: no task is "
        f"finished by all of {', '.join(done)}."
    )
    opening = [gained if tasks else unknown]
    notes = [
        f"{share(fraction)} training data. Of the gain: (control - {baseline}) / ({reference} - "
        f"{baseline}), of means over the tasks that all of them have finished; it has no "
        "uncertainty of its own, and says nothing where the gain is small. Against the reference: "
        "tests of Dice in Table 1 (Holm, for the methods), of the control."
    ]
    header = [
        "Control",
        "Model",
        "Keeps",
        "Dice",
        f"Over {baseline}",
        "Of the gain",
        f"Against {reference}",
    ]
    return Section(
        "controls",
        "Controls of the block",
        [Table("", header, "lllrrrl", rows, notes[0], keys=2)],
        frame,
        notes,
        opening=opening,
    )


def _place(known: Mapping[str, Any]) -> tuple[Any, Any]:
    return known.get("placement", "encoder-decoder"), known.get("every")


def _tests(tests: pd.DataFrame, reference: str, other: str, fraction: float) -> str:
    """What the significance table says of two models' Dice, in words."""
    if tests.empty:
        return "not tested"
    one = (tests["baseline"] == reference) & (tests["candidate"] == other)
    two = (tests["baseline"] == other) & (tests["candidate"] == reference)
    rows = tests[(one | two) & (tests["fraction"] == fraction) & (tests["metric"] == _METRIC)]
    rows = rows[rows["verdict"].isin(TESTED)]
    if rows.empty:
        return "not tested"
    decided = rows[rows["verdict"] == TESTED[0]]
    better = int((decided["favours"] == other).sum())
    worse = int((decided["favours"] == reference).sum())
    return f"better in {better}, worse in {worse}, not told apart in {len(rows) - better - worse}"
