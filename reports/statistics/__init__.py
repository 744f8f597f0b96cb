"""The statistics of the reports, all in one place: pure functions of numpy arrays.

d = paired_wilcoxon(candidate, baseline)      d.p, d.p_floor, d.n_zero, d.method
adjust([0.01, 0.04, float("nan")], "holm")    array([0.02, 0.04, nan])
m = method_difference(d, fold=f, training=s, case=c)      m.p, m.low, m.high, m.components
"""

from reports.statistics.adjustment import adjust
from reports.statistics.against_itself import SelfComparison, self_comparison
from reports.statistics.effects import (
    Interval,
    equivalence,
    hodges_lehmann,
    mean_difference,
    rank_biserial,
)
from reports.statistics.margins import Practical, correlated_t, place, practical
from reports.statistics.methods import MethodDifference, method_difference
from reports.statistics.power import detectable, power
from reports.statistics.ranking import (
    Friedman,
    PairwiseWilcoxon,
    cliques,
    critical_difference,
    friedman,
    pairwise_wilcoxon,
)
from reports.statistics.runs import wilcoxon_over_runs
from reports.statistics.stability import RankingStability, mean_bounds, ranking_stability
from reports.statistics.wilcoxon import PairedWilcoxon, paired_differences, paired_wilcoxon

__all__ = [
    "Friedman",
    "Interval",
    "MethodDifference",
    "PairedWilcoxon",
    "PairwiseWilcoxon",
    "Practical",
    "RankingStability",
    "SelfComparison",
    "adjust",
    "cliques",
    "correlated_t",
    "critical_difference",
    "detectable",
    "equivalence",
    "friedman",
    "hodges_lehmann",
    "mean_bounds",
    "mean_difference",
    "method_difference",
    "paired_differences",
    "paired_wilcoxon",
    "pairwise_wilcoxon",
    "place",
    "power",
    "practical",
    "rank_biserial",
    "ranking_stability",
    "self_comparison",
    "wilcoxon_over_runs",
]
