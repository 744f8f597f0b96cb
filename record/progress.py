"""progress.json: what the driver of a running study sees, for those who look on from elsewhere."""

from __future__ import annotations

from typing import ClassVar

from record.schema import Cell
from record.stored import Stored


class LaneProgress(Stored):
    """What one lane does: `cell` (None of a search's trial, which has its `title` alone), whether
    its workers are there (`at_work`) and since when (seconds since 1970), the last epoch that has
    ended of so many, its training loss, and the seconds that it took.
    """

    number: int
    title: str
    cell: Cell | None = None
    at_work: bool = True
    since: float
    epoch: int = 0
    epochs: int | None = None
    loss: float | None = None
    epoch_seconds: float | None = None

    @property
    def step(self) -> str:
        """What it is at: its epoch, or what comes before the first and after the last."""
        if not self.epoch:
            return "starting" if self.at_work else "waits"
        if self.epochs is None:
            return str(self.epoch)
        return "scoring" if self.epoch >= self.epochs else f"{self.epoch}/{self.epochs}"


class Progress(Stored):
    """The state of a run at `time` (seconds since 1970), by the driver that holds the lock `token`.

    `counts`: trials by state; `share`: of the estimated work, 0 to 1; `seconds_left` and
    `gpu_hours`: what is left at this rate, None where nothing is known yet; `failures`: the last
    ones, trial and reason. `written`: when the driver last gave a sign of life.
    """

    remedy: ClassVar[str] = "remove it; the driver writes it again"
    name: str
    token: str = ""
    time: float
    written: float = 0.0
    counts: dict[str, int] = {}
    share: float = 0.0
    seconds_left: float | None = None
    gpu_hours: float = 0.0
    lanes: list[LaneProgress] = []
    failures: list[tuple[str, str]] = []

    @property
    def has_ended(self) -> bool:
        """Whether every trial is finished or given up."""
        return not {"pending", "running", "failed"} & self.counts.keys()
