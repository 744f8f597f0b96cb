"""What a driver says of its lanes."""

from __future__ import annotations

from typing import Any

from record.progress import LaneProgress


def test_a_lane_says_what_it_is_at() -> None:
    def step(**values: Any) -> str:
        return LaneProgress(number=1, title="", since=0.0, **values).step

    assert [step(at_work=False), step()] == ["waits", "starting"]
    assert [step(epoch=5, epochs=10), step(epoch=5)] == ["5/10", "5"]
    assert step(epoch=10, epochs=10) == "scoring"
