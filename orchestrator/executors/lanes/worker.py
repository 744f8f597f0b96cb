"""The Ray Train side of a lane: one process per rank that runs trial after trial until it is asked
to stop.

Rank 0 takes messages from the lane's inbox: jobs, which it hands to the other ranks, `interrupt`,
after which the running attempt saves its checkpoint and ends, and `stop`. Results go back through
the outbox. An attempt that raises ends the whole lane, because with DDP the other ranks may wait in
a collective that will never come.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import queue
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from orchestrator.trial.log_tail import LAST_WORDS
from record.events import AttemptDone, AttemptStopped, Beat, LaneReady, RankFailed, RankReady

if TYPE_CHECKING:
    import torch

IDLE_SECONDS = 20.0  # shorter than the minute after which Ray warns of ranks that wait
BEAT_SECONDS = 5.0
STDERR = "/proc/self/fd/2"  # Linux: a link to the file that Ray redirects it to


def lane_loop(config: dict[str, Any]) -> None:
    """`train_loop_per_worker` of a lane.

    Args:
        config: `inbox` and `outbox` (ray.util.queue.Queue of messages and events), `store` (URI of
            the study), `threads`, `hang_seconds`, `gpus` (share of one).
    """
    import ray
    import torch
    from ray import train
    from ray.train.collective import broadcast_from_rank_zero

    from medvision.training.ranks import Ranks
    from medvision.training.watch import Interrupted, Watch
    from orchestrator.executors.lanes.preflight import problems_of_lane
    from orchestrator.planning.identity import Job
    from orchestrator.trial.attempt import failure_of, run_attempt
    from record.store import Store

    context, outbox = train.get_context(), config["outbox"]
    torch.set_num_threads(config["threads"])
    device = train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")
    take(device, config["gpus"])
    ranks = Ranks(context.get_world_rank(), context.get_world_size(), device)
    me = ray.get_runtime_context()
    stderr = os.path.realpath(STDERR)
    outbox.put(RankReady(ranks.rank, me.current_actor, me.get_node_id(), os.getpid(), stderr))
    if problems := problems_of_lane(config["store"]):
        # No trial's fault: the kind ends the run, as the same problem before the start would have.
        reason = "\n".join(problems)
        outbox.put(RankFailed(ranks.rank, "storage", reason))
        raise RuntimeError(reason)
    store = Store(config["store"])
    inbox = _Inbox(config["inbox"]) if ranks.rank == 0 else None
    heartbeat = _Heartbeat(outbox, ranks.rank, config["hang_seconds"])
    if ranks.rank == 0:
        outbox.put(LaneReady(pid=os.getpid()))
    settled = False
    while True:
        message = broadcast_from_rank_zero(inbox.next() if inbox else None)
        if message is None:
            continue
        if message == "stop":
            return
        watch = Watch(heartbeat.beat, inbox.interrupted.is_set if inbox else lambda: False)
        try:
            with heartbeat, LAST_WORDS.listening():
                outcome = run_attempt(Job.from_json(message), store, ranks, outbox.put, watch)
        except Interrupted:
            if ranks.rank == 0:
                outbox.put(AttemptStopped())
        except Exception as error:
            outbox.put(RankFailed(ranks.rank, *failure_of(error)))
            raise
        else:
            if outcome:  # of rank 0
                outbox.put(AttemptDone(outcome))
        gc.collect()
        if not settled:  # what the imports made stays: searching it again would cost 0.4 s a trial
            gc.freeze()
            settled = True
        if device.type == "cuda":
            torch.cuda.empty_cache()


def take(device: torch.device, share: float) -> None:
    """Make a GPU this process's, with no more of its memory than its share: what is over would be
    another trial's.
    """
    import torch

    if device.type != "cuda":
        return
    torch.cuda.set_device(device)
    if share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)


class _Inbox:
    """Reads the lane's inbox in a thread, so that an attempt learns of `interrupt` while it
    computes.
    """

    def __init__(self, inbox: Any) -> None:
        self.messages: queue.Queue[Any] = queue.Queue()
        self.interrupted = threading.Event()
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def next(self) -> Any:
        """A job, "stop", or None after a while without either."""
        try:
            return self.messages.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return None

    def _read(self, inbox: Any) -> None:
        message = None
        while message != "stop":
            try:
                message = inbox.get()
            except Exception:  # the lane is gone, and Ray ends this process
                message = "stop"
            if message == "interrupt":
                self.interrupted.set()
                continue
            if message != "stop":
                self.interrupted.clear()
            self.messages.put(message)


class _Heartbeat:
    """Says that an attempt is alive, and ends the process of one that is not, with the stacks of
    its threads.
    """

    def __init__(self, outbox: Any, rank: int, hang_seconds: float) -> None:
        self.outbox, self.rank, self.hang_seconds = outbox, rank, hang_seconds
        self.last = self.sent = time.monotonic()
        self.running = False
        threading.Thread(target=self._watch, daemon=True).start()

    def beat(self) -> None:
        self.last = time.monotonic()
        if self.rank == 0 and self.last - self.sent > BEAT_SECONDS:
            self.sent = self.last
            self.outbox.put(Beat())

    def __enter__(self) -> None:
        self.last = time.monotonic()
        self.running = True
        self._last_resort()

    def __exit__(self, *_: object) -> None:
        self.running = False
        faulthandler.cancel_dump_traceback_later()

    def _last_resort(self) -> None:
        """For code that holds Python's lock, and with it the thread below: a timer in C.

        The stacks go to the process's stderr, which Ray keeps on its machine; the lane reads them
        there.
        """
        faulthandler.dump_traceback_later(2 * self.hang_seconds, exit=True, file=2)

    def _watch(self) -> None:
        while True:
            time.sleep(min(BEAT_SECONDS, self.hang_seconds / 4))
            silent = time.monotonic() - self.last
            if not self.running:
                continue
            if silent <= self.hang_seconds:
                self._last_resort()
                continue
            reason = (
                f"no sign of life for {silent:.0f} s (resources.hang_seconds is "
                f"{self.hang_seconds:g})"
            )
            stacks = "\n".join(
                "".join(traceback.format_stack(frame)) for frame in sys._current_frames().values()
            )
            stacks += LAST_WORDS.text()
            self.outbox.put(RankFailed(self.rank, "hang", reason, stacks))
            os._exit(1)
