"""Protocol corrected: whatever a case's shape and spacing, its image and its structure are seen."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from medvision.data.fingerprints import content_fingerprint
from medvision.data.geometry import place
from medvision.data.preprocess import prepare
from medvision.data.readers.base import Case
from medvision.data.settings import Preparation
from medvision.data.views.base import PreprocessedCase
from medvision.data.views.corrected import InProportion
from medvision.errors import DataError
from medvision.evaluation import predict

LARGEST = 300_000  # voxels; the shapes below may have one long side, or two
sides = st.integers(0, 90).map(lambda power: round(2 ** (power / 10)))  # 1 to 512, small ones often
millimetres = st.integers(-13, 20).map(lambda power: 10 ** (power / 10))  # 0.05 to 100
grids = st.tuples(*[st.sampled_from([1, 2, 7, 8, 16, 32])] * 3)


@settings(deadline=None, max_examples=200)
@given(
    shape=st.tuples(sides, sides, sides),
    spacing=st.tuples(millimetres, millimetres, millimetres),
    size=grids,
    target=st.none() | st.tuples(millimetres, millimetres, millimetres),
    corner=st.tuples(*[st.floats(0, 1)] * 3),
    length=st.tuples(*[st.floats(0, 1)] * 3),
    axes=st.permutations(range(3)),
)
@example((48, 48, 2), (1, 1, 1), (16, 16, 16), None, (0, 0, 0), (1, 1, 1), [0, 1, 2])
@example((512, 512, 1), (1, 1, 1), (32, 32, 32), None, (0.5,) * 3, (0, 0, 0), [0, 1, 2])
@example((20, 20, 400), (1, 1, 1), (32, 32, 32), None, (0.5,) * 3, (0, 0, 0), [0, 1, 2])
@example((20, 20, 400), (1, 1, 1), (32, 32, 32), (1, 1, 1), (0,) * 3, (0, 0, 0), [0, 1, 2])
def test_no_image_and_no_structure_vanishes(
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    size: tuple[int, ...],
    target: tuple[float, ...] | None,
    corner: tuple[float, ...],
    length: tuple[float, ...],
    axes: list[int],
) -> None:
    assume(np.prod(shape) <= LARGEST)
    affine = np.diag([*spacing, 1.0])[[*axes, 3]]
    start = [int(share * (side - 1)) for share, side in zip(corner, shape, strict=True)]
    box = tuple(
        slice(low, low + 1 + int(share * (side - 1 - low)))
        for low, share, side in zip(start, length, shape, strict=True)
    )
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[box] = True
    placement = InProportion(place(shape, spacing, affine, size, target=target))
    assert placement.show_mask(mask).any()
    assert not placement.show_mask(torch.zeros_like(mask)).any()
    assert placement.geometry.to_network(torch.ones(shape)).max() > 0.5
    whole = placement.to_case(torch.ones(size)) > 0.5
    assert whole.any()
    for axis in range(3):  # where one voxel shows the whole case, it fills it on the way back
        if placement.geometry._seen(axis).sum() == 1:
            own = placement.geometry.axes[axis]
            lines = whole.movedim(own, -1).reshape(-1, shape[own])
            assert (lines.all(1) == lines.any(1)).all()


def written(folder: Path, image: np.ndarray, label: np.ndarray) -> Case:
    case = Case("c", (folder / "i.nii.gz",), folder / "l.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), np.eye(4)), case.image)
    nibabel.save(nibabel.Nifti1Image(label.astype(np.uint8), np.eye(4)), case.label)
    return case


def shown(case: Case, edge: int, **more: object) -> PreprocessedCase:
    wanted = Preparation(
        groups={"a": [1]}, image_size=(edge, edge, edge), protocol="corrected", **more
    )
    return prepare(case, content_fingerprint(case), wanted)


@pytest.mark.parametrize("shape", [(48, 48, 2), (256, 256, 1), (20, 20, 400), (1, 1, 1)])
def test_a_thin_case_is_shown_and_comes_back_in_all_its_slices(
    shape: tuple[int, ...], tmp_path: Path, isolated_cache: Path
) -> None:
    label = np.zeros(shape, np.uint8)
    inner = tuple(
        slice(side // 4, side - side // 4) if side > 20 else slice(None) for side in shape
    )
    label[inner] = 1
    made = shown(written(tmp_path, label * 100.0, label), 16)
    assert made.masks.any()
    assert made.image.any() == (label.min() == 0)  # a constant image has no contrast to show

    class Echo(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.tensor(made.masks[None]).float() * 20 - 10

    again = predict(Echo(), made, device=torch.device("cpu"))[0]
    assert 2 * (again & (label > 0)).sum() / (again.sum() + label.sum()) > 0.8


def test_a_structure_smaller_than_a_voxel_of_the_network_is_kept_where_it_fills_most(
    tmp_path: Path, isolated_cache: Path
) -> None:
    label = np.zeros((64, 64, 64), np.uint8)
    label[40, 9, 22] = 1
    made = shown(written(tmp_path, np.random.default_rng(0).random(label.shape), label), 8)
    places = np.argwhere(made.masks[0]).tolist()
    assert [5, 1, 2] in places  # and neighbours that share it nearly equally
    assert len(places) <= 8


def test_a_structure_outside_of_the_crop_is_refused_with_its_reason(
    tmp_path: Path, isolated_cache: Path
) -> None:
    image, label = np.full((20, 16, 12), -1000.0), np.zeros((20, 16, 12), np.uint8)
    image[8:16, 3:9, 4:10] = 40
    label[0, 0, 0] = 1
    case = written(tmp_path, image, label)
    with pytest.raises(
        DataError, match=r"l.nii.gz: all of label group 'a' lies outside of the box"
    ):
        shown(case, 8, crop=True, modality=("CT",))
    assert shown(case, 8, modality=("CT",)).masks.any()
