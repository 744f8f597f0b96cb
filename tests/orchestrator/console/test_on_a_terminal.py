"""What stays on a terminal, which a test opens as a person does."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

from tests.waiting import PATIENCE_SECONDS, ended_at_last


def test_ctrl_c_leaves_a_clean_terminal_and_says_how_to_go_on(tiny_spec: Path) -> None:
    command = [sys.executable, "-m", "orchestrator.run", str(tiny_spec), "--in-process"]
    command += ["--set", "tracking.enabled=false", "--set", "training.epochs=100000"]
    written, code = _interrupted_on_a_terminal(command, when=b"/100000")
    assert code == 130, written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") > 0  # the cursor is shown again
    assert "Traceback" not in written
    after = _as_shown(written)
    assert not re.search(r"━|s/epoch", after)  # nothing of the picture is left
    assert "Stopped." in after


def _interrupted_on_a_terminal(command: list[str], when: bytes) -> tuple[str, int]:
    """Run on a pseudo-terminal, press Ctrl-C when `when` is shown; what was written, and the exit
    code.
    """
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
        cwd=Path.cwd(),
    )
    os.close(slave)
    written, pressed = b"", False
    with ended_at_last(process), os.fdopen(master, "rb", buffering=0) as terminal:
        while True:
            ready, _, _ = select.select([terminal], [], [], 1.0)
            if ready:
                try:
                    written += terminal.read(65536)
                except OSError:  # the terminal's other end is closed
                    break
            elif process.poll() is not None:
                break
            if written.count(when) > 2 and not pressed:  # the picture has been drawn anew
                pressed = True
                process.send_signal(signal.SIGINT)
        return written.decode(), process.wait(PATIENCE_SECONDS)


def _as_shown(written: str) -> str:
    """The terminal's lines at the end: carriage returns, cursor-up and erase-line are carried out,
    colours dropped.
    """
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row = max(0, row - int(part[2:-1] or 1))
        elif part in ("\x1b[2K", "\x1b[K"):
            lines[row] = ""
        elif not part.startswith("\x1b") and part != "\r":
            lines[row] += part
    return "\n".join(lines)
