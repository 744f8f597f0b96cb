"""Claims that count rows of the significance table, and how often luck reaches such a count."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import bdtr

from reports.sections.claim_study import Claim, Evidence
from reports.statistics.adjustment import ALPHA
from reports.statistics.methods import RELAXED_MORE_FOLDS

# A row is won by luck in at most this share of studies: the test of the methods may err in both
# directions up to so many times its level (`reports.statistics.methods`)
BY_CHANCE = RELAXED_MORE_FOLDS * ALPHA / 2
LUCK = 0.025  # how often a claim may be agreed with where the models do not differ


def counted(
    claim: Claim,
    rows: pd.DataFrame,
    count: int,
    text: str,
    rule: str,
    *,
    by_chance: float,
    undecided: int = 0,
) -> Evidence:
    """`least` of `of` rows. Other numbers of rows leave it open: a share of them is not what is
    claimed; so do rows without an answer that could turn it, and a count that luck reaches.

    Args:
        by_chance: the probability that a row counts where the models do not differ.
        undecided: rows that have no answer.
    """
    if len(rows) != claim["of"]:
        lacks = f"it has {len(rows)} of the {claim['of']} comparisons that the claim counts"
        return Evidence(None, text, rule, (lacks,))
    if count + undecided < claim["least"]:
        return Evidence(False, text, rule)
    if count < claim["least"]:
        return Evidence(None, text, f"{rule}; {undecided} rows have no answer")
    if (luck := min(luck_at_most(rows, claim["least"], by_chance), 1.0)) > LUCK:
        return Evidence(None, text, f"{rule}; so many come by luck in up to {luck:.0%} of studies")
    return Evidence(True, text, rule)


def luck_at_most(rows: pd.DataFrame, least: int, by_chance: float) -> float:
    """How often models that do not differ reach a count, at most.

    Metrics of a task may agree in any way, tasks are independent. The excess of the tasks' shares
    over a number is convex in each share, so on average it is at most that of all or none of each
    task's rows, a binomial variable (as in W. Hoeffding, JASA 58 (1963)); Markov's inequality then
    bounds the count. Where all rows must count this is the chance of all tasks.
    """
    tasks = rows["task"].nunique()
    share, counts = least * tasks / len(rows), np.arange(tasks + 1)
    chances = np.diff(bdtr(counts, tasks, by_chance), prepend=0.0)  # of so many tasks
    excess = [float(chances @ np.clip(counts - over, 0, None)) for over in counts[counts < share]]
    return min(one / (share - over) for over, one in enumerate(excess))
