"""The part of a spec that says where results are shown while they come."""

from __future__ import annotations

from pydantic import Field

from medvision.settings import Settings
from orchestrator.spec.data import Place


class TrackingSpec(Settings):
    """MLflow, a view of the results. `uri: null` is MLFLOW_TRACKING_URI, or SQLite next to the
    studies.
    """

    enabled: bool = Field(default=True, description="false: no MLflow at all")
    uri: Place | None = Field(
        default=None, description="the tracking server or database; see docs/tracking.md"
    )
    log_model: bool = Field(
        default=False, description="also log every trial's weights, as an MLflow model"
    )
