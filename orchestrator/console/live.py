"""What others see of a running study: `progress.json`, which `status --watch` reads, and the page
`live.html`, which loads itself again, both written into the study's folder while trials run.

The page needs no server: it is a file that a browser opens, and asks for nothing but itself. At the
end it hands over to the report.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Mapping
from types import TracebackType

from orchestrator.console.live_page import Results, live_page, moved_on, stopped_page
from orchestrator.console.picture import Picture
from orchestrator.planning.retry import State
from record import paths
from record.progress import Progress
from record.schema import Commit, StudyPlan
from record.store import Store, StoreError
from record.tables import mean_dice

WRITE_SECONDS = 2.0  # at least between two versions
REMOTE_WRITE_SECONDS = 15.0  # where each is a request that costs money
SIGN_OF_LIFE_SECONDS = 30.0  # at most
READ_AT_ONCE = 50  # finished trials whose tables are read for one version
END_SECONDS = 10.0  # how long the end of a run waits for a version that is being written


class LiveFiles:
    """Writes both files in a thread of its own, so that no trial waits for the storage.

    As a context, which encloses the run and its report. Give it every picture that the screen
    shows (`orchestrator.console.progress.Screen.published`).

    Args:
        store: the study's record.
        token: of the driver that holds the study's lock.
        lock: held by whoever changes a picture.
    """

    def __init__(self, store: Store, token: str, lock: threading.RLock | None = None) -> None:
        self.store, self.token, self.lock = store, token, lock or threading.RLock()
        self.pause = WRITE_SECONDS if store.local else REMOTE_WRITE_SECONDS
        self.versions = 0  # written so far
        self._picture: Picture | None = None
        self._shown: Progress | None = None
        self._plan: tuple[Picture, StudyPlan] | None = None
        self._dice: dict[str, float] = {}  # of finished trials, NaN where it cannot be read
        self._poked, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def __call__(self, picture: Picture) -> None:
        """The picture has changed, or is another; never waits for the storage."""
        if not picture.name or self._ended.is_set():  # no run: a text before it, or after its end
            return
        first, self._picture = self._picture is None, picture
        self._poked.set()
        if first:
            self._thread.start()

    def __enter__(self) -> LiveFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._picture is None:  # nothing was trained: the page is as the last run left it
            return
        self._ended.set()
        self._poked.set()
        self._thread.join(END_SECONDS)
        name = self._picture.name
        page = moved_on(name) if kind is None else stopped_page(name, self._shown, time.time())
        with contextlib.suppress(StoreError):  # whoever ends a run says what is wrong with it
            self.store.remove(paths.PROGRESS)
            self.store.write(paths.LIVE, page.encode())

    def _run(self) -> None:
        while not self._ended.is_set():
            self._poked.wait(SIGN_OF_LIFE_SECONDS)
            self._poked.clear()
            with contextlib.suppress(StoreError):  # the trials say that the storage is away
                self._write()
            self._ended.wait(self.pause)

    def _write(self) -> None:
        picture = self._picture
        assert picture is not None  # noqa: S101  # the thread starts with the first
        if self._plan is None or self._plan[0] is not picture:
            self._plan = picture, self.store.plan()
        plan = self._plan[1]
        planned = {trial.eval_id for trial in plan.trials if trial.eval_id}
        finished = self.store.committed() & planned
        self._read_dice(finished)
        with self.lock:
            progress = picture.progress(time.monotonic(), time.time())
            mine = set(picture.states)
        added: dict[str, object] = {"token": self.token, "written": time.time()}
        if mine & planned:  # else these are a search's trials
            added["counts"] = _with_earlier(progress.counts, planned - mine, finished)
        self._shown = progress = progress.model_copy(update=added)
        self.store.save(paths.PROGRESS, progress)
        page = live_page(progress, Results.of(plan, self._dice), self.pause)
        self.store.write(paths.LIVE, page.encode())
        self.versions += 1

    def _read_dice(self, finished: set[str]) -> None:
        """Read the Dice of some trials that are not known yet; the others come next time."""
        unread = sorted(finished - self._dice.keys())
        for name in unread[:READ_AT_ONCE]:
            self._dice[name] = math.nan
            with contextlib.suppress(StoreError, KeyError):  # the report says what is wrong with it
                marker = self.store.load(paths.commit(name), Commit)
                if marker:
                    self._dice[name] = mean_dice(self.store, marker)
        if unread[READ_AT_ONCE:]:
            self._poked.set()


def _with_earlier(
    counts: Mapping[str, int], earlier: set[str], finished: set[str]
) -> dict[str, int]:
    """Counts of a run with the plan's trials that it need not run: those that were finished before
    it, and those that have been given up.
    """
    before = {State.FINISHED.value: len(earlier & finished)}
    before[State.QUARANTINED.value] = len(earlier - finished)
    every = {
        state.value: counts.get(state.value, 0) + before.get(state.value, 0) for state in State
    }
    return {state: count for state, count in every.items() if count}
