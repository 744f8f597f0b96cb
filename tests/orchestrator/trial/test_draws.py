"""What chance decides in a training: of its own for each seed, fold and training set, and the same
whenever the training is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torch import nn

from medvision.training.batches import epoch_batches
from medvision.training.checkpoint import load_checkpoint, read_about
from medvision.training.ranks import Ranks
from medvision.training.watch import Watch
from orchestrator.planning.identity import Job
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from orchestrator.trial import context as trial_context
from orchestrator.trial.context import TrialContext, train_model
from record.store import Store

VIT = "{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}"
SPACE = "{training.lr: {log: [1.0e-3, 1.0e-2]}}"
EIGHT = tuple(f"case_{number}" for number in range(8))
NOBODY = [], "token"


class Draws(NamedTuple):
    """What a training begins with: a sum of its initial weights and of a random block's, the order
    of eight cases in the first epoch, and the seed of dropout and augmentation.
    """

    weights: float
    block: float
    order: tuple[str, ...]
    seed: int


class Began(Exception):
    """Nothing more is wanted of a training."""


def draws_of(job: Job, store: Store, monkeypatch: pytest.MonkeyPatch) -> Draws:
    """Build the model of a job as an attempt does, up to its first step."""
    found: list[Draws] = []

    def begin(model: nn.Module, *given: Any, seed: int, **more: Any) -> None:
        sums = {name: float(value.double().sum()) for name, value in model.state_dict().items()}
        block = sum(value for name, value in sums.items() if name.startswith("bridge.block."))
        (order,) = epoch_batches(EIGHT, len(EIGHT), 1, seed=seed, epoch=1)
        found.append(Draws(sum(sums.values()) - block, block, tuple(order), seed))
        raise Began

    context = TrialContext(job, store)
    with monkeypatch.context() as patch:
        patch.setattr(trial_context, "train", begin)
        with pytest.raises(Began):
            train_model(context, Ranks(), Watch(), lambda epoch, metrics: None)
    return found[0]


def planned(spec_file: Path, model: str, *settings: str) -> Study:
    spec = load_spec(spec_file, [f"models=[{model}]", "comparisons=[]", *settings])
    study = Study.gathered(spec, open_store(spec))
    study.write()
    return study


def every_draw(study: Study, monkeypatch: pytest.MonkeyPatch) -> list[Draws]:
    return [draws_of(job, study.store, monkeypatch) for job in study.jobs("token")]


def differ(draws: list[Draws], *names: str) -> bool:
    return all(len({getattr(one, name) for one in draws}) == len(draws) for name in names)


@pytest.mark.parametrize("fraction", [1.0, 0.1])
def test_folds_and_seeds_begin_differently_and_the_same_cell_twice_the_same(
    fraction: float, tiny_spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also folds with the same training cases: of ten cases a tenth is one."""
    study = planned(tiny_spec, VIT, "seeds=[0, 1]", f"fractions=[{fraction}]")
    draws = every_draw(study, monkeypatch)
    assert len(draws) == 6
    assert differ(draws, "weights", "order", "seed")
    assert every_draw(study, monkeypatch) == draws


@pytest.mark.parametrize("cases", ["nested", "reserved"])
def test_so_do_the_trials_of_a_search_which_share_their_draw(
    cases: str, tiny_spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its settings are what differs between them. The grid's training begins elsewhere."""
    search = f"search={{trials: 2, cases: {cases}, reserved_fraction: 0.34, space: {SPACE}}}"
    study = planned(tiny_spec, VIT, search)
    first, again, second = (
        [
            draws_of(one.job(number, {"training.lr": lr}, *NOBODY), study.store, monkeypatch)
            for one in study.searches
        ]
        for number, lr in ((0, 0.001), (0, 0.001), (1, 0.002))
    )
    assert len(first) == (3 if cases == "nested" else 1)
    assert first == again == second
    grid = every_draw(planned(tiny_spec, VIT), monkeypatch)
    assert differ([*first, *grid], "weights", "order", "seed")


def test_a_random_block_is_drawn_with_its_training_unless_a_seed_fixes_it(
    tiny_spec: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def model(more: str) -> str:
        llm = f'{{source: "{tiny_llama}", weights: random{more}}}'
        return f"{{label: MedVisionLlama, embed_dim: 16, depth: 1, heads: 2, llm: {llm}}}"

    study = planned(tiny_spec, model(""), "seeds=[0, 1]")
    drawn = every_draw(study, monkeypatch)
    assert len(drawn) == 6
    assert differ(drawn, "block", "weights")
    assert every_draw(study, monkeypatch) == drawn
    fixed = every_draw(planned(tiny_spec, model(", random_seed: 3"), "seeds=[0, 1]"), monkeypatch)
    assert len({one.block for one in fixed}) == 1
    assert differ(fixed, "weights")
    assert [one.weights for one in fixed] == [one.weights for one in drawn]


def test_weights_beside_a_random_block_say_how_to_draw_it_again(
    tiny_spec: Path, tiny_llama: Path
) -> None:
    llm = f'{{source: "{tiny_llama}", weights: random}}'
    model = f"models=[{{label: MedVisionLlama, embed_dim: 16, depth: 1, heads: 2, llm: {llm}}}]"
    settings = (model, "comparisons=[]", "training.epochs=1", "tracking.enabled=false")
    words = [word for setting in settings for word in ("--set", setting)]
    assert main([str(tiny_spec), "--in-process", *words]) == 0
    store = open_store(load_spec(tiny_spec))
    files = [Path(store.path(one.files["weights"])) for one in store.commits().values()]
    assert len({read_about(file).model.llm.random_seed for file in files}) == 3
    for file in files:
        load_checkpoint(file)  # which compares the block's fingerprint
