"""Designs of a study as a table (terminal, Markdown, CSV, LaTeX) and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from medvision.metrics.definitions import METRICS
from orchestrator.planning.design import Alternative, Wanted
from reports.figures.canvas import new_figure
from reports.figures.curves import marker, style
from reports.figures.printing import finish
from reports.render.html import Figure
from reports.render.layout import Cell, Section, Table, number

NAME = "design"


@dataclass(frozen=True)
class Shown:
    """What the outputs say: `asked` the question, `source` where the components are from, in words
    that stand in each of them; `lanes` how many work at once.
    """

    study: str
    asked: str
    source: str
    lanes: int
    wanted: Wanted
    best: Alternative | None


def design_section(found: Sequence[Alternative], shown: Shown, notes: Sequence[str]) -> Section:
    """All designs as one table; the cheapest one that has the wanted power is bold."""
    header = ["Folds", "Seeds", "Cases", "Trials", "Power", *_sees(found)]
    header += [f"{_unit(found)}-hours", "Days", ""]
    table = Table(
        shown.asked,
        header,
        "r" * (len(header) - 1) + "l",
        [_cells(one, found, shown) for one in found],
        caption=" ".join([shown.source, *notes]),
        footer=_answer(found, shown),
    )
    return Section(NAME, "Design", [table], _data(found, shown), [shown.source, *notes])


def design_figure(found: Sequence[Alternative], shown: Shown) -> Figure:
    """Power against hours, a line for each number of folds (and of cases), a marker for each number
    of seeds.
    """
    figure, axes = new_figure(7.2, 4.6)
    axis = axes[0, 0]
    lines: dict[tuple[int, int], list[Alternative]] = {}
    for one in found:
        lines.setdefault((one.folds, sum(one.cases.values())), []).append(one)
    several = len({cases for _, cases in lines}) > 1
    for index, ((folds, cases), line) in enumerate(lines.items()):
        label = f"{folds} folds, {cases} cases" if several else f"{folds} folds"
        hours = [_hours(one, found) for one in line]
        axis.plot(
            hours,
            [one.power for one in line],
            label=label,
            marker=marker(index),
            markersize=4,
            **style(index),
        )
        for one, place in zip(line, hours, strict=True):
            axis.annotate(
                str(one.seeds),
                (place, one.power),
                textcoords="offset points",
                xytext=(0, 5),
                ha="center",
                fontsize=7,
            )
    axis.axhline(shown.wanted.power, color="0.4", linewidth=0.8, linestyle=":")
    if shown.best is not None:
        at, height = _hours(shown.best, found), shown.best.power
        circle = {"marker": "o", "markersize": 13, "fillstyle": "none", "color": "black"}
        axis.plot(at, height, **circle)
    axis.set_xscale("log")
    axis.set_ylim(0, 1.04)
    axis.set_xlabel(f"{_unit(found)}-hours")
    axis.set_ylabel("power")
    axis.set_title(f"{shown.asked}\n{shown.source}", fontsize=8, wrap=True)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
    caption = (
        f"{shown.asked}. {shown.source} Numbers at the points: seeds; dotted: the wanted power; "
        "circle: the cheapest design that has it."
    )
    return finish(figure, NAME, caption)


def _sees(found: Sequence[Alternative]) -> list[str]:
    """Headers of what the designs see: by the metric, each in its unit, where there are several."""
    metrics = [METRICS[name] for name in found[0].sees]
    if len(metrics) == 1:
        return ["Sees"]
    return [
        f"Sees, {one.title} [{one.unit}]" if one.unit else f"Sees, {one.title}" for one in metrics
    ]


def _unit(found: Sequence[Alternative]) -> str:
    return "GPU" if any(one.gpu_hours for one in found) else "core"


def _hours(one: Alternative, found: Sequence[Alternative]) -> float:
    return one.gpu_hours if _unit(found) == "GPU" else one.core_hours


def _cells(one: Alternative, found: Sequence[Alternative], shown: Shown) -> list[Cell]:
    best = one == shown.best
    enough = one.power >= shown.wanted.power
    hours, days = _hours(one, found), one.days
    return [
        number(one.folds, 0, best=best),
        number(one.seeds, 0, best=best),
        number(sum(one.cases.values()), 0),
        number(one.trials, 0),
        number(one.power, 2, best=best),
        *(number(seen, 4) for seen in one.sees.values()),
        number(hours, 1 if hours >= 1 else 3, best=best),
        number(days, 1 if days >= 1 else 3),
        Cell("cheapest" if best else "enough" if enough else ""),
    ]


def _answer(found: Sequence[Alternative], shown: Shown) -> str:
    best, wanted = shown.best, shown.wanted.power
    if best is None:
        most = max(found, key=lambda one: one.power)
        return (
            f"None of these designs has power {wanted:g}; the most is {most.power:.2f} with "
            f"{most.folds} folds{_repeats(most)} and {_seeds(most)}. More folds, seeds or cases "
            "(--folds, --seeds, --cases), or a larger difference, are needed."
        )
    lanes = f"{shown.lanes} lanes" if shown.lanes > 1 else "one lane"
    hours = _hours(best, found)
    return (
        f"Cheapest with power {wanted:g}: {best.folds} folds{_repeats(best)}, {_seeds(best)}, "
        f"{sum(best.cases.values())} cases: power {best.power:.2f}, {best.trials} trials, "
        f"{hours:,.{1 if hours >= 1 else 3}f} {_unit(found)}-hours, {best.days:,.2g} days on "
        f"{lanes}."
    )


def _repeats(one: Alternative) -> str:
    return f" in each of {one.repeats} repeats" if one.repeats > 1 else ""


def _seeds(one: Alternative) -> str:
    return f"{one.seeds} seed{'s' if one.seeds > 1 else ''}"


def _data(found: Sequence[Alternative], shown: Shown) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "folds": one.folds,
                "repeats": one.repeats,
                "seeds": one.seeds,
                "cases": sum(one.cases.values()),
                "trials": one.trials,
                "power": one.power,
                **{f"detectable_{metric}": seen for metric, seen in one.sees.items()},
                "gpu_hours": one.gpu_hours,
                "core_hours": one.core_hours,
                "lane_hours": one.lane_hours,
                "days": one.days,
                "lanes": shown.lanes,
                "enough": one.power >= shown.wanted.power,
                "cheapest": one == shown.best,
                "question": shown.asked,
                "source": shown.source,
            }
            for one in found
        ]
    )
