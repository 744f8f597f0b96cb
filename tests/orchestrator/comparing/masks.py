"""Small truths and masks of two tools, as arrays and as files."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

CASES, SHAPE, SPACING = 8, (12, 11, 10), (1.0, 1.5, 2.0)
Masks = dict[str, np.ndarray]


def truths(cases: int = CASES) -> Masks:
    """Balls with a core: labels 1 and 2."""
    rng = np.random.default_rng(0)
    made = {}
    for case in range(cases):
        centre = rng.uniform(0.4, 0.6, 3) * SHAPE
        distance = np.linalg.norm(np.stack(np.indices(SHAPE), -1) - centre, axis=-1)
        made[f"c{case}"] = (distance < 4).astype(np.uint8) + (distance < 2)
    return made


def moved(of: Masks, voxels: int, axis: int = 0) -> Masks:
    return {case: np.roll(mask, voxels, axis) for case, mask in of.items()}


def written(folder: Path, masks: Masks, move: float = 0.0) -> Path:
    """As NIfTI files; `move`: mm that their affine is off."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING, 1.0])
    affine[0, 3] = move
    for case, mask in masks.items():
        nibabel.save(nibabel.Nifti1Image(mask, affine), folder / f"{case}.nii.gz")
    return folder
