"""Training: golden losses, resumption, gradients of both loss terms, the choice of the epoch."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from medvision.data.augment import augment
from medvision.data.views.base import PreprocessedCase
from medvision.data.views.paper import Stretched
from medvision.models import build_model
from medvision.training.loop import train
from medvision.training.losses import dice_bce, hard_dice
from medvision.training.ranks import Ranks, distributed_model, same_on_all
from medvision.training.settings import Training
from medvision.training.state import Checkpoints, Trained
from medvision.training.watch import Interrupted, TrainingError, Watch

IDS = tuple(f"case_{index}" for index in range(7))
WHOLE = Stretched((8, 8, 8), (8, 8, 8))
SMALL = {"embed_dim": 16, "depth": 2, "heads": 2}


def prepared(seed: int = 0) -> dict[str, PreprocessedCase]:
    rng = np.random.default_rng(seed)
    cases = {}
    for case in IDS:
        mask = np.zeros((1, 8, 8, 8), np.uint8)
        x, y, z = rng.integers(0, 4, 3)
        mask[0, x : x + 4, y : y + 4, z : z + 4] = 1
        image = np.clip(mask * 0.6 + rng.normal(0.2, 0.05, mask.shape), 0, 1).astype(np.float16)
        cases[case] = PreprocessedCase(image, mask, WHOLE)
    return cases


def model(**settings: float) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(
        "ViT_Baseline", image_size=(8, 8, 8), patch_size=(4, 4, 4), **SMALL, **settings
    )


def run(recipe: Training, network: torch.nn.Module | None = None, **options: object) -> Trained:
    return train(network or model(), prepared(), IDS[:5], IDS[5:], recipe, seed=3, **options)  # type: ignore[arg-type]


def test_golden_losses() -> None:
    """When these move on purpose, raise TRAIN_NUMERICS. The tolerance is for other processors, not
    for changes.
    """
    trained = run(Training(epochs=3, batch_size=2, optimizer="adamw", schedule="onecycle"))
    losses = [metrics["train_loss"] for metrics in trained.history]
    assert losses == pytest.approx(GOLDEN, rel=2e-4)


GOLDEN = [1.2583882331848144, 1.259372615814209, 1.2543319463729858]


@pytest.mark.parametrize("schedule", ["plateau", "onecycle", "cosine", "constant"])
def test_the_loss_falls_and_every_schedule_resumes_bit_for_bit(schedule: str) -> None:
    recipe = Training(epochs=6, batch_size=2, schedule=schedule, checkpoint_epochs=2, lr=3e-3)
    whole = run(recipe)
    assert whole.history[-1]["train_loss"] < whole.history[0]["train_loss"]

    saved: list[bytes] = []

    def stop_in_epoch_5(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe, checkpoints=Checkpoints(save=saved.append), on_epoch=stop_in_epoch_5)
    assert len(saved) == 2
    resumed = run(recipe, checkpoints=Checkpoints(load=lambda: saved[-1]))
    assert resumed.history == whole.history
    assert resumed.epoch == whole.epoch
    assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)


def test_the_chosen_epoch_has_the_best_validation_dice() -> None:
    trained = run(Training(epochs=6, batch_size=2, lr=1e-2, schedule="constant"))
    dice = [metrics["val_dice"] for metrics in trained.history]
    assert trained.epoch == dice.index(max(dice)) + 1
    last = run(Training(epochs=6, batch_size=2, lr=1e-2, schedule="constant", select="last"))
    assert last.epoch == 6


def test_without_validation_cases_the_last_epoch_is_taken() -> None:
    trained = train(model(), prepared(), IDS[:3], (), Training(epochs=2, batch_size=2), seed=0)
    assert trained.epoch == 2
    assert "val_dice" not in trained.history[0]


def test_steps_end_in_the_middle_of_a_pass() -> None:
    recipe = Training(steps=4, batch_size=2, schedule="onecycle")
    assert recipe.total_steps(5) == 4
    assert len(run(recipe).history) == 2  # three steps, then one


def test_gradient_checkpointing_changes_no_number() -> None:
    plain = run(Training(epochs=2, batch_size=2))
    again = run(Training(epochs=2, batch_size=2, gradient_checkpointing=True))
    assert again.history == plain.history


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains_to_about_the_same_losses_and_resumes(precision: str) -> None:
    recipe = Training(epochs=4, batch_size=2, precision=precision, checkpoint_epochs=2)  # type: ignore[arg-type]
    saved: list[bytes] = []
    lower = run(recipe, checkpoints=Checkpoints(save=saved.append))
    full = run(Training(epochs=4, batch_size=2))
    losses = [[metrics["train_loss"] for metrics in trained.history] for trained in (lower, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]
    assert run(recipe, checkpoints=Checkpoints(load=lambda: saved[0])).history == lower.history


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "options", [{}, {"precision": "bf16"}, {"precision": "fp16"}, {"compile": True}]
)
def test_a_gpu_trains_like_the_cpu(options: dict) -> None:
    recipe = Training(epochs=3, batch_size=2, optimizer="adamw", lr=1e-3, **options)
    gpu = run(recipe, ranks=Ranks(device=torch.device("cuda")))
    cpu = run(Training(epochs=3, batch_size=2, optimizer="adamw", lr=1e-3))
    losses = [[metrics["train_loss"] for metrics in trained.history] for trained in (gpu, cpu)]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


def test_the_output_starts_at_the_share_of_foreground() -> None:
    network = model()
    network.set_output_bias(torch.logit(torch.tensor([0.125])))
    network.eval()
    with torch.no_grad():
        network.head.weight.zero_()
        assert network(torch.rand(1, 1, 8, 8, 8)).sigmoid().mean() == pytest.approx(0.125)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    cases = prepared()
    broken = cases[IDS[0]].image.copy()
    broken[0, 0, 0, 0] = np.nan
    cases[IDS[0]] = PreprocessedCase(broken, cases[IDS[0]].masks, WHOLE)
    with pytest.raises(TrainingError, match="training loss is nan in epoch 1"):
        train(model(), cases, IDS[:5], IDS[5:], Training(epochs=2, batch_size=2), seed=0)
    with pytest.raises(TrainingError, match="no training case"):
        train(model(), cases, (), (), Training(epochs=2), seed=0)


@pytest.mark.parametrize(("dice_weight", "bce_weight"), [(1.0, 0.0), (0.0, 1.0)])
def test_both_terms_of_the_loss_have_a_gradient(dice_weight: float, bce_weight: float) -> None:
    """The official Dice term thresholds its input and has none."""
    logits = torch.zeros(2, 1, 4, 4, 4, requires_grad=True)
    masks = torch.zeros(2, 1, 4, 4, 4)
    masks[:, :, :2] = 1
    dice_bce(logits, masks, dice_weight=dice_weight, bce_weight=bce_weight).sum().backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, :2] < 0).all()
    assert (logits.grad[:, :, 2:] > 0).all()


def test_the_loss_in_closed_form() -> None:
    logits, masks = torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2)
    expected = 1 - (2 * 4 + 1) / (4 + 8 + 1) + math.log(2)
    assert dice_bce(logits, masks).item() == pytest.approx(expected)
    assert hard_dice(torch.full_like(logits, -1), torch.zeros_like(masks)).item() == 1.0
    assert hard_dice(torch.ones_like(logits), torch.zeros_like(masks)).item() == 0.0


def test_augmentation_depends_on_seed_epoch_and_case_only() -> None:
    images, masks = torch.rand(3, 1, 8, 10, 6), (torch.rand(3, 1, 8, 10, 6) > 0.5).float()
    options = {"seed": 1, "epoch": 2, "rotation_degrees": 5.0, "intensity": 0.1}
    together = augment(images, masks, ["a", "b", "c"], **options)
    alone = augment(images[1:2], masks[1:2], ["b"], **options)
    assert torch.equal(together[0][1:2], alone[0])
    assert not torch.equal(
        augment(images, masks, ["a", "b", "c"], **options | {"epoch": 3})[0], together[0]
    )
    unchanged = augment(
        images, masks, ["a", "b", "c"], **options | {"rotation_degrees": 0.0, "intensity": 0.0}
    )
    assert torch.equal(unchanged[0], images)


def test_a_rotation_by_a_quarter_turn_turns_image_and_mask_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.zeros(1, 1, 9, 9, 3)
    images[0, 0, 8, 4, 1] = 1
    monkeypatch.setattr(
        torch, "rand", lambda *a, **k: torch.tensor([1.0, 0.5])
    )  # the largest angle, intensity 1
    turned, mask = augment(
        images, images.clone(), ["a"], seed=0, epoch=0, rotation_degrees=90.0, intensity=0.1
    )
    assert torch.equal(turned.round(), mask)
    assert turned.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert turned[0, 0, 4, :, 1].argmax().item() in (0, 8)


@pytest.mark.parametrize("stop_after", [0, 5, 8])
def test_a_training_told_to_stop_goes_on_bit_for_bit_from_the_very_batch(stop_after: int) -> None:
    """Four beats an epoch, the last for validation: stopped at the start, in the second epoch, and
    after it.
    """
    recipe = Training(epochs=4, batch_size=2, schedule="onecycle", augmentation=None)
    whole = run(recipe)
    saved: list[bytes] = []
    beats: list[None] = []
    watch = Watch(beat=lambda: beats.append(None), stop=lambda: len(beats) >= stop_after)
    with pytest.raises(Interrupted):
        run(recipe, checkpoints=Checkpoints(save=saved.append), watch=watch)
    resumed = run(recipe, checkpoints=Checkpoints(load=lambda: saved[-1]))
    assert resumed.history == whole.history
    assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)


def test_a_finished_training_is_kept_for_an_evaluation_that_was_cut_off() -> None:
    saved: list[bytes] = []
    recipe = Training(epochs=2, batch_size=2)
    whole = run(recipe, checkpoints=Checkpoints(save=saved.append))
    steps: list[None] = []
    again = run(
        recipe,
        checkpoints=Checkpoints(load=lambda: saved[-1]),
        watch=Watch(beat=lambda: steps.append(None)),
    )
    assert not steps
    assert again.history == whole.history
    assert all(torch.equal(again.state[name], whole.state[name]) for name in whole.state)


def test_a_checkpoint_that_was_cut_off_starts_the_training_anew() -> None:
    saved: list[bytes] = []
    recipe = Training(epochs=2, batch_size=2, checkpoint_epochs=1)
    whole = run(recipe, checkpoints=Checkpoints(save=saved.append))
    for broken in (saved[0][: len(saved[0]) // 2], b""):
        with pytest.warns(UserWarning, match="cannot be read, so the training starts anew"):
            again = run(recipe, checkpoints=Checkpoints(load=lambda broken=broken: broken))  # type: ignore[misc]
        assert again.history == whole.history


def stopped_rank(rank: int, folder: Path) -> None:
    """Train on two ranks as a whole, and stopped in the middle of an epoch."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    recipe, ranks = (
        Training(epochs=3, batch_size=2, schedule="plateau", checkpoint_epochs=9),
        Ranks(rank, 2),
    )
    whole = run(recipe, ranks=ranks)
    saved, steps = list[bytes](), list[None]()
    watch = Watch(beat=lambda: steps.append(None), stop=lambda: rank == 1 and len(steps) >= 4)
    with pytest.raises(Interrupted):
        run(recipe, ranks=ranks, watch=watch, checkpoints=Checkpoints(save=saved.append))
    shared: list[bytes] = [b""]
    if rank == 0:
        shared = saved[-1:]
    distributed.broadcast_object_list(shared)
    resumed = run(recipe, ranks=ranks, checkpoints=Checkpoints(load=lambda: shared[0]))
    torch.save([[found.history, found.state] for found in (whole, resumed)], folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_ranks_stopped_in_the_middle_of_an_epoch_go_on_bit_for_bit(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(stopped_rank, (tmp_path,), nprocs=2)
    for rank in (0, 1):
        (history, state), (again, resumed) = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert again == history
        assert all(torch.equal(resumed[name], state[name]) for name in state)


def one_of_two_ranks(rank: int, folder: Path, block: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )

    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        llama = {
            "label": "MedVisionLlama",
            "llm": {"source": str(block)},
            "lora": {"targets": ["mappers", "q"]},
        }
        return build_model(**llama, image_size=(8, 8, 8), patch_size=(4, 4, 4), **SMALL)

    marked = network()
    for parameter in marked.parameters():
        parameter.data += rank
    wrapped = distributed_model(marked)
    kept = [name for name, parameter in marked.named_parameters() if rank and not torch.equal(
        parameter, network().get_parameter(name))]  # fmt: skip
    recipe, ranks = Training(epochs=2, batch_size=2), Ranks(rank, 2)
    trained = run(recipe, network(), ranks=ranks)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model = lambda *_: None  # type: ignore[method-assign]
    everything_sent = run(recipe, network(), ranks=ranks)
    torch.save(
        {
            "kept": kept,
            "ignored": sorted(wrapped.parameters_to_ignore),
            "histories": [trained.history, everything_sent.history],
            "states": [trained.state, everything_sent.state],
        },
        folder / f"{rank}.pt",
    )
    distributed.destroy_process_group()


def test_ddp_sends_all_but_the_frozen_block_and_trains_the_same(
    tiny_llama: Path, tmp_path: Path, isolated_cache: Path
) -> None:
    torch.multiprocessing.spawn(one_of_two_ranks, (tmp_path, tiny_llama), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    kept = ranks[1]["kept"]
    assert sorted(kept) == ranks[0]["ignored"] == ranks[1]["ignored"]
    assert len(kept) == 9 + 1  # a layer's matrices and norms, and the final norm
    assert all(name.startswith("bridge.block.") and "lora_" not in name for name in kept)
    for rank in ranks:
        assert rank["histories"][0] == rank["histories"][1] == ranks[0]["histories"][0]
        mine, sent = rank["states"]
        assert mine.keys() == sent.keys()
        assert all(torch.equal(mine[name], sent[name]) for name in mine)


def test_micro_batches_give_the_losses_of_the_whole_batch() -> None:
    recipe = Training(epochs=2, batch_size=4, augmentation=None, clip_norm=None)
    whole, parts = (run(recipe, model(dropout=0.0), micro_batch=size) for size in (None, 1))
    losses = [[metrics["train_loss"] for metrics in trained.history] for trained in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert run(recipe, model(dropout=0.0), micro_batch=9).history == whole.history


@pytest.mark.parametrize(("others", "fits"), [(b"state", True), (b"newer", False), (None, False)])
def test_ranks_that_read_different_checkpoints_do_not_go_on(
    others: bytes | None, fits: bool
) -> None:
    class Two(Ranks):
        def gather(self, value: Any) -> list[Any]:
            return [value, others and hashlib.sha256(others).hexdigest()]

    if fits:
        assert same_on_all(b"state", Two(0, 2)) == b"state"
    else:
        with pytest.raises(RuntimeError, match="different checkpoints"):
            same_on_all(b"state", Two(0, 2))
