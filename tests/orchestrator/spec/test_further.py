"""Metrics that cost more are computed where they are asked for, and their rows are in the plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medvision.data.nifti import Truth
from medvision.scoring import score
from orchestrator.spec.study import Spec


def spec(**changes: Any) -> Spec:
    smallest = {"name": "s", "models": ["ViT_Baseline", "nnU-Net"], "tasks": ["T"]}
    return Spec.model_validate(smallest | changes)


def test_what_the_tables_show_is_computed() -> None:
    assert spec().evaluation.further == []
    assert "cldice" not in spec().evaluation.infos
    shown = spec(evaluation={"metrics": ["dice", "cldice", "lesion_f1"]}).evaluation
    assert shown.further == ["lesions", "centrelines"]
    assert {"cldice", "lesion_f1", "lesion_false_positives"} <= shown.infos.keys()
    given = spec(evaluation={"metrics": ["cldice"], "further": ["volumes", "lesions"]}).evaluation
    assert given.further == ["lesions", "centrelines", "volumes"]
    mask = np.zeros((1, 9, 9, 9), bool)
    mask[:, 2:7, 3:6, 3:6] = True
    (row,) = score(mask[:], Truth(mask, (1.0, 1.0, 1.0)), ["a"], shown, [1.0])
    assert (row["cldice"], row["lesion_f1"]) == (1.0, 1.0)
    assert "volume_error" not in row


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"comparisons": {"baseline": "nnU-Net", "candidates": ["ViT_Baseline"],
                             "metrics": ["cldice"]}},
            "'cldice' is computed on demand: name it in evaluation.metrics",
        ),
        ({"evaluation": {"further": ["lesions", "lesions"]}}, "further named twice: lesions"),
        ({"evaluation": {"further": ["lines"]}}, "lesions"),
        ({"evaluation": {"metrics": ["cldice"], "further": 3}}, "further"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(**changes)
