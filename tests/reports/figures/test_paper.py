"""The paper's figures: named, at two widths, from the record alone, and readable in grey."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from record.schema import StudyPlan
from reports.figures.few_shot import COLOURS, few_shot_figures
from reports.figures.masks import STRUCTURES
from reports.figures.paper import FIGURES, Drawn, paper_figures
from reports.figures.saved import shown_models
from reports.figures.widths import DPI, WIDTHS
from tests.record.builders import study_plan
from tests.reports.figures.pictures import MODELS, columns, drawn, filled, pixels

TASKS = ("Task04_Hippocampus", "Task09_Spleen")


def history(models: tuple[str, ...] = MODELS[:2], lacking: str = "") -> pd.DataFrame:
    """Curves of two shares of the data; `lacking` has no validation case at the smaller one."""
    rows = []
    for model, task, fraction, fold, epoch in itertools.product(
        models, TASKS, (0.1, 1.0), (0, 1), range(1, 6)
    ):
        if fraction < 1 and task == lacking:
            continue
        cell = {"model": model, "task": task, "fraction": fraction, "fold": fold, "seed": 0}
        dice = epoch / 10 + 0.2 * fraction + 0.05 * fold
        for split, metric, value in (
            ("val", "dice", dice),
            ("val", "loss", 1.5 - dice),
            ("train", "loss", 1.0),
        ):
            rows.append(cell | {"epoch": epoch, "split": split, "metric": metric, "value": value})
    return pd.DataFrame(rows)


def plan(models: tuple[str, ...] = MODELS[:2]) -> StudyPlan:
    return study_plan(models=list(models), tasks=list(TASKS), fractions=[0.1, 1.0])


def test_every_figure_is_made_at_both_widths() -> None:
    arrays, masks, rows, of = drawn()
    of = study_plan(models=of.models, tasks=of.tasks, fractions=[0.1, 1.0])
    curves = history(MODELS)
    made = paper_figures(Drawn(of, rows, curves[curves["task"] == of.tasks[0]], arrays, masks))
    names = [
        f"paper_{name}_{width}"
        for name in ("few_shot", "activations", "qualitative")
        for width in WIDTHS
    ]
    assert [figure.name for figure in made] == names
    for figure in made:
        wide = imread(io.BytesIO(figure.png)).shape[1] / DPI
        assert wide == pytest.approx(WIDTHS[figure.name.rpartition("_")[2]], abs=0.02)
        assert figure.pdf.startswith(b"%PDF")
        assert (
            b"/Subtype /Image" not in figure.pdf or "few_shot" not in figure.name
        )  # curves are lines
    assert (
        paper_figures(Drawn(of, rows, curves, arrays, masks), ["qualitative"])[0].name == names[4]
    )
    assert set(FIGURES) == {"few-shot", "activations", "qualitative"}


def test_a_study_that_cannot_fill_a_figure_has_none() -> None:
    one = study_plan(models=list(MODELS), tasks=list(TASKS))
    assert few_shot_figures(history(), one, "page") == []
    assert few_shot_figures(history()[:0], plan(), "page") == []
    assert paper_figures(Drawn(one, pd.DataFrame(), history()[:0], {}, {})) == []


def test_the_few_shot_caption_says_what_the_lines_are_of() -> None:
    both = few_shot_figures(history(), plan(), "page")[0].caption
    assert "mean over 2 tasks" in both
    lacking = few_shot_figures(history(lacking=TASKS[1]), plan(), "page")[0].caption
    assert "Without validation curves of every model: 10%: Task09_Spleen." in lacking


def test_colours_differ_in_grey() -> None:
    """By Rec. 709's luminance, of neighbours that a figure shows together."""
    for colours in (COLOURS[:3], STRUCTURES[:3]):
        levels = [
            np.dot([int(colour[n : n + 2], 16) for n in (1, 3, 5)], [0.2126, 0.7152, 0.0722]) / 255
            for colour in colours
        ]
        assert min(abs(one - two) for one, two in itertools.combinations(levels, 2)) > 0.15


def test_the_papers_models_are_shown_where_a_study_has_them() -> None:
    of = study_plan(
        models=["a", "Ours", "ViT_Baseline", "x"],
        settings={"Ours": {"label": "MedVisionLlama"}},
        comparisons=[],
    )
    assert shown_models(of, of.models) == ["ViT_Baseline", "Ours"]
    pair = {"baseline": "x", "candidates": ["a"], "metrics": ["dice"], "family": []}
    other = study_plan(models=["a", "b", "x"], comparisons=[pair])
    assert shown_models(other, other.models) == ["x", "a"]
    assert shown_models(other, ["a"]) == ["a"]


def test_an_empty_prediction_fills_nothing_in_the_qualitative_figure() -> None:
    arrays, masks, rows, of = drawn()
    for name, model in (("nothing", "nothing"), ("everything", "everything")):
        one = study_plan(models=[model], tasks=of.tasks)
        made = paper_figures(Drawn(one, rows, pd.DataFrame(), arrays, masks), ["qualitative"])[1]
        picture = pixels(made)
        image, true, found = columns(picture[: int(0.85 * len(picture))], 3)  # no legend
        assert filled(image).mean() < 0.01  # of the next tile
        assert filled(true).mean() > 0.05
        count = filled(found).mean()
        assert (count == 0) if name == "nothing" else (count > 0.5), (name, count)
