"""Every protocol has a view, and every placement leads back to the case's own grid."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import nibabel
import numpy as np
import pytest
import torch

from medvision.data.nifti import read_image
from medvision.data.preprocess import prepare_image
from medvision.data.settings import PROTOCOL_SETTINGS, Preparation, Protocol
from medvision.data.views.registry import PLACEMENTS, VIEWS, from_json, to_json, view_of
from medvision.evaluation import predict, predict_on_grid

SHAPE = (9, 14, 5)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    path = tmp_path / "x.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, 0.5, 3.0, 1.0])), path)
    return path


def test_every_protocol_is_known_to_views_and_settings() -> None:
    assert set(VIEWS) == set(PROTOCOL_SETTINGS) == set(get_args(Protocol))
    for names in PROTOCOL_SETTINGS.values():
        assert set(names) <= set(Preparation.model_fields)


@pytest.mark.parametrize("protocol", VIEWS)
def test_a_view_shows_an_image_and_its_placement_leads_back(protocol: str, scan: Path) -> None:
    wanted = Preparation(groups={"a": [1]}, image_size=(8, 6, 10), protocol=protocol)
    image, placement = view_of(wanted).show(read_image([scan]))
    assert (image.shape, image.dtype) == ((1, 8, 6, 10), np.float16)
    assert placement.shape == SHAPE
    assert placement.show_mask(torch.ones(SHAPE, dtype=torch.bool)).shape == (8, 6, 10)
    assert from_json(to_json(placement)) == placement
    assert type(placement).__name__ in PLACEMENTS

    class Everywhere(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), 2, *images.shape[2:]), 9.0)

    case, cpu = prepare_image([scan], wanted), torch.device("cpu")
    assert predict(Everywhere(), case, device=cpu).shape == (2, *SHAPE)
    assert predict(Everywhere(), case, device=cpu)[:, 2:-2, 2:-2, 2:-2].all()
    assert predict_on_grid(Everywhere(), case, device=cpu).shape == (2, 8, 6, 10)
