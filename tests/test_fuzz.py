"""Whatever a file holds, reading it ends in a value or in one of our errors, and every error is one
line.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medvision.data.nifti import read_image, read_truth
from medvision.data.preprocess import prepare_image
from medvision.data.readers.base import Case
from medvision.data.readers.registry import read_listing, read_task
from medvision.data.settings import Preparation
from medvision.data.validate import validate
from medvision.errors import DataError
from medvision.models import build_model
from medvision.models.registry import resolve_settings
from medvision.predict import main as predict
from medvision.training.checkpoint import KEY, About, read_about, save_checkpoint

BOUNDED = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def is_a_line(message: str) -> bool:
    """Something to read on one line, that can be printed."""
    return bool(message.strip()) and len(message.splitlines()) == 1 and bool(message.encode())


def refusal(read: Callable[[], Any]) -> str | None:
    """What a reading was refused with; None where it went well."""
    try:
        read()
    except DataError as error:
        return str(error)
    return None


def changed(content: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """The same with other bytes at some places."""
    spoilt = bytearray(content)
    for start, value in changes:
        spoilt[start : start + len(value)] = value
    return bytes(spoilt)


def nifti(kind: type, data: Any) -> bytes:
    return kind(np.arange(60, dtype=data).reshape(3, 4, 5), np.diag([1, 2, 3, 1])).to_bytes()


VOLUMES = [
    nifti(nibabel.Nifti1Image, np.int16),
    nifti(nibabel.Nifti1Image, np.float32),
    nifti(nibabel.Nifti2Image, np.uint8),
]
header_values = st.binary(min_size=1, max_size=8) | st.sampled_from(
    [
        struct.pack(form, value)
        for form, value in (("<h", -1), ("<h", 0), ("<h", 32767), ("<h", 1792), ("<h", 128))
    ]
    + [struct.pack("<f", value) for value in (float("nan"), float("inf"), -1.0, 0.0, 1e38)]
)
FIELDS = (
    0,
    *range(40, 56, 2),
    70,
    72,
    *range(76, 108, 4),
    108,
    112,
    116,
    252,
    254,
    256,
    *range(280, 328, 4),
    344,
)
changes = st.lists(
    st.tuples(st.sampled_from(FIELDS) | st.integers(0, 560), header_values), max_size=4
)


@BOUNDED
@given(
    volume=st.sampled_from(VOLUMES),
    changes=changes,
    cut=st.none() | st.integers(0, 700),
    packed=st.booleans(),
    spoilt=changes,
)
@example(volume=VOLUMES[0], changes=[(42, b"\0\0")], cut=None, packed=False, spoilt=[])
@example(volume=VOLUMES[1], changes=[(42, b"\0\0")], cut=None, packed=True, spoilt=[])
@example(
    volume=VOLUMES[0], changes=[(40, b"\4\0"), (48, b"\0\0")], cut=None, packed=True, spoilt=[]
)
def test_nifti_files(
    volume: bytes,
    changes: list,
    cut: int | None,
    packed: bool,
    spoilt: list,
    tmp_path: Path,
    isolated_cache: Path,
) -> None:
    content = changed(volume, changes)[:cut]
    if packed:
        content = changed(gzip.compress(content, mtime=0), spoilt)
    path = tmp_path / ("x.nii.gz" if packed else "x.nii")
    path.write_bytes(content)
    case = Case("x", (path,), path)
    groups = {"foreground": "all", "one": [1]}
    preparations = [
        Preparation(groups=groups, image_size=(4, 4, 4), protocol=protocol)
        for protocol in ("paper", "corrected")
    ]
    finite: list[bool] = []
    with np.errstate(all="ignore"):
        for read in (
            lambda: read_image([path], "all").channels,
            lambda: read_truth(case, groups).masks,
            *(
                lambda preparation=preparation: prepare_image([path], preparation).image
                for preparation in preparations
            ),
        ):
            problem = refusal(lambda read=read: finite.append(np.isfinite(read()).all()))
            assert problem is None or (is_a_line(problem) and problem.startswith(str(path))), (
                problem
            )
        assert all(finite)
        found = validate(case)
        assert all(is_a_line(line) and line.startswith(str(path)) for line in found.errors)


@BOUNDED
@given(
    content=st.binary(max_size=200)
    | json_values.map(lambda value: json.dumps({"training": value, "labels": value}).encode())
)
@example(content=b'{"training": [{"image": "a\\u0000b", "label": "c"}]}')
@example(content=b'{"training": [{"image": "", "label": ""}], "labels": {"0": 1}}')
@example(content=b"[" * 100000)
@example(content=b"a.nii,b.nii\na.nii,b.nii\n")
@example(content=b"\x00,\x00")
def test_lists_of_cases(content: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    folder.mkdir(exist_ok=True)
    for name in ("dataset.json", "data_file.txt"):
        for other in folder.iterdir():
            other.unlink()
        (folder / name).write_bytes(content)
        for read in (
            lambda name=name: read_listing(folder / name),
            lambda: read_task(tmp_path, "task"),
        ):
            problem = refusal(read)
            assert problem is None or is_a_line(problem), problem


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"image_size": (8, 8, 8), "patch_size": (4, 4, 4)}
    small = {"embed_dim": 8, "depth": 1, "heads": 2}
    about = About(
        model=resolve_settings("ViT_Baseline", **small),
        block=None,
        task="t",
        patch_size=(4, 4, 4),
        in_channels=1,
        preparation=Preparation(groups={"foreground": "all"}, image_size=(8, 8, 8)),
        precision="fp32",
    )
    path = tmp_path_factory.mktemp("weights") / "c.safetensors"
    path.write_bytes(save_checkpoint(build_model("ViT_Baseline", **sizes, **small), about))
    return path


@BOUNDED
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=4)), max_size=3
    ),
    cut=st.none() | st.integers(0, 4000),
)
def test_checkpoints(changes: list, cut: int | None, weights: Path, tmp_path: Path) -> None:
    checkpoint, image = tmp_path / "c.safetensors", tmp_path / "x.nii"
    checkpoint.write_bytes(changed(weights.read_bytes(), changes)[:cut])
    image.write_bytes(VOLUMES[0])
    flags = [
        "--checkpoint",
        str(checkpoint),
        "--image",
        str(image),
        "--output",
        str(tmp_path / "y.nii"),
    ]
    assert predict(flags) in (0, 2)


@BOUNDED
@given(
    about=st.dictionaries(
        st.sampled_from(["model", "block", "preparation", "in_channels", "x"]), json_values
    )
)
def test_descriptions_in_checkpoints(about: dict, weights: Path, tmp_path: Path) -> None:
    content = weights.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"][KEY] = json.dumps(json.loads(header["__metadata__"][KEY]) | about)
    packed = json.dumps(header).encode()
    path = tmp_path / "c.safetensors"
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + content[8 + size :])
    problem = refusal(lambda: read_about(path))
    assert problem is None or is_a_line(problem), problem
