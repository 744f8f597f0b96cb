"""What can be wrong with a study's numbers, as values, and in the words that report, terminal and
`status` share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

LISTED = 6  # places named in one line


class Kind(Enum):
    """What can be found, the gravest first: whether the model has failed there, in words, and of a
    failure in a few words that follow the model's name.
    """

    NOTHING = (
        True,
        "Predicts nothing or almost nothing in half of a training's test cases or more",
        "it predicts nothing or almost nothing",
    )
    EVERYTHING = (
        True,
        "Predicts everything or almost everything in half of a training's test cases or more",
        "it predicts everything or almost everything",
    )
    TRIVIAL = (
        True,
        "Dice is no better than that of a mask of everything",
        "its Dice is no better than that of a mask of everything",
    )
    NOT_LEARNT = (
        True,
        "Did not learn: validation Dice stayed at that of the first epoch, and below 0.1 or no "
        "better than that of a mask of everything",
        "it did not learn",
    )
    NO_RISE = (False, "Validation Dice rose by less than 0.01 after the first epoch")
    LAST_EPOCH = (
        False,
        "The last epoch was the best one, so that longer training may give other numbers",
    )
    CAPPED = (False, "A structure missed has an infinite distance, capped at the volume's diagonal")
    MICRO_BATCH = (
        False,
        "Trained in smaller parts of a batch after a lack of memory (batch normalisation sees "
        "smaller batches)",
    )
    HARDWARE = (False, "Trainings ran on different hardware, which changes last digits")

    def __init__(self, failed: bool, words: str, short: str = "") -> None:
        self.failed, self.words, self.short = failed, words, short


class Place(NamedTuple):
    """A model on a task at a share of the training data; `group`: of which structure, empty for
    all.
    """

    model: str
    task: str
    fraction: float
    group: str = ""

    def __str__(self) -> str:
        share = "" if self.fraction == 1 else f" at {self.fraction:.0%}"
        return f"{self.model} on {self.task}{share}{f', {self.group}' if self.group else ''}"


@dataclass(frozen=True)
class Finding:
    """`count` of `total` cases or trainings at a place (None: the whole study); `details` in words,
    instead of the counts.
    """

    kind: Kind
    place: Place | None
    count: int
    total: int
    unit: str
    details: str = ""

    def __str__(self) -> str:
        seen = self.details or f"{self.count} of {self.total} {self.unit}"
        return f"{self.place} ({seen})" if self.place else seen


class Line(NamedTuple):
    """A line of the banner: whether a model has failed, and what was found."""

    failed: bool
    text: str

    @property
    def mark(self) -> str:
        return "failed" if self.failed else "note"

    def __str__(self) -> str:
        return f"{self.mark}: {self.text}"


def in_lines(findings: Sequence[Finding]) -> list[Line]:
    """One line a kind: what it is, and the places; of many, the first few."""
    lines = []
    for kind in Kind:
        places = [str(finding) for finding in findings if finding.kind is kind]
        if places:
            rest = f"; and {len(places) - LISTED} more" if len(places) > LISTED else ""
            text = f"{kind.words}: {'; '.join(places[:LISTED])}{rest}."
            lines.append(Line(kind.failed, text))
    return lines


def failures(
    findings: Sequence[Finding], models: Sequence[str], tasks: Sequence[str], fraction: float
) -> str:
    """What a sentence on these models must say first: the gravest failure of each on each task;
    empty where none has failed.

    Args:
        findings: of the study, in their order.
        models: that are compared.
        tasks: of the sentence; they are named where there are several.
        fraction: of the training data.
    """
    found: dict[tuple[str, str], str] = {}
    for finding in findings:
        place = finding.place
        if not finding.kind.failed or place is None or place.fraction != fraction:
            continue
        if place.model not in models or place.task not in tasks:
            continue
        on = f" on {place.task}" if len(tasks) > 1 else ""
        some = finding.unit == "trainings" and finding.count < finding.total
        how_many = f" in {finding.count} of {finding.total} trainings" if some else ""
        text = f"{place.model} failed{on}{how_many}: {finding.kind.short}"
        found.setdefault((place.model, place.task), text)
    said = list(found.values())
    rest = [f"and {len(said) - LISTED} more"] if len(said) > LISTED else []
    return "; ".join([*said[:LISTED], *rest])
