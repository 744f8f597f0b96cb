"""How a run ended, counted from what is stored."""

from __future__ import annotations

from orchestrator.planning.retry import State, trial_states
from record import paths
from record.events import Ended
from record.study import StoredStudy


def ending(code: int, study: StoredStudy, max_attempts: int) -> Ended:
    """The last event of a run that came to its report.

    Args:
        code: the command's exit code.
        study: as it is now.
        max_attempts: failed attempts until a trial is quarantined.
    """
    whole = study.finished
    states = trial_states(
        study.plan.trials, whole.commits, study.failures, {}, max_attempts, whole.damaged
    )
    counts = {state.value: list(states.values()).count(state) for state in State}
    return Ended(
        code,
        "incomplete" if code else "complete",
        len(study.plan.trials),
        {state: count for state, count in counts.items() if count},
        f"{study.store.uri}/{paths.report(paths.HTML)}",
    )
