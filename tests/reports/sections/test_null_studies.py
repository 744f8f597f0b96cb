"""Where nothing differs, a claim of a difference agrees by luck alone: in at most 2.5 % of studies,
whatever the shape and the source of chance (benchmarks/claims.py)."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.balanced import Design
from benchmarks.claims import CLAIMS, LUCK, Truth, answers, truths
from reports.sections.claim_counts import luck_at_most
from reports.sections.claim_rules import RULES

QUICK = tuple(name for name in CLAIMS if name not in ("change", "significant, 7 of 60"))


def agreed(kinds: Iterator[Truth], studies: int, names: tuple[str, ...], seed: int) -> Counter[str]:
    """How often each claim agrees in so many null studies of these kinds in turn."""
    rng, found = np.random.default_rng(seed), Counter[str]()
    claims = {name: CLAIMS[name] for name in names}
    for truth in itertools.islice(kinds, studies):
        given = answers(rng, truth, claims)
        found.update(name for name, agrees in given.items() if agrees)
    return found


def most(studies: int) -> int:
    """More by luck than this come in one of 10,000 tests of a rule that keeps to 2.5 %."""
    return int(stats.binom.isf(1e-4, studies, LUCK))


@pytest.mark.slow
def test_no_rule_agrees_in_more_than_its_share_of_null_studies() -> None:
    studies = 216
    found = agreed(itertools.cycle(truths()), studies, QUICK, seed=0)
    assert max(found.values(), default=0) <= most(studies), found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("tasks", [3, 4, 10])
def test_no_rule_agrees_too_often_in_many_null_studies(tasks: int) -> None:
    """`make null-studies` asks 2,000 of each."""
    studies = int(os.environ.get("MEDVISION_NULL_STUDIES", "500"))
    kinds = [truth for truth in truths() if truth.tasks == tasks]
    found = agreed(itertools.cycle(kinds), studies, tuple(CLAIMS), seed=tasks)
    assert max(found.values(), default=0) <= most(studies), found


def test_every_rule_is_asked_and_can_agree_where_models_differ() -> None:
    assert {str(claim["rule"]) for claim in CLAIMS.values()} == set(RULES)
    rng, true = np.random.default_rng(1), Truth(tasks=10, design=Design(5, 2, 8), gain=0.2)
    found = answers(rng, true)
    about_others = {"level", "no-difference"}  # of models that are off by a little on purpose
    by_luck = {"better, 49 of 60", "significant, 7 of 60"}  # too easily reached
    agrees = {name for name, answer in found.items() if answer}
    assert agrees >= set(CLAIMS) - about_others - by_luck


@pytest.mark.parametrize("tasks", [3, 6, 10])
@pytest.mark.parametrize("together", [0.0, 0.5, 0.9, 1.0])
def test_luck_bounds_every_count_however_the_metrics_of_a_task_hang_together(
    tasks: int, together: float
) -> None:
    rng, metrics, studies = np.random.default_rng(0), 6, 20_000
    common = np.sqrt(together) * rng.standard_normal((studies, tasks, 1))
    own = np.sqrt(1 - together) * rng.standard_normal((studies, tasks, metrics))
    rows = pd.DataFrame({"task": np.repeat(np.arange(tasks), metrics)})
    for by_chance in (0.5, 0.0375):
        won = (common + own > stats.norm.isf(by_chance)).sum((1, 2))
        for least in range(1, tasks * metrics + 1):
            bound = min(luck_at_most(rows, least, by_chance), 1.0)
            assert (won >= least).mean() <= bound + 4 * np.sqrt(bound / studies)
