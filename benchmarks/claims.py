"""How often claims agree where nothing differs: `python -m benchmarks.claims [--studies N]`.

Prints the table of docs/statistics.md, section "Claims in null studies". A null study scores models
that are all the same method: scores of every case, with effects of training set, training and case
and what is left, drawn anew for each model and task. A claim of a difference may agree in at most
2.5 % of them. `level` and `no-difference` claim that something is so and not that it differs: they
are asked about models just where the claim becomes false, 0.05 from the claimed mean, or 0.01 from
the other model. About ten minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.balanced import Design, p_values, squares
from record.arguments import whole
from record.command import begin_command
from record.schema import StudyPlan
from reports.sections.claim_rules import RULES
from reports.sections.claim_study import Study, UntestableError

Floats = NDArray[np.float64]

LUCK = 0.025
MODELS = ("candidate", "baseline", "rank 2", "rank 8", "off by 0.05", "off by 0.01")
OFF = np.array([0.0, 0.0, 0.0, 0.0, 0.05, 0.01])  # of the models' true Dice
METRICS = ("dice", "jaccard", "hd95", "specificity", "sensitivity", "nsd")
STAGE, FRACTION, EPOCHS = "decoder", 0.1, 30
LEVEL, SPREAD = 0.7, 0.03  # of the tasks' true scores
SHAPES = ("normal", "skewed", "rare failures")
# standard deviations of a Dice score: of training set, training, case and rest
EFFECTS: Mapping[str, tuple[float, float, float, float]] = {
    "cases only": (0.0, 0.0, 0.1, 0.05),
    "trainings": (0.0, 0.03, 0.1, 0.05),
    "training sets": (0.03, 0.02, 0.1, 0.05),
}
_COMPARED = MODELS[:2]
_PAIR = {"candidate": "candidate", "baseline": "baseline"}
CLAIMS: Mapping[str, Mapping[str, Any]] = {
    "better, all": {"rule": "better", "metrics": METRICS, "share": 1.0},
    "better, 54 of 60": {"rule": "better", "metrics": METRICS, "share": 54 / 60},
    "better, 49 of 60": {"rule": "better", "metrics": METRICS, "share": 49 / 60},
    "significant, 41 of 60": {"rule": "significant", "metrics": METRICS, "share": 41 / 60},
    "significant, 7 of 60": {"rule": "significant", "metrics": METRICS, "share": 7 / 60},
    "significant, half in Dice": {"rule": "significant", "metrics": ("dice",), "share": 1 / 2},
    "change": {"rule": "change", "metric": "dice", "percent": 17.6},
    "change, any": {"rule": "change", "metric": "hd95", "percent": -0.1},
    "better-mean": {"rule": "better-mean", "metric": "dice"},
    "few-shot": {"rule": "few-shot", "fraction": FRACTION, "gap": 0.001},
    "convergence": {"rule": "convergence", "fraction": FRACTION},
    "focus": {"rule": "focus", "stage": STAGE},
    "best-rank": {"rule": "best-rank", "metric": "dice", "rank": 4},
    "level": {"rule": "level", "metric": "dice", "value": LEVEL, "candidate": "off by 0.05"},
    "no-difference": {"rule": "no-difference", "metric": "dice", "candidate": "off by 0.01"},
}


class Truth(NamedTuple):
    """What null studies are drawn from. `tasks`, `design`: how many of each; `shape`: of effects;
    `effects`: of `EFFECTS`; `together`: correlation of a task's metrics;
    `gain`: of the candidate in everything, 0 in a null study."""

    tasks: int = 10
    design: Design = Design(5, 1, 6)
    shape: str = "normal"
    effects: str = "trainings"
    together: float = 0.9
    gain: float = 0.0


def drawn(rng: np.random.Generator, shape: str, size: Sequence[int]) -> Floats:
    """Numbers of mean 0 and deviation 1: normal, exponential to the left, or with a rare
    failure."""
    normal = rng.standard_normal(size)
    if shape == "normal":
        return normal
    if shape == "skewed":
        return 1 - rng.standard_exponential(size)
    failed = rng.random(size) < 0.05
    return (0.3 * normal - 4.0 * failed + 0.2) / 0.92


def scores(rng: np.random.Generator, truth: Truth) -> Floats:
    """Scores [models, tasks, metrics, folds, seeds, cases] around 0; each model is the same method,
    with effects of its own."""
    axes = (len(MODELS), truth.tasks, len(METRICS), *truth.design)
    # which of folds, seeds and cases an effect varies with
    parts = ((True, False, False), (True, True, False), (True, False, True), (True, True, True))
    total = np.zeros(axes)
    for size, varies in zip(EFFECTS[truth.effects], parts, strict=True):
        own = [n if is_own else 1 for n, is_own in zip(axes[3:], varies, strict=True)]
        common = drawn(rng, truth.shape, (*axes[:2], 1, *own))
        apart = drawn(rng, truth.shape, (*axes[:3], *own))
        total += size * (np.sqrt(truth.together) * common + np.sqrt(1 - truth.together) * apart)
    return total


def null_study(rng: np.random.Generator, truth: Truth) -> Study:
    """One null study."""
    found = scores(rng, truth) + LEVEL + SPREAD * rng.standard_normal((1, truth.tasks, 1, 1, 1, 1))
    found[:, :, 0] += OFF[:, None, None, None, None]
    found[0] += truth.gain * np.where(np.array(METRICS) == "hd95", -1, 1)[:, None, None, None]
    names = [f"T{number}" for number in range(truth.tasks)]
    plan = _plan(names)
    cells = {(model, task, share) for model in MODELS for task in names for share in plan.fractions}
    return Study(
        plan=plan,
        settings=plan.settings,
        recipes=[],
        trained={},
        table=_table(found, names, truth.design),
        scores=pd.DataFrame(),
        means=_means(found, names),
        history=_curves(rng, truth, names),
        focus=_focus(rng, truth, names),
        complete=cells,
        commits={},  # each fold is a training set
    )


def _plan(tasks: Sequence[str]) -> StudyPlan:
    def settings(name: str, rank: int) -> dict[str, Any]:
        return {"label": "LoRA", "name": name, "mapper": "lora", "lora": {"rank": rank}}

    ranks = {"candidate": 4, "rank 2": 2, "rank 8": 8}
    labels = {name: {"label": name} for name in MODELS}
    return StudyPlan.model_validate(
        {
            "name": "null",
            "models": MODELS,
            "tasks": tasks,
            "fractions": [FRACTION, 1.0],
            "both_empty": "exclude",
            "scoring": {"nsd": "surfel", "hd95": "voxel-max", "tolerances": {}},
            "comparisons": [],
            "trials": [],
            "metrics": {
                name: {"higher_is_better": name != "hd95", "unit": "", "title": name}
                for name in METRICS
            },
            "settings": labels | {name: settings(name, rank) for name, rank in ranks.items()},
        }
    )


def _means(found: Floats, tasks: Sequence[str]) -> pd.DataFrame:
    by_task = found.mean((3, 4, 5))  # [models, tasks, metrics]
    return pd.DataFrame(
        [
            {"model": model, "task": task, "fraction": 1.0}
            | dict(zip(METRICS, by_task[i, j], strict=True))
            for (i, model), (j, task) in itertools.product(enumerate(MODELS), enumerate(tasks))
        ]
    )


def _table(found: Floats, tasks: Sequence[str], design: Design) -> pd.DataFrame:
    """The columns of the significance table that rules read."""
    d = (found[0] - found[1]).reshape(-1, *found.shape[3:])
    signs = np.tile([-1.0 if name == "hd95" else 1.0 for name in METRICS], len(tasks))
    better = np.where(signs * d.mean((1, 2, 3)) > 0, "candidate", "baseline")
    p = p_values(squares(d), design)["methods"]
    table = pd.DataFrame(list(itertools.product(tasks, METRICS)), columns=["task", "metric"])
    return table.assign(
        candidate="candidate",
        baseline="baseline",
        fraction=1.0,
        verdict="not significant",
        better=better,
        favours=better,
        favours_cases=better,
        **dict.fromkeys(("p_cases", "p_methods", "p_holm", "p_bh"), p),
    )


def _curves(rng: np.random.Generator, truth: Truth, tasks: Sequence[str]) -> pd.DataFrame:
    """Validation Dice by epoch: to a plateau with the effects of training sets and trainings, at a
    pace of its own for each training, with the noise of few validation cases."""
    folds, seeds, each = truth.design
    of_set, of_training, _, rest = EFFECTS[truth.effects]
    size = (len(_COMPARED), len(tasks), folds, seeds)
    gain = truth.gain * np.array([1.0, 0.0])[:, None, None, None]
    level = gain + rng.uniform(0.5, 0.9, (1, len(tasks), 1, 1))
    level = level + of_set * drawn(rng, truth.shape, (*size[:3], 1))
    level = level + of_training * drawn(rng, truth.shape, size)
    pace = 4.0 * np.exp(0.3 * rng.standard_normal(size) - 5 * gain)
    epochs = np.arange(1, EPOCHS + 1)
    dice = level[..., None] * (1 - np.exp(-epochs / pace[..., None]))
    dice += rest / np.sqrt(each) * rng.standard_normal(dice.shape)
    index = pd.MultiIndex.from_product(
        [_COMPARED, tasks, range(folds), range(seeds), epochs],
        names=["model", "task", "fold", "seed", "epoch"],
    )
    return (
        pd.DataFrame({"value": dice.ravel()}, index=index)
        .reset_index()
        .assign(fraction=FRACTION, split="val", metric="dice")
    )


def _focus(rng: np.random.Generator, truth: Truth, tasks: Sequence[str]) -> pd.DataFrame:
    """Ratios, one training a task and model."""
    size = (len(_COMPARED), len(tasks), truth.design.each)
    values = 2 * np.exp(
        5 * truth.gain * np.array([1.0, 0.0])[:, None, None]
        + 0.3 * drawn(rng, truth.shape, (*size[:2], 1))
        + 0.2 * drawn(rng, truth.shape, size)
    )
    index = pd.MultiIndex.from_product(
        [_COMPARED, tasks, range(truth.design.each)], names=["model", "task", "case"]
    )
    return pd.DataFrame({"focus": values.ravel()}, index=index).reset_index().assign(stage=STAGE)


def answers(
    rng: np.random.Generator, truth: Truth, claims: Mapping[str, Mapping[str, Any]] = CLAIMS
) -> dict[str, bool | None]:
    """Whether each claim agrees, disagrees or stays open in one null study."""
    study = null_study(rng, truth)
    return {name: _answer(_asked(about, truth.tasks), study) for name, about in claims.items()}


def _asked(about: Mapping[str, Any], tasks: int) -> dict[str, Any]:
    """A claim about so many tasks: of its rows, a share must count."""
    claim = {**_PAIR, **about}
    if "share" in claim:
        rows = tasks * len(claim["metrics"])
        claim |= {"of": rows, "least": math.ceil(claim["share"] * rows - 1e-9)}
    return claim


def _answer(claim: Mapping[str, Any], study: Study) -> bool | None:
    try:
        return RULES[claim["rule"]](claim, study).agrees
    except UntestableError:
        return None


def truths() -> Iterator[Truth]:
    """What is simulated: few and many tasks, all effects, all shapes."""
    for tasks, effects, shape in itertools.product((3, 4, 10), EFFECTS, SHAPES):
        yield Truth(tasks=tasks, effects=effects, shape=shape)


def main() -> None:
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=whole, default=200, help="of each kind (default 200)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print("Shares of null studies in which a claim agrees, and disagrees\n")
    names = [f"{truth.tasks} tasks, {truth.effects}, {truth.shape}" for truth in truths()]
    counted = {name: [] for name in CLAIMS}
    for truth in truths():
        found = [answers(rng, truth) for _ in range(options.studies)]
        for name in CLAIMS:
            given = [one[name] for one in found]
            shares = [np.mean([one is answer for one in given]) for answer in (True, False)]
            counted[name].append(shares)
    print("| claim | agrees, all | worst | disagrees, all | worst kind of study |")
    print("| --- | ---: | ---: | ---: | --- |")
    for name, shares in counted.items():
        agrees, disagrees = np.array(shares).T
        worst = int(agrees.argmax())
        print(
            f"| `{name}` | {agrees.mean():.3f} | {agrees[worst]:.3f} | {disagrees.mean():.3f} | "
            f"{names[worst]} |"
        )


if __name__ == "__main__":
    main()
