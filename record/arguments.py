"""Kinds of values on a command line, for argparse's `type=`: what is wrong is told in words."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

LARGEST = 2**31 - 1


def whole(text: str) -> int:
    """A whole number of things, 1 or more."""
    if not (text.isascii() and text.isdecimal()) or not 1 <= float(text) <= LARGEST:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 1 upward, got {text[:40]!r}"
        )
    return int(text)


def amount(text: str) -> float:
    """A finite number, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number from 0 upward, got {text[:40]!r}")
    return value


def size(text: str) -> tuple[int, int, int]:
    """`X,Y,Z`, each 1 or more."""
    parts = text.split(",")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(
            f"expected three numbers of voxels such as 64,64,64, got {text[:40]!r}"
        )
    x, y, z = (whole(part.strip()) for part in parts)
    return x, y, z


def folder(text: str) -> Path:
    """A folder that is there."""
    if not os.path.isdir(text):  # False also of a name that is too long
        raise argparse.ArgumentTypeError(f"there is no folder {text[:200]!r}")
    return Path(text)


def new_folder(text: str) -> Path:
    """A folder that files can be written to; it is made where it is not there."""
    path = Path(text)
    try:
        if not text:
            raise NotADirectoryError(0, "a folder's name is needed")
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK)
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{text[:200]!r} cannot be made: {error.strerror}"
        ) from error
    if not writable:
        raise argparse.ArgumentTypeError(f"{text[:200]!r}: nothing can be written there")
    return path
