"""Trainings that go wrong as their test wrote down: a file for each draw, a line for each attempt.

A line is a fault of `FAULTS`, or `hold`: wait after `EPOCH` until the attempt is told to stop. An
empty line, and an attempt without a line, go well.
"""

import os
import time
from pathlib import Path

from medvision.training.watch import TrainingError
from record.store import StoreError

EPOCH = 2  # after which the fault happens
PATIENCE_SECONDS = 120.0
FAULTS = {
    "exception": RuntimeError("the disk is on fire"),
    "training": TrainingError("the training loss is nan in epoch 2"),
    "storage": StoreError("the bucket is gone"),
}


def wrapped(train):
    """`medvision.training.train` with the faults of the folder MEDVISION_TEST_FAULTS."""

    def faulty(*arguments, **options):
        watch, on_epoch = options["watch"], options["on_epoch"]
        fault = _next_fault(Path(os.environ["MEDVISION_TEST_FAULTS"], str(options["seed"])))

        def then_fail(epoch, metrics):
            on_epoch(epoch, metrics)
            if epoch == EPOCH and fault in FAULTS:
                raise FAULTS[fault]
            end = time.monotonic() + PATIENCE_SECONDS
            while epoch == EPOCH and fault == "hold" and not watch.stop():
                assert time.monotonic() < end, "nobody stopped the attempt"
                watch.beat()
                time.sleep(0.05)

        return train(*arguments, **(options | {"on_epoch": then_fail}))

    return faulty


def _next_fault(file):
    """The first line, which is taken out."""
    if not file.exists():
        return ""
    fault, _, rest = file.read_text().partition("\n")
    file.write_text(rest)
    return fault
