"""What every command does first, before a library is loaded that would do otherwise."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping

from record.terminal import patient_output, plain_output

COLLECT_AFTER = 100_000  # new objects
# Hospital machines do not phone home. Ray's variable also ends its look-ups of cloud metadata.
NO_TELEMETRY = {
    "DO_NOT_TRACK": "true",  # https://donottrack.sh: MLflow, huggingface_hub and others heed it
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def begin_command() -> None:
    """Plain output where a terminal lacks characters, no end with the reader of a pipe, and no
    telemetry, of this process and of those that it starts. A variable that the user has set stays
    as it is.
    """
    # Python looks for cycles after every 700 new objects, all of them ever again: a third of the
    # time in which a plan of 10,000 trials is made, which has no cycles to find.
    gc.set_threshold(COLLECT_AFTER)
    patient_output()
    plain_output()
    default_variables(NO_TELEMETRY)


def default_variables(values: Mapping[str, str]) -> None:
    """Set variables of the environment, each unless it is set."""
    for name, value in values.items():
        os.environ.setdefault(name, value)
