"""Several processes, and a training that stops and goes on, give the numbers of one."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from medvision.models import build_model
from medvision.training.ranks import Ranks, distributed_model, same_on_all
from medvision.training.settings import Training
from medvision.training.state import Checkpoints, unpacked
from medvision.training.watch import Interrupted, Watch
from tests.medvision.training.test_training import SMALL, model, run


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
        with pytest.warns(UserWarning, match="cannot be read, so the training starts over"):
            again = run(recipe, checkpoints=Checkpoints(load=lambda broken=broken: broken))  # type: ignore[misc]
        assert again.history == whole.history


def test_no_flipped_bit_of_a_checkpoint_is_resumed() -> None:
    saved, rng = list[bytes](), random.Random(0)
    run(Training(epochs=1, batch_size=2), checkpoints=Checkpoints(save=saved.append))
    content = saved[0]
    assert unpacked(content) is not None
    places = [*range(0, 60, 3), *(rng.randrange(len(content)) for _ in range(60))]
    for place in places:
        turned = bytes([content[place] ^ (1 << rng.randrange(8))])
        with pytest.warns(UserWarning, match="cannot be read, so the training starts over"):
            assert unpacked(content[:place] + turned + content[place + 1 :]) is None


def one_rank(rank: int, folder: Path, work: Callable[..., None], *given: Any) -> None:
    """`work` in a group of two, in a process that ends without the interpreter's own end.

    DDP keeps the group and its threads after `destroy_process_group`; one that lets a tensor go
    while the interpreter ends aborts the process now and then (pytorch issue 190489).
    """
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    work(Ranks(rank, 2), folder, *given)
    distributed.barrier()
    os._exit(0)


def on_two_ranks(folder: Path, work: Callable[..., None], *given: Any) -> list[Any]:
    """What each rank saved."""
    torch.multiprocessing.spawn(one_rank, (folder, work, *given), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def stopped_rank(ranks: Ranks, folder: Path) -> None:
    """Train on two ranks as a whole, and stopped in the middle of an epoch."""
    recipe = Training(epochs=3, batch_size=2, schedule="plateau", checkpoint_epochs=9)
    rank = ranks.rank
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


def test_two_ranks_stopped_in_the_middle_of_an_epoch_go_on_bit_for_bit(tmp_path: Path) -> None:
    for (history, state), (again, resumed) in on_two_ranks(tmp_path, stopped_rank):
        assert again == history
        assert all(torch.equal(resumed[name], state[name]) for name in state)


def gathered(ranks: Ranks, folder: Path) -> None:
    torch.save(ranks.to_first({"rank": ranks.rank}), folder / f"{ranks.rank}.pt")


def test_what_is_large_goes_to_rank_0_alone(tmp_path: Path) -> None:
    assert on_two_ranks(tmp_path, gathered) == [[{"rank": 0}, {"rank": 1}], []]
    assert Ranks().to_first("mine") == ["mine"]


def sent_and_trained(ranks: Ranks, folder: Path, block: Path) -> None:
    """What DDP sends of a model with a frozen block, and a training with and without that rule."""
    rank = ranks.rank

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
        parameter.data = parameter.data + rank  # not in place: models share a frozen block's memory
    wrapped = distributed_model(marked)
    kept = [name for name, parameter in marked.named_parameters() if rank and not torch.equal(
        parameter, network().get_parameter(name))]  # fmt: skip
    recipe = Training(epochs=2, batch_size=2)
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


def test_ddp_sends_all_but_the_frozen_block_and_trains_the_same(
    tiny_llama: Path, tmp_path: Path, isolated_cache: Path
) -> None:
    ranks = on_two_ranks(tmp_path, sent_and_trained, tiny_llama)
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
