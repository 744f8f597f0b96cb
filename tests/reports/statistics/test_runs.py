"""Trainings as units: the signed-rank test over runs."""

import numpy as np

from reports.statistics import paired_wilcoxon, wilcoxon_over_runs
from tests.reports.statistics.designs import random


def test_over_runs_it_is_the_exact_test_of_their_means():
    design = random(np.random.default_rng(0), [7] * 5, 3, (0.1, 0.3, 1, 0.3), mean=0.4)
    means = design.differences.reshape(15, 7).mean(1)
    order = np.random.default_rng(1).permutation(105)
    shuffled = design[order]
    found = wilcoxon_over_runs(shuffled.differences, fold=shuffled.fold, training=shuffled.training)
    assert found.n == 15
    assert found.p == paired_wilcoxon(means, np.zeros(15)).p
