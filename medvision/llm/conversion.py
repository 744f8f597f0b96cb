"""The tensors of a checkpoint under the names that a model of transformers has now, by
transformers' own mapping: names that changed, experts that are stored one by one, projections that
are stored together. Each is read when asked for.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from medvision.llm.errors import BlockError
from medvision.llm.weight_files import Slot

# Constants that older versions of transformers kept in checkpoints, and computes now.
_CONSTANTS = re.compile(r"inv_freq$|masked_bias$|\.attn\.bias$|\.attention\.bias$|position_ids$")


def converted(
    model: Any, names: Iterable[str], get: Callable[[str], Slot], wanted: str, where: str
) -> dict[str, Slot]:
    """Slots of the model's tensors whose names match.

    Args:
        model: on the meta device.
        names: of all tensors in the checkpoint.
        get: the slot of one of them.
        wanted: a regular expression; what it does not match at its start is not looked at.

    Raises:
        BlockError: a tensor of the checkpoint that has no place in such a layer, or cannot be
            converted.
    """
    from transformers import conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    mapping = conversion_mapping.get_model_conversion_mapping(model)
    renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters = [one for one in mapping if isinstance(one, WeightConverter)]
    by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
    expected = model.state_dict()
    prefix = model.base_model_prefix
    groups: dict[str, list[tuple[str, str | None]]] = {}
    for name in sorted(names, key=dot_natural_key):
        renamed, pattern = rename_source_key(name, renamings, converters, prefix, expected)
        if renamed not in expected and name in expected:
            renamed, pattern = rename_source_key(
                name, [], [], base_model_prefix=prefix, meta_state_dict=expected
            )
        if re.match(wanted, renamed):
            groups.setdefault(renamed, []).append((name, pattern))
    slots: dict[str, Slot] = {}
    ignored = [*(model._keys_to_ignore_on_load_unexpected or ()), _CONSTANTS]
    for renamed, sources in groups.items():
        pattern = sources[0][1]
        if pattern is not None:
            converter = by_pattern[pattern]
            slots |= _conversion(model, converter, renamed, sources, get, where)
        elif renamed in expected:
            slots[renamed] = get(sources[0][0])
        elif not any(re.search(one, renamed) for one in ignored):
            raise BlockError(
                f"{where}: {sources[0][0]} has no place in a layer by the configuration; is the "
                "configuration its own?"
            )
    return slots


def _conversion(
    model: Any,
    converter: Any,
    renamed: str,
    sources: list[tuple[str, str | None]],
    get: Callable[[str], Slot],
    where: str,
) -> dict[str, Slot]:
    """Slots of all tensors that several tensors of the checkpoint make together, or one makes."""
    slots = {name: get(name) for name, _ in sources}
    dtypes = {slot.dtype for slot in slots.values()}
    dtype = torch.float32 if len(dtypes) > 1 else next(iter(dtypes))

    def convert(read: Callable[[Slot], torch.Tensor]) -> dict[str, torch.Tensor]:
        one = copy.deepcopy(converter)
        for name, pattern in sources:
            one.add_tensor(renamed, name, pattern, lambda slot=slots[name]: read(slot))
        try:
            made: Mapping[str, Any] = one.convert(renamed, model=model, config=model.config)
        except BlockError:
            raise
        except Exception as error:  # operations fail in many ways where shapes do not fit
            raise BlockError(
                f"{where}: {', '.join(list(slots)[:3])} cannot be made into {renamed}: {error!r}"
            ) from error
        return {
            name: value[0] if isinstance(value, list) else value for name, value in made.items()
        }

    shapes = convert(lambda slot: torch.empty(slot.shape, dtype=dtype, device="meta"))
    unread: dict[str, torch.Tensor] = {}  # one reading serves all that is made of it

    def reader(name: str) -> Callable[[], torch.Tensor]:
        def read() -> torch.Tensor:
            if name not in unread:
                unread.update(convert(lambda slot: slot.read().to(dtype)))
            return unread.pop(name)

        return read

    return {name: Slot(tuple(tensor.shape), dtype, reader(name)) for name, tensor in shapes.items()}
