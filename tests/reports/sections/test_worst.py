"""The table of the worst cases."""

from __future__ import annotations

import pandas as pd

from reports.sections.worst import WORST, worst_section
from tests.reports.studies import plan


def behind(losses: list[float]) -> pd.DataFrame:
    """The rows of the candidate behind its baseline, where it differs by these."""
    scores = pd.DataFrame(
        {"model": model, "task": "T_1", "fraction": 1.0, "case": f"c{number}", "dice": dice}
        for number, loss in enumerate(losses)
        for model, dice in (("base", 0.5), ("cand", 0.5 + loss))
    )
    found = worst_section(scores, plan())
    assert found is not None
    return found.data[found.data["what"] == "behind base"]


def test_a_candidate_is_listed_where_it_is_behind_only() -> None:
    assert behind([0.2, 0.0, 0.1]).empty
    some = behind([0.2, -0.1, 0.0, -0.3])
    assert some["case"].tolist() == ["c3", "c1"]
    many = behind([-0.01 * number for number in range(1, 9)])
    assert many["case"].tolist() == ["c7", "c6", "c5", "c4", "c3"]
    assert len(many) == WORST
