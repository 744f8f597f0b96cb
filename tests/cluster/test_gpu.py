"""A study on GPUs: mixed precision, two trials on one GPU, and one trial on two GPUs with NCCL."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from medvision.data.views.base import PreprocessedCase
from medvision.data.views.paper import Stretched
from medvision.training.batches import Draw
from medvision.training.feed import Feed
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from record.schema import Attempt
from record.tables import read_results
from tests.waiting import Barrier, wait_for

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]


def gpus() -> int:
    import torch

    return torch.cuda.device_count()


def run(tiny_spec: Path, *changes: str) -> list[Attempt]:
    """Run the spec with changes; the finished attempts, each with its cost."""
    assert main([str(tiny_spec), *(word for change in changes for word in ("--set", change))]) == 0
    store = open_store(load_spec(tiny_spec, list(changes)))
    assert read_results(store, "cases")["dice"].between(0, 1).all()
    commits = list(store.commits().values())
    assert len(commits) == 6
    assert all(marker.attempt.device != "cpu" for marker in commits)
    assert all(marker.cost.peak_memory_bytes > 0 for marker in commits)
    return [marker.attempt for marker in commits]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trial_on_one_gpu(tiny_spec: Path, precision: str) -> None:
    if not gpus():
        pytest.skip("no CUDA device")
    run(tiny_spec, "resources.gpus_per_worker=1", f"training.precision={precision}")


def test_batches_go_to_the_gpu_through_pinned_memory() -> None:
    if not gpus():
        pytest.skip("no CUDA device")
    import numpy as np
    import torch

    values = np.random.default_rng(0).normal(size=(2, 1, 8, 8, 8)).astype(np.float16)
    cases = {
        str(index): PreprocessedCase(
            value, (value > 0).astype(np.uint8), Stretched((8, 8, 8), (8, 8, 8))
        )
        for index, value in enumerate(values)
    }
    feed = Feed(cases, torch.device("cuda"))
    images, masks = feed.batch([Draw("0", 0), Draw("1", 0)])
    assert all(held.is_pinned() for held in feed._buffers[0]._held.values())
    assert images.device.type == masks.device.type == "cuda"
    np.testing.assert_array_equal(images.cpu().numpy(), values.astype(np.float32))
    np.testing.assert_array_equal(masks.cpu().numpy(), (values > 0).astype(np.float32))


def test_a_gpu_changes_samples_as_the_cpu_does() -> None:
    if not gpus():
        pytest.skip("no CUDA device")
    import torch

    from medvision.data.augment import augment

    images = torch.rand(3, 2, 20, 24, 16, generator=torch.Generator().manual_seed(0))
    masks, changes = (
        (images > 0.7).float(),
        {"rotation_degrees": 15.0, "intensity": 0.1, "gamma": 0.2, "elastic": 0.0},
    )
    for elastic in (0.0, 0.3):
        changes["elastic"] = elastic
        here, there = (
            augment(
                images.to(device), masks.to(device), ["a", "b", "c"], seed=1, epoch=2, **changes
            )
            for device in ("cpu", "cuda")
        )
        torch.testing.assert_close(there[0].cpu(), here[0], rtol=1e-4, atol=1e-5)
        assert (there[1].cpu() == here[1]).float().mean() > 0.999


def test_two_trials_share_one_gpu(tiny_spec: Path, barrier: Barrier) -> None:
    """The first waits for the second: alone, one lane might be done before the other has begun."""
    if not gpus():
        pytest.skip("no CUDA device")

    def let_both_pass() -> None:
        with contextlib.suppress(AssertionError):  # then the assertion below fails
            wait_for("two trials at once", lambda: len(barrier.waiting()) == 2)
        barrier.lift()

    barrier.hold(0)
    together = threading.Thread(target=let_both_pass, daemon=True)
    together.start()
    attempts = run(tiny_spec, "resources.gpus_per_worker=0.5", "resources.max_lanes=2")
    together.join()
    assert len({attempt.pid for attempt in attempts}) == 2


def test_a_trial_that_does_not_fit_its_gpu_trains_the_same_batch_in_parts(
    tiny_spec: Path, tmp_path: Path
) -> None:
    if not gpus():
        pytest.skip("no CUDA device")
    import torch

    def trained(name: str) -> tuple[dict[str, Any], float]:
        changes = [
            "models=[{label: nnU-Net}]",
            "data.image_size=[96, 96, 96]",
            "data.patch_size=[8, 8, 8]",
            "folds=2",
        ]
        changes += [
            "training={epochs: 1, batch_size: 4}",
            "resources.gpus_per_worker=1",
            f"storage={tmp_path / name}",
        ]
        assert (
            main([str(tiny_spec), *(word for change in changes for word in ("--set", change))]) == 0
        )
        store = open_store(load_spec(tiny_spec, changes))
        (marker, *_) = sorted(store.commits().values(), key=lambda marker: marker.cell.fold)
        history = read_results(store, "history")
        first = history[(history["eval_id"] == marker.eval_id) & (history["metric"] == "loss")]
        return marker, float(first.loc[first["split"] == "train", "value"].iloc[0])

    whole, loss = trained("whole")
    assert whole.attempt.micro_batch is None
    # Other work takes the GPU's memory, but for what half a batch needs.
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(
        int(free - 0.75 * whole.cost.peak_memory_bytes - 2**30),
        dtype=torch.uint8,
        device="cuda",
    )
    parts, same_loss = trained("parts")
    del held
    assert parts.attempt.micro_batch in (1, 2)
    assert parts.cost.peak_memory_bytes < 0.75 * whole.cost.peak_memory_bytes
    assert same_loss == pytest.approx(loss, rel=1e-2)


def test_one_trial_on_two_gpus(tiny_spec: Path) -> None:
    if gpus() < 2:
        pytest.skip(f"two CUDA devices are needed for NCCL, this machine has {gpus()}")
    attempts = run(tiny_spec, "resources.gpus_per_worker=1", "resources.workers=2")
    assert {attempt.world for attempt in attempts} == {2}
