"""A model's mask of a case: the one that was scored, where the study still has it, else one made
again from the kept weights, where that is wanted.
"""

from __future__ import annotations

import functools
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvision.data.readers.base import Case
from orchestrator.viewing.cases import StudyCases, Tested, kept_file
from record import paths
from reports.figures.saved import predicted_masks

KEPT = 16  # trials whose masks stay in memory, and cases predicted again
AGAIN = (
    "Predicted again on this machine from the kept weights: single voxels may differ from what was "
    "scored."
)


@dataclass(frozen=True)
class Prediction:
    """`masks`: bool [G, X, Y, Z] on the case's own grid, None where there are none; `warning`: why,
    or what is particular about them.
    """

    masks: np.ndarray | None
    warning: str = ""


class Predictions:
    """Masks of any model and case.

    Args:
        cases: the study's.
        again: make masks again that were not kept.
        trust_code: run the Python that the weights of a custom model carry.
    """

    def __init__(self, cases: StudyCases, *, again: bool = False, trust_code: bool = False) -> None:
        self.cases, self.again, self.trust_code = cases, again, trust_code
        self._saved = functools.lru_cache(KEPT)(self._read)
        self._made = functools.lru_cache(KEPT)(self._predicted)

    def of(self, tested: Tested, case: Case) -> Prediction:
        """The mask of a case that this trial tested."""
        try:
            saved = self._saved(tested.marker.eval_id)
            masks = predicted_masks(saved, case.id)
        except (ValueError, OSError, EOFError, KeyError):
            masks = None
        if masks is not None:
            return Prediction(masks)
        gone = "Its masks are not in the study any more (removed or damaged)"
        if kept_file(self.cases.study, tested.marker, paths.WEIGHTS) is None:
            return Prediction(None, f"{gone}, and neither are its weights: nothing to show.")
        if not self.again:
            return Prediction(
                None, f"{gone}; its weights are: `medvision view STUDY --predict` predicts again."
            )
        try:
            return Prediction(self._made(tested.marker.eval_id, case), AGAIN)
        except Exception as error:  # a block that is not here, or another machine's memory
            return Prediction(None, f"{gone}, and could not be predicted again: {error}")

    def _predicted(self, eval_id: str, case: Case) -> np.ndarray:
        weights = kept_file(self.cases.study, self.cases.commits[eval_id], paths.WEIGHTS)
        if weights is None:
            raise FileNotFoundError("its weights were removed meanwhile")
        return _predict(weights, case, trust_code=self.trust_code)

    def _read(self, eval_id: str) -> dict[str, np.ndarray]:
        marker = self.cases.commits[eval_id]
        content = kept_file(self.cases.study, marker, paths.MASKS)
        if content is None:
            return {}
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _predict(weights: bytes, case: Case, *, trust_code: bool) -> np.ndarray:
    """Masks bool [G, X, Y, Z] of a case, as a trial's evaluation makes them, on the CPU."""
    from medvision.data.nifti import open_volume
    from medvision.data.preprocess import prepare_image
    from medvision.device import usable_device
    from medvision.segmenter import segmented
    from medvision.training.checkpoint import load_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        path.write_bytes(weights)
        device = usable_device("cpu")
        model, about = load_checkpoint(path, device=device, trust_code=trust_code)
        inputs = prepare_image(list(case.images), about.preparation)
        voxel = open_volume(case.image).grid.voxel_mm3
        return segmented([([model], inputs)], about, voxel, device)
