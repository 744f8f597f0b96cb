"""Saved arrays and masks of a task whose models predict well, nothing and everything."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.image import imread

from record.schema import StudyPlan
from reports.render.html import Figure
from tests.record.builders import study_plan

SHAPE = (24, 20, 8)
MODELS = ("good", "nothing", "everything")
TASK = "Task04_Hippocampus"


def truth(groups: int) -> np.ndarray:
    """Boxes beside each other, bool [G, X, Y, Z]."""
    masks = np.zeros((groups, *SHAPE), dtype=bool)
    for index in range(groups):
        masks[index, 4 + 8 * index : 12 + 8 * index, 5:15, 2:6] = True
    return masks


def drawn(groups: int = 1, cases: int = 3) -> tuple[dict, dict, pd.DataFrame, StudyPlan]:
    """Arrays, masks, rows and plan: `good` misses one layer of voxels of the structure."""
    names = ["foreground"] if groups == 1 else [f"part{n}" for n in range(groups)]
    masks = truth(groups)
    nearly = masks.copy()
    nearly[:, :, 5, :] = False
    predicted = {
        "good": nearly,
        "nothing": np.zeros_like(masks),
        "everything": np.ones_like(masks),
    }
    ranks = dict(zip(("best", "median", "worst"), [0, min(cases - 1, 1), cases - 1], strict=True))
    arrays: dict[str, Any] = {"groups": np.array(names)}
    for rank, number in ranks.items():
        arrays |= {
            f"panel/{rank}/case": np.array(f"case{number}"),
            f"panel/{rank}/slice": np.array(3),
            f"panel/{rank}/spacing": np.array([1.0, 1.0, 2.0]),
            f"panel/{rank}/image": np.full(SHAPE[:2], 90, np.uint8),
            f"panel/{rank}/truth": masks.any(axis=0)[..., 3],
            f"panel/{rank}/truths": masks[..., 3],
            f"panel/{rank}/truth_voxels": masks.sum(axis=(1, 2, 3)),
        }
    arrays |= {
        "activation/case": np.array("case1"),
        "activation/slice": np.array(3),
        "activation/image": np.full((16, 16), 90, np.uint8),
        "activation/truth": np.pad(np.ones((6, 6), bool), 5),
    }
    rows, saved, kept = [], {}, {}
    for number, model in enumerate(MODELS):
        token = np.random.default_rng(number).random((4, 4)).astype(np.float16)
        level = {"good": token.repeat(4, 0).repeat(4, 1), "nothing": 0.0, "everything": 1.0}[model]
        stages = {f"activation/stage/{stage}": token for stage in ("encoder", "decoder")}
        output = np.broadcast_to(np.float16(level), (16, 16)).copy()
        saved[model, TASK] = arrays | stages | {"activation/stage/output": output}
        bits = np.packbits(predicted[model])
        kept[model, TASK] = {
            name: value
            for case in range(cases)
            for name, value in (
                (f"bits/case{case}", bits),
                (f"shape/case{case}", np.array(masks.shape)),
            )
        }
        both = 2.0 * (predicted[model] & masks).sum() / (predicted[model].sum() + masks.sum())
        for case in range(cases):
            cell = {"model": model, "task": TASK, "fraction": 1.0, "fold": 0, "seed": 0}
            rows += [{**cell, "case": f"case{case}", "group": name, "dice": both} for name in names]
    return saved, kept, pd.DataFrame(rows), study_plan(models=list(MODELS), tasks=[TASK])


def pixels(figure: Figure) -> np.ndarray:
    """The PNG as integers [height, width, 3]."""
    return np.round(255 * imread(io.BytesIO(figure.png))[..., :3]).astype(int)


def filled(picture: np.ndarray) -> np.ndarray:
    """Where a picture has the colour of a fill, orange or blue, over grey."""
    red, blue = picture[..., 0], picture[..., 2]
    return abs(red - blue) > 60


def columns(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """The picture's tiles by column, without the strip on the left that names the rows."""
    grey = (abs(picture - 90).max(axis=2) < 3) | filled(picture)
    used = np.flatnonzero(grey.any(axis=0))
    return np.array_split(picture[:, used[0] : used[-1] + 1], count, axis=1)
