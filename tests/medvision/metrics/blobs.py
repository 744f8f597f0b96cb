"""Random pairs of masks, by seed, and how panoptica counts their lesions.

`panoptica.json` beside holds its counts, made in an environment of its own, because it needs an
older pandas than ours (`pip install panoptica==2.1.7`):

    python -c "from tests.medvision.metrics import blobs; blobs.write_golden()"
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).with_name("panoptica.json")
SEEDS = 200
SHAPE = (24, 28, 32)
BLOBS = 8  # at most, of each mask


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a truth, bool [*SHAPE], of balls: the truth's, some of them lost, moved or
    made larger in the prediction, and some of its own.
    """
    rng = np.random.default_rng(seed)
    truth, prediction = np.zeros((2, *SHAPE), bool)
    for _ in range(rng.integers(BLOBS + 1)):
        middle, radius = rng.integers(0, SHAPE), rng.integers(2, 5)
        truth |= _ball(middle, radius)
        if rng.random() < 0.75:
            prediction |= _ball(middle + (rng.random(3) < 0.3), radius + rng.integers(-1, 2))
    for _ in range(rng.integers(3) if truth.any() else rng.integers(BLOBS + 1)):
        prediction |= _ball(rng.integers(0, SHAPE), rng.integers(1, 4))
    return prediction, truth


def _ball(middle: np.ndarray, radius: int) -> np.ndarray:
    distances = np.square(np.indices(SHAPE) - middle[:, None, None, None]).sum(0)
    return np.asarray(distances <= radius**2)


def digest(seeds: int = SEEDS) -> str:
    """Of all masks: another numpy may draw others from the same seeds."""
    found = hashlib.sha256()
    for seed in range(seeds):
        found.update(np.packbits(np.stack(pair(seed))).tobytes())
    return found.hexdigest()


def write_golden() -> None:
    """Writes what panoptica makes of the masks: per seed the numbers of predicted lesions, of true
    ones and of those that were found, and its recognition quality (F1), null without lesions.
    """
    from importlib.metadata import version

    from panoptica import ConnectedComponentsInstanceApproximator, InputType, NaiveThresholdMatching
    from panoptica import Panoptica_Evaluator as Evaluator
    from panoptica.metrics import Metric

    evaluator = Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(),
        instance_matcher=NaiveThresholdMatching(Metric.IOU, matching_threshold=0.5),
        instance_metrics=[Metric.IOU],
        global_metrics=[],
    )
    rows: list[list[Any]] = []
    for seed in range(SEEDS):
        masks = (mask.astype(np.uint8) for mask in pair(seed))
        found = evaluator.evaluate(*masks, verbose=False)["ungrouped"]
        counts = (found.n_pred_instances, found.n_ref_instances, found.tp)
        rows.append([*map(int, counts), None if np.isnan(found.rq) else float(found.rq)])
    values = {"panoptica": version("panoptica"), "masks": digest(), "rows": rows}
    lines = json.dumps(values).replace(", [", ",\n[")
    GOLDEN.write_text(f"{lines}\n")
