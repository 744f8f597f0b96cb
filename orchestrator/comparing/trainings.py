"""From folders of masks to trainings: which folder is which fold or seed, and which cases it tests.

A fold or seed is one training of a method. Where every training has a mask of every case, all of
them are compared on the same cases; where folds divide the cases, it is a cross-validation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medvision.data.label_files import Source, label_files
from medvision.errors import DataError

PLACES = ("fold", "seed")
SHOWN = 5
DIVIDED = "say where below it the masks of a training lie: --trainings 'fold_{fold}/validation'"
_PLACE = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class Training:
    """One training of a method and its masks by case; `folder`: what messages call it. `repeat`:
    another one for each fold where all folds have the same cases.
    """

    method: str
    folder: str
    masks: Mapping[str, Source] = field(repr=False)
    fold: int = 0
    seed: int = 0
    repeat: int = 0


@dataclass(frozen=True)
class Found:
    """Masks of one training, as its folder names it; None where the pattern has no such place."""

    folder: str
    masks: Mapping[str, Source] = field(repr=False)
    fold: str | None = None
    seed: str | None = None


def found_in(folder: Path, pattern: str | None) -> list[Found]:
    """The trainings below a method's folder.

    Args:
        folder: the method's.
        pattern: where the masks of one training lie below it, such as `fold_{fold}/validation` or
            `{seed}`; `*` stands for any part of a name. None: in the folder itself.

    Raises:
        DataError: a pattern without `{fold}` and `{seed}` or with others; no folder fits it; as
            `label_files`.
    """
    if pattern is None:
        return [Found(str(folder), label_files(folder, advice=DIVIDED))]
    places = _PLACE.findall(pattern)
    if not places or set(places) - set(PLACES) or len(set(places)) < len(places):
        raise DataError(
            f"--trainings {pattern!r}: needs {{fold}}, {{seed}} or both, each once, where the "
            "folders' names have them, such as fold_{fold}/validation"
        )
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    here: list[tuple[Path, dict[str, str]]] = [(folder, {})]
    for part in pattern.strip("/").split("/"):
        fits = re.compile(_expression(part))
        here = [
            (path, names | match.groupdict())
            for parent, names in here
            for path in sorted(parent.iterdir())
            if path.is_dir() and (match := fits.fullmatch(path.name))
        ]
    if not here:
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir())[:SHOWN]
        has = f"it has {', '.join(inside)}" if inside else "it has no folder"
        raise DataError(f"{folder}: no folder fits --trainings {pattern!r}; {has}")
    return [
        Found(str(path), label_files(path), names.get("fold"), names.get("seed"))
        for path, names in here
    ]


def _expression(part: str) -> str:
    """A part of the pattern as a regular expression."""
    words = re.split(r"(\{\w+\}|\*)", part)
    return "".join(
        ".*"
        if word == "*"
        else f"(?P<{word[1:-1]}>.+)"
        if _PLACE.fullmatch(word)
        else re.escape(word)
        for word in words
    )


def arranged(
    methods: Mapping[str, Sequence[Found]], cases: Sequence[str]
) -> tuple[list[Training], list[str]]:
    """Every method's trainings in one grid of folds and seeds, and what is wrong with their cases,
    a line each.

    A seed without folds is a training that shares its cases with the others, as a fold that tests
    every case is.

    Args:
        methods: what was found of each.
        cases: those with a truth.

    Raises:
        DataError: methods of different folds or seeds, or one without some of their combinations.
    """
    folds, seeds = (_numbers(methods, place) for place in PLACES)
    trainings: list[Training] = []
    for method, found in methods.items():
        mine = [
            Training(
                method, one.folder, one.masks, folds[method][one.fold], seeds[method][one.seed]
            )
            for one in found
        ]
        cells = [(one.fold, one.seed) for one in mine]
        if len(set(cells)) < len(cells) or len(cells) < len(folds[method]) * len(seeds[method]):
            raise DataError(
                f"{method}: each fold needs each seed once, there are {len(cells)} folders of "
                f"{len(folds[method])} folds and {len(seeds[method])} seeds"
            )
        trainings += mine
    first = trainings[0]
    if all(one.fold is None for found in methods.values() for one in found):
        trainings = [replace(one, fold=one.seed, seed=0) for one in trainings]
        divided = False
    else:
        of_first = [
            one for one in trainings if (one.method, one.seed) == (first.method, first.seed)
        ]
        tested = [case for one in of_first for case in one.masks if case in set(cases)]
        divided = len(of_first) > 1 and len(tested) == len(set(tested))
    if not divided:  # cases are the same in all folds: each is a cross-validation of its own
        trainings = [replace(one, repeat=one.fold) for one in trainings]
        return trainings, _lacking(trainings, {one.fold: list(cases) for one in trainings})
    parts = {
        one.fold: [case for case in cases if case in one.masks]
        for one in trainings
        if one.method == first.method and one.seed == first.seed
    }
    nowhere = sorted(set(cases) - {case for part in parts.values() for case in part})
    lines = [f"{case}: no fold of {first.method} has its mask" for case in nowhere]
    return trainings, lines + _lacking(trainings, parts)


def _lacking(trainings: Sequence[Training], parts: Mapping[int, Sequence[str]]) -> list[str]:
    """Cases that a training has not, and those that it should not have."""
    lines = []
    for one in trainings:
        wanted = set(parts[one.fold])
        lines += [
            f"{case}: {one.folder} has no mask of it" for case in sorted(wanted - set(one.masks))
        ]
        lines += [
            f"{case}: {one.folder} has a mask of it, and it is no case "
            f"{'of this fold' if len(set(map(tuple, parts.values()))) > 1 else 'with a truth'}"
            for case in sorted(set(one.masks) - wanted)
        ]
    return lines


def _numbers(
    methods: Mapping[str, Sequence[Found]], place: str
) -> dict[str, dict[str | None, int]]:
    """Of each method the number of every name: as written where all methods have the same whole
    numbers, else its rank.

    Raises:
        DataError: methods with a different number of names.
    """
    names = {
        method: sorted({getattr(one, place) for one in found}, key=_natural)
        for method, found in methods.items()
    }
    counts = {method: len(own) for method, own in names.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{method} {count}" for method, count in counts.items())
        raise DataError(
            f"methods are compared training by training, but the number of {place}s differs: "
            f"{listed}; give each method the same"
        )
    same = len({tuple(own) for own in names.values()}) == 1
    plain = same and all(
        name is not None and name.isdecimal() for name in next(iter(names.values()))
    )
    return {
        method: {name: int(str(name)) if plain else rank for rank, name in enumerate(own)}
        for method, own in names.items()
    }


def _natural(name: str | None) -> tuple[int, str]:
    """`2` before `10`."""
    digits = re.findall(r"\d+", name or "")
    return int(digits[-1]) if digits else -1, name or ""
