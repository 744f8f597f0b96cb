"""`python -m medvision.models`: a table of the models, at the paper's sizes unless told otherwise.

Nothing is downloaded and no weight is read: the blocks of the paper's checkpoints are counted from
their configurations.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from medvision.assets import AssetError
from medvision.llm.errors import BlockError
from medvision.llm.shapes import empty_block
from medvision.models import MODEL_LABELS, build_model
from medvision.models.language.settings import LLAMA
from medvision.models.registry import PAPER_SOURCES, canonical_label, resolve_settings
from medvision.models.sizes import Size, Sizes
from record.terminal import plain_output

COLUMNS = ("model", "parameters", "trained", "tokens", "GFLOPs", "block")


def describe(
    label: str,
    image_size: Size,
    patch_size: Size,
    source: str = "",
    **options: Any,
) -> dict[str, Any]:
    """One row of the table.

    Args:
        label: as users write it; case and `-`/`_` are forgiven.
        source: checkpoint of the language-model block, for labels that have one; by default the
            paper's.

    Returns:
        model, parameters (frozen ones included), trained, tokens (None for convolutional networks),
        GFLOPs (10^9 operations of one forward pass of one image) and block (family, layer and
        width).
    """
    label, sizes = canonical_label(label), Sizes(image_size, patch_size)
    if label in PAPER_SOURCES:
        options["llm"] = {"source": source or PAPER_SOURCES[label]}
    settings = resolve_settings(label, **options)
    parameters = trained = settings.parameters(sizes)
    block, size = "", None
    if llm := settings.block:
        # What is trained depends on the block; without weights it is soon built.
        with torch.device("meta"):
            model = build_model(label, image_size=image_size, patch_size=patch_size, **options)
        parameters, trained = _count(model), _count(model, trained=True)
        found = empty_block(llm.source, llm.layer, known=True)
        size = {"hidden_size": found.hidden_size, "parameters": _count(found)}
        if label in PAPER_SOURCES:
            block = f"{found.family} layer {found.layer}, width {found.hidden_size} ({llm.source})"
    return {
        "model": label + (", matched" if options.get("params") else ""),
        "parameters": parameters,
        "trained": trained,
        "tokens": settings.tokens(sizes),
        "GFLOPs": settings.flops(sizes, size) / 1e9,
        "block": block,
    }


def _count(model: torch.nn.Module, *, trained: bool = False) -> int:
    return sum(
        parameter.numel()
        for parameter in model.parameters()
        if parameter.requires_grad or not trained
    )


def _size(text: str) -> Size:
    x, y, z = (int(part) for part in text.split(","))
    return x, y, z


def _shown(row: Mapping[str, Any]) -> list[str]:
    values = (row[column] for column in COLUMNS)
    return [
        "-"
        if v is None
        else f"{v:,.1f}"
        if isinstance(v, float)
        else f"{v:,}"
        if isinstance(v, int)
        else v
        for v in values
    ]


def main(argv: list[str] | None = None) -> int:
    """`python -m medvision.models [LABEL ...] [--image-size X,Y,Z] [--patch-size X,Y,Z] [--llm
    SOURCE]`.
    """
    plain_output()
    parser = argparse.ArgumentParser(
        prog="python -m medvision.models",
        description=__doc__,
        epilog="examples:\n  python -m medvision.models\n"
        "  python -m medvision.models ViT_Baseline MedVisionLlama --image-size 32,32,32 --llm "
        "smollm2-135m",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "labels", nargs="*", metavar="LABEL", help="by default every one, and the matched controls"
    )
    parser.add_argument("--image-size", type=_size, default=(128, 128, 128), metavar="X,Y,Z")
    parser.add_argument("--patch-size", type=_size, default=(8, 8, 8), metavar="X,Y,Z")
    parser.add_argument(
        "--llm",
        default="",
        metavar="SOURCE",
        help="checkpoint of every block, instead of the paper's",
    )
    arguments = parser.parse_args(argv)
    wanted: list[tuple[str, dict[str, Any]]] = [
        (label, {}) for label in arguments.labels or MODEL_LABELS
    ]
    if not arguments.labels:
        # Two controls with as many parameters as the MedVisionLlama of the table.
        llama = {"match": {"label": "MedVisionLlama", "llm": {"source": arguments.llm or LLAMA}}}
        wanted += [(label, {"params": llama}) for label in ("ViT_Depth", "ViT_MLP")]
    table = Table(*COLUMNS, title=f"images {arguments.image_size}, patches {arguments.patch_size}")
    for column in table.columns[1:5]:
        column.justify = "right"
    try:
        for label, options in wanted:
            row = describe(
                label, arguments.image_size, arguments.patch_size, arguments.llm, **options
            )
            table.add_row(*_shown(row))
    except (ValueError, AssetError, BlockError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
