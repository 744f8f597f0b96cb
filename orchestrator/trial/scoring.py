"""Scores of one trial's test cases, and the masks that they were made of."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from medvision.data.nifti import Truth
from medvision.evaluation import predict, score
from medvision.training.loop import Interrupted, Ranks, Watch
from orchestrator.trial.context import TrialContext


@dataclass(frozen=True)
class ScoredCase:
    """A test case: its predicted mask (bool [groups, X, Y, Z]) as `bits`, one a voxel, with its
    `shape`, and its rows of cases.parquet.
    """

    case: str
    bits: np.ndarray
    shape: tuple[int, ...]
    rows: list[dict[str, Any]]


def predict_and_score(
    context: TrialContext, model: nn.Module, ranks: Ranks, watch: Watch
) -> list[ScoredCase]:
    """This rank's share of the test cases.

    Raises:
        Interrupted: `watch.stop` said so.
    """
    scored = []
    for position in range(0, len(context.roles.test), ranks.world):
        watch.beat()
        if ranks.any(watch.stop()):
            raise Interrupted("stopped while predicting; the training is kept")
        if position + ranks.rank >= len(context.roles.test):
            break
        case = context.roles.test[position + ranks.rank]
        truth = context.truth(case)
        mask = predict(
            model,
            context.prepared(case),
            device=ranks.device,
            precision=context.spec.training.precision,
        )
        rows = _rows(context, case, mask, truth)
        scored.append(ScoredCase(case, np.packbits(mask), mask.shape, rows))
    return scored


def score_kept_masks(context: TrialContext, content: bytes, watch: Watch) -> list[dict[str, Any]]:
    """The rows of every test case, out of masks that `pack_masks` made."""
    masks, rows = unpack_masks(content), list[dict[str, Any]]()
    for case in context.roles.test:
        watch.beat()
        rows += _rows(context, case, masks[case], context.truth(case))
    return rows


def _rows(context: TrialContext, case: str, mask: np.ndarray, truth: Truth) -> list[dict[str, Any]]:
    """Rows of cases.parquet: the cell, the ids, the case, then what `medvision.evaluation.score`
    gives.
    """
    job = context.job
    scored = score(
        mask,
        truth,
        list(context.groups),
        context.spec.evaluation,
        context.spec.tolerances(context.task),
    )
    ids = {"train_id": job.train_id, "eval_id": job.eval_id, "case": case}
    return [{**job.to_json()["cell"], **ids, **row} for row in scored]


def pack_masks(scored: Sequence[ScoredCase]) -> bytes:
    """Masks as one bit a voxel, compressed; `shape/CASE` holds each shape."""
    arrays = {f"bits/{one.case}": one.bits for one in scored}
    arrays |= {f"shape/{one.case}": np.asarray(one.shape) for one in scored}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack_masks(content: bytes) -> dict[str, np.ndarray]:
    """Case -> mask, bool [groups, X, Y, Z]."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        shapes = {
            name.removeprefix("shape/"): arrays[name]
            for name in arrays.files
            if name.startswith("shape/")
        }
        return {
            case: np.unpackbits(arrays[f"bits/{case}"], count=int(np.prod(shape)))
            .reshape(shape)
            .astype(bool)
            for case, shape in shapes.items()
        }
