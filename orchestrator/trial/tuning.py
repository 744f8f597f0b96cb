"""One trial of a search: train on the search's cases, record the validation Dice, test nothing.

A trial below the median of those before it is ended at the end of an epoch, which counts as a
normal end: only a search may do so, because no test of the report is computed from its trials.
"""

from __future__ import annotations

import time
from dataclasses import replace

from medvision.training.ranks import Ranks
from medvision.training.state import unpacked
from medvision.training.watch import Interrupted, Watch
from orchestrator.planning.suggestions import is_hopeless
from orchestrator.trial.context import TrialContext, checkpoints_of, train_model
from record import paths
from record.events import Emit, Epoch, Outcome
from record.search import SearchTrial


def run_tuning(context: TrialContext, ranks: Ranks, emit: Emit, watch: Watch) -> Outcome | None:
    """Run one trial of a search to its record; rank 0 returns its seconds and validation Dice, the
    others None.

    Raises:
        Interrupted: `watch.stop` asked for it; what was trained is in the checkpoint.
        FencedError: another attempt holds the claim; nothing is recorded.
    """
    job, tuning, started = context.job, context.job.tuning, time.perf_counter()
    assert tuning is not None  # noqa: S101  # the caller's choice
    recipe, cases = context.spec.training, len(context.roles.train)
    total, per_epoch = recipe.total_steps(cases), recipe.steps_per_epoch(cases)
    # Rank 0 decides; a resumed trial knows what it did before.
    before = (unpacked(checkpoints_of(context, ranks).load()) if ranks.rank == 0 else None) or {}
    dice: list[float] = [metrics["val_dice"] for metrics in before.get("history", ())]

    def curve() -> list[tuple[int, float]]:
        return [(min(epoch * per_epoch, total), value) for epoch, value in enumerate(dice, start=1)]

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        dice.append(metrics["val_dice"])
        emit(Epoch(job.title, job.eval_id, epoch, metrics, recipe.total_epochs(cases)))

    def hopeless() -> bool:
        return is_hopeless(curve(), tuning.medians)

    try:
        _, trained = train_model(
            context, ranks, replace(watch, stop=lambda: watch.stop() or hopeless()), on_epoch
        )
        state, value = "complete", trained.history[trained.epoch - 1]["val_dice"]
    except Interrupted:
        if not ranks.any(hopeless()):
            raise
        state, value = "pruned", max(dice, default=0.0)
    if ranks.rank:
        return None
    seconds = before.get("spent", {}).get("seconds", 0.0) + time.perf_counter() - started
    context.store.require_claim(job.train_id, job.token)
    if context.store.read(job.record) is None:  # the first record stays
        space = context.spec.search.space  # type: ignore[union-attr]
        own = {key: setting for key, setting in job.settings.items() if key in space}
        record = SearchTrial(
            number=tuning.number,
            settings=own,
            state=state,
            value=value,
            curve=curve(),
            seconds=seconds,
        )
        context.store.save(job.record, record)
    # No later run would: `Study.tidy` only knows the grid's trials.
    context.store.remove(paths.checkpoints(job.train_id))
    return Outcome(seconds, value, state == "pruned")
