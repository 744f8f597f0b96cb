"""Steps by a recorded graph: the logic, with a stand-in that computes again what was recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from medvision.training import loop
from medvision.training.graphs import GraphedStep, Record, Results, unfit
from medvision.training.ranks import Ranks
from medvision.training.settings import Training
from tests.medvision.training.test_training import model, run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def recorder(network: torch.nn.Module, replays: list[int]) -> Record:
    """Memory that stays, as of a CUDA graph, filled by another run."""

    def record(run: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        results = run()
        gradients = [parameter.grad for parameter in network.parameters()]

        def replay() -> None:
            replays.append(1)
            for held, new in zip(results, run(), strict=True):
                held.copy_(new)
            for held, parameter in zip(gradients, network.parameters(), strict=True):
                if held is not None:
                    held.copy_(parameter.grad)

        return results, replay

    return record


class Net(torch.nn.Module):
    """Random numbers and a buffer that each step moves, as of dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.drop = torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)
        self.unused = torch.nn.Linear(1, 1)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * images.mean(0))
        return self.drop(self.layer(images))


def work_of(network: torch.nn.Module) -> Callable[[torch.Tensor, torch.Tensor], Results]:
    def work(images: torch.Tensor, masks: torch.Tensor) -> Results:
        logits = network(images)
        losses = (logits - masks).square().mean(1)
        losses.sum().backward()
        return logits.detach(), losses.detach()

    return work


def steps(network: torch.nn.Module, step: Callable[..., Results], count: int = 6) -> list[Any]:
    torch.manual_seed(1)
    found = []
    for _ in range(count):
        images, masks = torch.rand(2, 3, 4)
        network.zero_grad(set_to_none=True)
        results = [part.clone() for part in step(images, masks)]
        gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        found += [*results, *gradients, *(one.clone() for one in network.buffers())]
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    return [*found, torch.get_rng_state()]


def test_a_graph_is_used_from_the_third_step_and_changes_nothing() -> None:
    plain, network, replays = Net(), Net(), list[int]()
    graphed = GraphedStep(network, work_of(network), CPU, recorder(network, replays))
    expected, found = steps(plain, work_of(plain)), steps(network, graphed)
    assert graphed.recorded
    assert len(replays) == 5  # one to prove it, four of the six steps
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))


class Counting(Net):
    """What Python changes from step to step, a graph would not."""

    calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(images) * self.calls


def refusing(run: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
    run()
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


def stale(run: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
    return run(), lambda: None


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (refusing, "RuntimeError: operation not permitted when stream is capturing"),
        (stale, "its numbers are not those of the step itself"),
    ],
)
def test_where_a_graph_cannot_be_had_steps_run_as_they_are_and_the_log_says_so_once(
    record: Record, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain, network = Net(), Net()
    graphed = GraphedStep(network, work_of(network), CPU, record)
    expected = steps(plain, work_of(plain))
    with caplog.at_level(logging.WARNING):
        found = steps(network, graphed)
    assert all(map(torch.equal, found, expected))
    assert not graphed.recorded
    assert [record.getMessage() for record in caplog.records] == [
        f"training.cuda_graphs: steps run as without it, with the same numbers: {why}"
    ]


def test_a_step_that_python_changes_is_not_replayed() -> None:
    network = Counting()
    graphed = GraphedStep(network, work_of(network), CPU, recorder(network, []))
    steps(network, graphed, 3)
    assert graphed.refused == "its numbers are not those of the step itself"


@pytest.mark.parametrize(
    ("settings", "ranks", "micro", "why"),
    [
        ({}, Ranks(device=CUDA), None, None),
        ({}, Ranks(device=CUDA), 4, None),
        ({}, Ranks(), None, "there is no GPU"),
        ({}, Ranks(0, 2, CUDA), None, "several workers"),
        ({}, Ranks(device=CUDA), 2, "in parts"),
        ({"compile": True}, Ranks(device=CUDA), None, "training.compile"),
        ({"gradient_checkpointing": True}, Ranks(device=CUDA), None, "gradient_checkpointing"),
    ],
)
def test_what_cannot_be_recorded_is_known_before(
    settings: dict, ranks: Ranks, micro: int | None, why: str | None
) -> None:
    found = unfit(Training(batch_size=4, **settings), ranks, micro)
    assert (found is None) == (why is None)
    assert (why or "") in (found or "")


def test_a_training_by_graphs_is_the_training_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five cases in batches of two: the last of each epoch is smaller, and runs as it is."""
    plain, replays = run(Training(epochs=3, batch_size=2)), list[int]()
    monkeypatch.setattr(loop, "unfit", lambda *_: None)
    monkeypatch.setattr(
        loop,
        "GraphedStep",
        lambda network, work, device: GraphedStep(
            network, work, device, recorder(network, replays)
        ),
    )
    graphed = run(Training(epochs=3, batch_size=2, cuda_graphs="auto"), model())
    assert len(replays) == 1 + 4  # of 3 x 2 whole batches the first two run as they are
    assert graphed.history == plain.history
    assert all(torch.equal(graphed.state[name], plain.state[name]) for name in plain.state)
