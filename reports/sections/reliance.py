"""Table of the reliance test: what trained networks lose without their block, and whether the block
is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from record.comparison import Comparison
from record.reliance import KNOCK_OUTS, Knocked, knocked_name
from record.schema import Commit, StudyPlan
from reports.render.layout import Cell, Section, Table, number, share
from reports.sections.significance import SIGNIFICANT, significance_table
from reports.sections.significance_layout import bounds, estimate, interval, p_text, verdict_text
from reports.statistics.run_scores import repeats_of

_METRIC = "dice"
_NOTHING, _BLOCK = "none", "identity"


def knocked_plan(plan: StudyPlan, knocked: Sequence[Knocked]) -> StudyPlan:
    """The plan with the networks without their block as models, each compared with the whole one.

    The differences of a model's ways are one family of tests; that of `none`, which is 0 where a
    machine predicts as the one that trained, is a family of its own and corrects nothing.
    """
    repeats = repeats_of(plan)
    named = list(dict.fromkeys((one.model, one.knock_out) for one in knocked))
    ways = {
        model: [how for how in KNOCK_OUTS if (model, how) in named]
        for model in plan.models
        if any(name == model for name, _ in named)
    }
    comparisons = [
        Comparison(
            baseline=model,
            candidates=[knocked_name(model, how) for how in group],
            metrics=[_METRIC],
            family=[],
        )
        for model, every in ways.items()
        for group in ([_NOTHING], [how for how in every if how != _NOTHING])
        if set(group) <= set(every) and group
    ]
    trials = [trial for trial in plan.trials if trial.model in ways]
    return plan.model_copy(
        update={
            "models": [
                *ways,
                *(knocked_name(model, how) for model, every in ways.items() for how in every),
            ],
            "trials": [
                *trials,
                *(one.planned(repeats.get(one.fold, 0)) for one in knocked),
            ],
            "comparisons": comparisons,
        }
    )


def reliance_section(
    plan: StudyPlan, rows: pd.DataFrame, commits: Mapping[str, Commit]
) -> Section | None:
    """What each way of knocking out costs in Dice, with the test of the methods; None without Dice.

    Args:
        plan: of `knocked_plan`.
        rows: of its finished trials.
        commits: of them.
    """
    if _METRIC not in plan.metrics or rows.empty:
        return None
    table = significance_table(rows, plan, commits)
    digits = plan.metrics[_METRIC].digits
    made: list[dict[str, Any]] = []
    for row in table.to_dict("records"):
        _, _, how = str(row["candidate"]).rpartition(", ")
        low, high = bounds(row)
        same = row["n"] and row["n_zero"] == row["n"] and not row["difference"]
        made.append(
            {
                "model": row["baseline"],
                "knock_out": how,
                "lacks": KNOCK_OUTS[how],
                **{name: row[name] for name in ("task", "fraction", "n", "trainings")},
                "dice": row["candidate_mean"],
                "whole": row["baseline_mean"],
                "difference": estimate(row),
                "low": low,
                "high": high,
                "p_methods": row["p_methods"],
                "p_holm": row["p_holm"],
                "verdict": row["verdict"],
                "said": "nothing changes" if same else verdict_text(row, digits),
                "favours": row["favours"],
            }
        )
    shown = [
        [
            Cell(str(row["model"])),
            Cell(str(row["task"])),
            Cell(share(row["fraction"]), sort=row["fraction"]),
            Cell(row["knock_out"]),
            Cell(row["said"]),
            interval(row["difference"], row["low"], row["high"], digits),
            number(row["whole"], digits),
            number(row["dice"], digits),
            Cell(p_text(row["p_holm"])),
        ]
        for row in made
    ]
    header = ["Model", "Task", "Data", "Knocked out", "Verdict", "Difference [95% CI]", "Dice"]
    header += ["Without", "p (Holm)"]
    notes = [
        "The same trained networks on the same cases, predicted again without training. Difference "
        "and p are those of the methods' test (trainings, training sets and cases are random), "
        "Holm over the ways, tasks and shares of a model.",
        "The network without: "
        + "; ".join(
            f"{how} lacks {KNOCK_OUTS[how]}" for how in dict.fromkeys(r["knock_out"] for r in made)
        )
        + ".",
        "A network that was trained with a block may need it and be no better for it: what the "
        "block brings is said by the comparison with networks that were trained without, and by "
        "the table of controls.",
    ]
    return Section(
        "reliance",
        "Is the block used?",
        [Table("", header, "lllllrrrr", shown, notes[0], keys=4)],
        pd.DataFrame(made),
        notes,
        opening=[_sentence(model, made) for model in dict.fromkeys(row["model"] for row in made)],
    )


def _sentence(model: Any, made: Sequence[Mapping[str, Any]]) -> str:
    """Whether a model's block is used, by what it loses without it, at the largest share."""
    largest = max(row["fraction"] for row in made)
    mine = [row for row in made if row["model"] == model and row["fraction"] == largest]
    ways = {row["knock_out"]: 0 for row in mine if row["knock_out"] != _NOTHING}
    if not ways:
        return f"Is the block of {model} used? Nothing of it was knocked out yet."
    how = _BLOCK if _BLOCK in ways else next(iter(ways))
    of = [row for row in mine if row["knock_out"] == how]
    lost = [row for row in of if row["verdict"] == SIGNIFICANT and row["favours"] == model]
    gained = [row for row in of if row["verdict"] == SIGNIFICANT and row["favours"] != model]
    known = [row for row in of if not pd.isna(row["difference"])]
    changes = [f"{row['difference']:+.3f} in {row['task']}" for row in known]
    answer = "yes" if lost and len(lost) == len(of) else "in part" if lost else "not shown"
    if known and all(row["difference"] == 0 for row in known):
        answer = "no: nothing changes without it"
    said = f"Is the block of {model} used? {answer}"
    found = ", ".join(changes) or "no task is complete"
    return (
        f"{said} ({how}: Dice {found}; by the methods' test {len(lost)} of {len(of)} task(s) lose, "
        f"{len(gained)} gain)."
    )
