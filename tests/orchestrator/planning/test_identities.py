"""What was trained once keeps its ids: a pinned digest for each kind of study and model label."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import BaseModel, create_model

import medvision.settings
import orchestrator.planning.identity
import orchestrator.planning.search
from medvision.data.splits import Roles
from medvision.inference import Inference
from medvision.models.registry import MODEL_LABELS
from medvision.settings import NotInIds, Since, counted, mark
from orchestrator.planning.found import BlockInputs
from orchestrator.planning.identity import (
    digest,
    eval_identity,
    external_content,
    external_identity,
    train_identity,
)
from orchestrator.planning.search import Search
from orchestrator.spec.other_tools import ExternalSettings
from orchestrator.spec.search import SearchSpec
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import load_spec
from tests.medvision.models.small import IDS
from tests.medvision.models.small import MEANINGS as MODEL_MEANINGS

ABLATIONS = Path(__file__).parents[3] / "ablations"
ROLES = Roles(train=("a", "b"), validation=("c",), test=("d", "e"))
FINGERPRINTS = {case: f"content of {case}" for case in "abcde"}
LLM = {"source": "meta-llama/Llama-3.1-8B", "layer": 31}
LLAMA = {"label": "MedVisionLlama", "llm": LLM}
WITH_BLOCK = ("MedVisionLlama", "MedVision_")
KINDS = yaml.safe_load(Path(__file__).with_name("kinds_of_study.yaml").read_text())
# Of every class whose settings count: those of the first results; younger ones with what they were
# before (since 0.1, or the whole mark: `Since("0.2", False)`); those that no id contains.
MEANINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "Spec": (
        "models tasks seeds data training evaluation",  # as train_identity and eval_identity say
        {},
        "name recipe fractions folds splits resources comparisons search storage tracking "
        "limits notify",
    ),
    "TaskSpec": (
        "name channel",
        {"label_groups": None, "modality": None, "ct_window": None},
        "tolerances",
    ),
    "DataSpec": (
        "protocol intensity image_size patch_size label_groups",
        {
            "ct_window": (-1000.0, 1000.0),
            "spacing": None,
            "crop": False,
            "scaled": Since("0.2", "resized"),
            "resampling": Since("0.2", "centres"),
            "mask_voxel": Since("0.2", "half"),
            "foreground": Since("0.2", 0.33),
        },
        "root on_bad_case",
    ),
    "Training": (
        "epochs steps batch_size optimizer lr weight_decay schedule dice_weight bce_weight "
        "prior_bias clip_norm precision augmentation select",
        {
            "compile": False,
            "plateau_on": Since("0.2", "validation"),
            "dice": Since("0.2", "soft"),
            "output": Since("0.2", "sigmoid"),
            "strong_augmentation": Since("0.2", None),
            "channels_last": Since("0.2", False),
        },
        "cuda_graphs gradient_checkpointing checkpoint_epochs",
    ),
    "Augmentation": (
        "rotation_degrees intensity",
        {
            "flip": (0.0, 0.0, 0.0),
            "elastic": 0.0,
            "gamma": 0.0,
            "noise": 0.0,
            "contrast": Since("0.2", 0.0),
            "copies": Since("0.2", False),
            "rotation": Since("0.2", "linear"),
            "rotation_planes": Since("0.2", "same"),
        },
        "",
    ),
    "StrongAugmentation": (
        "scale rotation noise blur brightness contrast low_resolution inverted_gamma gamma mirror",
        {},
        "",
    ),
    "Change": ("probability low high", {}, ""),
    "EvaluationSpec": (
        "nsd hd95 strict_tolerance",
        {
            "own": Since("0.2", []),
            "further": Since("0.2", []),
            "inference": Since("0.2", Inference()),
            "choose": Since("0.2", []),
        },
        "tolerances metrics both_empty",
    ),
    "Inference": ("overlap mirror largest least_ml", {}, ""),
    "OwnMetric": (
        "name function sha256",
        {},
        "title unit higher_is_better digits perfect empty files",
    ),
    "SearchSpec": ("trials space seed parallel prune", {}, "cases reserved_fraction epochs steps"),
    "Range": ("log uniform integers choices", {}, ""),
    "CustomSettings": ("label network settings sha256", {}, "name overrides files"),
    "NnUNetV2Settings": (
        "label configuration trainer plans epochs iterations validation_iterations processes",
        {"batch_size": Since("0.2", None)},
        "name",
    ),
    "ExternalSettings": (
        "label labels",
        {"probabilities": Since("0.2", False)},
        "name masks folds allow_empty",
    ),
    **MODEL_MEANINGS,
}
# By study: of all its trainings, then of all its evaluations (`digests`).
PINNED = json.loads(Path(__file__).with_name("pinned_ids.json").read_text()) | {
    label: list(ids) for label, ids in IDS.items()
}


def label(name: str) -> dict[str, Any]:
    return {"models": [LLAMA | {"label": name} if name.startswith(WITH_BLOCK) else {"label": name}]}


def study(changed: Mapping[str, Any]) -> Spec:
    smallest = {"name": "study", "models": ["ViT_Baseline"], "tasks": ["Task04_Hippocampus"]}
    return Spec.model_validate(smallest | changed)


STUDIES: dict[str, Spec] = {
    **{path.name: load_spec(path) for path in sorted(ABLATIONS.glob("*.yaml"))},
    **{name: study(label(name)) for name in MODEL_LABELS},
    **{name: study(changed) for name, changed in KINDS.items()},
}


def digests(spec: Spec) -> tuple[str, str]:
    """Of the ids of all trainings of a study, and of all evaluations, on made-up cases."""
    ids = [pair for model in spec.models for task in spec.tasks for pair in _ids(spec, model, task)]
    trained, scored = zip(*ids, strict=True)
    return digest({"ids": trained})[:16], digest({"ids": scored})[:16]


def _ids(spec: Spec, model: Any, task: Any) -> list[tuple[str, str]]:
    """Ids of training and evaluation by seed; where there is a search, its own and a trial's."""
    llm = model.block
    block = f"content of {llm.source}" if llm else None
    if spec.search:
        search = Search(
            spec, spec.search, model, task, None, 5, ROLES, FINGERPRINTS, BlockInputs(block)
        )
        job = search.job(4, {"training.lr": 1e-3, "lora.rank": 2, "depth": 4}, [], "token")
        return [(digest(search.identity), search.id), (job.train_id, job.eval_id)]
    if isinstance(model, ExternalSettings):
        content = {key: value for key, value in counted(model).items() if key != "label"}
        masks = external_content("content of the masks", {}) | content
        name = digest(external_identity(spec, task, masks))
        return [(name, digest(eval_identity(spec, task, name, ROLES, FINGERPRINTS)))]
    trainings = [
        train_identity(spec, model, task, 0, seed, ROLES, FINGERPRINTS, block)
        for seed in spec.seeds
    ]
    train_ids = map(digest, trainings)
    return [
        (name, digest(eval_identity(spec, task, name, ROLES, FINGERPRINTS))) for name in train_ids
    ]


@pytest.fixture(autouse=True)
def _pinned_numerics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on the day of the pins, which speak of settings and stay when numbers move on purpose."""
    monkeypatch.setattr(orchestrator.planning.identity, "TRAIN_NUMERICS", 3)
    monkeypatch.setattr(orchestrator.planning.identity, "EVAL_NUMERICS", 1)
    monkeypatch.setattr(orchestrator.planning.search, "SEARCH_NUMERICS", 1)
    yield
    medvision.settings._rules.cache_clear()  # which a test may have filled without a mark


@pytest.mark.parametrize("name", STUDIES)
def test_ids_are_what_they_were(name: str) -> None:
    found = list(digests(STUDIES[name]))
    assert found == PINNED.get(name), f"{name}: see `Settings` in CONTRIBUTING.md; now {found}"


def settings_classes(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A class of settings, and those of all settings inside that can count in an id."""
    yield kind
    for field in kind.model_fields.values():
        if not mark(field, NotInIds):
            for inner in _classes_in(field.annotation):
                yield from settings_classes(inner)


def _classes_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _classes_in(inner)


CLASSES = {kind.__name__: kind for root in (Spec, SearchSpec) for kind in settings_classes(root)}
MARKS = [
    (kind, name)
    for kind in CLASSES.values()
    for name, field in kind.model_fields.items()
    if mark(field, Since) or mark(field, NotInIds)
]


def undecided(kind: type[BaseModel]) -> list[str]:
    """Fields that are not what `MEANINGS` says, or of which it says nothing."""
    first, younger, outside = MEANINGS.get(kind.__name__, ("", {}, ""))
    said: dict[str, Any] = dict.fromkeys(first.split(), "first")
    said |= {name: _younger(before) for name, before in younger.items()}
    said |= dict.fromkeys(outside.split(), "outside")
    found = {
        name: mark(field, Since) or ("outside" if mark(field, NotInIds) else "first")
        for name, field in kind.model_fields.items()
    }
    return [name for name in said | found if said.get(name) != found.get(name)]


def _younger(before: Any) -> Since:
    return before if isinstance(before, Since) else Since("0.1", before)


REPLACED = ("LlmSettings.block", "EvaluationSpec.tolerances")  # by the identities, mark or no mark


def without(kind: type[BaseModel], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the mark of one field."""
    field = kind.model_fields[name]
    rest = [found for found in field.metadata if not isinstance(found, Since | NotInIds)]
    monkeypatch.setattr(field, "metadata", rest)
    medvision.settings._rules.cache_clear()


@pytest.mark.parametrize("kind", CLASSES.values())
def test_what_each_setting_means_for_the_ids_is_decided(kind: type[BaseModel]) -> None:
    assert undecided(kind) == [], "see `Settings` in CONTRIBUTING.md"


@pytest.mark.parametrize(("kind", "name"), MARKS)
def test_no_mark_can_go(kind: type[BaseModel], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(kind, name, monkeypatch)
    assert undecided(kind) == [name]
    if f"{kind.__name__}.{name}" not in REPLACED and kind is not Spec:  # only its parts are counted
        assert any(list(digests(spec)) != PINNED[study] for study, spec in STUDIES.items())


@pytest.mark.parametrize("kind", CLASSES.values())
def test_no_setting_with_a_default_can_be_added_without_a_decision(kind: type[BaseModel]) -> None:
    unmarked = create_model(kind.__name__, __base__=kind, added=(bool, False))
    assert undecided(unmarked) == ["added"]
    younger: Any = (Annotated[bool, Since("0.2", before=False)], False)
    assert undecided(create_model(kind.__name__, __base__=kind, added=younger)) == ["added"]
