"""What follows a failure, and which trial a free place gets: pure logic."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.executors.lanes.scheduler import KEEP_SHAPE, Scheduler, Waiting, fits
from orchestrator.planning.retry import (
    LOSSES_PER_ATTEMPT,
    State,
    counted_attempts,
    micro_batch,
    next_state,
)
from orchestrator.spec.resources import ResourcesSpec, WorkerResources
from record.schema import Failure

ONE, WIDE, HALF = (
    WorkerResources(),
    WorkerResources(gpus_per_worker=4),
    WorkerResources(gpus_per_worker=0.5),
)


def failed(kind: str, **more: Any) -> Failure:
    return Failure(kind=kind, reason=kind, **more)


def test_exceptions_and_hangs_count_and_quarantine() -> None:
    assert next_state([], 2) is State.PENDING
    assert next_state([failed("exception")], 2) is State.FAILED
    assert next_state([failed("exception"), failed("hang")], 2) is State.QUARANTINED


def test_a_nan_is_not_tried_again() -> None:
    assert next_state([failed("training")], 99) is State.QUARANTINED


def test_three_losses_without_a_new_epoch_count_as_one() -> None:
    losses = [failed("lost", epoch=epoch) for epoch in (4, 4, 7, 7, 2)]
    assert counted_attempts(losses) == 0
    assert counted_attempts([*losses, failed("lost", epoch=7)]) == 1
    assert counted_attempts([*losses, failed("lost", epoch=8)]) == 0


def test_a_trial_that_is_lost_for_ever_is_quarantined() -> None:
    losses = [failed("lost", epoch=0)] * (2 * LOSSES_PER_ATTEMPT)
    assert next_state(losses[:-1], 2) is State.FAILED
    assert next_state(losses, 2) is State.QUARANTINED


def test_memory_halves_the_micro_batch_until_it_counts() -> None:
    failures: list[Failure] = []
    seen = []
    while next_state(failures, 1) is not State.QUARANTINED:
        size = micro_batch(failures, 6)
        seen.append(size)
        failures.append(failed("memory", micro_batch=size or 6))
    assert seen == [None, 3, 1]


@given(
    st.lists(
        st.builds(
            failed,
            st.sampled_from(["exception", "hang", "memory", "lost"]),
            epoch=st.integers(0, 5),
            micro_batch=st.sampled_from([1, 2, 4]),
        )
    )
)
@settings(deadline=None)
def test_counted_attempts_never_fall_and_never_exceed_the_failures(
    failures: list[Failure],
) -> None:
    counts = [counted_attempts(failures[:end]) for end in range(len(failures) + 1)]
    assert counts == sorted(counts)
    assert counts[-1] <= len(failures)
    assert counts[-1] >= sum(failure.kind in ("exception", "hang") for failure in failures)


def test_the_longest_goes_first_and_a_lane_keeps_its_shape_while_that_is_cheap() -> None:
    def packer() -> Scheduler[str]:
        return Scheduler(
            [
                Waiting("long", WIDE, 10.0),
                Waiting("short", HALF, 10.0 * KEEP_SHAPE),
                Waiting("tiny", ONE, 1),
            ]
        )

    node = [{"CPU": 16.0, "GPU": 4.0}]
    whole, names = packer(), []
    while (taken := whole.take([], node, None)) is not None:
        names.append(taken.item)
    assert names == ["long", "short", "tiny"]
    kept = packer().take([], node, HALF)
    assert kept is not None
    assert kept.item == "short"
    left = packer().take([], node, ONE)  # a tenth of the longest: not worth keeping
    assert left is not None
    assert left.item == "long"


def test_a_wide_trial_that_does_not_fit_is_not_overtaken() -> None:
    packer = Scheduler([Waiting("wide", WIDE, 10.0), Waiting("narrow", HALF, 1.0)])
    node = [{"CPU": 16.0, "GPU": 4.0}]
    half = Waiting("running", HALF, 1.0)
    assert packer.take([half], node, HALF) is None
    taken = packer.take([], node, HALF)
    assert taken is not None
    assert taken.item == "wide"
    assert packer.take([half], None, None) is not None  # max_lanes decides: machines are waited for


def test_a_trial_that_no_machine_holds_any_more_is_passed_over() -> None:
    packer = Scheduler([Waiting("wide", WIDE, 10.0), Waiting("narrow", HALF, 1.0)])
    after_a_loss = [{"CPU": 4.0, "GPU": 1.0}]
    stranded = Waiting("waits in its lane", WIDE, 10.0)
    taken = packer.take([stranded], after_a_loss, None)
    assert taken is not None
    assert taken.item == "narrow"
    assert packer.take([stranded], after_a_loss, None) is None
    assert len(packer) == 1
    back = packer.take([], [{"CPU": 16.0, "GPU": 4.0}], None)
    assert back is not None
    assert back.item == "wide"


def test_trials_of_other_shapes_leave_their_place_to_one_that_has_found_none() -> None:
    """Two machines with three of four GPUs in use: by number there is room for a worker with two,
    but not on one machine.
    """
    pair, single = WorkerResources(gpus_per_worker=2), WorkerResources(gpus_per_worker=1)
    packer = Scheduler([Waiting("narrow", single, 2.0), Waiting("another pair", pair, 1.0)])
    nodes = [{"CPU": 16.0, "GPU": 4.0}] * 2
    running = [Waiting("narrow", single, 2.0)] * 5 + [Waiting("pair", pair, 9.0)]
    assert packer.take(running, nodes, single, {pair}) is None
    taken = packer.take(running, nodes, single)
    assert taken is not None
    assert taken.item == "narrow"
    gone = packer.take(
        [], [{"CPU": 16.0, "GPU": 1.0}], None, {pair}
    )  # no machine can hold it now: nothing waits for it
    assert gone is None
    assert packer.shapes == [pair]


def test_new_estimates_change_the_order() -> None:
    packer = Scheduler([Waiting("a", ONE, 2.0), Waiting("b", ONE, 1.0)])
    packer.estimate_again({"a": 1.0, "b": 2.0}.__getitem__)
    taken = packer.take([], None, None)
    assert taken is not None
    assert taken.item == "b"
    assert len(packer) == 1


@pytest.mark.parametrize(
    ("shapes", "held"),
    [
        ([HALF] * 8, True),
        ([HALF] * 9, False),
        ([WIDE], True),
        ([WIDE, HALF], False),
        ([WorkerResources(workers=4, gpus_per_worker=1)], True),
        ([WorkerResources(workers=5, gpus_per_worker=1)], False),
        (
            [WorkerResources(gpus_per_worker=3), WorkerResources(workers=2, gpus_per_worker=0.5)],
            True,
        ),
        (
            [WorkerResources(gpus_per_worker=0.6)] * 4,
            True,
        ),  # a share lies on one GPU: 0.4 of each is lost
        ([WorkerResources(gpus_per_worker=0.6)] * 5, False),
        (
            [WorkerResources(gpus_per_worker=0.6)] * 4 + [WorkerResources(gpus_per_worker=0.4)] * 4,
            True,
        ),
        ([WorkerResources(workers=9, gpus_per_worker=0.4)], False),
        (
            [
                WorkerResources(gpus_per_worker=3),
                WorkerResources(gpus_per_worker=0.1),
                WorkerResources(gpus_per_worker=1),
            ],
            False,
        ),
    ],
)
def test_fits_on_one_machine_of_four_gpus(shapes: list[WorkerResources], held: bool) -> None:
    assert fits(shapes, [{"CPU": 32.0, "GPU": 4.0}]) is held


def test_a_worker_does_not_spread_over_machines_but_a_trial_may() -> None:
    two = [{"CPU": 8.0, "GPU": 2.0}] * 2
    assert not fits([WorkerResources(gpus_per_worker=4)], two)
    assert fits([WorkerResources(workers=4, gpus_per_worker=1)], two)


@given(
    st.lists(
        st.builds(
            WorkerResources, st.integers(1, 3), st.integers(1, 4), st.sampled_from([0.0, 0.25, 1.0])
        ),
        max_size=8,
    )
)
@settings(deadline=None)
def test_what_fits_needs_no_more_than_there_is(shapes: list[WorkerResources]) -> None:
    machines = [{"CPU": 6.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 0.0}]
    if fits(shapes, machines):
        assert sum(shape.workers * shape.cpus_per_worker for shape in shapes) <= 10
        assert sum(shape.workers * shape.gpus_per_worker for shape in shapes) <= 2


def test_a_worker_gets_one_gpu_or_a_share_of_it() -> None:
    for good in (0, 0.25, 1):
        assert ResourcesSpec(gpus_per_worker=good).shape("m", "t").gpus_per_worker == good
    for bad in (1.5, 2, 4):
        with pytest.raises(ValidationError, match="trains on one GPU, and would leave the others"):
            ResourcesSpec(gpus_per_worker=bad)
    with pytest.raises(ValidationError, match="trains on one GPU"):
        ResourcesSpec(shapes=[{"gpus_per_worker": 2}])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "resources",
    [
        {"workers": 2, "gpus_per_worker": 0.5},
        {"gpus_per_worker": 0.5, "shapes": [{"models": ["A"], "workers": 2}]},
        {
            "shapes": [
                {"models": ["A"], "workers": 2},
                {"tasks": ["T"], "gpus_per_worker": 0.25},
            ]
        },
    ],
)
def test_two_workers_of_a_trial_cannot_share_a_gpu(resources: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"2 workers with gpus_per_worker 0.*NCCL refuses"):
        ResourcesSpec.model_validate(resources)


def test_workers_may_share_a_gpu_with_those_of_other_trials() -> None:
    shapes = [
        {"models": ["A"], "workers": 2, "gpus_per_worker": 1},
        {"models": ["B"], "workers": 1},
    ]
    given = ResourcesSpec.model_validate({"gpus_per_worker": 0.5, "shapes": shapes})
    assert given.shape("A", "T") == WorkerResources(2, 1, 1.0)
    assert given.shape("B", "T") == WorkerResources(1, 1, 0.5)
    assert ResourcesSpec.model_validate({"workers": 4}).with_gpus(True).known_gpus == 1
