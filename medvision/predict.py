"""Segments a new scan with a trained model, in the scan's own geometry.

    python -m medvision.predict --checkpoint C.safetensors --image x.nii.gz --output y.nii.gz

The checkpoint is a trial's `weights.safetensors` (or the one that `main.py` writes). The output has
the image's shape, affine and units, 0 where nothing was found. Exit codes: 0 done, 2 a wrong
checkpoint, image, block or flag.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medvision.assets import AssetError
from medvision.cache import atomic_path
from medvision.device import usable_device
from medvision.errors import DataError
from medvision.llm.errors import BlockError
from record.terminal import plain_output

ENDINGS = (".nii.gz", ".nii")


def predict_scan(
    checkpoint: Path, image: Path, *, source: str | None = None, device: str = "cpu"
) -> tuple[Any, dict[str, int]]:
    """The predicted labels of a scan as a nibabel image, uint8 [X, Y, Z] with the scan's affine,
    and each group's value.

    The probabilities are resampled to the scan's own grid before they are cut, exactly as a trial's
    evaluation does. A group's value is its first label (1 for `all`), or its place where those are
    not unique; where groups overlap, the later one stands.

    Args:
        source: where the language-model block lies now, if no longer where it was in training.

    Raises:
        DataError: a wrong image, checkpoint or device. BlockError, AssetError: the language-model
            block cannot be had.
    """
    import nibabel
    import numpy as np

    from medvision.data.preprocess import prepare_image
    from medvision.evaluation import predict
    from medvision.training.checkpoint import load_checkpoint, read_about

    about, place = read_about(checkpoint), usable_device(device)
    inputs = prepare_image([image], about.preparation)
    if len(inputs.image) != about.in_channels:
        raise DataError(
            f"{image}: has {len(inputs.image)} channels, the model was trained with "
            f"{about.in_channels}"
        )
    model, about = load_checkpoint(checkpoint, source=source, device=place)
    masks = predict(model, inputs, device=place, precision=about.precision)
    labels = np.zeros(inputs.placement.shape, dtype=np.uint8)
    values = _group_values(about.preparation.groups)
    for mask, value in zip(masks, values.values(), strict=True):
        labels[mask] = value
    scan = nibabel.load(image)
    header = nibabel.Nifti1Header.from_header(scan.header, check=False)
    header.set_data_dtype(np.uint8)
    header["cal_min"] = header["cal_max"] = 0
    return nibabel.Nifti1Image(labels, scan.affine, header), values


def _group_values(groups: Mapping[str, Sequence[int] | str]) -> dict[str, int]:
    first = [1 if isinstance(labels, str) else next(iter(labels), 0) for labels in groups.values()]
    unique = len(set(first)) == len(first) and max(first) < 256
    return dict(zip(groups, first if unique else range(1, len(groups) + 1), strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    plain_output()
    options = _parser().parse_args(argv)
    output = Path(options.output)
    try:
        if not options.output.endswith(ENDINGS):
            raise DataError(f"--output {output}: must end with {' or '.join(ENDINGS)}")
        if output.exists() and output.samefile(options.image):
            raise DataError(f"--output {output}: is the image itself; name another file")
        found, values = predict_scan(
            Path(options.checkpoint), Path(options.image), source=options.llm, device=options.device
        )
        content = found.to_bytes()
        with atomic_path(output) as temporary:
            temporary.write_bytes(
                gzip.compress(content, mtime=0) if output.suffix == ".gz" else content
            )
    except (DataError, BlockError, AssetError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {output}: " + ", ".join(f"{value} = {name}" for name, value in values.items()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m medvision.predict",
        description="Segment a new scan with a trained model, in the scan's own geometry.",
        epilog="example:\n  python -m medvision.predict --checkpoint "
        "runs/NAME/trials/ID/TOKEN/weights.safetensors \\\n"
        "      --image x.nii.gz --output y.nii.gz",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="C",
        help="weights.safetensors of a trial, or main.py's",
    )
    parser.add_argument(
        "--image",
        required=True,
        metavar="X",
        help="the scan, NIfTI; of a 4D one the trained channel",
    )
    parser.add_argument("--output", required=True, metavar="Y", help="the labels, .nii.gz or .nii")
    parser.add_argument(
        "--llm", metavar="SOURCE", help="where the language-model block lies now, if it has moved"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    return parser


if __name__ == "__main__":
    sys.exit(main())
