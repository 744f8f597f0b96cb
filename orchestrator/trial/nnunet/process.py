"""Runs nnU-Net's side of a trial in a process of its own, and hears what it says.

Its environment names folders of this trial alone and switches nnU-Net's reports to other services
off.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from medvision.training.watch import Interrupted, Watch
from orchestrator.trial.nnunet.dataset import Folders
from orchestrator.trial.nnunet.worker import AUGMENTING, SAYS

LOOK_SECONDS = 0.2  # between two looks at whether the run is to stop
LAST_LINES = 30  # of what nnU-Net printed, for the record of a failure
WORKER = "orchestrator.trial.nnunet.worker"


def environment(folders: Folders, threads: int, processes: int) -> dict[str, str]:
    """Of the process: this one's, and nnU-Net's own variables.

    Args:
        threads: of torch and of the libraries below.
        processes: that load and augment cases; none is this process itself.
    """
    inside = folders.scratch / "cache"
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "nnUNet_raw": str(folders.raw),
        "nnUNet_preprocessed": str(folders.preprocessed),
        "nnUNet_results": str(folders.results),
        AUGMENTING: str(processes),
        "nnUNet_def_n_proc": str(max(1, threads)),
        "nnUNet_wandb_enabled": "0",
        "OMP_NUM_THREADS": str(threads),
        "MPLCONFIGDIR": str(inside / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(inside / "inductor"),
        "TRITON_CACHE_DIR": str(inside / "triton"),
    }


def messages(
    wanted: Mapping[str, Any], folders: Folders, environ: Mapping[str, str], watch: Watch
) -> Iterator[dict[str, Any]]:
    """Start the process and give what it says, until it has ended.

    Args:
        wanted: what it is to do (`orchestrator.trial.nnunet.worker`).

    Raises:
        Interrupted: `watch.stop` asked for it; the process has ended.
        RuntimeError: it failed; the last lines that it printed are logged.
    """
    settings = folders.scratch / "settings.json"
    settings.write_text(json.dumps(wanted))
    command = [sys.executable, "-m", WORKER, str(settings)]
    process = subprocess.Popen(
        command,
        cwd=folders.scratch,
        env=dict(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    printed: deque[str] = deque(maxlen=LAST_LINES)
    working = False  # planning says nothing, so there is no telling whether it hangs
    try:
        while True:
            if watch.stop():
                raise Interrupted("stopped while nnU-Net worked; its last checkpoint is kept")
            try:
                line = lines.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if not working:
                    watch.beat()
                continue
            if line is None:
                break
            watch.beat()
            if not line.startswith(SAYS):
                printed.append(line.rstrip())
                continue
            message = json.loads(line.removeprefix(SAYS))
            working = working or "stage" in message
            if not message.get("beat"):
                yield message
        if process.wait():
            raise RuntimeError(_failure(process.returncode, [one for one in printed if one]))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None  # noqa: S101  # a pipe was asked for
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _failure(code: int, printed: list[str]) -> str:
    """What happened, in one line; what was printed goes into the record of the failure."""
    for line in printed:
        logging.getLogger(__name__).error("nnU-Net: %s", line)
    last = printed[-1] if printed else "it printed nothing"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"nnU-Net ended with {how}: {last}"
