"""Fingerprints of what an image shows, out of its decoded voxels: they see through another gzip
level, header text, number type or orientation of the same scan.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

import numpy as np

EDGE = 8  # voxels of a sample along each axis
_TELLING = 64  # a sample of fewer different values looks like many others
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(29), np.uint64(0xBF58476D1CE4E5B9))


@dataclass(frozen=True)
class Content:
    """One channel. `voxels`: hash of shape and float32 values, in the file's order; `turned`: the
    same for all 48 ways of turning and mirroring it; `sample`: some values, scaled to mean 0 and
    deviation 1, as base64 of float16 (empty where they are not distinctive); `shape`: X, Y, Z."""

    voxels: str
    turned: str
    sample: str
    shape: tuple[int, ...]
    constant: bool


class ContentReader:
    """Takes one channel slice by slice, in order, so that no copy of it is held."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._hash = hashlib.blake2b(repr(shape).encode(), digest_size=16)
        self._sums = [np.zeros(size, np.uint64) for size in shape]
        self._places = [((np.arange(EDGE) + 0.5) * size / EDGE).astype(int) for size in shape]
        self._sample = np.zeros((EDGE, EDGE, EDGE))
        self._ends = (np.inf, -np.inf)

    def add(self, index: int, values: np.ndarray) -> None:
        """The slice at `index` of the last axis, [X, Y], finite."""
        slab = np.asarray(values, dtype=np.float32) + np.float32(0)  # -0.0 becomes 0.0
        self._hash.update(slab.tobytes("F"))
        mixed = slab.view(np.uint32).astype(np.uint64) * _MIX[0]
        mixed ^= mixed >> _MIX[1]
        mixed *= _MIX[2]  # sums of unlike sets of values are unlike now
        self._sums[0] += mixed.sum(1, dtype=np.uint64)
        self._sums[1] += mixed.sum(0, dtype=np.uint64)
        self._sums[2][index] = mixed.sum(dtype=np.uint64)
        low, high = self._ends
        self._ends = min(low, float(slab.min())), max(high, float(slab.max()))
        if (here := self._places[2] == index).any():
            self._sample[:, :, here] = slab[np.ix_(*self._places[:2])][:, :, None]

    def content(self) -> Content:
        """Of all slices."""
        profiles = sorted(min(sums.tobytes(), sums[::-1].tobytes()) for sums in self._sums)
        turned = hashlib.blake2b(repr(sorted(self.shape)).encode(), digest_size=16)
        for profile in profiles:
            turned.update(profile)
        constant = self._ends[0] == self._ends[1]
        return Content(
            self._hash.hexdigest(), turned.hexdigest(), self._packed(), self.shape, constant
        )

    def _packed(self) -> str:
        values = self._sample.ravel()
        if len(np.unique(values)) < _TELLING:
            return ""
        scored = (values - values.mean()) / values.std()
        return base64.b64encode(scored.astype(np.float16).tobytes()).decode()


def unpacked(sample: str) -> np.ndarray:
    """The values of a sample as a unit vector, [EDGE ** 3]."""
    values = np.frombuffer(base64.b64decode(sample), np.float16).astype(np.float64)
    values = values - values.mean()
    return values / np.linalg.norm(values)


def label_fingerprint(label: np.ndarray) -> str:
    """Hash of a label's values, [X, Y, Z]; empty where nothing or only a filled box is labelled:
    any two of one size are alike, and no anatomy is a box.
    """
    places = np.nonzero(label)
    if not len(places[0]):
        return ""
    sides = [int(np.ptp(axis)) + 1 for axis in places]
    if len(places[0]) == int(np.prod(sides)):
        return ""
    reader = ContentReader(label.shape)
    for index in range(label.shape[2]):
        reader.add(index, label[..., index])
    return reader.content().voxels
