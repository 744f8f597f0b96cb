"""Checkpoints of untrained networks, scans, and the command that brings them together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from medvision.data.settings import Preparation
from medvision.models import build_model
from medvision.models.registry import resolve_settings
from medvision.predict import main
from medvision.training.checkpoint import About, block_fingerprint, save_checkpoint

VIT = {"embed_dim": 16, "depth": 2, "heads": 2}
SIZES = {"image_size": (16, 16, 16), "patch_size": (4, 4, 4)}


def checkpoint(
    path: Path,
    label: str = "ViT_Baseline",
    preparation: dict[str, Any] | None = None,
    file_channels: int | None = None,
    bias: list[float] | None = None,
    **more: Any,
) -> Path:
    """A checkpoint of an untrained network that predicts something; `bias`: the logit that each
    group starts from.
    """
    torch.manual_seed(0)
    wanted = {"groups": {"foreground": "all"}, "image_size": SIZES["image_size"]} | (
        preparation or {}
    )
    model = build_model(label, **SIZES, out_channels=len(wanted["groups"]), **VIT, **more)
    if bias is not None:
        model.set_output_bias(torch.tensor(bias))
    about = About(
        model=resolve_settings(label, **VIT, **more),
        block=block_fingerprint(model),
        task="Task99_Spheres",
        patch_size=SIZES["patch_size"],
        in_channels=1,
        file_channels=file_channels,
        preparation=Preparation.model_validate(wanted),
        precision="fp32",
    )
    path.write_bytes(save_checkpoint(model, about))
    return path


def scan(path: Path, shape: tuple[int, ...] = (17, 20, 13), seed: int = 0) -> Path:
    """An oblique scan with unequal voxels."""
    affine = nibabel.affines.from_matvec([[0, -1.5, 0.2], [0.8, 0, 0], [0, 0.1, 3]], [-40, 12, 7])
    values = np.random.default_rng(seed).normal(100, 30, shape).astype(np.float32)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def run(*flags: object) -> int:
    return main([str(flag) for flag in flags])
