"""Values of MONAI and of scipy's ingredients on shapes like organs; other libraries:
benchmarks/metrics.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medvision.metrics import evaluate_case


def organ_like(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.random((40, 36, 70)), 4)
    truth = smooth > np.quantile(smooth, 0.85)
    wobble = ndimage.gaussian_filter(generator.random(truth.shape), 2)
    prediction = smooth + 0.3 * (wobble - wobble.mean()) > np.quantile(smooth, 0.85)
    return prediction, truth


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.3, 2.5)])
@pytest.mark.filterwarnings("ignore")
def test_monai(spacing):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    prediction, truth = organ_like(1)
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
    options = {"include_background": True, "spacing": list(spacing)}
    voxel = evaluate_case(prediction, truth, spacing, tolerances=(1.7,), nsd="voxel-max")
    assert voxel["hd95"] == pytest.approx(
        metrics.compute_hausdorff_distance(*tensors, percentile=95, **options).item(), rel=1e-5
    )
    assert voxel["hd"] == pytest.approx(
        metrics.compute_hausdorff_distance(*tensors, **options).item(), rel=1e-5
    )
    assert voxel["assd"] == pytest.approx(
        metrics.compute_average_surface_distance(*tensors, symmetric=True, **options).item(),
        rel=1e-5,
    )
    surfel = evaluate_case(prediction, truth, spacing, tolerances=(1.7,))
    for result, subvoxels in ((voxel, False), (surfel, True)):
        dice = metrics.compute_surface_dice(
            *tensors, [1.7], use_subvoxels=subvoxels, **options
        ).item()
        assert result["nsd@1.7"] == pytest.approx(dice, abs=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.3, 2.5)])
def test_voxel_pooled_is_made_of_erosion_and_distance_transform(spacing):
    """The recipe of medpy's hd95, hd and assd."""
    prediction, truth = organ_like(2)
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction, truth)]
    fields = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    both = np.concatenate((fields[1][edges[0]], fields[0][edges[1]]))
    result = evaluate_case(
        prediction, truth, spacing, tolerances=(2.0,), nsd="voxel-pooled", hd95="voxel-pooled"
    )
    assert result["hd95"] == pytest.approx(np.percentile(both, 95), rel=1e-12)
    assert result["hd"] == pytest.approx(both.max(), rel=1e-12)
    assert result["assd"] == pytest.approx(both.mean(), rel=1e-12)
    assert result["nsd@2.0"] == (both <= 2.0 + 1e-6).mean()
