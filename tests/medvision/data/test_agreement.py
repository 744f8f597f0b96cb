"""What the check calls usable trains, and what training refuses the check refuses in the same
words: both read files through one reader.
"""

from __future__ import annotations

import bz2
import gzip
import re
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medvision.data.fingerprints import content_fingerprint
from medvision.data.nifti import read_image, read_truth
from medvision.data.preprocess import prepare
from medvision.data.readers.base import Case
from medvision.data.settings import Preparation
from medvision.data.validate import validate
from medvision.errors import DataError

GROUPS = {"one": [1], "all": "all"}
TYPES = [
    np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
    np.float32, np.float64,
]  # fmt: skip
ENDINGS = [".nii", ".nii.gz", ".NII.GZ", ".Nii", ".nii.GZ"]
FOREIGN = [".img", ".hdr", ".mgz", ".nii.bz2", ".dcm", ".gz", ""]
SHAPES = [(3, 4, 5), (1, 1, 1), (6, 1, 2), (3, 4, 5, 1), (3, 4, 5, 2), (4, 4), (3, 4, 5, 1, 2)]
SLOPES = [1.0, 0.0, -2.5, 1e-30, 1e30, 1e36, 3e38, float("nan"), float("inf")]
PLACES = [0.0, 1.0, -1.0, 0.5, 0.05, 100.0, 1e-7, 1e7, 1e30, float("nan"), float("inf")]
VALUES = [0.0, 1.0, 2.0, -1.0, 0.5, 1e6, 1e30, 1e37, 3e38, 1e300, float("nan"), float("-inf")]


def stored(shape: tuple[int, ...], dtype: Any, values: list[float], affine: np.ndarray) -> bytes:
    """A NIfTI file of a ramp, in whose first voxels these values stand as far as they fit."""
    array = (np.arange(int(np.prod(shape))) % 7).astype(dtype).reshape(shape)
    for place, value in enumerate(values[: array.size]):
        whole = np.dtype(dtype).kind in "iu"
        if whole and not (np.isfinite(value) and abs(value) < 100 and value == int(value)):
            continue
        with np.errstate(all="ignore"):
            array.reshape(-1)[place] = value if not whole or value > 0 else 0
    return nibabel.Nifti1Image(array, affine, dtype=np.dtype(dtype)).to_bytes()


def changed(content: bytes, fields: dict[int, bytes]) -> bytes:
    made = bytearray(content)
    for place, value in fields.items():
        made[place : place + len(value)] = value
    return bytes(made)


def packed(content: bytes, ending: str) -> bytes:
    if ending.lower().endswith(".gz") or ending == ".mgz":
        return gzip.compress(content, mtime=0)
    return bz2.compress(content) if ending.endswith(".bz2") else content


def uncounted(problem: str) -> str:
    """One channel holds fewer values than all that the check counts."""
    return re.sub(r"holds \d+ values", "holds values", problem)


headers = st.fixed_dictionaries(
    {},
    optional={
        112: st.sampled_from(SLOPES).map(lambda value: struct.pack("<f", value)),
        116: st.sampled_from([0.0, -1024.0, 1e36]).map(lambda value: struct.pack("<f", value)),
        80: st.sampled_from(PLACES).map(lambda value: struct.pack("<f", value)),  # pixdim
        123: st.sampled_from([0, 1, 2, 3, 7, 255]).map(lambda value: bytes([value])),  # units
        252: st.sampled_from([0, 1, 2, 99]).map(lambda value: struct.pack("<h", value)),  # qform
        254: st.sampled_from([0, 1, 4, -1]).map(lambda value: struct.pack("<h", value)),  # sform
        256: st.sampled_from([0.0, 0.3, 2.0]).map(lambda value: struct.pack("<f", value)),
        280: st.sampled_from(PLACES).map(lambda value: struct.pack("<f", value)),  # srow_x
        284: st.sampled_from(PLACES).map(lambda value: struct.pack("<f", value)),
        320: st.sampled_from(PLACES).map(lambda value: struct.pack("<f", value)),  # srow_z
    },
)
files = st.fixed_dictionaries(
    {
        "shape": st.sampled_from(SHAPES),
        "dtype": st.sampled_from(TYPES),
        "values": st.lists(st.sampled_from(VALUES), max_size=3),
        "fields": st.just({}) | headers,
        "ending": st.sampled_from(ENDINGS * 3 + FOREIGN),
    }
)
PLAIN: dict[str, Any] = {
    "shape": (3, 4, 5), "dtype": np.int16, "values": [], "fields": {}, "ending": ".nii",
}  # fmt: skip


def write(folder: Path, name: str, about: dict[str, Any], affine: np.ndarray) -> Path:
    path = folder / f"{name}{about['ending']}"
    content = stored(about["shape"], about["dtype"], about["values"], affine)
    path.write_bytes(packed(changed(content, about["fields"]), about["ending"]))
    return path


def refused(read: Any) -> str | None:
    try:
        read()
    except DataError as error:
        return str(error)
    return None


@settings(
    deadline=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    image=files,
    label=files,
    fits=st.booleans(),
    spacing=st.sampled_from([(1.0, 1.0, 1.0), (0.7, 1.3, 5.0)]),
)
@example(PLAIN | {"dtype": np.float64, "values": [1e300]}, PLAIN, True, (1.0, 1.0, 1.0))
@example(PLAIN | {"fields": {112: struct.pack("<f", 1e36)}}, PLAIN, True, (1.0, 1.0, 1.0))
@example(PLAIN | {"ending": ".NII.GZ"}, PLAIN | {"ending": ".nii.GZ"}, True, (1.0, 1.0, 1.0))
@example(PLAIN, PLAIN | {"dtype": np.float64, "values": [1e300]}, True, (1.0, 1.0, 1.0))
@example(PLAIN | {"dtype": np.float32, "values": [1e37, -1e37]}, PLAIN, True, (1.0, 1.0, 1.0))
def test_check_and_training_agree(
    isolated_cache: Path,
    image: dict[str, Any],
    label: dict[str, Any],
    fits: bool,
    spacing: tuple[float, ...],
) -> None:
    folder = Path(tempfile.mkdtemp(dir=isolated_cache))
    affine = np.diag([*spacing, 1.0])
    if fits:
        label = label | {"shape": image["shape"][:3]}
    paths = write(folder, "i", image, affine), write(folder, "l", label, affine)
    case = Case("c", paths[:1], paths[1])
    with np.errstate(all="ignore"):
        found = validate(case)
        for read in (
            lambda: read_image(case.images, "all"),
            lambda: read_image(case.images, 0),
            lambda: read_truth(case, GROUPS),
        ):
            problem = refused(read)
            assert problem is None or uncounted(problem) in map(uncounted, found.errors)
        if not found.errors:
            for protocol in ("paper", "corrected"):
                for intensity in ("min-max", "z-score"):
                    wanted = Preparation(
                        groups=GROUPS,
                        image_size=(4, 2, 6),
                        protocol=protocol,
                        intensity=intensity,
                        channel="all",
                    )
                    made = prepare(case, content_fingerprint(case), wanted)
                    assert np.isfinite(made.image).all()
                    if protocol == "corrected" and any(value > 0 for value in found.labels):
                        assert made.masks[1].any()
    shutil.rmtree(folder)


@pytest.mark.parametrize("ending", FOREIGN)
def test_an_ending_that_is_not_read_is_told_by_its_ending(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    kinds = {".mgz": nibabel.MGHImage, ".img": nibabel.Nifti1Pair, ".hdr": nibabel.Nifti1Pair}
    if ending in kinds:
        nibabel.save(kinds[ending](np.zeros((2, 2, 2), np.float32), np.eye(4)), path)
    else:
        path.write_bytes(b"x" * 400)
    case = Case("c", (path,), path)
    (error, _) = validate(case).errors
    assert error.startswith(f"{path}: only .nii.gz, .nii, .mha and .nrrd files are read")
    assert refused(lambda: read_image([path])) == error


def test_a_name_that_contradicts_the_content_is_told(tmp_path: Path) -> None:
    content = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(content)
    (tmp_path / "b.nii").write_bytes(gzip.compress(content))
    assert "ends with .nii.gz, but it is not compressed" in str(
        refused(lambda: read_image([tmp_path / "a.nii.gz"]))
    )
    assert "ends with .nii, but it is compressed" in str(
        refused(lambda: read_image([tmp_path / "b.nii"]))
    )
