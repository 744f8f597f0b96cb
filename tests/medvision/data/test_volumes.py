"""Any orientation, spacing and number type goes in, and a prediction comes back to where it belongs
(protocol corrected).
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from medvision.data.fingerprints import content_fingerprint
from medvision.data.geometry import place
from medvision.data.nifti import read_image, read_truth
from medvision.data.preprocess import prepare, prepare_image
from medvision.data.readers.base import Case
from medvision.data.readers.registry import read_declared, read_task
from medvision.data.settings import Preparation
from medvision.data.views.base import PreprocessedCase
from medvision.data.views.corrected import InProportion
from medvision.errors import DataError
from medvision.evaluation import predict

MSD, HIPPOCAMPUS = Path(os.environ.get("MEDVISION_DATA", "/nonexistent")), "Task04_Hippocampus"
GROUPS = {"ellipsoid": [1]}
ORIENTATIONS = [
    "".join(code)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for code in itertools.product(*axes)
]  # all 48


def ellipsoid(shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    """A lopsided solid in mm, so that no mirror image or exchanged axis goes unseen."""
    extent = np.multiply(shape, spacing)
    place = (np.stack(np.indices(shape), -1) + 0.5) * spacing - extent * (0.42, 0.55, 0.47)
    body = np.linalg.norm(place / (extent * (0.3, 0.25, 0.35)), axis=-1) < 1
    return (body & ~((place > 0).all(-1))).astype(np.uint8)


def turned(array: np.ndarray, spacing: tuple[float, ...], orientation: str) -> nibabel.Nifti1Image:
    """The RAS array, stored in another orientation."""
    to = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    stored = nibabel.orientations.apply_orientation(array, to)
    return nibabel.Nifti1Image(stored, np.diag([*spacing, 1.0]) @ inv_ornt_aff(to, array.shape))


def written(
    folder: Path, label: np.ndarray, spacing: tuple[float, ...], orientation: str = "RAS"
) -> Case:
    """A case whose image is 100 inside and 0 outside."""
    case = Case("c", (folder / "i.nii",), folder / "l.nii")
    nibabel.save(turned(label, spacing, orientation), case.label)
    nibabel.save(turned(label.astype(np.int16) * 100, spacing, orientation), case.image)
    return case


def corrected(case: Case, size: tuple[int, int, int], **more: object) -> PreprocessedCase:
    wanted = Preparation(groups=GROUPS, image_size=size, protocol="corrected", **more)
    return prepare(case, content_fingerprint(case), wanted)


class Echo(torch.nn.Module):
    """Its input, 0 to 1, as logits."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image[:, :1] - 0.5) * 20


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return float(2 * (one & two).sum() / (one.sum() + two.sum()))


def back(made: PreprocessedCase, case: Case) -> float:
    """Dice of the image's content, sent through an echo and back, with the case's own label."""
    truth = read_truth(case, GROUPS).masks
    return dice(predict(Echo(), made, device=torch.device("cpu"))[0], truth[0])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_shows_the_network_the_same_and_comes_back_whole(
    orientation: str, tmp_path: Path, isolated_cache: Path
) -> None:
    spacing, shape = (1.0, 0.8, 2.5), (24, 30, 13)
    label = ellipsoid(shape, spacing)
    (tmp_path / "ras").mkdir()
    straight = corrected(written(tmp_path / "ras", label, spacing), (32, 32, 32))
    case = written(tmp_path, label, spacing, orientation)
    made = corrected(case, (32, 32, 32))
    np.testing.assert_allclose(made.image, straight.image, atol=2e-3)
    assert np.array_equal(made.masks, straight.masks)
    assert back(made, case) > 0.96


@given(
    st.tuples(*[st.integers(9, 40)] * 3),
    st.tuples(*[st.sampled_from([0.5, 0.97, 1.0, 2.5, 5.0])] * 3),
    st.sampled_from(["RAS", "LPS", "PIR"]),
)
@settings(deadline=None, max_examples=40)
def test_a_mask_comes_back_from_a_fine_grid(
    shape: tuple[int, ...], spacing: tuple[float, ...], orientation: str
) -> None:
    image = turned(ellipsoid(shape, spacing), spacing, orientation)
    mask = np.asarray(image.dataobj) > 0
    finest, extent = min(spacing), np.multiply(shape, spacing)
    size = [int(np.ceil(length / finest)) + 2 for length in extent]
    geometry = place(mask.shape, image.header.get_zooms(), image.affine, size)
    there = geometry.to_network(torch.from_numpy(mask).float())
    assert dice((geometry.to_case(there) > 0.5).numpy(), mask) > 0.95
    assert float(there.mean()) * np.prod(size) * np.prod(geometry.steps) == pytest.approx(
        mask.sum(), rel=0.05
    )


def test_an_equal_grid_gives_an_exact_copy() -> None:
    volume = torch.rand(7, 6, 5, dtype=torch.float32)
    for spacing in (0.7, 1.0, 2.3):
        geometry = place(volume.shape, [spacing] * 3, np.diag([spacing] * 3 + [1]), volume.shape)
        assert torch.equal(geometry.to_network(volume), volume)
        assert torch.equal(geometry.to_case(volume), volume)


def test_voxels_of_the_cases_own_size_are_copied_into_the_padding(
    tmp_path: Path, isolated_cache: Path
) -> None:
    label = ellipsoid((15, 20, 9), (1.0, 1.0, 1.0))
    case = written(tmp_path, label, (0.8, 0.7, 3.0), "LPS")
    made = corrected(case, (20, 21, 20), spacing=(0.8, 0.7, 3.0))
    assert made.masks.sum() == label.sum()
    assert set(np.unique(made.image)) == {0, 1}
    assert back(made, case) == 1.0


def test_proportions_are_kept_and_the_rest_is_padding(tmp_path: Path, isolated_cache: Path) -> None:
    label = np.zeros((20, 20, 10), np.uint8)
    label[5:15, 5:15, 2:8] = 1  # 10 x 10 x 24 mm
    made = corrected(written(tmp_path, label, (1.0, 1.0, 4.0)), (40, 40, 40))
    edges = [int(np.ptp(axis)) + 1 for axis in np.nonzero(made.masks[0])]
    assert edges == [10, 10, 24]
    assert made.image[0, :10].max() == 0  # a cube of 40 mm was needed, the case is 20 mm wide


def test_a_stated_spacing_is_kept_where_the_case_fits_and_grows_where_it_does_not(
    tmp_path: Path, isolated_cache: Path
) -> None:
    label = np.zeros((20, 20, 10), np.uint8)
    label[4:16, 4:16, 2:8] = 1  # 12 x 12 x 24 mm
    case = written(tmp_path, label, (1.0, 1.0, 4.0))
    fits = corrected(case, (32, 32, 32), spacing=(2.0, 2.0, 2.0))
    assert [int(np.ptp(axis)) + 1 for axis in np.nonzero(fits.masks[0])] == [6, 6, 12]
    small = corrected(case, (16, 16, 16), spacing=(1.0, 1.0, 1.0))  # 40 mm in 16 voxels: 2.5 mm
    assert isinstance(small.placement, InProportion)
    steps = small.placement.geometry.steps
    assert [step * mm for step, mm in zip(steps, (1.0, 1.0, 4.0), strict=True)] == [2.5] * 3
    assert back(corrected(case, (32, 32, 48), spacing=(1.0, 1.0, 1.0)), case) == 1.0


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
def test_the_crop_follows_the_image_and_never_the_label(
    orientation: str, tmp_path: Path, isolated_cache: Path
) -> None:
    image = np.full((20, 16, 12), -1000, np.int16)
    image[8:16, 3:9, 4:10] = 40
    label = np.zeros(image.shape, np.uint8)
    label[9:12, 4:8, 5:9] = 1
    label[0, 0, 0] = 1  # in the air
    case = written(tmp_path, label, (1.0, 1.0, 1.0), orientation)
    nibabel.save(turned(image, (1.0, 1.0, 1.0), orientation), case.image)
    made = corrected(case, (8, 8, 8), crop=True, modality=("CT",), ct_window=(-160.0, 240.0))
    assert isinstance(made.placement, InProportion)
    assert made.placement.geometry.box == ((8, 16), (3, 9), (4, 10))
    assert made.masks.sum() == 48
    inside = made.placement.geometry.to_case(torch.ones(8, 8, 8)).numpy()
    assert np.array_equal(inside > 0.5, nibabel.load(case.image).get_fdata() > 0)


def test_a_ct_is_clipped_to_its_window_and_an_mri_to_its_percentiles(
    tmp_path: Path, isolated_cache: Path
) -> None:
    values = np.linspace(-2000, 3000, 1000, dtype=np.float32).reshape(10, 10, 10)
    case = written(tmp_path, np.ones((10, 10, 10), np.uint8), (1.0, 1.0, 1.0))
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), case.image)
    ct = corrected(case, (10, 10, 10), modality=("CT",), ct_window=(-100.0, 300.0)).image[0]
    np.testing.assert_allclose(ct, np.clip((values + 100) / 400, 0, 1), atol=1e-3)
    spiked = values.copy()
    spiked[0, 0, 0] = 1e9  # one bad voxel
    nibabel.save(nibabel.Nifti1Image(spiked, np.eye(4)), case.image)
    mri = corrected(case, (10, 10, 10), modality=("MRI",)).image[0]
    assert 0.45 < float(np.median(mri)) < 0.55
    scored = corrected(case, (10, 10, 10), intensity="z-score").image.astype(float)
    assert scored.mean() == pytest.approx(0, abs=1e-3)
    assert scored.std() == pytest.approx(1, abs=1e-3)
    nibabel.save(nibabel.Nifti1Image(np.full_like(values, 7), np.eye(4)), case.image)
    assert not corrected(case, (12, 12, 12)).image.any()


def test_all_channels_go_in_each_with_its_own_modality(
    tmp_path: Path, isolated_cache: Path
) -> None:
    channels = np.stack(
        [np.full((8, 8, 8), -100.0), np.random.default_rng(0).normal(size=(8, 8, 8))], -1
    )
    case = written(tmp_path, np.ones((8, 8, 8), np.uint8), (1.0, 1.0, 1.0))
    nibabel.save(nibabel.Nifti1Image(channels.astype(np.float32), np.eye(4)), case.image)
    made = corrected(case, (8, 8, 8), channel="all", modality=("CT", "MRI"))
    assert made.image.shape == (2, 8, 8, 8)
    assert (made.image[0] == np.float16(0.45)).all()
    paper = Preparation(groups=GROUPS, image_size=(4, 4, 4), channel="all")
    assert prepare(case, content_fingerprint(case), paper).image.shape == (2, 4, 4, 4)
    inputs = prepare_image(case.images, paper)
    assert (inputs.image.shape, inputs.masks.shape, inputs.placement.shape) == (
        (2, 4, 4, 4),
        (0, 4, 4, 4),
        (8, 8, 8),
    )


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_number_type_is_read(dtype: type, ending: str, tmp_path: Path) -> None:
    values = (np.arange(60).reshape(3, 4, 5) % 50).astype(dtype)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 2, 3, 1])), tmp_path / f"v{ending}")
    image = read_image([tmp_path / f"v{ending}"])
    assert image.channels.dtype == np.float32
    assert np.array_equal(image.channels[0], values)
    assert image.spacing == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_slope_and_intercept_hold_for_every_channel(ending: str, tmp_path: Path) -> None:
    stored = np.arange(2 * 3 * 4 * 2, dtype=np.int16).reshape(2, 3, 4, 2)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(0.5, -1024)  # nibabel then stores the numbers as they are
    nibabel.save(image, tmp_path / f"v{ending}")
    assert nibabel.load(tmp_path / f"v{ending}").dataobj.get_unscaled().dtype == np.int16
    for channel in (0, 1, "all"):
        wanted = stored[..., channel : channel + 1] if channel != "all" else stored
        made = read_image([tmp_path / f"v{ending}"], channel).channels
        np.testing.assert_allclose(made, np.moveaxis(wanted * 0.5 - 1024, -1, 0), atol=1e-3)


def test_of_an_uncompressed_4d_file_only_the_wanted_channel_is_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype(np.float32)
    path = tmp_path / "v.nii"
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: 352 + 2 * 256])  # the third channel is cut off
    assert np.array_equal(read_image([path], 1).channels[0], values[..., 1])
    with pytest.raises(DataError, match="cannot be read as NIfTI"):
        read_image([path], 2)


def test_colours_and_an_affine_without_direction_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((2, 2, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "rgb.nii")
    with pytest.raises(DataError, match="real numbers are needed"):
        read_image([tmp_path / "rgb.nii"])
    with pytest.raises(ValueError, match="axis 2 no direction"):
        place((2, 2, 2), (1, 1, 1), np.diag([1, 1, 0, 1]), (2, 2, 2))


def test_what_dataset_json_declares(tmp_path: Path) -> None:
    content = {
        "relase": "1.0",  # as MSD spells it
        "labels": {"0": "background", "1": "edema", "2": "tumour", "10": "tumour"},
        "modality": {"1": "T1w", "0": "CT"},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    declared = read_declared(tmp_path)
    assert declared.labels == {"edema": [1], "tumour": [2, 10]}
    assert declared.modality == ("CT", "MRI")
    assert read_declared(tmp_path / "Task09_Spleen").modality == ("CT",)  # known of MSD
    assert not read_declared(tmp_path / "unknown").labels


@pytest.mark.skipif(
    not (MSD / HIPPOCAMPUS).is_dir(),
    reason=f"MEDVISION_DATA does not name a folder with {HIPPOCAMPUS}",
)
def test_real_cases_come_back(isolated_cache: Path) -> None:
    groups = {"anterior": [1], "posterior": [2]}
    for case in read_task(MSD, HIPPOCAMPUS).cases[:5]:
        wanted = Preparation(groups=groups, image_size=(64, 64, 64), protocol="corrected")
        made = prepare(case, content_fingerprint(case), wanted)
        assert isinstance(made.placement, InProportion)
        for mask, true in zip(made.masks, read_truth(case, groups).masks, strict=True):
            again = made.placement.geometry.to_case(torch.tensor(mask).float()) > 0.5
            assert dice(again.numpy(), true) > 0.97
