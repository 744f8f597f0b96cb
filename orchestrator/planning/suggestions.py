"""What a search tries next, which of its trials are hopeless, and which wins. Pure logic.

Optuna's TPE suggests, a median rule ends hopeless trials, and the highest validation Dice wins.
Everything follows from the spec and the trials so far, so that a search that was interrupted goes
on as if it had not been. Imports no torch and no Ray.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from typing import Any

from orchestrator.spec.search import Range, SearchSpec
from record.search import SearchTrial

STARTUP = 5  # complete trials before any is pruned, as in Optuna's MedianPruner
WARM_UP = 0.25  # share of a trial that is never pruned: schedules that warm up start slowly


def suggest(
    settings: SearchSpec, records: Sequence[SearchTrial], count: int
) -> list[dict[str, Any]]:
    """The next settings to try, by Optuna's TPE (Bergstra et al. 2011).

    The seed is that of the spec and of how many trials there were: every model starts from the same
    random suggestions.

    Args:
        records: all trials before, in their order.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {key: _distribution(settings.space[key]) for key in sorted(settings.space)}
    seed = hashlib.sha256(f"{settings.seed}\n{len(records)}".encode()).digest()
    sampler = optuna.samplers.TPESampler(seed=int.from_bytes(seed[:4], "big"))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    for record in records:
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[states[record.state]],
                value=record.value if record.state == "complete" else None,
                params=dict(record.settings),
                distributions=distributions,
                intermediate_values=dict(record.curve[-1:]),
            )
        )
    return [dict(study.ask(distributions).params) for _ in range(count)]


def medians(records: Sequence[SearchTrial]) -> list[tuple[int, float]]:
    """(steps, median over the complete trials of the best validation Dice until then); empty before
    `STARTUP` of them.

    A trial below the median is ended (the median rule of Golovin et al. 2017, Google Vizier,
    section 3.2.2).
    """
    curves = [record.curve for record in records if record.state == "complete"]
    if len(curves) < STARTUP:
        return []
    steps = sorted({step for curve in curves for step, _ in curve})
    return [
        (
            step,
            statistics.median(
                best for curve in curves if (best := best_until(curve, step)) is not None
            ),
        )
        for step in steps
        if step >= WARM_UP * steps[-1]
    ]


def best_until(curve: Sequence[Sequence[float]], step: float) -> float | None:
    """The highest value of a curve of (step, value) up to a step; None where it starts later."""
    return max((value for at, value in curve if at <= step), default=None)


def is_hopeless(curve: Sequence[Sequence[float]], limits: Sequence[Sequence[float]]) -> bool:
    """Whether a trial with this curve so far is to be ended; `limits` are `medians`."""
    if not curve:
        return False
    limit = [value for step, value in limits if step <= curve[-1][0]]
    return bool(limit) and max(value for _, value in curve) < limit[-1]


def winner(records: Sequence[SearchTrial]) -> SearchTrial | None:
    """The complete trial with the highest validation Dice, the earlier one of equals; None without
    any.
    """
    complete = [record for record in records if record.state == "complete"]
    return max(complete, key=lambda record: (record.value, -record.number), default=None)


def _distribution(values: Range) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if values.choices is not None:
        return CategoricalDistribution(values.choices)
    low, high = values.ends
    return (
        IntDistribution(low, high)
        if values.integers
        else FloatDistribution(low, high, log=values.log is not None)
    )
