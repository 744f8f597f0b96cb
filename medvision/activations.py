"""What a trained model looks at, and slices to draw it on: small arrays that a run keeps for the
report's figures.

Only the model's own stages are read, by forward hooks; nothing untrained is put on top of them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from medvision.data.nifti import Groups, read_image, read_truth
from medvision.data.readers.base import Case
from medvision.data.views.base import PreprocessedCase
from medvision.device import autocast
from medvision.heads import probabilities
from medvision.settings import Output, Precision

STAGES = ("encoder", "mapper 1", "LLM block", "mapper 2", "decoder", "output")
RANKS = ("best", "median", "worst")


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Token activations [1, T, C] by stage, filled whenever the model runs.

    Encoder: the tokens that enter the language-model block, or leave the first half of the blocks
    where there is none. Decoder: the tokens before the output projection. Empty for networks
    without tokens.
    """
    seen: dict[str, torch.Tensor] = {}

    def keep(stage: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: seen.__setitem__(stage, output.detach())

    handles = []
    blocks, bridge = getattr(model, "blocks", None), getattr(model, "bridge", None)
    if (
        isinstance(blocks, nn.ModuleList)
        and hasattr(model, "grid")
        and isinstance(getattr(model, "norm", None), nn.Module)
    ):
        handles.append(model.norm.register_forward_hook(keep("decoder")))  # type: ignore[operator,union-attr]
        if bridge is None:
            handles.append(
                blocks[max(len(blocks) // 2 - 1, 0)].register_forward_hook(keep("encoder"))
            )
        else:
            handles.append(
                bridge.register_forward_pre_hook(
                    lambda _, args: seen.__setitem__("encoder", args[0].detach())
                )
            )
            for stage, name in (
                ("mapper 1", "mapper1"),
                ("LLM block", "block"),
                ("mapper 2", "mapper2"),
            ):
                handles.append(getattr(bridge, name).register_forward_hook(keep(stage)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def activation_maps(
    model: nn.Module,
    image: np.ndarray,
    *,
    device: torch.device,
    precision: Precision = "fp32",
    output: Output = "sigmoid",
) -> dict[str, np.ndarray]:
    """Activation [gx, gy, gz] of each stage on the grid of tokens, and `output`, the probability
    [X, Y, Z].

    Activation of a token: the length of its vector after the mean token was subtracted, so that
    what all tokens share does not count.

    Args:
        image: network input [1, X, Y, Z].
    """
    model.eval()
    with watched(model) as seen, autocast(device, precision):
        logits = model(torch.tensor(image)[None].to(device).float())
    maps = {}
    for stage, tokens in seen.items():
        centred = tokens[0].float() - tokens[0].float().mean(dim=0)
        maps[stage] = centred.norm(dim=1).reshape(model.grid).cpu().numpy()  # type: ignore[arg-type]
    maps["output"] = probabilities(logits, output)[0].amax(dim=0).cpu().numpy()
    return {stage: maps[stage] for stage in STAGES if stage in maps}


def focus(activation: np.ndarray, structure: np.ndarray) -> float:
    """Mean activation inside the structure over the mean everywhere; above 1 the model looks at it.
    NaN without structure.

    Args:
        activation: [gx, gy, gz].
        structure: bool [X, Y, Z]; tokens count by the share of them that is structure.
    """
    share = F.adaptive_avg_pool3d(
        torch.from_numpy(structure.astype(np.float32))[None], activation.shape
    )[0].numpy()
    if not share.any() or not activation.mean() > 0:
        return float("nan")
    return float((activation * share).sum() / share.sum() / activation.mean())


def picture_arrays(
    model: nn.Module,
    test: Sequence[str],
    *,
    cases: Mapping[str, Case],
    prepared: Callable[[str], PreprocessedCase],
    dice: Mapping[str, float],
    groups: Groups,
    channel: int,
    device: torch.device,
    precision: Precision,
    output: Output = "sigmoid",
) -> bytes:
    """An npz of what the figures of one trial need.

    Panels: the best, the median and the worst test case by Dice (ties by case id), each the slice
    across the last axis that holds most of the structure (the first such; the middle one without
    structure), with the union of the label groups (`truth`), each of them (`truths` [G, X, Y]) and
    their voxels in the whole case. Activations: the test case whose structure has the median size,
    a choice that no model's scores change, in the same kind of slice; and the focus of every stage
    in every test case.

    Args:
        dice: mean Dice of each test case.
    """
    arrays: dict[str, Any] = {"groups": np.array(list(groups))}
    scored = sorted(
        (case for case in test if not np.isnan(dice[case])), key=lambda case: (-dice[case], case)
    )
    chosen = {"best": 0, "median": len(scored) // 2, "worst": len(scored) - 1} if scored else {}
    for rank, place in chosen.items():
        case = scored[place]
        truth = read_truth(cases[case], groups)
        masks = truth.masks.max(axis=0)
        z = fullest_slice(masks)
        volumes = truth.masks.sum(axis=(1, 2, 3))
        arrays |= {
            f"panel/{rank}/case": np.array(case),
            f"panel/{rank}/slice": np.array(z),
            f"panel/{rank}/spacing": np.array(truth.spacing),
            f"panel/{rank}/image": _grey(
                read_image(cases[case].images, channel).channels[0, ..., z]
            ),
            f"panel/{rank}/truth": masks[..., z],
            f"panel/{rank}/truths": truth.masks[..., z],
            f"panel/{rank}/truth_voxels": volumes,
        }
    sizes = {case: int((prepared(case).masks.max(axis=0) > 0).sum()) for case in test}
    middle = sorted(test, key=lambda case: (sizes[case], case))[len(test) // 2]
    for case in test:
        image, masks = prepared(case).example()
        structure = masks.max(axis=0) > 0
        maps = activation_maps(
            model, np.asarray(image), device=device, precision=precision, output=output
        )
        for stage, activation in maps.items():
            arrays[f"focus/{stage}/{case}"] = np.array(focus(activation, structure))
        if case == middle:
            z = fullest_slice(structure)
            arrays |= {
                "activation/case": np.array(case),
                "activation/slice": np.array(z),
                "activation/image": _grey(np.asarray(image[0], dtype=np.float32)[..., z]),
                "activation/truth": structure[..., z],
            }
            for stage, activation in maps.items():
                depth = z * activation.shape[2] // structure.shape[2]
                arrays[f"activation/stage/{stage}"] = activation[..., depth].astype(np.float16)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def fullest_slice(structure: np.ndarray) -> int:
    """Index along the last axis with most of the structure; the first such, the middle one without
    structure.
    """
    area = structure.sum(axis=(0, 1))
    return int(area.argmax()) if area.any() else structure.shape[2] // 2


def _grey(image: np.ndarray) -> np.ndarray:
    """uint8, the 0.5th to the 99.5th percentile spread over the range."""
    low, high = np.percentile(image, [0.5, 99.5])
    return np.round(255 * np.clip((image - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)
