"""What protocol `patches` costs for the size of a task's volumes: windows of a case that is
segmented, and memory, out of what is remembered of each image's header.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from medvision.data.fingerprints import CaseIndex
from medvision.data.tiling import prediction_bytes, preparation_bytes, resampled_shape, windows
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.study import Spec


@dataclass(frozen=True)
class Volumes:
    """Of a task's cases in use, in the order of the files' axes.

    Attributes:
        windows: of a case, the mean.
        largest: voxels of the case with the most on the patches' grid.
        grid: its voxels there.
        preparing, segmenting: bytes that its arrays take then, beside the network's.
    """

    windows: float
    largest: tuple[int, ...]
    grid: tuple[int, ...]
    preparing: int
    segmenting: int


def volumes_of(
    spec: Spec, task: TaskSpec, cases: Sequence[CaseIndex], groups: int
) -> Volumes | None:
    """None of another protocol, or without a case."""
    if spec.data.protocol != "patches" or not cases:
        return None
    target = spec.data.spacing or [
        statistics.median(case.spacing[axis] for case in cases) for axis in range(3)
    ]
    size, overlap = spec.data.image_size, spec.evaluation.inference.overlap
    grids = {case.id: resampled_shape(case.shape, case.spacing, target) for case in cases}
    most = max(cases, key=lambda case: math.prod(grids[case.id]))
    channels = most.channels if task.channel == "all" else 1
    grid = grids[most.id]
    return Volumes(
        windows=statistics.fmean(windows(one, size, overlap) for one in grids.values()),
        largest=most.shape,
        grid=grid,
        preparing=preparation_bytes(most.shape, grid, channels),
        segmenting=prediction_bytes(most.shape, grid, channels, groups),
    )


def said(task: str, volumes: Volumes) -> str:
    """In a line of the plan."""
    shapes = ["x".join(map(str, shape)) for shape in (volumes.largest, volumes.grid)]
    return (
        f"{task}: {volumes.windows:.0f} windows a case on average; the largest ({shapes[0]} "
        f"voxels, {shapes[1]} as a network sees it) takes {volumes.preparing / 2**30:.1f} GiB to "
        f"prepare and {volumes.segmenting / 2**30:.1f} GiB to segment, beside the network; a "
        "training reads its patches out of a mapped file"
    )
