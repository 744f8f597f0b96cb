"""A finished study whose images, truths and masks are known voxel by voxel."""

from __future__ import annotations

import io
import json
from pathlib import Path

import nibabel
import numpy as np

from orchestrator.viewing.cases import StudyCases
from orchestrator.viewing.scenes import Scenes
from record import paths
from record.schema import Claim, Split, SplitFold, StudyFile
from record.store import Store
from record.study import StoredStudy
from record.tables import table_bytes
from tests.record.builders import commit, study_plan

TASK = "Task99_Boxes"
HOSTILE = "<img src=x onerror=alert(1)>'\"&"
CASES = ("good", "middling", HOSTILE)  # by Dice of the first model
SHAPE = (20, 16, 12)
BOX = (slice(2, 8), slice(4, 12), slice(3, 9))  # of the file: its x runs to the left
MODELS = ("exact", "nothing</script><b>", "untested")


def truth() -> np.ndarray:
    """Bool [X, Y, Z] as the file has it."""
    mask = np.zeros(SHAPE, bool)
    mask[BOX] = True
    return mask


def write_task(root: Path) -> None:
    folder, affine = root / TASK, np.diag([-1.0, 1.0, 2.0, 1.0])
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    training = []
    noise = np.random.default_rng(0).uniform(0, 5, SHAPE)
    image = (10 * np.arange(SHAPE[0])[:, None, None] + noise).astype(np.float32)
    for case in CASES:
        file = f"{case}.nii.gz"
        for name, voxels in (("imagesTr", image), ("labelsTr", truth().astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / name / file)
        training.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    (folder / "dataset.json").write_text(json.dumps({"name": TASK, "training": training}))


def finished_study(root: Path) -> Store:
    """`exact` finds the box, the second model nothing; the third has no finished trial."""
    write_task(root / "data")
    store = Store(str(root / "runs" / "boxes"))
    trials = [
        {"model": model, "task": TASK, "train_id": f"t{n}", "eval_id": f"e{n}"}
        for n, model in enumerate(MODELS)
    ]
    metrics = {"dice": {"title": "Dice"}}
    store.save(
        paths.PLAN,
        study_plan(
            name="boxes</title>", models=list(MODELS), tasks=[TASK], trials=trials, metrics=metrics
        ),
    )
    spec = {"name": "boxes", "models": ["ViT_Baseline"], "tasks": [TASK], "storage": str(root)}
    store.save(paths.STUDY, StudyFile(spec=spec, blocks={}, data_root=str(root / "data")))
    fold = SplitFold(test=list(CASES), order=[])
    store.save(paths.split(TASK), Split(cases=dict.fromkeys(CASES, "x"), folds=[fold]))
    for n, model in enumerate(MODELS[:2]):
        masks = {case: truth()[None] if n == 0 else np.zeros((1, *SHAPE), bool) for case in CASES}
        folder = f"trials/t{n}/token"
        files = {"cases": f"{folder}/cases.parquet", "masks": f"{folder}/masks.npz"}
        dice = dict(zip(CASES, (1.0, 0.9, 0.8) if n == 0 else (0.0,) * 3, strict=True))
        rows = [{"case": case, "group": "foreground", "dice": dice[case]} for case in CASES]
        store.write(files["cases"], table_bytes(rows))
        buffer = io.BytesIO()
        arrays = {f"bits/{case}": np.packbits(mask) for case, mask in masks.items()}
        arrays |= {f"shape/{case}": np.array(mask.shape) for case, mask in masks.items()}
        np.savez_compressed(buffer, **arrays)
        store.write(files["masks"], buffer.getvalue())
        store.save(paths.claim(f"t{n}"), Claim(token="token"))
        cell = {"model": model, "task": TASK}
        names = {"train_id": f"t{n}", "eval_id": f"e{n}", "files": files}
        store.commit(commit(**names, cell=cell))
    return store


def scenes_of(store: Store) -> Scenes:
    return Scenes(StudyCases(StoredStudy.opened(store)))
