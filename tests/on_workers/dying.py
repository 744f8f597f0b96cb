"""Processes that die when they are about to change a file; as a wrapper, the first one to train."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DEAD = 77  # how a process ends that was killed by its test
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate"}


class Death:
    """Ends this process when it is about to change a file below `folder` once more than `after`
    times; `partly`: with half of what it wrote last.
    """

    def __init__(self, folder: Path, after: float, *, partly: bool = False) -> None:
        self.folder, self.after, self.partly = f"{folder}/", after, partly
        self.count, self.last, self.size, self.dying = 0, "", 0, False

    def watch(self) -> None:
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: Sequence[Any]) -> None:
        if event != "open" and event not in _CHANGES:
            return
        path, *others = arguments
        if self.dying or isinstance(path, int) or path is None:
            return
        path = os.fsdecode(path)
        if not path.startswith(self.folder) or (event == "open" and not others[1] & _WRITES):
            return
        if self.count >= self.after:
            self.dying = True
            with contextlib.suppress(OSError):
                if self.partly and self.last:
                    os.truncate(self.last, (self.size + os.path.getsize(self.last)) // 2)
            os._exit(DEAD)
        self.count += 1
        if event == "open":
            self.last = path
            self.size = os.path.getsize(path) if os.path.exists(path) else 0


def wrapped(train: Callable[..., Any]) -> Callable[..., Any]:
    """`medvision.training.loop.train`; of all processes the first that trains dies after
    MEDVISION_TEST_DEATH more changes of the folder MEDVISION_TEST_STUDY.
    """

    def dying(*arguments: Any, **options: Any) -> Any:
        folder, after = (os.environ[f"MEDVISION_TEST_{name}"] for name in ("STUDY", "DEATH"))
        with contextlib.suppress(FileExistsError):
            Path(f"{folder}.died").mkdir()
            Death(Path(folder), int(after), partly=int(after) % 2 == 1).watch()
        return train(*arguments, **options)

    return dying
