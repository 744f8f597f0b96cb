"""What a task's dataset.json says of its labels and channels; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvision.cache import read_json
from medvision.data.tasks import MSD_TASKS
from medvision.recipe import Modality


@dataclass(frozen=True)
class Declared:
    """`labels`: name to values, background left out; `modality`: of each channel. Empty where
    nothing is said.
    """

    labels: Mapping[str, list[int]] = field(default_factory=dict)
    modality: tuple[Modality, ...] = ()


def read_declared(folder: Path) -> Declared:
    """`"labels": {"1": "liver"}` and `"modality": {"0": "CT"}` of a task's folder.

    Every modality but CT is `MRI`, whatever its name (FLAIR, T2, ADC, PET): its intensities have no
    fixed scale. One of the ten MSD tasks without a dataset.json has the modality that is known of
    it.
    """
    content: Any = read_json(folder / "dataset.json", {})
    content = content if isinstance(content, dict) else {}
    labels: dict[str, list[int]] = {}
    for value, name in _numbered(content.get("labels")):
        if value > 0:
            labels.setdefault(name, []).append(value)
    named = [name for _, name in _numbered(content.get("modality"))]
    if not named and folder.name in MSD_TASKS:
        named = [MSD_TASKS[folder.name].modality]
    return Declared(labels, tuple("CT" if name.upper() == "CT" else "MRI" for name in named))


def _numbered(entries: Any) -> list[tuple[int, str]]:
    """`{"1": "liver", ...}` in the order of the numbers; other keys are no MSD's and left out."""
    if not isinstance(entries, dict):
        return []
    return sorted(
        (int(key), str(name).strip()) for key, name in entries.items() if str(key).isdecimal()
    )
