"""Which structures a network's grid cannot show: found before a study starts and remembered by
content and settings, so that no trial finds it out hours later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from medvision.cache import read_json, remember_json
from medvision.data.fingerprints import CaseIndex, memory_name
from medvision.data.readers.base import Case, Task
from medvision.data.settings import Preparation
from medvision.errors import DataError
from medvision.settings import counted
from record.local_files import cache_root

if TYPE_CHECKING:
    import torch

    from medvision.data.views.base import Placement

VERSION = 1  # raise it when an examination finds more
WORKERS = 2  # each holds a label as float32
_VALUES = ("intensity", "scaled")  # settings of an image's values, which move no structure
FEW = 27  # voxels of the network; more of them are not lost on the way back


@dataclass(frozen=True)
class Shown:
    """What is not shown of a case: `errors` make it unusable with these settings, `warnings` do
    not. Every reason begins with its file."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def what_is_shown(
    task: Task,
    cases: Collection[CaseIndex],
    settings: Preparation,
    *,
    measure: bool = True,
    on_case: Callable[[], object] = lambda: None,
) -> dict[str, Shown] | None:
    """What these cases of a task lose on a network's grid, by id; only those that lose something.

    Args:
        cases: without errors.
        measure: read what is not remembered. Without it, None where a case was never examined.
    """
    if not settings.drops_structures:
        return {}
    path = cache_root() / "shown" / f"{memory_name(task)}.json"
    memory = read_json(path, {})
    keys = {case.id: _key(case, settings) for case in cases}
    files = {case.id: case for case in (*task.cases, *task.test_cases)}
    new = [name for name, key in keys.items() if key not in memory]
    unread = dict[str, Shown]()
    if new and not measure:
        return None
    if new:
        try:
            with ThreadPoolExecutor(WORKERS) as pool:
                found = pool.map(lambda name: _examined(files[name], settings), new)
                for name, one in zip(new, found, strict=True):
                    if isinstance(one, Shown):
                        memory[keys[name]] = asdict(one)
                    else:
                        unread[name] = Shown((one,))
                    on_case()
        finally:
            remember_json(path, memory)
    return unread | {
        name: Shown(tuple(lost["errors"]), tuple(lost["warnings"]))
        for name, key in keys.items()
        if name not in unread and any((lost := memory[key]).values())
    }


def _examined(case: Case, settings: Preparation) -> Shown | str:
    """What `examine` finds, or why a file could not be read now: a storage or a memory that fails
    once is nothing to be remembered of a case.
    """
    try:
        return examine(case, settings)
    except DataError as error:
        return str(error)


def with_warnings(cases: Sequence[CaseIndex], lost: Mapping[str, Shown]) -> list[CaseIndex]:
    """The cases with what the network's grid loses of them among their warnings."""
    return [
        replace(case, warnings=(*case.warnings, *lost[case.id].warnings))
        if case.id in lost
        else case
        for case in cases
    ]


def _key(case: CaseIndex, settings: Preparation) -> str:
    places = {key: value for key, value in counted(settings).items() if key not in _VALUES}
    text = json.dumps([VERSION, case.id, case.fingerprint, places])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def examine(case: Case, settings: Preparation) -> Shown:
    """One case by its files: what of each label group is left on the network's grid, and on the way
    back of a structure that the network found just as it was shown.

    Raises:
        DataError: a file cannot be read.
    """
    import torch  # a dry run asks only what is remembered

    from medvision.data.nifti import read_image, read_truth
    from medvision.data.views.registry import view_of

    errors, warnings, view = [], [], view_of(settings)
    size = "x".join(map(str, settings.image_size))
    truth = read_truth(case, settings.groups)
    try:
        placement = view.placement(truth.masks.shape[1:])
        if placement is None:
            placement = view.show(read_image(case.images, settings.channel))[1]
    except DataError:
        raise
    except ValueError as error:
        return Shown((f"{case.image}: {error}",))
    for name, mask in zip(settings.groups, map(torch.from_numpy, truth.masks), strict=True):
        if not mask.any():
            continue
        try:
            shown = placement.show_mask(mask)
        except ValueError as error:
            errors.append(f"{case.label}: all of label group {name!r} {error}")
            continue
        about = f"{case.label}: all of label group {name!r} is lost"
        if not shown.any():
            warnings.append(
                f"{about} on the network's grid of {size} voxels, which are too large for it: a "
                "larger data.image_size keeps it"
            )
        elif int(shown.sum()) <= FEW and not _returns(placement, shown):
            warnings.append(
                f"{about} on the way back from the network's grid of {size} voxels, even where a "
                "network finds it: a larger data.image_size keeps it"
            )
    return Shown(tuple(errors), tuple(warnings))


def _returns(placement: Placement, shown: torch.Tensor) -> bool:
    """Whether anything is left on the case's own grid where a network finds what it was shown."""
    return bool((placement.to_case(shown.float()) > 0.5).any())
