"""What helps a training to segment is chosen on its validation cases, where that is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medvision.inference import Inference
from medvision.training.checkpoint import read_about
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import load_spec
from orchestrator.trial.choosing import Way, _dice, _ways, chosen
from record import paths

HOW = Inference(mirror=True, largest="all", least_ml={"a": 0.5, "b": 2.0})
GROUPS = ["a", "b"]


def scores(better: dict[Way, tuple[float, float]]) -> dict[Way, list[np.ndarray]]:
    """Two cases whose means are 0.5, but for the ways that are named."""
    means = {way: np.array(better.get(way, (0.5, 0.5))) for way in _ways(["mirror", "largest"])}
    return {way: [mean - 0.1, mean + 0.1] for way, mean in means.items()}


def test_what_raises_the_mean_is_used_in_each_group_by_itself() -> None:
    none = chosen(scores({}), GROUPS, HOW)
    assert (none.mirror, none.largest, none.least_ml) == (False, [], {"a": 0.5, "b": 2.0})
    in_b = chosen(scores({(False, True, True): (0.4, 0.6)}), GROUPS, HOW)
    assert (in_b.mirror, in_b.largest) == (False, ["b"])
    mirrored = chosen(
        scores({(False, True, True): (0.4, 0.6), (True, True, True): (0.9, 0.4)}), GROUPS, HOW
    )
    assert (mirrored.mirror, mirrored.largest) == (True, ["a"])
    least = {
        (True, True, False): [np.array([0.5, 0.5])],
        (True, True, True): [np.array([0.4, 0.6])],
    }
    only_b = chosen(least, GROUPS, HOW)
    assert (only_b.mirror, only_b.largest, only_b.least_ml) == (True, GROUPS, {"b": 2.0})


def test_what_is_found_where_nothing_is_counts_against_a_way() -> None:
    nothing, something = np.zeros((2, 1, 3, 3, 3), bool)
    something[0, 1] = True
    assert _dice(nothing, nothing) == 1
    assert _dice(something, nothing) == 0
    assert _dice(something, something) == 1


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"choose": ["mirror"]}, "inference.mirror is not set, so that there is nothing to choose"),
        ({"inference": {"mirror": True}, "choose": ["mirror", "mirror"]}, "choose named twice"),
    ],
)
def test_a_choice_of_nothing_is_refused(evaluation: dict[str, Any], message: str) -> None:
    values = {"name": "s", "models": ["ViT_Baseline"], "tasks": ["T"], "evaluation": evaluation}
    with pytest.raises(ValueError, match=message):
        Spec.model_validate(values)


def test_the_choice_is_kept_with_the_trial_its_weights_and_the_report(
    tiny_spec: Path, spheres: Path
) -> None:
    settings = [
        "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]",
        "comparisons=[]",
        "folds=3",
        "training.epochs=2",
        "evaluation.inference={largest: all, mirror: true}",
        "evaluation.choose=[largest, mirror]",
        "tracking.enabled=false",
    ]
    flags = [part for setting in settings for part in ("--set", setting)]
    assert main([str(tiny_spec), "--in-process", *flags]) == 0
    store = open_store(load_spec(tiny_spec, settings))
    for marker in store.commits().values():
        found = Inference.model_validate(
            json.loads(store.read(marker.files[paths.INFERENCE]) or "")
        )
        weights = Path(store.path(marker.files[paths.WEIGHTS]))
        assert read_about(weights).inference == found
        assert found.largest in ([], ["foreground"])
    report = (store.read(paths.report("provenance.md")) or b"").decode()
    assert "chosen on validation cases: " in report
    assert "of 3 trainings" in report
    before = set(store.commits())
    assert main([str(tiny_spec), "--in-process", *flags, "--set", "evaluation.nsd=voxel-max"]) == 0
    for name, marker in store.commits().items():
        assert (paths.INFERENCE in marker.files) or name in before
