import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.statistics import adjust

METHODS = ("holm", "bh")
p_values = st.lists(st.floats(0, 1), max_size=30)
quick = settings(max_examples=100, deadline=None)


def rejected_by_holm(p, alpha):
    """Step-down in words: smallest first, against alpha / (tests left), until the first failure."""
    rejected = set()
    for step, i in enumerate(np.argsort(p, kind="stable").tolist()):
        if p[i] * (len(p) - step) > alpha:
            break
        rejected.add(i)
    return rejected


def rejected_by_bh(p, alpha):
    """The step-up procedure in words: all up to the largest rank k with p(k) <= alpha k / m."""
    order = np.argsort(p, kind="stable").tolist()
    passing = [k for k, i in enumerate(order, 1) if p[i] * len(p) / k <= alpha]
    return set(order[: max(passing, default=0)])


@quick
@given(p_values, st.floats(0.001, 0.999))
def test_adjusted_values_reject_what_the_procedures_reject(p, alpha):
    assert set(np.flatnonzero(adjust(p, "holm") <= alpha).tolist()) == rejected_by_holm(p, alpha)
    assert set(np.flatnonzero(adjust(p, "bh") <= alpha).tolist()) == rejected_by_bh(p, alpha)


@quick
@given(p_values, st.randoms())
def test_order_bounds_and_equivariance(p, random):
    holm, bh = adjust(p, "holm"), adjust(p, "bh")
    assert np.all(np.asarray(p) <= bh * (1 + 1e-12))
    assert np.all(bh <= holm * (1 + 1e-12))
    assert np.all(holm <= 1)
    order = random.sample(range(len(p)), len(p))
    assert adjust([p[i] for i in order], "holm").tolist() == [holm[i] for i in order]
    assert adjust([p[i] for i in order], "bh").tolist() == [bh[i] for i in order]


@pytest.mark.parametrize("method", METHODS)
def test_nan_stays_and_is_not_counted(method):
    p = np.array([math.nan, 0.01, 0.04, math.nan, 0.03])
    adjusted = adjust(p, method)
    assert np.isnan(adjusted[[0, 3]]).all()
    assert adjusted[[1, 2, 4]].tolist() == adjust(p[[1, 2, 4]], method).tolist()
    assert np.isnan(adjust([math.nan], method)).all()
    assert p[1] == 0.01


def test_by_hand():
    assert adjust([0.01, 0.04, 0.03], "holm") == pytest.approx([0.03, 0.06, 0.06])
    assert adjust([0.01, 0.04, 0.03], "bh") == pytest.approx([0.03, 0.04, 0.04])


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"\['holm', 'bh'\], but is 'bonferroni'"):
        adjust([0.1], "bonferroni")
    with pytest.raises(ValueError, match=r"p\[1\] is 1\.5"):
        adjust([0.1, 1.5], "holm")
    with pytest.raises(ValueError, match=r"p\[0\] is -0\.1"):
        adjust([-0.1], "bh")
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        adjust([[0.1, 0.2]], "bh")
