"""What of `evaluation.inference` helps, chosen on the validation cases of a training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import nn

from medvision.inference import Inference
from medvision.postprocess import tidied
from medvision.training.ranks import Ranks
from medvision.training.watch import Watch
from orchestrator.trial.context import TrialContext
from orchestrator.trial.scoring import own_share, predicted
from record import paths

Way = tuple[bool, bool, bool]  # with mirror images, largest components, a least volume
Scores = Mapping[Way, Sequence[np.ndarray]]  # Dice of each case, [G]


def inference_of(context: TrialContext, model: nn.Module, ranks: Ranks, watch: Watch) -> Inference:
    """How the trained model segments its test cases: as the spec says, where `evaluation.choose` is
    empty or there is no validation case; else with what raises the mean Dice of these. All ranks
    return the same.

    Raises:
        Interrupted: `watch.stop` asked for it.
    """
    evaluation, cases = context.spec.evaluation, context.roles.validation
    if not evaluation.choose or not cases:
        return evaluation.inference
    scores: dict[Way, list[np.ndarray]] = {way: [] for way in _ways(evaluation.choose)}
    for case in own_share(cases, ranks, watch):
        for way, dice in _scored(context, model, ranks, case, list(scores)):
            scores[way].append(dice)
    shares = ranks.gather(scores)
    every = {way: [dice for share in shares for dice in share[way]] for way in scores}
    return chosen(every, list(context.groups), evaluation.inference)


def keep_choice(context: TrialContext, inference: Inference) -> dict[str, str]:
    """Write down what was chosen, where something was; the file by its kind."""
    if not context.spec.evaluation.choose:
        return {}
    found = paths.attempt_file(context.folder, paths.INFERENCE)
    context.store.write(found, inference.model_dump_json().encode())
    return {paths.INFERENCE: found}


def _ways(choose: Sequence[str]) -> list[Way]:
    """With and without what is to be chosen, with what is not; least first."""
    options = [
        (False, True) if name in choose else (True,) for name in ("mirror", "largest", "least_ml")
    ]
    return [(mirror, *rest) for mirror, *rest in itertools.product(*options)]  # type: ignore[misc]


def restricted(how: Inference, groups: Sequence[str], way: Way) -> Inference:
    """What a way leaves of the settings, in all groups."""
    mirror, largest, least = way
    named = list(groups) if how.largest == "all" else how.largest
    return how.model_copy(
        update={
            "mirror": how.mirror and mirror,
            "largest": named if largest else [],
            "least_ml": how.least_ml if least else {},
        }
    )


def _scored(
    context: TrialContext, model: nn.Module, ranks: Ranks, case: str, ways: Sequence[Way]
) -> Iterator[tuple[Way, np.ndarray]]:
    """Dice of a case in each way, [G]; it is predicted once with mirror images and once without."""
    truth = context.truth(case)
    groups, voxel = list(context.groups), float(np.prod(truth.spacing))
    for _, alike in itertools.groupby(ways, key=lambda way: way[0]):
        same = [(way, restricted(context.spec.evaluation.inference, groups, way)) for way in alike]
        masks = predicted(context, model, ranks, case, same[0][1])
        for way, how in same:
            yield way, _dice(tidied(masks, groups, voxel, how), truth.masks)


def _dice(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of each group, [G]: 1 of two empty masks, so that what is wrongly found counts."""
    both, either = ((masks & truth).sum((1, 2, 3)), masks.sum((1, 2, 3)) + truth.sum((1, 2, 3)))
    return np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)


def chosen(scores: Scores, groups: Sequence[str], how: Inference) -> Inference:
    """The settings with what raises the mean Dice: mirror images for all groups, in which way each
    group is tidied by itself; of equals the one that does less.

    Args:
        scores: of every case in every way, the one that does less first.
        groups: G names.
        how: the settings that the ways restrict.
    """
    means = {way: np.mean(dice, axis=0) for way, dice in scores.items()}
    best: dict[bool, list[Way]] = {}
    for mirror in dict.fromkeys(way[0] for way in means):
        alike = [way for way in means if way[0] == mirror]
        best[mirror] = [
            max(alike, key=lambda way, place=place: means[way][place])  # type: ignore[misc]
            for place in range(len(groups))
        ]
    total = {
        mirror: sum(float(means[way][place]) for place, way in enumerate(ways))
        for mirror, ways in best.items()
    }
    ways = best[max(total, key=lambda mirror: total[mirror])]
    each = [restricted(how, groups, way) for way in ways]
    named = list(zip(groups, each, strict=True))
    return how.model_copy(
        update={
            "mirror": each[0].mirror,
            "largest": [name for name, one in named if name in one.largest],
            "least_ml": {name: one.least_ml[name] for name, one in named if name in one.least_ml},
        }
    )
