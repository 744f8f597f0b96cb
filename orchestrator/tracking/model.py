"""A trial's weights as an MLflow model: a pyfunc flavour without pickle, which reads the checkpoint
next to it.

`mlflow.pyfunc.load_model("runs:/RUN/model").predict(images)` takes prepared images [B, 1, X, Y, Z]
(see `medvision.data.views`) and gives probabilities [B, G, X, Y, Z] of the label groups. It needs
this package installed and, for a model with a language-model block, the block at its source.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from record import paths
from record.damage import read_committed
from record.schema import Commit
from record.store import Store

if TYPE_CHECKING:
    import numpy as np

FOLDER = "model"
_WEIGHTS = "weights.safetensors"


def log_model(client: Any, run_id: str, store: Store, marker: Commit) -> None:
    """Put the finished trial's model into its run's artifacts, under `model`; a second time changes
    nothing.
    """
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from medvision.training.checkpoint import read_about

    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch, _WEIGHTS)
        weights.write_bytes(read_committed(store, marker, paths.WEIGHTS))
        about = read_about(weights)
        size = about.preparation.image_size
        images = TensorSpec(np.dtype("float32"), (-1, about.in_channels, *size))
        probabilities = TensorSpec(np.dtype("float32"), (-1, len(about.preparation.groups), *size))
        pyfunc.save_model(
            Path(scratch, FOLDER),
            loader_module=__name__,
            data_path=weights,
            signature=ModelSignature(inputs=Schema([images]), outputs=Schema([probabilities])),
            pip_requirements=["medvisionllama-ablation"],
            metadata={"task": about.task, "groups": list(about.preparation.groups)},
        )
        client.log_artifacts(run_id, Path(scratch, FOLDER), FOLDER)


class _Segmentation:
    """What MLflow calls `predict` of."""

    def __init__(self, path: Path) -> None:
        from medvision.training.checkpoint import load_checkpoint

        # MLflow's models run code by their nature: whoever loads one trusts it
        self.model, self.about = load_checkpoint(path, trust_code=True)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [B, G, X, Y, Z], of images, float32 [B, C, X, Y, Z]."""
        import torch

        from medvision.heads import probabilities

        with torch.no_grad():
            logits = self.model(torch.as_tensor(images))
        return probabilities(logits, self.about.output).numpy()


def _load_pyfunc(path: str) -> _Segmentation:
    """MLflow's entry: `path` is the checkpoint, or the folder that holds it."""
    found = Path(path)
    return _Segmentation(found / _WEIGHTS if found.is_dir() else found)
