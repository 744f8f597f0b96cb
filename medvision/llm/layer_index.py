"""The setting `layer`: one index or several, from 0 or from the end. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from medvision.llm.errors import BlockError

Layer = int | Sequence[int]


def as_written(layer: Layer) -> int | tuple[int, ...]:
    """The setting, checked for its kind; several become a tuple.

    Raises:
        BlockError: neither an index nor a list of them.
    """
    several = layer if isinstance(layer, Sequence) and not isinstance(layer, str) else [layer]
    if not several or not all(
        isinstance(index, int) and not isinstance(index, bool) for index in several
    ):
        raise BlockError(f"layer={layer!r}: give an index (-1 is the last layer) or a list of them")
    return layer if isinstance(layer, int) else tuple(several)


def from_zero(layer: int | tuple[int, ...], total: int, where: str) -> tuple[int, ...]:
    """Layers counted from 0, of `total` that the model has.

    Raises:
        BlockError: a layer that it does not have.
    """
    several = (layer,) if isinstance(layer, int) else layer
    for index in several:
        if not -total <= index < total:
            raise BlockError(
                f"layer {index} does not exist: {where} has {total} layers, 0 to {total - 1}"
            )
    return tuple(index % total for index in several)
