"""A test's first training hangs and holds Python's lock, the second sleeps, the others live."""

import ctypes
import os
import threading

FOLDER = os.environ["MEDVISION_TEST_HANGS"]


def wrapped(train):
    """`medvision.training.loop.train`, which hangs twice."""

    def hanging(*arguments, **options):
        for libc in (ctypes.PyDLL(None), ctypes.CDLL(None)):
            try:
                os.mkdir(os.path.join(FOLDER, type(libc).__name__))
            except FileExistsError:
                continue
            libc.sleep(600)
        # However slow the machine is: a third hang would be one too many.
        threading.Thread(target=_live, args=(options["watch"].beat,), daemon=True).start()
        return train(*arguments, **options)

    return hanging


def _live(beat):
    while not threading.Event().wait(0.5):
        beat()
