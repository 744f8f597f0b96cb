"""Scores of one trial's test cases, and the masks that they were made of."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from medvision.behind import Behind
from medvision.data.nifti import Truth
from medvision.evaluation import predict
from medvision.inference import Inference
from medvision.metrics.settings import Scoring
from medvision.postprocess import tidied
from medvision.scoring import score
from medvision.training.ranks import Ranks
from medvision.training.watch import Interrupted, Watch
from orchestrator.planning.identity import split_and_metric
from orchestrator.trial.context import TrialContext
from record.masks import Packed, packed, unpack_masks

AT_ONCE = 4


@dataclass(frozen=True)
class ScoredCase:
    """A test case: its predicted mask (bool [groups, X, Y, Z]), packed, and its rows of
    cases.parquet.
    """

    case: str
    mask: Packed
    rows: list[dict[str, Any]]


def predict_and_score(
    context: TrialContext, model: nn.Module, ranks: Ranks, watch: Watch, inference: Inference
) -> list[ScoredCase]:
    """This rank's share of the test cases, segmented as `inference` says. Cases are scored while
    the next ones are predicted (`scored_at_once`).

    Raises:
        Interrupted: `watch.stop` asked for it.
    """
    scored: list[ScoredCase | None] = []
    at_once = scored_at_once(ranks.device, torch.get_num_threads(), context.spec.evaluation)
    with Behind[ScoredCase](at_once) as scoring:
        for case in own_share(context.roles.test, ranks, watch):
            mask = predicted(context, model, ranks, case, inference)
            score_it = functools.partial(_scored, context, case, mask, inference)
            scored.append(scoring.start(score_it))
        scored += [scoring.wait() for _ in range(at_once)]
    return [one for one in scored if one is not None]


def scored_at_once(device: torch.device, threads: int, scoring: Scoring) -> int:
    """How many cases are scored beside the prediction: on a GPU, which would wait for them, as many
    as there are threads, up to a number whose masks and distances need little memory. One where
    prediction has the cores, and where a metric is the user's own code, which may not know threads.
    """
    alone = device.type == "cpu" or bool(scoring.own)
    return 1 if alone else max(1, min(AT_ONCE, threads))


def own_share(cases: Sequence[str], ranks: Ranks, watch: Watch) -> Iterator[str]:
    """The cases that this rank predicts, as long as no rank is asked to stop.

    Raises:
        Interrupted: `watch.stop` asked for it, on any rank.
    """
    for position in range(0, len(cases), ranks.world):
        watch.beat()
        if ranks.any(watch.stop()):
            raise Interrupted("stopped while predicting; the training is kept")
        if position + ranks.rank < len(cases):
            yield cases[position + ranks.rank]


def predicted(
    context: TrialContext, model: nn.Module, ranks: Ranks, case: str, inference: Inference
) -> np.ndarray:
    """What a network finds in a case, bool [G, X, Y, Z], not yet tidied."""
    training = context.spec.training
    return predict(
        model,
        context.prepared(case),
        device=ranks.device,
        precision=training.precision,
        output=training.output,
        inference=inference,
    )


def _scored(context: TrialContext, case: str, mask: np.ndarray, inference: Inference) -> ScoredCase:
    truth = context.truth(case)
    mask = tidied(mask, list(context.groups), float(np.prod(truth.spacing)), inference)
    return ScoredCase(case, packed(mask), _rows(context, case, mask, truth))


def scores_of_all(
    context: TrialContext, model: nn.Module, ranks: Ranks, watch: Watch, inference: Inference
) -> list[ScoredCase]:
    """On rank 0 every test case in the order of the fold, on the others nothing; raises as
    `predict_and_score`.
    """
    shares = ranks.to_first(predict_and_score(context, model, ranks, watch, inference))
    scored = [case for share in shares for case in share]
    return sorted(scored, key=lambda case: context.roles.test.index(case.case))


def score_kept_masks(context: TrialContext, content: bytes, watch: Watch) -> list[dict[str, Any]]:
    """The rows of every test case, from masks that `record.masks.pack_masks` made."""
    return scored_masks(context, unpack_masks(content), watch)


def scored_masks(
    context: TrialContext, masks: Mapping[str, np.ndarray], watch: Watch
) -> list[dict[str, Any]]:
    """The rows of every test case.

    Args:
        masks: bool [G, X, Y, Z] by case.
    """
    rows: list[dict[str, Any]] = []
    for case in context.roles.test:
        watch.beat()
        rows += _rows(context, case, masks[case], context.truth(case))
    return rows


def history_rows(history: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """`train_loss` of epoch 3 becomes (3, "train", "loss", value)."""
    rows = []
    for epoch, metrics in enumerate(history, start=1):
        for name, value in metrics.items():
            split, metric = split_and_metric(name)
            rows.append({"epoch": epoch, "split": split, "metric": metric, "value": float(value)})
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
