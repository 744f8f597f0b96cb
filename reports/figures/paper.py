"""The paper's figures by name, each at the width of a column and of a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from record.schema import StudyPlan
from reports.figures.activations import activation_figures
from reports.figures.few_shot import few_shot_figures
from reports.figures.qualitative import qualitative_figures
from reports.figures.saved import Saved
from reports.figures.widths import WIDTHS
from reports.render.html import Figure


@dataclass(frozen=True)
class Drawn:
    """What the figures are drawn from: rows of every test case and epoch, the arrays and masks of
    the first fold and seed.
    """

    plan: StudyPlan
    rows: pd.DataFrame
    history: pd.DataFrame
    arrays: Saved
    masks: Saved


# A name, and what draws it at one width; a study that cannot fill a figure gives none.
FIGURES: dict[str, Callable[[Drawn, str], list[Figure]]] = {
    "few-shot": lambda of, width: few_shot_figures(of.history, of.plan, width),
    "activations": lambda of, width: activation_figures(of.arrays, of.plan, width),
    "qualitative": lambda of, width: qualitative_figures(
        of.arrays, of.masks, of.rows, of.plan, width
    ),
}


def paper_figures(of: Drawn, names: Sequence[str] = tuple(FIGURES)) -> list[Figure]:
    """Every figure of these names that the study can fill, at every width."""
    return [figure for name in names for width in WIDTHS for figure in FIGURES[name](of, width)]
