"""The executor of Ray lanes, as `orchestrator.executors.registry` names it; imports Ray when it is
entered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from orchestrator.console.logs import libraries_log
from orchestrator.executors.base import Executor
from orchestrator.planning.identity import Job
from record.events import Emit


class LaneExecutor(Executor):
    """Trials in lanes of long-lived Ray Train workers, on the cluster at `address` (or RAY_ADDRESS)
    or on a Ray of our own.

    Ray's messages go to the study's logs/driver.log.
    """

    starts = "Ray"

    @contextlib.contextmanager
    def machines(self) -> Iterator[None]:
        """A connected Ray."""
        from orchestrator.executors.lanes.cluster import cluster

        with libraries_log(self.store, "ray"), cluster(self.address):
            yield

    def run(
        self, jobs: Sequence[Job], *, emit: Emit, seconds: Callable[[Job], float] | None = None
    ) -> None:
        """See `Executor.run`; needs a connected Ray."""
        from orchestrator.executors.lanes.driver import run_jobs

        run_jobs(jobs, self.spec, self.store, emit, seconds=seconds)
