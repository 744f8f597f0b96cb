"""The Ray Train side of a lane: one process per rank that runs trial after trial until it is told to stop.

Rank 0 takes jobs from the lane's inbox and hands each to the other ranks; results go back through the outbox. An attempt
that raises ends the whole lane, because with DDP the other ranks may wait in a collective that will never come.
"""

from __future__ import annotations

import gc
import os
import queue
import traceback
from typing import Any

IDLE_SECONDS = 20.0  # shorter than the minute after which Ray warns of ranks that wait


def lane_loop(config: dict[str, Any]) -> None:
    """`train_loop_per_worker` of a lane.

    Args:
        config: `inbox` and `outbox` (ray.util.queue.Queue of jobs and events), `store` (URI of the study), `threads`.
    """
    import torch
    from ray import train
    from ray.train.collective import broadcast_from_rank_zero

    from medvision.training import Ranks
    from orchestrator.attempt import run_attempt
    from orchestrator.trial import Job
    from reports.store import Store

    context = train.get_context()
    torch.set_num_threads(config["threads"])
    device = train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    ranks = Ranks(context.get_world_rank(), context.get_world_size(), device)
    store = Store(config["store"])
    inbox, outbox = config["inbox"], config["outbox"]
    if ranks.rank == 0:
        outbox.put({"event": "lane-ready", "pid": os.getpid()})
    while True:
        message = broadcast_from_rank_zero(_next_message(inbox) if ranks.rank == 0 else None)
        if message is None:
            continue
        if message == "stop":
            return
        try:
            result = run_attempt(Job.from_json(message), store, ranks, outbox.put)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if ranks.rank:
                reason = f"rank {ranks.rank}: {reason}"
            outbox.put({"event": "attempt-failed", "reason": reason, "details": traceback.format_exc()})
            raise
        if ranks.rank == 0:
            outbox.put({"event": "attempt-done", "result": result})
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _next_message(inbox: Any) -> Any:
    """A job, "stop", or None after a while without either."""
    try:
        return inbox.get(timeout=IDLE_SECONDS)
    except queue.Empty:
        return None
