"""Scoring overlaps prediction: the order of the rows and whose error it is do not change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from medvision.inference import Inference
from medvision.metrics.settings import Scoring
from medvision.training.ranks import Ranks
from medvision.training.watch import Interrupted, Watch
from orchestrator.trial import scoring
from orchestrator.trial.scoring import scored_at_once, scores_of_all

CASES = ["a", "b", "c", "d"]


def context() -> Any:
    """What scoring reads of a trial, the work itself left to `stand_ins`."""
    return SimpleNamespace(
        roles=SimpleNamespace(test=CASES),
        prepared=lambda case: case,
        truth=lambda case: SimpleNamespace(spacing=(1.0, 1.0, 1.0)),
        groups=["organ"],
        spec=SimpleNamespace(
            training=SimpleNamespace(precision="fp32", output="sigmoid"),
            evaluation=SimpleNamespace(inference=None, own=()),
        ),
    )


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(
        predicted: Callable[[str], None] = lambda case: None,
        scored: Callable[[str], None] = lambda case: None,
    ) -> None:
        def predict(model: Any, case: str, **_: Any) -> np.ndarray:
            predicted(case)
            return np.full((1, 2, 2, 2), case in "ac")

        def rows(context: Any, case: str, mask: np.ndarray, truth: Any) -> list[dict[str, Any]]:
            scored(case)
            return [{"case": case, "dice": float(mask.mean())}]

        monkeypatch.setattr(scoring, "predict", predict)
        monkeypatch.setattr(scoring, "tidied", lambda mask, *_: mask)
        monkeypatch.setattr(scoring, "_rows", rows)

    return install


def scored_by(ranks: Ranks | None = None, watch: Watch | None = None) -> list[Any]:
    how = Inference()
    return scores_of_all(context(), torch.nn.Identity(), ranks or Ranks(), watch or Watch(), how)


def test_a_case_is_scored_while_the_next_one_is_predicted(
    stand_ins: Callable[..., None],
) -> None:
    begun = {case: threading.Event() for case in CASES}

    def scored(case: str) -> None:
        if case != CASES[-1]:
            assert begun[CASES[CASES.index(case) + 1]].wait(60)

    stand_ins(lambda case: begun[case].set(), scored)
    found = scored_by()
    assert [one.case for one in found] == CASES
    assert [one.rows[0]["dice"] for one in found] == [1.0, 0.0, 1.0, 0.0]


def test_a_gpu_waits_for_no_scores_as_long_as_there_are_threads(
    stand_ins: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first case is scored until the last one is predicted."""
    last = threading.Event()
    stand_ins(
        lambda case: last.set() if case == CASES[-1] else None,
        lambda case: put_off(case == CASES[0], last),
    )
    monkeypatch.setattr(scoring, "scored_at_once", lambda *_: 4)
    assert [one.rows[0]["dice"] for one in scored_by()] == [1.0, 0.0, 1.0, 0.0]


def put_off(really: bool, until: threading.Event) -> None:
    assert not really or until.wait(60)


def test_how_many_cases_are_scored_at_once() -> None:
    gpu, cpu, plain = torch.device("cuda"), torch.device("cpu"), Scoring()
    assert [scored_at_once(gpu, threads, plain) for threads in (1, 2, 4, 16)] == [1, 2, 4, 4]
    assert scored_at_once(cpu, 16, plain) == 1
    own = Scoring.model_construct(own=("somebody's metric",))
    assert scored_at_once(gpu, 16, own) == 1


def broken(at: str) -> Callable[[str], None]:
    def work(case: str) -> None:
        if case == at:
            raise ValueError(f"of case {case}")

    return work


@pytest.mark.parametrize("case", ["a", "c", "d"])
def test_an_error_is_the_first_cases(case: str, stand_ins: Callable[..., None]) -> None:
    later = CASES[min(CASES.index(case) + 1, 3)]
    stand_ins(broken(later) if later != case else lambda _: None, broken(case))
    with pytest.raises(ValueError, match=f"of case {case}"):
        scored_by()


def test_who_stops_leaves_nothing_running(stand_ins: Callable[..., None]) -> None:
    seen, threads = list[str](), threading.active_count()
    stand_ins(scored=seen.append)
    with pytest.raises(Interrupted):
        scored_by(watch=Watch(stop=lambda: bool(seen)))
    assert seen in (["a"], ["a", "b"])
    assert threading.active_count() == threads


def test_only_rank_0_gets_what_the_others_scored(stand_ins: Callable[..., None]) -> None:
    """Of two ranks, whose messages are kept in a list instead of sent."""
    sent: list[Any] = []

    class One(Ranks):
        def any(self, value: bool) -> bool:
            return value

        def to_first(self, value: Any) -> list[Any]:
            sent.append(value)
            return sent if self.rank == 0 else []

    stand_ins()
    assert scored_by(One(1, 2)) == []
    assert [one.case for one in scored_by(One(0, 2))] == CASES
    assert [one.case for one in sent[0]] == ["b", "d"]
