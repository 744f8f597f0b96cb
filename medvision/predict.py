"""Segments new scans with trained models, in each scan's own geometry.

    python -m medvision.predict --checkpoint C.safetensors --image x.nii.gz --output y.nii.gz
    python -m medvision.predict --study runs/NAME --model M --image scans/ --output masks/

A checkpoint is a trial's `weights.safetensors` (or the one that `main.py` writes). Several of them,
or all folds and seeds of a study's model, segment together: the mean of their probabilities is cut.
The output has the image's shape, affine and units, 0 where nothing was found; that a mask is empty
or full is said on stderr. Exit codes: 0 done, 2 a wrong checkpoint, image, block or flag.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvision.assets import AssetError
from medvision.cache import atomic_path
from medvision.errors import DataError
from medvision.llm.errors import BlockError
from medvision.trained import chosen, listed, trainings
from record.command import begin_command
from record.store import StoreError
from record.terminal import say

if TYPE_CHECKING:
    from medvision.segmenter import Segmenter

ENDINGS = (".nii.gz", ".nii")
WRONG = (DataError, BlockError, AssetError, StoreError, OSError, RuntimeError)


def predict_scan(
    checkpoint: Path | Sequence[Path],
    image: Path | Sequence[Path],
    *,
    source: str | None = None,
    device: str = "cpu",
    trust_code: bool = False,
) -> tuple[Any, dict[str, int]]:
    """The predicted labels of a scan as a nibabel image, uint8 [X, Y, Z], and each group's value
    (`medvision.segmenter.Segmenter`).

    Args:
        checkpoint: of a trained model, or of several that segment together.
        image: the scan's file, or its files with some channels each, in the order of the training.
        source: where the language-model block lies now, if no longer where it was in training.
        trust_code: run the Python that a checkpoint of a custom model carries.

    Raises:
        DataError: a wrong image, checkpoint or device. BlockError, AssetError: the language-model
            block cannot be had.
    """
    from medvision.segmenter import Segmenter

    checkpoints = [checkpoint] if isinstance(checkpoint, Path) else list(checkpoint)
    segmenter = Segmenter(checkpoints, source=source, device=device, trust_code=trust_code)
    return segmenter.segment([image] if isinstance(image, Path) else list(image)), segmenter.values


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    parser = _parser()
    options = parser.parse_args(argv)
    if bool(options.checkpoint) == bool(options.study):
        parser.error("give --checkpoint, or --study with --model")
    if not options.study and (wrong := [name for name in _OF_STUDY if getattr(options, name)]):
        parser.error(f"--{wrong[0]} goes with --study")
    if not options.list and not (options.image and options.output):
        parser.error("give --image and --output")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return _run(options, Path(scratch))
    except WRONG as error:
        say(f"error: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, scratch: Path) -> int:
    checkpoints = [Path(name) for name in options.checkpoint]
    if options.study:
        every = trainings(options.study)
        if options.list:
            say("\n".join(listed(every)))
            return 0
        together = chosen(
            every,
            model=options.model,
            task=options.task,
            fraction=options.fraction,
            folds=options.fold,
            seeds=options.seed,
        )
        first = together[0].cell
        say(
            f"{len(together)} training{'s' * (len(together) > 1)} of {first.model} on "
            f"{first.task}, fraction {first.fraction:g}: "
            + ", ".join(f"fold {one.cell.fold} seed {one.cell.seed}" for one in together)
        )
        checkpoints = [one.local(scratch) for one in together]
    scans = _scans([Path(image) for image in options.image], Path(options.output))

    from medvision.segmenter import Segmenter

    segmenter = Segmenter(
        checkpoints, source=options.llm, device=options.device, trust_code=options.trust_code
    )
    failed = 0
    for images, output in scans:
        try:
            _write(segmenter, images, output)
        except WRONG as error:
            if len(scans) == 1:
                raise
            say(f"error: {error}", file=sys.stderr)
            failed += 1
    if len(scans) > 1:
        say(f"{len(scans) - failed} of {len(scans)} scans segmented")
    return 2 if failed else 0


def _scans(images: Sequence[Path], output: Path) -> list[tuple[list[Path], Path]]:
    """The files of each scan, and where its labels go.

    Raises:
        DataError: a folder without scans; an output that would be the image, or of another kind.
    """
    if len(images) == 1 and images[0].is_dir():
        folder = images[0]
        found = sorted(path for path in folder.iterdir() if path.name.endswith(ENDINGS))
        found = [path for path in found if not path.name.startswith(".")]
        if not found:
            raise DataError(f"--image {folder}: holds no {' or '.join(ENDINGS)} file")
        if output.name.endswith(ENDINGS) or output.is_file():
            raise DataError(f"--output {output}: --image is a folder, so name a folder")
        if output.exists() and output.samefile(folder):
            raise DataError(f"--output {output}: is the images' own folder; name another one")
        return [([path], output / path.name) for path in found]
    if not output.name.endswith(ENDINGS):
        raise DataError(f"--output {output}: must end with {' or '.join(ENDINGS)}")
    if output.exists() and any(image.exists() and output.samefile(image) for image in images):
        raise DataError(f"--output {output}: is the image itself; name another file")
    return [(list(images), output)]


def _write(segmenter: Segmenter, images: Sequence[Path], output: Path) -> None:
    labels, values = segmenter.segment(images), segmenter.values
    content = labels.to_bytes()
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(output) as temporary:
        temporary.write_bytes(
            gzip.compress(content, mtime=0) if output.suffix == ".gz" else content
        )
    say(f"wrote {output}: " + ", ".join(f"{value} = {name}" for name, value in values.items()))
    for line in _remarks(labels, values):
        say(f"warning: {output}: {line}", file=sys.stderr)


def _remarks(labels: Any, values: Mapping[str, int]) -> list[str]:
    """What to say of a mask (a nibabel image) that is empty, lacks a structure, or is full."""
    import numpy as np

    voxels = np.asarray(labels.dataobj)
    if not voxels.any():
        return ["the mask is empty: the model found nothing in this image"]
    if voxels.all():
        return ["the mask fills the whole image: the model took everything for structure"]
    lacking = [name for name, value in values.items() if not (voxels == value).any()]
    return [f"the mask has no voxel of {name}" for name in lacking]


_OF_STUDY = ("model", "task", "fraction", "fold", "seed", "list")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m medvision.predict",
        description="Segment new scans with trained models, in each scan's own geometry.",
        epilog="examples:\n  python -m medvision.predict --checkpoint "
        "runs/NAME/trials/ID/TOKEN/weights.safetensors \\\n"
        "      --image x.nii.gz --output y.nii.gz\n"
        "  python -m medvision.predict --study runs/NAME --model MedVisionLlama \\\n"
        "      --image scans/ --output masks/\n"
        "  python -m medvision.predict --study runs/NAME --list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        nargs="+",
        default=[],
        metavar="C",
        help="weights.safetensors of a trial, or main.py's; several segment together",
    )
    add("--study", metavar="S", help="a study, whose trainings of --model segment together")
    add("--model", metavar="M", help="with --study: the model's name in tables")
    add("--task", metavar="T", help="with --study: needed where it has several")
    add("--fraction", type=float, metavar="F", help="with --study: by default the largest")
    for name in ("fold", "seed"):
        add(
            f"--{name}",
            nargs="+",
            type=int,
            default=[],
            metavar="N",
            help=f"with --study: only these {name}s",
        )
    add("--list", action="store_true", help="with --study: print which file is which training's")
    add(
        "--image",
        nargs="+",
        metavar="X",
        help="the scan, NIfTI; of a 4D one the trained channel; several files with a channel each "
        "in the order of the training; or a folder of scans",
    )
    add("--output", metavar="Y", help="the labels, .nii.gz or .nii; for a folder of scans a folder")
    add("--llm", metavar="SOURCE", help="where the language-model block lies now, if it has moved")
    add("--device", default="cpu", help="cpu (default) or cuda")
    add(
        "--trust-code",
        action="store_true",
        help="run the Python of its own that a custom model's checkpoint carries",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
