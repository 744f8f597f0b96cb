"""The workers' side of `tests.waiting.Barrier`: a training waits until its test lets it pass."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path

POLL_SECONDS = 0.05
FOLDER = Path(os.environ["MEDVISION_TEST_BARRIER"])


def wrapped(train):
    """`medvision.training.loop.train`, which waits before its first epoch and after each."""

    def with_barrier(*arguments, **options):
        ranks, watch, on_epoch = (options[name] for name in ("ranks", "watch", "on_epoch"))

        def then_wait(epoch, metrics):
            on_epoch(epoch, metrics)
            _wait(epoch, watch)

        if ranks.rank == 0:  # the others wait for it in their next collective
            _wait(0, watch)
        return train(*arguments, **(options | {"on_epoch": then_wait}))

    return with_barrier


def _wait(epoch, watch):
    """Return when this epoch is not held, or there is a pass, or the attempt is told to stop."""
    if not _holds(epoch):
        return
    place = FOLDER / "waiting" / f"{socket.gethostname()}.{os.getpid()}"
    new = place.with_name(f".{place.name}")
    with new.open("w") as file:
        # Held until this process dies, so that the test can tell who still waits.
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "epoch": epoch}, file)
        file.flush()
        new.rename(place)
        while _holds(epoch) and not watch.stop() and not _took_pass():
            watch.beat()
            time.sleep(POLL_SECONDS)
        place.unlink()


def _holds(epoch):
    try:
        first, last = json.loads((FOLDER / "holds").read_text())
    except FileNotFoundError:
        return False
    return first <= epoch <= last


def _took_pass():
    for name in sorted(os.listdir(FOLDER / "passes")):
        if name.rpartition(".")[0] in ("anyone", socket.gethostname()):
            try:
                (FOLDER / "passes" / name).unlink()
            except FileNotFoundError:  # another was faster
                continue
            return True
    return False
