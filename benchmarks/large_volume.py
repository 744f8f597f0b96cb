"""Memory of a volume of 512x512x400 voxels under `protocol: patches`: `python -m
benchmarks.large_volume`.

A synthetic case of this size is prepared, trained on by patches and segmented by a small ViT, each
in a process of its own, whose peak of resident memory, mapped files included, is printed beside
what the plan states (`medvision.data.tiling`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medvision.data.readers.base import Case
from medvision.data.settings import Preparation
from medvision.data.tiling import prediction_bytes, preparation_bytes, resampled_shape
from record.arguments import amount, size
from record.command import begin_command

SHAPE, PATCH, SPACING = (512, 512, 400), (96, 96, 96), (0.8, 0.8, 1.0)
STEPS, BATCH, OVERLAP = 4, 2, 0.25
STAGES = ("prepare", "train", "segment")


def write_case(folder: Path, shape: tuple[int, ...]) -> None:
    """An image of int16 noise with a bright ball, which is the label."""
    import nibabel

    affine = np.diag([*SPACING, 1.0])
    image = np.random.default_rng(0).integers(-1000, 400, shape, np.int16)
    middle = tuple(slice(n // 3, n // 2) for n in shape)
    label = np.zeros(shape, np.uint8)
    image[middle], label[middle] = 800, 1
    nibabel.save(nibabel.Nifti1Image(image, affine), folder / "image.nii")
    nibabel.save(nibabel.Nifti1Image(label, affine), folder / "label.nii")


def stage(name: str, folder: Path, spacing: tuple[float, float, float]) -> None:
    """Run one stage in this process."""
    import torch

    from medvision.data.fingerprints import content_fingerprint
    from medvision.data.preprocess import prepare
    from medvision.evaluation import predict
    from medvision.inference import Inference
    from medvision.models import build_model
    from medvision.training.loop import train
    from medvision.training.settings import Training

    case = Case("large", (folder / "image.nii",), folder / "label.nii")
    settings = Preparation.model_validate(
        {
            "groups": {"ball": [1]},
            "image_size": PATCH,
            "protocol": "patches",
            "intensity": "z-score",
            "spacing": spacing,
        }
    )
    shown = prepare(case, content_fingerprint(case), settings)
    if name == "prepare":
        return
    small = {"embed_dim": 16, "depth": 1, "heads": 2}
    model = build_model(
        "ViT_Baseline", image_size=PATCH, patch_size=(16, 16, 16), out_channels=1, **small
    )
    if name == "train":
        recipe = Training(steps=STEPS, batch_size=BATCH)
        train(model, {"large": shown}, ["large"], [], recipe, seed=0)
        return
    found = predict(model, shown, device=torch.device("cpu"), inference=Inference(overlap=OVERLAP))
    if found.shape != (1, *shown.placement.shape):
        raise SystemExit(f"segmented {found.shape}")


def _measured(run: Callable[[], object]) -> dict[str, float]:
    """Seconds and the peak of this process's memory in GiB, and what it was before."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    import medvision.evaluation
    import medvision.models
    import medvision.training.loop  # noqa: F401  # what importing takes is no part of the volume

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    began = time.perf_counter()
    run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": time.perf_counter() - began, "before": before, "peak": peak}


def millimetres(text: str) -> tuple[float, float, float]:
    """`X,Y,Z`, each above 0."""
    parts = [amount(part.strip()) for part in text.split(",")]
    if len(parts) != 3 or not all(parts):
        raise argparse.ArgumentTypeError(f"expected three sizes such as 1,1,2, got {text[:40]!r}")
    return parts[0], parts[1], parts[2]


def main() -> None:
    """Print a line for each stage."""
    begin_command()
    parser = argparse.ArgumentParser(description="Memory of a large volume under patches.")
    add = parser.add_argument
    add("--shape", type=size, default=SHAPE, metavar="X,Y,Z", help="voxels (512,512,400)")
    add("--spacing", type=millimetres, default=SPACING, metavar="X,Y,Z", help="of the grid, in mm")
    add("--one", nargs=2, metavar=("STAGE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    spacing = arguments.spacing
    if arguments.one:
        name, place = arguments.one
        print(json.dumps(_measured(lambda: stage(name, Path(place), spacing))))
        return
    shape, grid = arguments.shape, resampled_shape(arguments.shape, SPACING, spacing)
    stated = {
        "prepare": preparation_bytes(shape, grid, 1),
        "segment": prediction_bytes(shape, grid, 1, 1),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_case(folder, shape)
        for name in STAGES:
            command = [sys.executable, "-m", "benchmarks.large_volume", "--one", name, scratch]
            command += ["--spacing", ",".join(map(str, spacing))]
            environment = os.environ | {"MEDVISION_CACHE": str(folder / "cache")}
            done = subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{name}: {found['seconds']:.0f} s, peak {found['peak']:.2f} GiB, "
                f"{found['peak'] - found['before']:.2f} GiB above the imports; stated "
                f"{stated.get(name, 0) / 2**30:.2f} GiB"
            )


if __name__ == "__main__":
    main()
