"""Finds cases that show the same scan under two ids, which could then train in one role and test in
another, and labels that stand for two images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvision.data.readers.base import Case

ALIKE = 1 - 1e-4  # correlation of two samples; saving as uint8 keeps more, another scan has less


@dataclass
class Copies:
    """What is reported of the later of two cases; the first stays as it is."""

    errors: list[str]
    warnings: list[str]


def find_copies(cases: Sequence[Case], entries: Sequence[Mapping[str, Any]]) -> list[Copies]:
    """For each case whether an earlier one holds the same image or label.

    Args:
        entries: `medvision.data.validate.Validation` of each case as JSON.
    """
    found = [Copies([], []) for _ in cases]
    voxels: dict[str, int] = {}
    turned: dict[str, int] = {}
    label_files: dict[Path, int] = {}
    labels: dict[str, int] = {}
    for place, (case, entry) in enumerate(zip(cases, entries, strict=True)):
        channels = _distinctive(entry["content"])
        same = _first(voxels, [channel["voxels"] for channel in channels], place)
        alike = _first(turned, [channel["turned"] for channel in channels], place)
        if same is not None:
            found[place].errors.append(
                f"{case.image}: has the same content as the image of {cases[same].id}"
            )
        elif alike is not None:
            found[place].errors.append(
                f"{case.image}: has the same voxels as the image of {cases[alike].id}, turned or "
                "mirrored"
            )
        listed = _first(label_files, [case.label.resolve()], place)
        equal = _first(labels, [entry["label_content"]] if entry["label_content"] else [], place)
        if listed is not None:
            found[place].warnings.append(
                f"{case.label}: is also the label of {cases[listed].id}: if the images are of one "
                "patient, say so by splits.group_file"
            )
        elif equal is not None and same is None:
            found[place].warnings.append(
                f"{case.label}: has the same content as the label of {cases[equal].id}"
            )
    for place, other in _nearly(entries):
        if not found[place].errors:
            found[place].warnings.append(
                f"{cases[place].image}: differs from the image of {cases[other].id} only by "
                "rounding and scale: is it the same scan, saved again?"
            )
    return found


def _distinctive(channels: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The channels that identify an image: not those of one value, such as a missing modality,
    unless there are no others.
    """
    return [channel for channel in channels if not channel["constant"]] or list(channels)


def _first(known: dict[Any, int], keys: Sequence[Any], place: int) -> int | None:
    """Which earlier case has one of these keys; from now on, this one has the rest."""
    owners = [known.setdefault(key, place) for key in keys]
    return next((owner for owner in owners if owner != place), None)


def _nearly(entries: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Later and earlier case of each pair whose first distinctive channels are alike but for
    rounding and a linear scale, one pair for each later case.
    """
    groups: dict[tuple[int, ...], list[tuple[int, str]]] = {}
    for place, entry in enumerate(entries):
        for channel in _distinctive(entry["content"])[:1]:
            if channel["sample"]:
                groups.setdefault(tuple(channel["shape"]), []).append((place, channel["sample"]))
    pairs = []
    for members in groups.values():
        if len(members) < 2:
            continue
        import numpy as np

        from medvision.data.content import unpacked

        samples = np.stack([unpacked(sample) for _, sample in members])
        alike = np.abs(samples @ samples.T) > ALIKE
        for row in range(1, len(members)):
            if (before := np.flatnonzero(alike[row, :row])).size:
                pairs.append((members[row][0], members[int(before[0])][0]))
    return pairs
