"""nnU-Net's own data loader on the volumes of benchmarks/patch_input.py, which starts this file
with a Python that has nnunetv2 and nothing of ours.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from record.arguments import folder as folder_of
from record.arguments import whole

FOREGROUND, BATCH = 0.33, 2


def resident(key: str) -> int:
    """Bytes of this process: VmRSS now, RssAnon without mapped files, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def timed(batch: Callable[[int], object], batches: int) -> dict[str, float]:
    """Processor seconds of a patch, after some batches that do not count; bytes: the peak of
    memory with mapped files, and at the end without.
    """
    for number in range(5):
        batch(number)
    Path("/proc/self/clear_refs").write_text("5")
    began = time.process_time()
    for number in range(5, 5 + batches):
        batch(number)
    return {
        "seconds": (time.process_time() - began) / (batches * BATCH),
        "peak": resident("VmHWM"),
        "own": resident("RssAnon"),
    }


def loader(folder: Path, cache: Path, edge: int) -> Callable[[int], object]:
    """Its loader, without transforms, on files as its preprocessor writes them."""
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import (
        comp_blosc2_params,
        nnUNetDatasetBlosc2,
    )
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    patch = (edge, edge, edge)
    for image in sorted(folder.glob("i_*.nii.gz")):
        data = np.asarray(nibabel.load(image).dataobj, np.float32)[None]
        data = (data - data.mean()) / data.std()
        label = image.with_name("l" + image.name[1:])
        seg = np.asarray(nibabel.load(label).dataobj, np.int16)[None]
        places = np.argwhere(seg == 1)
        rng = np.random.default_rng(0)
        kept = places[rng.choice(len(places), min(10_000, len(places)), replace=False)]
        blocks = [comp_blosc2_params(one.shape, patch, one.itemsize) for one in (data, seg)]
        nnUNetDatasetBlosc2.save_case(
            data,
            seg,
            {"class_locations": {1: kept}},
            str(cache / image.name.removesuffix(".nii.gz")),
            blocks=blocks[0][0],
            chunks=blocks[0][1],
            blocks_seg=blocks[1][0],
            chunks_seg=blocks[1][1],
        )
    labels = LabelManager({"background": 0, "ball": 1}, None)
    found = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(cache)),
        BATCH,
        patch,
        patch,
        labels,
        FOREGROUND,
        probabilistic_oversampling=True,
    )
    return lambda number: next(found)


def main() -> None:
    """Print seconds a patch and bytes as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=folder_of)
    parser.add_argument("--edge", type=whole, default=96)
    parser.add_argument("--batches", type=whole, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        import nnunetv2.training.dataloading.data_loader
        import torch  # noqa: F401  # what importing takes is no part of the input

        del nnunetv2
        before = {"peak": resident("VmRSS"), "own": resident("RssAnon")}
        found = timed(loader(arguments.folder, Path(cache), arguments.edge), arguments.batches)
    print(json.dumps({key: value - before.get(key, 0) for key, value in found.items()}))


if __name__ == "__main__":
    main()
