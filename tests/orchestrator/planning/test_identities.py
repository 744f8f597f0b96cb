"""What was trained once keeps its ids: a pinned digest for each kind of study and model label."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import orchestrator.planning.identity
import orchestrator.planning.search
from medvision.data.splits import Roles
from medvision.models.registry import MODEL_LABELS
from medvision.models.settings import block_of
from orchestrator.planning.identity import digest, eval_identity, train_identity
from orchestrator.planning.plan import BlockInputs
from orchestrator.planning.search import Search
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import load_spec

ABLATIONS = Path(__file__).parents[3] / "ablations"
ROLES = Roles(train=("a", "b"), validation=("c",), test=("d", "e"))
FINGERPRINTS = {case: f"content of {case}" for case in "abcde"}
LLM = {"source": "meta-llama/Llama-3.1-8B", "layer": 31}
LLAMA = {"label": "MedVisionLlama", "llm": LLM}
WITH_BLOCK = ("MedVisionLlama", "MedVision_")
SPACE = {
    "training.lr": {"log": [1e-4, 1e-2]},
    "lora.rank": {"choices": [2, 4]},
    "depth": {"integers": [2, 8]},
}


def with_llm(**changed: Any) -> dict[str, Any]:
    return {"models": [LLAMA | {"llm": LLM | changed}]}


def matched(**changed: Any) -> dict[str, Any]:
    return {"models": [{"label": "ViT_Depth", "params": {"match": LLAMA | changed}}]}


def corrected(**changed: Any) -> dict[str, Any]:
    return {"data": {"protocol": "corrected"} | changed}


def task(**changed: Any) -> dict[str, Any]:
    return {"tasks": [{"name": "Task04_Hippocampus"} | changed]}


def augmented(**changed: Any) -> dict[str, Any]:
    return {"training": {"augmentation": changed}}


def searched(**changed: Any) -> dict[str, Any]:
    return {"models": [LLAMA], "search": {"space": SPACE} | changed}


# One kind of study each, as changes of a study of one ViT_Baseline on one task.
KINDS: dict[str, dict[str, Any]] = {
    "smallest": {},
    "named": {"models": [{"label": "ViT_Baseline", "name": "ours"}]},
    "ViT with sizes of its own": {
        "models": [
            {
                "label": "ViT_MLP",
                "embed_dim": 96,
                "depth": 8,
                "heads": 6,
                "mlp_ratio": 2.0,
                "dropout": 0.0,
            }
        ]
    },
    "wider extra MLP": {"models": [{"label": "ViT_MLP", "extra_width": 512}]},
    "hybrid attention": {"models": [{"label": "ViT_Baseline", "attention": "hybrid"}]},
    "fusion": {"models": [{"label": "ViT_Baseline", "fusion": True}]},
    "hybrid without its parts": {
        "models": [LLAMA | {"label": "MedVisionLlama_Hybrid", "attention": "global"}]
    },
    "Swin-UNet with other heads": {"models": [{"label": "Swin-UNet", "heads": [3, 3, 6, 6]}]},
    "MissFormer with Swin-UNet's heads": {
        "models": [{"label": "MissFormer", "heads": [3, 6, 12, 24]}]
    },
    "another checkpoint": with_llm(source="somewhere/else"),
    "several layers": with_llm(layer=[0, 1]),
    "rope, causal, no final norm": with_llm(rope=True, causal=True, final_norm=False),
    "identity block": with_llm(block="identity"),
    "random weights": with_llm(weights="random"),
    "other random weights": with_llm(weights="random", random_seed=1),
    "seed of random weights that are not used": with_llm(random_seed=1),
    "trainable": with_llm(trainable=True),
    "trainable from random weights": with_llm(weights="random", trainable=True),
    "LoRA of the mappers": {"models": [LLAMA | {"lora": {"rank": 8, "alpha": 16.0}}]},
    "LoRA of the block": {"models": [LLAMA | {"lora": {"targets": ["mappers", "q", "v"]}}]},
    "block after the embedding": {"models": [LLAMA | {"placement": "after-embedding"}]},
    "linear mapper": {"models": [LLAMA | {"mapper": "linear"}]},
    "matched": matched(),
    "matched by the paper's label": {
        "models": [LLAMA, {"label": "ViT_MLP", "params": "match MedVisionLlama"}]
    },
    "matched by name": {
        "models": [
            LLAMA | {"name": "ours", "lora": {"rank": 2}},
            {"label": "ViT_Depth", "params": "match ours"},
        ]
    },
    "matched, random weights": matched(llm=LLM | {"weights": "random", "random_seed": 2}),
    "matched, identity block": matched(llm=LLM | {"block": "identity"}),
    "matched, trainable": matched(llm=LLM | {"trainable": True}),
    "matched, LoRA of the block": matched(lora={"rank": 2, "targets": ["mappers", "o"]}),
    "matched, hybrid": matched(label="MedVisionLlama_Hybrid", name="ours"),
    "corrected protocol": corrected(),
    "corrected, its own window": corrected(ct_window=[-100, 300]),
    "corrected, its own spacing": corrected(spacing=[1, 1, 2.5]),
    "corrected, cropped": corrected(crop=True),
    "corrected, z-score, smaller": corrected(
        intensity="z-score", image_size=[64, 64, 32], patch_size=[8, 8, 4]
    ),
    "elsewhere, bad cases left out": {"data": {"root": "elsewhere", "on_bad_case": "exclude"}},
    "own label groups": {"data": {"label_groups": {"whole": "all", "core": [1, 3]}}},
    "each label": {
        "data": {"label_groups": "each"},
        **task(label_groups={"anterior": [1], "posterior": [2]}),
    },
    "label groups of the task": task(label_groups={"core": [2]}),
    "all channels": task(channel="all", modality=["MRI", "CT"]),
    "modality of the task": {**corrected(), **task(modality=["CT"])},
    "window of the task": {**corrected(), **task(ct_window=[0, 80])},
    "tolerances of the task": task(tolerances=[2.0, 3.0]),
    "no augmentation": {"training": {"augmentation": None}},
    "other augmentation": augmented(rotation_degrees=10.0, intensity=0.2),
    "flips": augmented(flip=[0.5, 0, 0]),
    "elastic": augmented(elastic=0.2),
    "gamma": augmented(gamma=0.3),
    "noise": augmented(noise=0.1),
    "every augmentation": augmented(flip=[0.5, 0.5, 0.5], elastic=0.1, gamma=0.1, noise=0.1),
    "recipe": {
        "training": {
            "epochs": 7,
            "batch_size": 2,
            "optimizer": "adamw",
            "lr": 1e-4,
            "weight_decay": 0.01,
            "schedule": "cosine",
            "dice_weight": 0.5,
            "bce_weight": 2.0,
            "prior_bias": False,
            "clip_norm": None,
            "precision": "bf16",
            "select": "last",
        }
    },
    "steps": {"training": {"steps": 40}},
    "compiled": {"training": {"compile": True}},
    "rare checkpoints, less memory": {
        "training": {"checkpoint_epochs": 3, "gradient_checkpointing": True}
    },
    "another seed": {"seeds": [7]},
    "other folds, fractions and resources": {
        "folds": 3,
        "fractions": [0.1, "full"],
        "splits": {"scheme": "holdout", "test_fraction": 0.2},
        "resources": {"workers": 2, "max_attempts": 1},
        "storage": "elsewhere",
        "tracking": {"enabled": False},
    },
    "other scores": {
        "evaluation": {"nsd": "voxel-max", "hd95": "surfel", "strict_tolerance": True}
    },
    "other tolerances": {"evaluation": {"tolerances": [1.0, 2.5]}},
    "other tables": {"evaluation": {"metrics": ["dice"], "both_empty": "perfect"}},
    "search": searched(),
    "search, other settings": searched(trials=5, seed=3, parallel=2, prune=False),
    "search, nested": searched(cases="nested", reserved_fraction=0.3),
    "search with a budget": searched(steps=30),
}
# Of all trainings of a study, then of all its evaluations (`digests`).
PINNED = {
    "architectures.yaml": ("9f2334c62a59f5cf", "e3b78a25cdf40b5a"),
    "capacity.yaml": ("803d5c1387f0847f", "2792474b36b28d86"),
    "comparison.yaml": ("024822ff68e33c2a", "65e7dc411c7d4868"),
    "full.yaml": ("44d23f4eeb736b77", "902075d2fcfad75a"),
    "hippocampus.yaml": ("425be2eaa68adc98", "95dbbe65f4e3cf42"),
    "llm_family.yaml": ("ce2426e4fe2bde15", "a6af1769227238c2"),
    "lora_rank.yaml": ("a03203c773b821be", "a951886b254e5fb3"),
    "quickstart.yaml": ("97ab90233a469f3c", "a0e2f5fc1a87f832"),
    "ViT_Baseline": ("a24eb03ab5a52dd9", "7750f67784f90236"),
    "ViT_Depth": ("519d0249208204f0", "9d0498eaa204dd05"),
    "ViT_MLP": ("5de7948afa60bf04", "25ce50bc205cc821"),
    "MedVisionLlama": ("710aba017051bae4", "065218b5a1832a02"),
    "MedVisionLlama_Frozen": ("dcc8853c7665e98a", "3d806869b854d352"),
    "MedVisionLlama_Hybrid": ("eadd784ad4ad24cc", "63efa38f49cf7adf"),
    "MedVision_BioBERT": ("c6129105b92ba858", "7cb0afbcd7ad90f6"),
    "MedVision_BioGPT": ("fed45eb8dc3575bb", "6bf04f41e87e69ae"),
    "MedVision_ClinicalBERT": ("c060e1e956fa76c4", "2caacccc1742cfb8"),
    "UNet++": ("42f273285852b8ac", "701d8d56068e9f1f"),
    "UNETR": ("3c76587d9ca68e84", "ee4476cec7237f05"),
    "nnU-Net": ("8218588e09ae3173", "467a8e5b8199419a"),
    "Swin-UNet": ("c0f707bc15962460", "4e08517d2d5d3306"),
    "TransUNet": ("33fb74a4f14c5b34", "d6d545b2120cf671"),
    "MissFormer": ("424cf84a759ff825", "2e2ad3985a148801"),
    "smallest": ("a24eb03ab5a52dd9", "7750f67784f90236"),
    "named": ("a24eb03ab5a52dd9", "7750f67784f90236"),
    "ViT with sizes of its own": ("b1ed26d758dd7416", "2082c921202a3ad5"),
    "wider extra MLP": ("254ff02ed5aca036", "3af22d8d263661b8"),
    "hybrid attention": ("1e0341a822f433aa", "f4ec76d2db4f3e3f"),
    "fusion": ("6b3be81fdb756774", "d65b5dd8df38f416"),
    "hybrid without its parts": ("21b0d30f4af22885", "b59a66c41ab62d51"),
    "Swin-UNet with other heads": ("431cf39c26110b4d", "4a9a316bc7744902"),
    "MissFormer with Swin-UNet's heads": ("9f9d957b728ebedc", "f43d7e1d70edf0b2"),
    "another checkpoint": ("b4b2b9c120584b22", "bb8a4ba6ecfcfa03"),
    "several layers": ("da6bf0f9b9058427", "6f9fadf7b8857682"),
    "rope, causal, no final norm": ("da7f94003ba918af", "f369af562cf8e3e6"),
    "identity block": ("cc0070d8ceff7b87", "2e86008509e1b210"),
    "random weights": ("9b0102b8e226b674", "f626302663f787f0"),
    "other random weights": ("054f68dc1ca4703d", "45168a7cf999119d"),
    "seed of random weights that are not used": ("1e06b1f8df7dce03", "88768c0fb572798b"),
    "trainable": ("d55cd0abd94bd255", "b43f1beeaeb57501"),
    "trainable from random weights": ("c650020697af44ec", "01659784bc61a6a7"),
    "LoRA of the mappers": ("c8063a6f8464dd61", "01bdcf4002cb2962"),
    "LoRA of the block": ("72a15d87c88aafbb", "b628e776c2e2708a"),
    "block after the embedding": ("ac885bc0afc59a1c", "33fe73a08d85a261"),
    "linear mapper": ("14d4e4065bd8a6a8", "36edb607faa6ca6e"),
    "matched": ("c80f6e7401be6b92", "49b3bd23a3952d14"),
    "matched by the paper's label": ("d678ffb5676f3c86", "efe488cb8d4081ce"),
    "matched by name": ("17e8f2d6e97a576d", "a08d644c80c008cb"),
    "matched, random weights": ("b8f0ba372529892e", "76c57d3c4aab2f00"),
    "matched, identity block": ("a10358a51aff88a4", "c2ae79f1e32fd635"),
    "matched, trainable": ("2bbc150fc1464d5f", "0db5383fce9f3434"),
    "matched, LoRA of the block": ("85df0e440114317b", "37c3e971198f558b"),
    "matched, hybrid": ("88ec46a588de58d2", "c64fdd46f45411b8"),
    "corrected protocol": ("4ed4d5658e15dd78", "bd7e93e704855b0e"),
    "corrected, its own window": ("b7a6a427662a7b72", "0af460b0a922aa19"),
    "corrected, its own spacing": ("db152f44bb99e944", "0749487392ae5cfd"),
    "corrected, cropped": ("5a51a060c08880d3", "03499664ae059822"),
    "corrected, z-score, smaller": ("ca49f1bc56d8ccd0", "94a3f510c4fe5c4d"),
    "elsewhere, bad cases left out": ("a24eb03ab5a52dd9", "7750f67784f90236"),
    "own label groups": ("28a23c10474bf6c2", "d776c6ac267c177b"),
    "each label": ("0d7acb6df9dfa43e", "98db9c6eae094557"),
    "label groups of the task": ("b973d5a38b69fad6", "2bcc32d07f63bbaa"),
    "all channels": ("030d706dd9575281", "0747f24d42ecb815"),
    "modality of the task": ("f0d90f111a2889cb", "38bf5fc81f2e229f"),
    "window of the task": ("ef84442f5609b739", "2bd8efa48f267252"),
    "tolerances of the task": ("a24eb03ab5a52dd9", "0b24cbdcd9068f67"),
    "no augmentation": ("de05bb9c5a69b2e5", "c9f8f3fbc15e1c39"),
    "other augmentation": ("b03a85a6ee0db523", "fb53936c0e5c75d6"),
    "flips": ("6287ec74b151fe57", "5d5cd48bb9130e92"),
    "elastic": ("55bf5ea7a3b1e13b", "ee1b8fdceb3fb8de"),
    "gamma": ("f3585d9feb866308", "37f9c65a4a20c1b4"),
    "noise": ("16c344287d624392", "ec1bc17a7c4a00dc"),
    "every augmentation": ("296d864eef6dd1f4", "dc98d5de82cd6e2a"),
    "recipe": ("8a732cddf0628c65", "6c62bb45acbe4491"),
    "steps": ("11143c3c769fbe77", "c12ed503b5efc6cd"),
    "compiled": ("ce58f4dbab5b86fb", "3cad9dc09c74c2a8"),
    "rare checkpoints, less memory": ("a24eb03ab5a52dd9", "7750f67784f90236"),
    "another seed": ("e624f6402af36bcf", "cbc60b8d9de56c85"),
    "other folds, fractions and resources": ("a24eb03ab5a52dd9", "7750f67784f90236"),
    "other scores": ("a24eb03ab5a52dd9", "02095e9853fb25a3"),
    "other tolerances": ("a24eb03ab5a52dd9", "f420d1750e3ec876"),
    "other tables": ("a24eb03ab5a52dd9", "7750f67784f90236"),
    "search": ("bb4f1cca25080c26", "0e8f83206ce09472"),
    "search, other settings": ("4a53544cfa8043bf", "0f71ad8163a89d95"),
    "search, nested": ("bb4f1cca25080c26", "0e8f83206ce09472"),
    "search with a budget": ("2e2b0fe4deb58a77", "f880e28b9b7818d0"),
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
    llm = block_of(model)
    block = f"content of {llm.source}" if llm else None
    if spec.search:
        search = Search(
            spec, spec.search, model, task, None, 5, ROLES, FINGERPRINTS, BlockInputs(block)
        )
        job = search.job(4, {"training.lr": 1e-3, "lora.rank": 2, "depth": 4}, [], "token")
        return [(digest(search.identity), search.id), (job.train_id, job.eval_id)]
    trainings = [
        train_identity(spec, model, task, seed, ROLES, FINGERPRINTS, block) for seed in spec.seeds
    ]
    train_ids = map(digest, trainings)
    return [
        (name, digest(eval_identity(spec, task, name, ROLES, FINGERPRINTS))) for name in train_ids
    ]


@pytest.fixture(autouse=True)
def _numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the day of the pins, which speak of settings and stay when numbers move on purpose."""
    monkeypatch.setattr(orchestrator.planning.identity, "TRAIN_NUMERICS", 2)
    monkeypatch.setattr(orchestrator.planning.identity, "EVAL_NUMERICS", 1)
    monkeypatch.setattr(orchestrator.planning.search, "SEARCH_NUMERICS", 1)


@pytest.mark.parametrize("name", STUDIES)
def test_ids_are_what_they_were(name: str) -> None:
    assert (name, digests(STUDIES[name])) == (name, PINNED.get(name))
