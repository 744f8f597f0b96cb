"""The rules that claims are judged by: each returns evidence from the rows, or says why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.overview import last_validation
from reports.scores import common_tasks, matrix
from reports.statistics import Interval, mean_difference, paired_wilcoxon

ALPHA = 0.05
CONVERGED = 0.95  # a curve has converged at the first epoch with this share of the baseline's best validation Dice
Claim = Mapping[str, Any]


class UntestableError(ValueError):
    """The study lacks what the claim needs; the message says what."""


@dataclass(frozen=True)
class Evidence:
    """`agrees` with the claim, True or False, or None where the rows leave it open; `rule` says how that was decided."""

    agrees: bool | None
    text: str
    rule: str


@dataclass(frozen=True)
class Study:
    """What the rules see: the plan, models' settings, the recipe, trained parameters, table 1 and the scores."""

    plan: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    recipe: Mapping[str, Any]
    trained: Mapping[str, int]
    table: pd.DataFrame
    scores: pd.DataFrame
    means: pd.DataFrame
    history: pd.DataFrame
    focus: pd.DataFrame  # columns model, task, case, stage, focus

    def named(self, label: str) -> str | None:
        """The first model with this label, else with this name."""
        labelled = [name for name in self.plan["models"] if self.settings.get(name, {}).get("label") == label]
        return next(iter([*labelled, *(name for name in self.plan["models"] if name == label)]), None)

    def model(self, label: str) -> str:
        """`named`, or UntestableError."""
        if (name := self.named(label)) is None:
            raise UntestableError(f"no {label} in the study")
        return name

    def modality(self, task: str) -> str | None:
        """`MRI`, `CT` or None where the plan does not say."""
        return self.plan.get("modalities", {}).get(task)

    def info(self, metric: str) -> Mapping[str, Any]:
        """Title and direction of a metric."""
        return self.plan["metrics"][metric]  # type: ignore[no-any-return]


def _models(claim: Claim, study: Study) -> tuple[str, str]:
    return study.model(claim["candidate"]), study.model(claim["baseline"])


def _rows(claim: Claim, study: Study) -> pd.DataFrame:
    """Rows of table 1 at the full data; every planned one must be complete."""
    candidate, baseline = _models(claim, study)
    table = study.table
    rows = table[
        (table["candidate"] == candidate) & (table["baseline"] == baseline) & (table["fraction"] == 1.0)
        & table["metric"].isin(claim["metrics"])
    ].drop_duplicates(["task", "metric"])  # fmt: skip
    if rows.empty:
        raise UntestableError(f"{candidate} is not compared with {baseline} on the full data")
    if missing := int(rows["verdict"].str.startswith("incomplete").sum()):
        raise UntestableError(f"{missing} of {len(rows)} comparisons are incomplete")
    return rows


def _better(claim: Claim, study: Study) -> Evidence:
    rows = _rows(claim, study)
    count = int((rows["better"] == rows["candidate"]).sum())
    agrees = count >= claim["least"] * len(rows) / claim["of"]
    return Evidence(agrees, f"better in {count} of {len(rows)}", f"claimed: {claim['least']} of {claim['of']}")


def _significant(claim: Claim, study: Study) -> Evidence:
    rows = _rows(claim, study)
    won = rows[rows["better"] == rows["candidate"]]
    tested = won[won["verdict"].isin(["significant", "not significant"])]
    raw, holm, bh = (int((tested[name] < ALPHA).sum()) for name in ("p", "p_holm", "p_bh"))
    untestable = int((rows["verdict"] == "not testable").sum())
    text = f"better with p < 0.05 in {raw} of {len(rows)} raw, {holm} Holm, {bh} BH; {untestable} not testable"
    agrees = raw >= claim["least"] * len(rows) / claim["of"]
    return Evidence(agrees, text, f"claimed: {claim['least']} of {claim['of']}, counted as the paper does, by raw p")


def _task_values(claim: Claim, study: Study, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Means per task of candidate and baseline at the full data."""
    candidate, baseline = _models(claim, study)
    if metric not in study.means:
        raise UntestableError(f"{metric} was not scored")
    values = matrix(study.means, [candidate, baseline], 1.0, metric)
    planned = list(study.plan["tasks"])
    if modality := claim.get("modality"):
        planned = [task for task in planned if study.modality(task) == modality]
        values = values[values.index.isin(planned)]
        if not planned:
            raise UntestableError(f"no {modality} task in the study")
    if len(values) < len(planned):
        raise UntestableError(
            f"{candidate} and {baseline} have finished {len(values)} of {len(planned)} tasks on the full data"
        )
    return values[candidate].to_numpy(dtype=float), values[baseline].to_numpy(dtype=float)


def _interval(x: np.ndarray, y: np.ndarray) -> Interval:
    """Mean difference over tasks with its BCa 95 % interval; infinite bounds for one task."""
    return mean_difference(x, y)


def _at_least(interval: Interval, claimed: float) -> bool | None:
    """Is the effect there and as large as claimed? None where the interval leaves it open."""
    if interval.high < claimed or interval.high <= 0:
        return False
    return True if interval.low > 0 else None


def _shown(interval: Interval, digits: int = 3) -> str:
    bounds = f" [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]" if np.isfinite(interval.low) else ""
    return f"{interval.estimate:+.{digits}f}{bounds} over {interval.n} tasks"


def _change(claim: Claim, study: Study) -> Evidence:
    metric = claim["metric"]
    x, y = _task_values(claim, study, metric)
    sign = 1 if study.info(metric)["higher_is_better"] else -1
    claimed = abs(claim["percent"]) / 100 * float(y.mean())
    interval = _interval(sign * x, sign * y)
    change = 100 * (x.mean() - y.mean()) / y.mean() if y.mean() else np.nan
    text = f"{y.mean():.3f} to {x.mean():.3f} ({change:+.1f} %); gain {_shown(interval)}"
    rule = f"the 95 % interval of the gain must lie above 0 and reach {claimed:.3f} ({abs(claim['percent']):g} %)"
    return Evidence(_at_least(interval, claimed), text, rule)


def _better_mean(claim: Claim, study: Study) -> Evidence:
    metric = claim["metric"]
    x, y = _task_values(claim, study, metric)
    sign = 1 if study.info(metric)["higher_is_better"] else -1
    interval = _interval(sign * x, sign * y)
    agrees = _at_least(interval, 0.0)
    text = f"{study.info(metric)['title']} {x.mean():.3f} against {y.mean():.3f}; gain {_shown(interval)}"
    rule = "the 95 % interval of the gain over tasks must lie above 0"
    if claim.get("fewer_trained"):
        candidate, baseline = _models(claim, study)
        fewer = study.trained.get(candidate, 0) < study.trained.get(baseline, 0)
        text += f"; {study.trained.get(candidate, 0):,} against {study.trained.get(baseline, 0):,} trained parameters"
        rule += ", with fewer trained parameters"
        agrees = agrees if fewer else False
    return Evidence(agrees, text, rule)


def _level(claim: Claim, study: Study) -> Evidence:
    model, metric = study.model(claim["candidate"]), claim["metric"]
    tasks = common_tasks(study.means, [model], 1.0)
    if len(tasks) < len(study.plan["tasks"]):
        raise UntestableError(f"{model} has finished {len(tasks)} of {len(study.plan['tasks'])} tasks on the full data")
    values = matrix(study.means, [model], 1.0, metric)[model].to_numpy(dtype=float)
    interval = _interval(values, np.zeros(len(values)))
    text = f"mean {values.mean():.3f}"
    if not np.isfinite(interval.low):
        return Evidence(None, text, "one task gives no interval")
    text += f" [{interval.low:.3f}, {interval.high:.3f}] over {len(values)} tasks"
    inside = interval.low - 0.005 <= claim["value"] <= interval.high + 0.005
    return Evidence(inside, text, f"the 95 % interval over tasks must hold {claim['value']:g} (rounded to two digits)")


def _few_shot(claim: Claim, study: Study) -> Evidence:
    candidate, baseline = _models(claim, study)
    last = last_validation(study.history)
    values = matrix(last, [candidate, baseline], claim["fraction"], "dice") if len(last) else last
    if len(values) < len(study.plan["tasks"]):
        raise UntestableError(
            f"{len(values)} of {len(study.plan['tasks'])} tasks have both curves at {claim['fraction']:.0%} data"
        )
    x, y = values[candidate].to_numpy(dtype=float), values[baseline].to_numpy(dtype=float)
    interval = _interval(x, y)
    text = f"validation Dice {x.mean():.3f} against {y.mean():.3f}; gap {_shown(interval)}"
    rule = f"the 95 % interval of the gap must lie above 0 and reach {claim['gap']:g}"
    return Evidence(_at_least(interval, claim["gap"]), text, rule)


def _convergence(claim: Claim, study: Study) -> Evidence:
    candidate, baseline = _models(claim, study)
    curves = study.history
    if curves.empty:
        raise UntestableError("no training histories")
    curves = curves[
        (curves["split"] == "val") & (curves["metric"] == "dice") & (curves["fraction"] == claim["fraction"])
    ]
    mean = curves.groupby(["task", "model", "epoch"], observed=True)["value"].mean()
    x, y = [], []
    for task in study.plan["tasks"]:
        try:
            ours, theirs = mean.loc[task, candidate], mean.loc[task, baseline]
        except KeyError:
            continue
        level = CONVERGED * theirs.max()
        x.append(_first(ours, level))
        y.append(_first(theirs, level))
    if len(x) < len(study.plan["tasks"]):
        raise UntestableError(
            f"{len(x)} of {len(study.plan['tasks'])} tasks have both curves at {claim['fraction']:.0%} data"
        )
    interval = _interval(np.array(y), np.array(x))
    text = f"epoch {np.mean(x):.1f} against {np.mean(y):.1f}; earlier by {_shown(interval, 1)}"
    rule = f"first epoch at {CONVERGED:.0%} of the baseline's best validation Dice; the 95 % interval must lie above 0"
    return Evidence(_at_least(interval, 0.0), text, rule)


def _first(curve: pd.Series, level: float) -> float:
    """First epoch at or above a level; one past the last where it is never reached."""
    reached = curve[curve >= level]
    return float(reached.index[0]) if len(reached) else float(curve.index[-1]) + 1


def _focus(claim: Claim, study: Study) -> Evidence:
    candidate, baseline = _models(claim, study)
    here = study.focus[study.focus["stage"] == claim["stage"]] if len(study.focus) else study.focus
    wide = here.pivot_table(index=["task", "case"], columns="model", values="focus") if len(here) else pd.DataFrame()
    if candidate not in wide or baseline not in wide:
        raise UntestableError("no activations were saved for both models")
    pairs = wide[[candidate, baseline]].dropna()
    test = paired_wilcoxon(pairs[candidate].to_numpy(), pairs[baseline].to_numpy())
    if test.p_floor >= ALPHA:
        raise UntestableError(f"{len(pairs)} cases with activations are too few for a test")
    gain = float((pairs[candidate] - pairs[baseline]).mean())
    text = f"focus {pairs[candidate].mean():.3f} against {pairs[baseline].mean():.3f} over {len(pairs)} cases, p = {test.p:.2g}"
    rule = "focus: mean activation inside the structure over the mean everywhere; larger with p < 0.05"
    return Evidence(gain > 0 and test.p < ALPHA, text, rule)


def _no_difference(claim: Claim, study: Study) -> Evidence:
    x, y = _task_values(claim, study, claim["metric"])
    test = paired_wilcoxon(x, y)
    if test.p_floor >= ALPHA:
        raise UntestableError(f"{len(x)} tasks are too few for a test (smallest attainable p {test.p_floor:.3g})")
    text = f"difference {_shown(_interval(x, y))}, p = {test.p:.2g}"
    return Evidence(
        test.p > ALPHA, text, "Wilcoxon test over tasks with p > 0.05, as the paper argues; this is not equality"
    )


def _best_rank(claim: Claim, study: Study) -> Evidence:
    ranks = {
        name: int(study.settings[name]["lora"]["rank"])
        for name in study.plan["models"]
        if study.settings.get(name, {}).get("label") == claim["candidate"]
        and study.settings[name].get("mapper") == "lora"
    }
    if len(set(ranks.values())) < 2 or claim["rank"] not in ranks.values():
        raise UntestableError(f"the study does not compare rank {claim['rank']} with another rank")
    names: Sequence[str] = list(ranks)
    values = matrix(study.means, names, 1.0, claim["metric"])
    if len(values) < len(study.plan["tasks"]):
        raise UntestableError(
            f"all ranks have finished {len(values)} of {len(study.plan['tasks'])} tasks on the full data"
        )
    means = values.mean()
    text = ", ".join(f"rank {ranks[name]}: {means[name]:.3f}" for name in sorted(names, key=lambda name: ranks[name]))
    return Evidence(
        ranks[str(means.idxmax())] == claim["rank"], text, f"rank {claim['rank']} must have the highest mean over tasks"
    )


RULES: dict[str, Callable[[Claim, Study], Evidence]] = {
    "better": _better,
    "significant": _significant,
    "change": _change,
    "better-mean": _better_mean,
    "level": _level,
    "few-shot": _few_shot,
    "convergence": _convergence,
    "focus": _focus,
    "no-difference": _no_difference,
    "best-rank": _best_rank,
}
