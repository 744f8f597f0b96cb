"""What a training notes of its block, once an epoch, without changing a number."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from medvision.models import build_model
from medvision.models.language.knock_outs import bridges
from medvision.training import loop
from medvision.training.branch import BranchWatch, mean_cosine
from medvision.training.ranks import Ranks
from medvision.training.settings import Training
from medvision.training.state import Checkpoints
from medvision.training.watch import Interrupted, Watch
from tests.medvision.training.test_training import SMALL, run

NAMES = {"block_share", "similarity_before", "similarity_after", "block_coherence"}


def network(source: Path, **llm: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    given = {"source": str(source), **llm}
    sizes: dict[str, Any] = {"image_size": (8, 8, 8), "patch_size": (4, 4, 4)}
    return build_model("MedVisionLlama", llm=given, **sizes, **SMALL)


class Blind(BranchWatch):
    """Looks at nothing."""

    def __init__(self, model: torch.nn.Module, *, compiled: bool = False) -> None:
        super().__init__(torch.nn.Identity())


@pytest.mark.parametrize("more", [{}, {"gradient_checkpointing": True}])
def test_the_numbers_of_a_training_are_those_without_the_look(
    tiny_llama: Path,
    isolated_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
) -> None:
    recipe = Training(epochs=2, batch_size=5, **more)
    watched = run(recipe, network(tiny_llama))
    monkeypatch.setattr(loop, "BranchWatch", Blind)
    blind = run(recipe, network(tiny_llama))
    assert all(torch.equal(watched.state[name], blind.state[name]) for name in blind.state)
    for with_look, without in zip(watched.history, blind.history, strict=True):
        assert with_look.keys() - without.keys() == NAMES
        assert {name: with_look[name] for name in without} == without


@pytest.mark.slow
def test_a_resumed_training_notes_the_same(tiny_llama: Path, isolated_cache: Path) -> None:
    recipe = Training(epochs=3, batch_size=2)
    whole = run(recipe, network(tiny_llama))
    saved: list[bytes] = []
    beats: list[None] = []
    watch = Watch(beat=lambda: beats.append(None), stop=lambda: len(beats) >= 6)
    with pytest.raises(Interrupted):
        run(recipe, network(tiny_llama), checkpoints=Checkpoints(save=saved.append), watch=watch)
    again = Checkpoints(load=lambda: saved[-1])
    assert run(recipe, network(tiny_llama), checkpoints=again).history == whole.history


def test_only_what_has_a_block_is_looked_at(tiny_llama: Path, isolated_cache: Path) -> None:
    recipe = Training(epochs=1, batch_size=5)
    assert not NAMES & run(recipe).history[0].keys()
    nothing = run(recipe, network(tiny_llama, control="identity")).history[0]
    assert nothing["block_share"] == 0.5  # the tokens and the tokens again
    assert nothing["similarity_after"] == pytest.approx(nothing["similarity_before"])


def test_the_values_are_those_of_their_definitions(tiny_llama: Path, isolated_cache: Path) -> None:
    model = network(tiny_llama).eval()
    (bridge,) = bridges(model).values()
    images = torch.randn(3, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    watch, seen = BranchWatch(model), {}
    bridge.mapper1.register_forward_hook(
        lambda _, inputs, output: seen.update(x=inputs[0], h=output) or output.retain_grad()
    )
    with watch.looking(False):
        model(images)
    assert watch.metrics(Ranks()) == {}
    with watch.looking(True):
        model(images).square().mean().backward()
    found = watch.metrics(Ranks())
    assert found.keys() == NAMES

    x, h = seen["x"].detach(), seen["h"].detach()
    more = bridge.block(h)
    assert found["block_share"] == pytest.approx(float(more.norm() / (h + more).norm()), rel=1e-5)
    for name, tokens in (("similarity_before", h), ("similarity_after", h + more)):
        pairs = [
            float(cosine_similarity(image[one], image[other], dim=0))
            for image in tokens
            for one, other in itertools.combinations(range(image.shape[0]), 2)
        ]
        assert found[name] == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
    # The gradient of W in W x, an image alone: what autograd gives of a map of its own.
    gradients = []
    for image in range(3):
        weight = torch.zeros(h.shape[-1], x.shape[-1], requires_grad=True)
        (x[image] @ weight.T).backward(seen["h"].grad[image])
        assert weight.grad is not None
        gradients.append(weight.grad.flatten())
    cosines = [
        float(cosine_similarity(one, other, dim=0))
        for one, other in itertools.combinations(gradients, 2)
    ]
    assert found["block_coherence"] == pytest.approx(sum(cosines) / 3, abs=1e-5)


def test_one_vector_has_no_cosine() -> None:
    assert mean_cosine(torch.ones(1, 4)).isnan()
    assert mean_cosine(torch.eye(3)) == 0
    assert mean_cosine(torch.tensor([[1.0, 0], [2, 0], [-1, 0]])) == pytest.approx(-1 / 3)
