"""Batches: cases that lie on the device give the numbers of those that come from files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medvision.data.patches import structure_points
from medvision.data.views.base import PreprocessedCase
from medvision.data.views.patches import Resampled
from medvision.training import loop
from medvision.training.batches import Draw
from medvision.training.feed import Feed, room, room_on
from medvision.training.settings import Training
from tests.medvision.training.test_training import IDS, prepared, run

CPU = torch.device("cpu")
GIB = 2**30


def cases_in_patches() -> dict[str, PreprocessedCase]:
    """Of different sizes, one smaller than the patch."""
    rng, found = np.random.default_rng(0), {}
    for name, shape in (("a", (9, 12, 7)), ("b", (4, 20, 11)), ("c", (30, 8, 8))):
        image = rng.random((2, *shape)).astype(np.float16)
        masks = (image[:1] > 0.8).astype(np.uint8)
        axes = (0, 1, 2)
        place = Resampled(shape, shape, (6, 8, 8), axes, (False,) * 3, None, 0.5)
        found[name] = PreprocessedCase(image, masks, place, structure_points(masks))
    return found


@pytest.mark.parametrize("cases", [prepared(), cases_in_patches()], ids=["whole", "patches"])
def test_a_batch_is_the_same_from_the_device_and_from_files(
    cases: dict[str, PreprocessedCase],
) -> None:
    names = list(cases)
    files, kept = Feed(cases, CPU), Feed(cases, CPU)
    assert kept.keep(names, room=GIB)
    for seed in range(8):
        draws = [Draw(name, seed) for name in names[: 1 + seed % len(names)]]
        expected = [
            torch.stack([torch.tensor(cases[name].sample(seed)[kind]) for name, _ in draws]).float()
            for kind in (0, 1)
        ]
        for feed in (files, kept):
            found = feed.batch(draws)
            assert [part.dtype for part in found] == [torch.float32] * 2
            assert all(map(torch.equal, found, expected))


def test_a_batch_stays_what_it_is_while_the_next_ones_are_filled() -> None:
    cases = prepared()
    for case in IDS:  # also of cases that are float32 already, which need no conversion
        image, masks = cases[case].image.astype(np.float32), cases[case].masks
        cases[case] = PreprocessedCase(image, masks, cases[case].placement)
    feed = Feed(cases, CPU)
    first = feed.batch([Draw(IDS[0], 0), Draw(IDS[1], 0)])
    before = [part.clone() for part in first]
    for case in IDS:
        feed.batch([Draw(case, 0)])
    assert all(map(torch.equal, first, before))


def test_cases_are_kept_where_they_fit_to_the_byte() -> None:
    cases = prepared()
    size = sum(cases[case].image.nbytes + cases[case].masks.nbytes for case in IDS[:3])
    assert not Feed(cases, CPU).keep(IDS[:3], size - 1)
    feed = Feed(cases, CPU)
    assert feed.keep([*IDS[:3], *IDS[:3]], size)
    assert feed.keep(IDS[:3], 0)  # they are there


def test_where_there_is_no_room_after_all_the_files_are_read_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cases, copies, real = prepared(), list[int](), torch.tensor

    def tensor(array: np.ndarray) -> torch.Tensor:
        copies.append(array.nbytes)
        if len(copies) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(array)

    feed, draws = Feed(cases, CPU), [Draw(IDS[0], 0)]
    expected = feed.batch(draws)
    monkeypatch.setattr(torch, "tensor", tensor)
    assert [feed.keep(IDS, GIB) for _ in range(3)] == [False] * 3
    assert len(copies) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "cases do not stay on cpu: there is no room after all"
    ]
    assert all(map(torch.equal, feed.batch(draws), expected))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"free": 70, "total": 80, "share": 1.0, "held": 10}, 62),  # 80 - 10 less the reserve of 8
        ({"free": 30, "total": 80, "share": 1.0, "held": 10}, 22),  # others hold the rest
        ({"free": 70, "total": 80, "share": 0.25, "held": 8}, 10),  # a lane of four
        ({"free": 70, "total": 80, "share": 0.25, "held": 19}, 0),
        ({"free": 1, "total": 80, "share": 1.0, "held": 79}, 0),
    ],
)
def test_the_room_is_what_this_process_may_take_less_a_reserve(
    facts: dict[str, float], expected: int
) -> None:
    sizes = {name: int(value * GIB) for name, value in facts.items() if name != "share"}
    assert room(**sizes, share=facts["share"]) == pytest.approx(expected * GIB, abs=2)
    assert room_on(CPU) == 0


@pytest.mark.parametrize("recipe", [{}, {"augmentation": {"copies": True}}])
def test_a_training_on_kept_cases_is_that_on_files(
    recipe: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Training.model_validate({"epochs": 3, "batch_size": 2, **recipe})
    plain, kept = run(settings), list[bool]()
    real = Feed.keep
    monkeypatch.setattr(loop, "room_on", lambda device: GIB)
    monkeypatch.setattr(Feed, "keep", lambda feed, *given: kept.append(real(feed, *given)))
    again = run(settings)
    assert kept == [True, True]  # after each epoch but the last
    assert again.history == plain.history
    assert all(torch.equal(again.state[name], plain.state[name]) for name in plain.state)
