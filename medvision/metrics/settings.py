"""How a case is scored, as values. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from medvision.settings import NotInIds, Settings


class Scoring(Settings):
    """Definitions of the metrics and the cut of the probabilities (`medvision.metrics`)."""

    nsd: Literal["surfel", "voxel-max", "voxel-pooled"] = Field(
        default="surfel", description="definition of the NSD"
    )
    hd95: Literal["surfel", "voxel-max", "voxel-pooled"] = Field(
        default="voxel-max", description="definition of HD95, HD and ASSD"
    )
    tolerances: Annotated[
        Literal["msd"] | list[PositiveFloat], NotInIds("counted by the tolerances of each task")
    ] = Field(
        default="msd",
        description="NSD tolerances in mm, the first one is the tables'; msd: the challenge's per "
        "task",
    )
    strict_tolerance: bool = Field(
        default=False, description="d <= tolerance without the 1e-6 for float32 spacings"
    )
