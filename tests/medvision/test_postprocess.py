"""Components of a mask that are kept, and how logits become masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medvision.heads import cut, found_by, probabilities
from medvision.inference import Inference
from medvision.postprocess import tidied

GROUPS = ["organ", "tumour"]


def masks() -> np.ndarray:
    """Components of 27, 8 and 1 voxels in both groups; the two larger ones touch at a corner."""
    made = np.zeros((2, 12, 12, 12), bool)
    made[:, :3, :3, :3] = made[:, 3:5, 3:5, 3:5] = made[:, 9, 9, 9] = True
    return made


def sizes(how: Inference, voxel_mm3: float = 100.0) -> list[int]:
    return [int(mask.sum()) for mask in tidied(masks(), GROUPS, voxel_mm3, how)]


def test_only_what_is_named_is_removed() -> None:
    assert sizes(Inference()) == [36, 36]
    assert sizes(Inference(largest=["organ"])) == [35, 36]
    assert sizes(Inference(largest="all")) == [35, 35]
    assert sizes(Inference(least_ml={"tumour": 0.1})) == [36, 36]  # a voxel has 0.1 ml
    assert sizes(Inference(least_ml={"tumour": 0.11})) == [36, 35]
    assert sizes(Inference(least_ml={"tumour": 10}, largest=["tumour"])) == [36, 0]
    assert not tidied(np.zeros((2, 4, 4, 4), bool), GROUPS, 1.0, Inference(largest="all")).any()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_softmax_takes_the_likeliest_of_groups_and_background(groups: int) -> None:
    logits = torch.randn((3, groups, 5, 4, 3), generator=torch.Generator().manual_seed(groups))
    whole = torch.cat([torch.zeros(3, 1, 5, 4, 3), logits], 1)
    torch.testing.assert_close(probabilities(logits, "softmax"), whole.softmax(1)[:, 1:])
    winner = whole.argmax(1)
    expected = torch.stack([winner == group for group in range(1, groups + 1)], 1)
    assert torch.equal(found_by(logits, "softmax"), expected)
    for one, masks in zip(probabilities(logits, "softmax"), expected, strict=True):
        assert torch.equal(cut(iter(one), "softmax"), masks)
    for one, sample in zip(probabilities(logits), logits, strict=True):
        assert torch.equal(cut(iter(one)), sample > 0)
        assert torch.equal(found_by(logits)[0], logits[0] > 0)
