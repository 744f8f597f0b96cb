"""`python -m medvision.models`: a table of the models, at the paper's sizes unless told otherwise.

Nothing is downloaded and no weight is read: the blocks of the paper's checkpoints are counted from
their configurations.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table

from medvision.assets import AssetError
from medvision.llm.errors import BlockError
from medvision.llm.proven import NATIVE, REFUSED, ROWS
from medvision.llm.shapes import empty_block
from medvision.models import MODEL_LABELS, build_model
from medvision.models.arithmetic import linear
from medvision.models.bottleneck import BottleneckSettings
from medvision.models.labels import find_label
from medvision.models.language.settings import LLAMA
from medvision.models.registry import (
    FAMILIES,
    PAPER_SOURCES,
    canonical_label,
    resolve_settings,
)
from medvision.models.sizes import Size, Sizes
from medvision.settings import Recipe
from record.arguments import size, whole
from record.command import begin_command
from record.terminal import say

AT_BOTTLENECK = tuple(
    label
    for family in FAMILIES
    if issubclass(family, BottleneckSettings)
    for label in family.labels()
)
COLUMNS = ("model", "parameters", "trained", "tokens", "GFLOPs", "block")


def describe(
    label: str,
    image_size: Size,
    patch_size: Size,
    source: str = "",
    recipe: Recipe = "corrected",
    **options: Any,
) -> dict[str, Any]:
    """One row of the table.

    Args:
        label: as users write it; case and `-`/`_` are forgiven.
        source: checkpoint of the language-model block, for labels that have one, or with
            `placement: bottleneck`; by default the paper's.
        recipe: ours, or the official code's.
        options: settings of the label.

    Returns:
        model, parameters (frozen ones included), trained, tokens (None for convolutional networks),
        GFLOPs (10^9 operations of one forward pass of one image) and block (family, layer and
        width).
    """
    label, sizes = canonical_label(label), Sizes(image_size, patch_size)
    if label in PAPER_SOURCES or options.get("placement") == "bottleneck":
        options["llm"] = {"source": source or PAPER_SOURCES.get(label, LLAMA)}
    settings = resolve_settings(label, recipe, **options)
    parameters = trained = settings.parameters(sizes)
    block, size = "", None
    if llm := settings.block:
        # What is trained depends on the block; without weights it is soon built.
        with torch.device("meta"):
            model = build_model(
                label, image_size=image_size, patch_size=patch_size, recipe=recipe, **options
            )
        parameters, trained = _count(model), _count(model, trained=True)
        found = empty_block(llm.source, llm.layer, known=True)
        size = {
            "hidden_size": found.hidden_size,
            "parameters": _count(found) / llm.layers,
            "active": found.active_parameters / llm.layers,
        }
        if "llm" in options:
            block = f"{found.family} layer {found.layer}, width {found.hidden_size} ({llm.source})"
    how = [", matched"] if options.get("params") else []
    how += [", bottleneck"] if options.get("placement") == "bottleneck" else []
    how += [f", every {options['every']}"] if options.get("every") else []
    return {
        "model": label + "".join(how),
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
    SOURCE] [--recipe official]`, or `--families`.
    """
    begin_command()
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
    parser.add_argument("--image-size", type=size, default=(128, 128, 128), metavar="X,Y,Z")
    parser.add_argument("--patch-size", type=size, default=(8, 8, 8), metavar="X,Y,Z")
    parser.add_argument(
        "--llm",
        default="",
        metavar="SOURCE",
        help="checkpoint of every block, instead of the paper's",
    )
    parser.add_argument(
        "--bottleneck",
        action="store_true",
        help="with a block at the coarsest level, of networks that can have one",
    )
    parser.add_argument(
        "--every",
        type=whole,
        metavar="K",
        help="the block after every K blocks of the transformer, of networks that have one",
    )
    parser.add_argument(
        "--recipe",
        choices=get_args(Recipe),
        default="corrected",
        help="official: the networks as the official code builds them",
    )
    parser.add_argument(
        "--families",
        action="store_true",
        help="what a block can come from: the families of transformers that tests prove",
    )
    arguments = parser.parse_args(argv)
    if arguments.families:
        _print_families()
        return 0
    wanted: list[tuple[str, dict[str, Any]]] = [
        (label, _place(label, arguments)) for label in arguments.labels or MODEL_LABELS
    ]
    if not arguments.labels:
        # Two controls with as many parameters as the MedVisionLlama of the table.
        llama = {"match": {"label": "MedVisionLlama", "llm": {"source": arguments.llm or LLAMA}}}
        wanted += [(label, {"params": llama}) for label in ("ViT_Depth", "ViT_MLP")]
    title = f"images {arguments.image_size}, patches {arguments.patch_size}"
    if arguments.recipe == "official":
        title += ", recipe official"
    table = Table(*COLUMNS, title=title)
    for column in table.columns[1:5]:
        column.justify = "right"
    try:
        for label, options in wanted:
            row = describe(
                label,
                arguments.image_size,
                arguments.patch_size,
                arguments.llm,
                arguments.recipe,
                **options,
            )
            table.add_row(*_shown(row))
    except (ValueError, AssetError, BlockError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if arguments.recipe == "official":
        say(_untrained(arguments.image_size, arguments.patch_size))
    return 0


def _place(label: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that put a block where the flags say, of a label that has such a place."""
    known = find_label(label, AT_BOTTLENECK)
    if arguments.bottleneck and known:
        return {"placement": "bottleneck"}
    every = arguments.every and find_label(label, PAPER_SOURCES)
    return {"every": arguments.every} if every else {}


def _print_families() -> None:
    """What a block can come from, and what not, with the reason."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("family", "layers of", "rope switches on", "about", title="Blocks can come from")
    for one in (*ROWS, *NATIVE):
        table.add_row(one.family, one.kind, one.positions or "-", one.about)
    console.print(table)
    say(
        f"{len(ROWS) + len(NATIVE)} families (model_type in config.json), proven by tests: a layer "
        "gives here what it gives inside transformers' whole model, bit by bit in float32.\n"
        "Others of transformers load, too, where a layer takes nothing that only its whole model "
        "has. Refused by name:"
    )
    for name, reason in REFUSED:
        say(f"  {name}: {reason}")


def _untrained(image_size: Size, patch_size: Size) -> str:
    """What the official modules hold beside what is counted."""
    sizes = Sizes(image_size, patch_size)
    mlp = resolve_settings("ViT_MLP", "official")
    more = linear(mlp.embed_dim, math.prod(patch_size), 1).parameters
    return (
        "The official modules also hold output projections that draw their activations. No loss "
        f"trains them, so they are not counted: {more:,} parameters in ViT_Baseline and ViT_MLP, "
        f"with which ViT_MLP has {mlp.parameters(sizes) + more:,}."
    )


if __name__ == "__main__":
    sys.exit(main())
