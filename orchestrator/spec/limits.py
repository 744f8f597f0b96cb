"""The part of a spec that says how much a study may take."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from medvision.settings import Settings


class LimitsSpec(Settings):
    """What a study may take. At a limit the run stops as after Ctrl-C: running trials write their
    checkpoints, the report says what is missing, and a run with a higher limit goes on. The trials
    of a search do not count.
    """

    hours: PositiveFloat | None = Field(default=None, description="of one run, from its start")
    gpu_hours: PositiveFloat | None = Field(
        default=None,
        description="of all runs together, also of attempts that failed or were interrupted",
    )
    cost_per_gpu_hour: NonNegativeFloat | None = Field(
        default=None,
        description="any currency; the message at the limit then says the money, too",
    )
    plan: Literal["trim", "refuse"] = Field(
        default="trim",
        description="where the estimate is above what is left: trim starts all the same and stops "
        "at the limit, refuse starts nothing",
    )
