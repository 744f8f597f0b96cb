"""Predicts a case on its own grid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from medvision.data.views.base import Network, PreprocessedCase
from medvision.device import autocast
from medvision.heads import cut, probabilities
from medvision.inference import Inference
from medvision.settings import Output, Precision

Shown = tuple[Sequence[nn.Module], PreprocessedCase]  # models, and how they see a case


def predict(
    model: nn.Module | Sequence[nn.Module],
    case: PreprocessedCase,
    *,
    device: torch.device,
    precision: Precision = "fp32",
    output: Output = "sigmoid",
    inference: Inference | None = None,
) -> np.ndarray:
    """Predicted label groups, bool [G, X, Y, Z], on the case's own grid
    (`medvision.data.views.base.Placement`); of several models the mean of their probabilities is
    cut.
    """
    models = [model] if isinstance(model, nn.Module) else list(model)
    return predict_together(
        [(models, case)], device=device, precision=precision, output=output, inference=inference
    )


@torch.no_grad()
def predict_together(
    shown: Sequence[Shown],
    *,
    device: torch.device,
    precision: Precision = "fp32",
    output: Output = "sigmoid",
    inference: Inference | None = None,
) -> np.ndarray:
    """The same of models that see a case in different ways: the mean over all models, taken on the
    case's own grid.
    """
    how = inference or Inference()
    found = []
    for models, case in shown:
        image = torch.tensor(case.image).to(device).float()
        networks = [_network(one, device, precision, output) for one in models]
        together = networks[0] if len(networks) == 1 else _mean_of(networks)
        network = _mirrored(together) if how.mirror else together
        found.append(case.placement.infer(network, image, how.overlap))
    total = sum(len(models) for models, _ in shown)

    def of_group(index: int) -> torch.Tensor:
        first, *others = (
            case.placement.to_case(groups[index]) * (len(models) / total)
            for (models, case), groups in zip(shown, found, strict=True)
        )
        for other in others:
            first += other
        return first

    return cut(map(of_group, range(len(found[0]))), output).cpu().numpy()


@torch.no_grad()
def predict_on_grid(
    model: nn.Module,
    case: PreprocessedCase,
    *,
    device: torch.device,
    precision: Precision = "fp32",
) -> np.ndarray:
    """The same on the network's own grid, bool [G, *size], of a view whose image it sees whole."""
    image = torch.tensor(case.image)[None].to(device).float()
    return (_network(model, device, precision, "sigmoid")(image)[0] > 0.5).cpu().numpy()


def _network(
    model: nn.Module, device: torch.device, precision: Precision, output: Output
) -> Network:
    model.eval()

    def network(images: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            logits = model(images)
        return probabilities(logits, output)

    return network


def _mean_of(networks: Sequence[Network]) -> Network:
    return lambda images: torch.stack([network(images) for network in networks]).mean(dim=0)


def _mirrored(network: Network) -> Network:
    """The mean over all eight mirror images."""
    turns = [axes for count in range(4) for axes in itertools.combinations((2, 3, 4), count)]

    def mirrored(images: torch.Tensor) -> torch.Tensor:
        found = network(images)
        for axes in turns[1:]:
            found = found + network(images.flip(axes)).flip(axes)
        return found / len(turns)

    return mirrored
