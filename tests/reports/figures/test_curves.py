"""Training curves over tasks: a task that trains for fewer epochs makes no jump in their mean."""

from __future__ import annotations

import pandas as pd
import pytest

from reports.figures.curves import over_tasks, training_curves
from tests.record.builders import study_plan

PLACE = {"model": "m", "fraction": 1.0, "split": "val", "metric": "dice"}


def curve(task: str, epochs: int, last: int | None = None, **given: object) -> list[dict]:
    """A straight rise to the task's level at the end of `epochs`, seen up to epoch `last`."""
    level = {"A": 0.9, "B": 0.3}[task]
    return [
        {**PLACE, "task": task, "epoch": epoch, "value": level * epoch / epochs, **given}
        for epoch in range(1, (last or epochs) + 1)
    ]


def mean_of(rows: list[dict]) -> tuple[pd.Series, bool]:
    shown, shares = over_tasks(pd.DataFrame(rows))
    return shown.groupby("epoch")["value"].mean(), shares


def test_tasks_of_different_lengths_are_averaged_at_the_same_share_of_their_epochs() -> None:
    mean, shares = mean_of(curve("A", 12) + curve("B", 5))
    assert shares
    assert mean.index[0] == 20  # the first epoch of the shorter one
    assert mean.index[-1] == 100
    assert mean.to_list() == pytest.approx([0.6 * share / 100 for share in mean.index])


def test_tasks_of_one_length_keep_their_epochs_and_end_with_the_shortest_curve_of_a_model() -> None:
    rows = curve("A", 6) + curve("B", 6, last=4) + curve("B", 6, model="other")
    shown, shares = over_tasks(pd.DataFrame(rows))
    assert not shares
    ends = shown.groupby(["model", "task"])["epoch"].max().to_dict()
    assert ends == {("m", "A"): 4, ("m", "B"): 4, ("other", "B"): 6}
    of_m = shown[shown["model"] == "m"].groupby("epoch")["value"].mean()
    assert of_m.to_list() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_the_caption_says_what_is_averaged() -> None:
    plan = study_plan(models=["m"], tasks=["A", "B"])
    for other, said in ((5, "at the same share of each task's epochs"), (12, "mean over 2 tasks,")):
        history = pd.DataFrame(curve("A", 12) + curve("B", other)).assign(fold=0, seed=0)
        caption = training_curves(history, plan)[0].caption
        assert said in caption
        assert "as far as all of them have values" in caption
        assert ("share" in caption) is (other == 5)


def test_a_model_without_every_task_is_not_drawn_in_the_mean_and_named() -> None:
    plan = study_plan(models=["m", "other"], tasks=["A", "B"])
    rows = curve("A", 6) + curve("B", 6) + curve("A", 6, model="other")
    figures = training_curves(pd.DataFrame(rows).assign(fold=0, seed=0), plan)
    assert [figure.name for figure in figures] == [
        "training_curves",
        "training_curves_A",
        "training_curves_B",
    ]
    assert "(not drawn where a task has none yet: other)" in figures[0].caption
    nobody = curve("A", 6) + curve("B", 6, model="other")
    figures = training_curves(pd.DataFrame(nobody).assign(fold=0, seed=0), plan)
    assert [figure.name for figure in figures] == ["training_curves_A", "training_curves_B"]
