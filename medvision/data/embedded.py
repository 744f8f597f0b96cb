"""The quickstart's task: crops of one hemisphere of one group-average brain, written once in MSD
layout.

Source: the MNI152 2009a symmetric T1 template with its grey matter map, out of the `nilearn` wheel
(`medvision.assets`). The template is exactly left-right symmetric, so only one hemisphere is cut
up. The crops are no subjects: what is measured on them shows that the product works and says
nothing about patients.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from medvision.assets import fetch
from record.local_files import cache_root

TASK_NAME = "MNI152_GreyMatter"
TASK_CASES = 49
EDGE = 32
_LICENCE = (
    "BSD-3-Clause (nilearn); ICBM 152 nonlinear 2009a template, McConnell Brain Imaging Centre"
)


def embedded_root() -> Path:
    """Folder that holds the embedded task; it may not be written yet."""
    return cache_root() / "data"


def write_embedded_task() -> Path:
    """Write the task unless it is there, fetching the template if needed; returns the root of the
    data.

    49 non-overlapping crops of 32 x 32 x 32 voxels at 1 mm with more than 5 % grey matter; label 1
    is grey matter (probability of at least one half).

    Raises:
        medvision.assets.AssetError: the template cannot be fetched.
    """
    root = embedded_root()
    if (root / TASK_NAME / "dataset.json").is_file():
        return root
    import nibabel
    import numpy as np

    template = fetch("mni152")
    brain = nibabel.load(template / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    grey = nibabel.load(template / "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz")
    image = np.asanyarray(brain.dataobj)
    label = (np.asanyarray(grey.dataobj) >= 128).astype(
        np.uint8
    )  # the map stores probability x 255

    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".write-") as scratch:
        folder = Path(scratch) / TASK_NAME
        (folder / "imagesTr").mkdir(parents=True)
        (folder / "labelsTr").mkdir()
        names = []
        middle = image.shape[0] // 2  # the plane of symmetry; the crops stay on one side of it
        starts = [
            range(2, middle - EDGE + 1, EDGE),
            *(range(0, size - EDGE + 1, EDGE) for size in image.shape[1:]),
        ]
        for corner in ((x, y, z) for x in starts[0] for y in starts[1] for z in starts[2]):
            box = tuple(slice(start, start + EDGE) for start in corner)
            if label[box].mean() <= 0.05:
                continue
            affine = brain.affine.copy()
            affine[:3, 3] = brain.affine[:3, :3] @ corner + brain.affine[:3, 3]
            names.append("crop_{:03d}_{:03d}_{:03d}.nii.gz".format(*corner))
            nibabel.save(nibabel.Nifti1Image(image[box], affine), folder / "imagesTr" / names[-1])
            nibabel.save(nibabel.Nifti1Image(label[box], affine), folder / "labelsTr" / names[-1])
        description = {
            "name": TASK_NAME,
            "description": "Crops of one hemisphere of one group-average brain (MNI152 2009a): no "
            "subjects, no MSD scores",
            "licence": _LICENCE,
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "grey matter"},
            "numTraining": len(names),
            "training": [
                {"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names
            ],
        }
        (folder / "dataset.json").write_text(json.dumps(description, indent=1))
        try:
            os.replace(folder, root / TASK_NAME)
        except OSError:  # another process wrote it meanwhile, or an earlier one left it unfinished
            if not (root / TASK_NAME / "dataset.json").is_file():
                shutil.rmtree(root / TASK_NAME, ignore_errors=True)
                os.replace(folder, root / TASK_NAME)
    return root
