"""Facts about the ten tasks of the Medical Segmentation Decathlon (MSD); imports nothing heavy.

Source: MSD's dataset.json files. The NSD tolerances are the challenge's as quoted from memory of Antonelli et al. 2022
(doi 10.1038/s41467-022-30695-9) and not verified against it: set `evaluation.tolerances` to use others.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskFacts:
    """`cases`: labelled cases; `tolerance_mm`: the challenge's NSD tolerance."""

    modality: str
    cases: int
    tolerance_mm: float


MSD_TASKS = {
    "Task01_BrainTumour": TaskFacts("MRI", 484, 5.0),
    "Task02_Heart": TaskFacts("MRI", 20, 4.0),
    "Task03_Liver": TaskFacts("CT", 131, 7.0),
    "Task04_Hippocampus": TaskFacts("MRI", 260, 1.0),
    "Task05_Prostate": TaskFacts("MRI", 32, 4.0),
    "Task06_Lung": TaskFacts("CT", 63, 2.0),
    "Task07_Pancreas": TaskFacts("CT", 281, 5.0),
    "Task08_HepaticVessel": TaskFacts("CT", 303, 3.0),
    "Task09_Spleen": TaskFacts("CT", 41, 3.0),
    "Task10_Colon": TaskFacts("CT", 126, 4.0),
}
DEFAULT_TOLERANCE_MM = 1.0


def tolerance_mm(task: str) -> float:
    """The challenge's NSD tolerance of a task; 1 mm for a task that is not one of the ten."""
    return MSD_TASKS[task].tolerance_mm if task in MSD_TASKS else DEFAULT_TOLERANCE_MM
