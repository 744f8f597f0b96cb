"""A network of one's own is built, tried and counted like those of the house."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medvision.models import MODEL_LABELS, build_model
from medvision.models.registry import resolve_settings
from medvision.models.sizes import Sizes

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels, out_channels, width=4):
        super().__init__()
        self.first = nn.Conv3d(in_channels, width, 3, padding=1)
        self.last = nn.Conv3d(width, out_channels, 1)

    def forward(self, image):
        return self.last(torch.relu(self.first(image)))

class Whole(Net):
    checkpointed = ("first",)

    def __init__(self, in_channels, out_channels, image_size, patch_size, **more):
        super().__init__(in_channels, out_channels, **more)
        self.seen = image_size, patch_size

    def set_output_bias(self, logits):
        with torch.no_grad():
            self.last.bias.copy_(logits)

class Looks(Net):
    def forward(self, image):
        assert image.sum().item() == 0 or True  # a value, which shapes alone do not have
        return super().forward(image)

class Coarse(Net):
    def forward(self, image):
        return super().forward(image)[..., ::2]

class Fixed(nn.Module):
    def __init__(self, width=4):
        super().__init__()

class Fails(Net):
    def forward(self, image):
        return self.middle(image)

def several(in_channels, out_channels):
    return [1]

class Pair(Net):
    def forward(self, image):
        return super().forward(image), image
"""
SIZES = {"image_size": (8, 16, 8), "patch_size": (4, 8, 4)}


def custom(name: str, **settings: Any) -> dict[str, Any]:
    return {
        "network": f"own_test_net:{name}",
        "settings": settings,
        "files": {"own_test_net.py": NET},
    }


@pytest.mark.parametrize("name", ["Net", "Whole", "Looks"])
def test_it_maps_images_to_logits_and_trains_all_of_it(name: str) -> None:
    model = build_model("custom", **SIZES, in_channels=2, out_channels=3, **custom(name, width=5))
    logits = model(torch.rand(2, 2, 8, 16, 8))
    assert logits.shape == (2, 3, 8, 16, 8)
    logits.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert model.network.first.out_channels == 5


@pytest.mark.parametrize("name", ["Net", "Whole"])
def test_its_output_starts_where_training_wants_it(name: str) -> None:
    model = build_model("custom", **SIZES, out_channels=2, **custom(name))
    with torch.no_grad():
        model.network.last.weight.zero_()
        model.network.last.bias.zero_()
        model.set_output_bias(torch.tensor([-1.0, 2.0]))
        logits = model(torch.rand(1, 1, 8, 16, 8))
    assert logits[:, 0].unique().tolist() == [-1.0]
    assert logits[:, 1].unique().tolist() == [2.0]


def test_it_gets_the_sizes_that_it_asks_for_and_says_what_to_compute_twice() -> None:
    model = build_model("custom", **SIZES, **custom("Whole"))
    assert model.network.seen == ((8, 16, 8), (4, 8, 4))
    assert model.checkpointed == ("network.first",)
    assert build_model("custom", **SIZES, **custom("Net")).checkpointed == ()


@pytest.mark.parametrize("name", ["Net", "Looks"])
def test_its_numbers_are_counted(name: str) -> None:
    """Golden values by hand: 3x3x3x2x4 + 4 and 4x3 + 3 weights, the bias of each of 3 channels;
    two operations per weight and voxel.
    """
    sizes = Sizes((8, 16, 8), (4, 8, 4), in_channels=2, out_channels=3)
    settings = resolve_settings("custom", **custom(name))
    assert settings.parameters(sizes) == (216 + 4) + (12 + 3) + 3
    assert settings.flops(sizes) == 2 * (216 + 12) * 1024
    assert settings.tokens(sizes) is None


def test_counting_leaves_the_random_numbers_as_they_were() -> None:
    settings = resolve_settings("custom", **custom("Looks", width=7))
    torch.manual_seed(3)
    settings.flops(Sizes((8, 16, 8), (4, 8, 4)))
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.rand(1) == drawn


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (custom("Coarse"), "returned [2, 1, 8, 16, 4], expected logits [2, 1, 8, 16, 8]"),
        (custom("Pair"), "returned tuple, expected logits"),
        (custom("Fixed"), "must take in_channels and out_channels as arguments"),
        (custom("Fails"), "has no attribute 'middle' (own_test_net.py:"),
        (custom("several"), "made list, not a torch.nn.Module"),
        (custom("Net", widht=3), "unexpected keyword argument 'widht'; it takes in_channels"),
        (custom("Net", in_channels=3), "in_channels is given by the study"),
        (custom("Absent"), "no class or function Absent"),
    ],
)
def test_what_does_not_fit_is_one_line(values: dict[str, Any], expected: str) -> None:
    settings = resolve_settings("custom", **values)
    with pytest.raises(ValueError, match="own_test_net:") as caught:
        settings.flops(Sizes((8, 16, 8), (4, 8, 4)))
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_its_hash_must_be_that_of_its_files() -> None:
    good = resolve_settings("custom", **custom("Net"))
    assert resolve_settings(**good.model_dump()) == good
    with pytest.raises(ValueError, match="sha256 is not that of `files`"):
        resolve_settings("custom", **custom("Net"), sha256="0" * 64)


def test_without_a_spec_the_current_folder_has_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_here.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    model = build_model("custom", **SIZES, network="own_here:Net")
    assert model(torch.rand(1, 1, 8, 16, 8)).shape == (1, 1, 8, 16, 8)


def test_it_is_no_label_that_stands_alone() -> None:
    assert "custom" not in MODEL_LABELS
    with pytest.raises(ValueError, match="network"):
        resolve_settings("custom")
