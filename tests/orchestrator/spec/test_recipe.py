"""`recipe: official` is nothing but the settings that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medvision.data.splits import Roles
from orchestrator.planning.identity import flattened, train_identity
from orchestrator.spec.search import tuned
from orchestrator.spec.study import Spec, model_name
from orchestrator.spec.yaml_file import load_spec

ABLATIONS = Path(__file__).parents[3] / "ablations"
NOBODY = Roles((), (), ())
SMALLEST = {"name": "s", "models": ["ViT_Baseline"], "tasks": ["Task04_Hippocampus"]}
LLM = {"source": "smollm2-135m"}


def spec(**changes: Any) -> Spec:
    return Spec.model_validate({**SMALLEST, **changes})


def test_one_word_sets_networks_data_splits_and_training() -> None:
    found = spec(recipe="official", models=["vit-mlp", {"label": "MedVisionLlama", "llm": LLM}])
    mlp, llama = found.models
    assert len(mlp.extra_widths) == 11
    assert (mlp.extra_residual, llama.placement) == (False, "after-embedding")
    assert (llama.llm.kv_pairing, llama.lora.bias) == ("tiled", "trained")
    assert (found.splits.scheme, found.splits.rounding) == ("holdout", "down")
    assert (found.data.scaled, found.data.resampling) == ("file", "corners")
    assert found.training.clip_norm is None
    assert found.training.augmentation is not None
    assert found.training.augmentation.copies
    assert Spec.model_validate(found.model_dump(mode="json")) == found


def test_the_default_is_ours() -> None:
    assert spec(recipe="corrected") == spec()
    assert spec().training.dice == "soft"


@pytest.mark.parametrize(
    ("changes", "where", "value"),
    [
        ({"training": {"dice": "soft"}}, "training.dice", "soft"),
        ({"training": {"clip_norm": 1.0}}, "training.clip_norm", 1.0),
        ({"training": {"augmentation": None}}, "training.augmentation", None),
        ({"training": {"augmentation": {"copies": False}}}, "training.augmentation.copies", False),
        ({"splits": {"scheme": "kfold"}}, "splits.scheme", "kfold"),
        ({"data": {"mask_voxel": "half"}}, "data.mask_voxel", "half"),
        ({"data": {"protocol": "corrected"}}, "data.scaled", "resized"),
    ],
)
def test_a_setting_beside_the_word_has_the_last_say(
    changes: dict[str, Any], where: str, value: Any
) -> None:
    found: Any = spec(recipe="official", **changes)
    for name in where.split("."):
        found = getattr(found, name)
    assert found == value


def test_a_matched_model_of_the_study_is_official_too() -> None:
    models = [
        {"label": "MedVisionLlama", "llm": LLM},
        {"label": "ViT_MLP", "params": "match MedVisionLlama"},
    ]
    matched = spec(recipe="official", models=models).models[1]
    assert matched.extra_widths is None
    assert matched.params.match.last_norm is False


@pytest.mark.parametrize(
    "changes",
    [{"recipe": "paper"}, {"models": ["ViT_Base"]}, {"training": 3}, {"models": [4]}, {"data": []}],
)
def test_mistakes_are_still_mistakes(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        spec(**{"recipe": "official", **changes})


def test_a_model_can_have_settings_of_training_and_data_of_its_own() -> None:
    overrides = {
        "training.dice": "cut",
        "training.augmentation.copies": True,
        "data.scaled": "file",
    }
    changed = {"label": "ViT_Baseline", "name": "cut", "overrides": overrides}
    study = spec(models=["ViT_Baseline", changed])
    plain, (own, model) = tuned(study, study.models[0], {})[0], tuned(study, study.models[1], {})
    assert plain == study
    assert (own.training.dice, own.data.scaled) == ("cut", "file")
    training = {"dice": "cut", "augmentation": {"copies": True}}
    written = spec(training=training, data={"scaled": "file"})
    task = study.tasks[0]
    ids = [
        train_identity(one, named, task, 0, 0, NOBODY, {}, None)
        for one, named in ((own, model), (written, written.models[0]))
    ]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("depth", "neither of `training` nor of `data`"),
        ("training.batch_size", "cannot be one model's own"),
        ("data.image_size", "cannot be one model's own"),
        ("data.protocol", "data.protocol cannot be one model's own: the plan checks"),
        ("data.crop", "data.crop cannot be one model's own: the plan checks"),
        ("data.label_groups.core", "data.label_groups.core cannot be one model's own"),
        ("training.dise", "overrides of ViT_Baseline: unknown setting 'dise'"),
        ("training.dice", "overrides of ViT_Baseline: dice"),
    ],
)
def test_overrides_that_no_model_can_have_are_named(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(models=[{"label": "ViT_Baseline", "overrides": {key: "x"}}])


def test_a_window_that_a_task_has_itself_is_no_override() -> None:
    model = {"label": "ViT_Baseline", "overrides": {"data.ct_window": [-100.0, 300.0]}}
    corrected = {"models": [model], "data": {"protocol": "corrected"}}
    assert spec(**corrected).models[0].overrides
    task = {"name": "T", "ct_window": [0.0, 100.0]}
    with pytest.raises(ValueError, match=r"data.ct_window would change nothing on T, whose own"):
        spec(**corrected, tasks=["U", task])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"training": {"dice": "cut"}}, "training: write its settings dotted: training.dice"),
        ({"data": {"scaled": "file", "crop": True}}, "dotted: data.scaled, data.crop"),
        ({"data": 3}, "data: write its settings dotted: data.NAME"),
    ],
)
def test_overrides_that_are_nested_are_to_be_dotted(
    overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"overrides of ViT_Baseline: .*{message}"):
        spec(models=[{"label": "ViT_Baseline", "overrides": overrides}])


def identities() -> dict[str, dict[str, Any]]:
    """Of every model of ablations/differences.yaml, and of our and the official recipe."""
    study = load_spec(ABLATIONS / "differences.yaml")
    recipe = load_spec(ABLATIONS / "differences.yaml", ["recipe=official", "splits.scheme=kfold"])
    found = {}
    for of, names in ((study, None), (recipe, {"ours": "recipe", "ViT_MLP": "recipe of ViT_MLP"})):
        for model in of.models:
            own, named = tuned(of, model, {})
            identity = train_identity(own, named, own.tasks[0], 0, 0, NOBODY, {}, None)
            name = model_name(model)
            if names is None:
                found[name] = identity
            elif name in names:
                found[names[name]] = identity
    return found


def test_one_spec_switches_each_difference_back_alone() -> None:
    every = identities()
    official, ours = dict(flattened(every["recipe"])), dict(flattened(every["ours"]))
    wanted = {key for key in official.keys() | ours.keys() if official.get(key) != ours.get(key)}
    assert every["official"] == every["recipe"]
    switched: list[str] = []
    for name, identity in every.items():
        if name.startswith(("official", "recipe", "ours", "ViT_MLP", "MLP-")):
            continue
        changed = dict(flattened(identity))
        keys = [key for key in changed.keys() | ours.keys() if changed.get(key) != ours.get(key)]
        assert all(changed[key] == official[key] for key in keys), name
        assert len(keys) == 1 or name == "half-weights", name
        switched += keys
    assert sorted(switched) == sorted(wanted)


def test_the_extra_mlps_two_differences_are_there() -> None:
    every = identities()
    plain, of_recipe = dict(flattened(every["ViT_MLP"])), every["recipe of ViT_MLP"]["model"]
    for name, key in (("MLP-twelve-layers", "extra_widths"), ("MLP-no-residual", "extra_residual")):
        changed = dict(flattened(every[name]))
        keys = [one for one in changed.keys() | plain.keys() if changed.get(one) != plain.get(one)]
        assert keys == [f"model.{key}"]
        assert key in of_recipe
