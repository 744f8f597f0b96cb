"""A tiny study whose processes die: its trainings take no time, everything that is written is real.

A run is a fork of the test's process, so that a kill leaves what it leaves: half-written files, a
lock, no cleaning up.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.run import main
from orchestrator.trial import attempt
from orchestrator.trial.context import TrialContext, checkpoint_path
from orchestrator.trial.rescoring import KINDS
from orchestrator.trial.scoring import _rows
from record import lock, paths
from record.events import Epoch
from record.masks import Packed, pack_masks, packed
from record.store import Store
from record.tables import table_bytes
from reports import contents
from tests.on_workers.dying import Death

PATIENCE_SECONDS = 120
FIGURES = (
    *("forest_plots", "qualitative_panels", "training_curves", "few_shot_curves"),
    *("critical_difference_diagram", "paired_differences", "noise_figure", "paper_figures"),
)


def drawn_scores(
    context: TrialContext, ranks: Any, emit: Callable[[Any], None], *_: Any
) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]]:
    """In place of `orchestrator.trial.attempt._train_and_score`: masks drawn by cell and case, and
    scored, and every file that a training writes.
    """
    job, store = context.job, context.store
    rows: list[dict[str, Any]] = []
    masks: dict[str, Packed] = {}
    for case in context.roles.test:
        truth = context.truth(case)
        seed = hashlib.sha256(f"{job.cell} {case}".encode()).digest()
        mask = truth.masks ^ (np.random.default_rng(list(seed)).random(truth.masks.shape) < 0.02)
        rows += _rows(context, case, mask, truth)
        masks[case] = packed(mask)
    emit(Epoch(job.title, job.eval_id, 1, {"train_loss": 0.5}, 1))
    store.write(checkpoint_path(job.train_id, 1, torch.device("cpu")), os.urandom(3000))
    files = {kind: paths.attempt_file(context.folder, kind) for kind in KINDS}
    curve = [{"epoch": 1, "split": "train", "metric": "loss", "value": 0.5}]
    store.write(files[paths.HISTORY], table_bytes(curve))
    store.write(files[paths.WEIGHTS], os.urandom(20_000))
    store.write(files[paths.MASKS], pack_masks(masks))
    names = ("epochs", "chosen_epoch", "parameters", "trained_parameters", "peak_memory_bytes")
    cost = {**dict.fromkeys(names, 1), "seconds": 0.0}
    return rows, files, cost


class Study:
    """`command` runs it in `storage`; `table` is what it must come to."""

    def __init__(self, spec: Path, storage: Path) -> None:
        self.spec, self.storage = spec, storage
        self.folder = storage / "tiny"
        self.table: dict[str, bytes] = {}

    @property
    def command(self) -> list[str]:
        settings = ["--set", "tracking.enabled=false", "--set", f"storage={self.storage}"]
        return [str(self.spec), "--in-process", *settings]

    def found(self) -> dict[str, bytes]:
        """The tables that do not say how long something took."""
        names = ("significance.csv", "significance.md", "models.csv")
        return {name: (self.folder / paths.report(name)).read_bytes() for name in names}

    def elsewhere(self, storage: Path) -> Study:
        other = Study(self.spec, storage)
        other.table = self.table
        return other

    def wrong(self) -> list[str]:
        """What is not as after an undisturbed run."""
        store = Store(str(self.folder))
        found = [name for name, content in self.found().items() if content != self.table[name]]
        named = {file for marker in store.commits().values() for file in marker.files.values()}
        found += set(store.below(paths.TRIALS)) ^ named
        found += [name for name in store.below("") if name.rpartition("/")[2].startswith(".")]
        return found + store.names(paths.FAILURES) + store.names(paths.CHECKPOINTS)


@contextlib.contextmanager
def quick_trainings() -> Iterator[None]:
    """No network is trained and no figure drawn; a lock is settled at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "_train_and_score", drawn_scores)
        patch.setattr(lock, "SETTLE_SECONDS", 0.02)
        for name in FIGURES:
            patch.setattr(contents, name, lambda *_: [])
        yield


def in_a_fork(what: Callable[[], int], log: Path) -> int:
    """What a process that does this ends with; its words are in `log`."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            with log.open("w") as words:
                os.dup2(words.fileno(), 1)
                os.dup2(words.fileno(), 2)
                with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
                    signal.alarm(PATIENCE_SECONDS)
                    code = what()
                    words.flush()
        except BaseException:
            with log.open("a") as words:
                traceback.print_exc(file=words)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def killed(study: Study, after: float, log: Path, *, partly: bool = False) -> int:
    """The exit code of a run that is killed after so many changes of its files."""

    def run() -> int:
        death = Death(study.storage, after, partly=partly)
        death.watch()
        code = main(study.command)
        if math.isinf(after):
            log.with_suffix(".count").write_text(str(death.count))
        return code

    return in_a_fork(run, log)
