"""Facts about the ten tasks of the Medical Segmentation Decathlon (MSD); imports nothing heavy.

Source: MSD's dataset.json files. The NSD tolerances are the challenge's as quoted from memory of
Antonelli et al. 2022 (doi 10.1038/s41467-022-30695-9) and not verified against it: set
`evaluation.tolerances` to use others. Some sizes of archives are from memory, too; they only decide
how much free disk is asked for before a server gives the real size.
"""

from __future__ import annotations

from dataclasses import dataclass

ARCHIVE_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/{task}.tar"  # MONAI's mirror


@dataclass(frozen=True)
class TaskFacts:
    """`cases`: labelled cases; `tolerance_mm`: the challenge's NSD tolerance; `archive_gb`: size of
    the archive in GB, rounded; `md5`: of the archive, as in MONAI 1.6.1
    (`monai/apps/datasets.py`)."""

    modality: str
    cases: int
    tolerance_mm: float
    archive_gb: float
    md5: str


MSD_TASKS = {
    "Task01_BrainTumour": TaskFacts("MRI", 484, 5.0, 7.09, "240a19d752f0d9e9101544901065d872"),
    "Task02_Heart": TaskFacts("MRI", 20, 4.0, 0.435, "06ee59366e1e5124267b774dbd654057"),
    "Task03_Liver": TaskFacts("CT", 131, 7.0, 26.9, "a90ec6c4aa7f6a3d087205e23d4e6397"),
    "Task04_Hippocampus": TaskFacts("MRI", 260, 1.0, 0.0271, "9d24dba78a72977dbd1d2e110310f31b"),
    "Task05_Prostate": TaskFacts("MRI", 32, 4.0, 0.229, "35138f08b1efaef89d7424d2bcc928db"),
    "Task06_Lung": TaskFacts("CT", 63, 2.0, 8.5, "8afd997733c7fc0432f71255ba4e52dc"),
    "Task07_Pancreas": TaskFacts("CT", 281, 5.0, 11.4, "4f7080cfca169fa8066d17ce6eb061e4"),
    "Task08_HepaticVessel": TaskFacts("CT", 303, 3.0, 8.7, "641d79e80ec66453921d997fbf12a29c"),
    "Task09_Spleen": TaskFacts("CT", 41, 3.0, 1.50, "410d4a301da4e5b2f6f86ec3ddba524e"),
    "Task10_Colon": TaskFacts("CT", 126, 4.0, 5.8, "bad7a188931dc2f6acf72b08eb6202d0"),
}
DEFAULT_TOLERANCE_MM = 1.0


def tolerance_mm(task: str) -> float:
    """The challenge's NSD tolerance of a task; 1 mm for a task that is not one of the ten."""
    return MSD_TASKS[task].tolerance_mm if task in MSD_TASKS else DEFAULT_TOLERANCE_MM
