"""A case as the viewer gets it: voxels, orientation, reduction, and what is said of lost masks."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import numpy as np
import pytest

from medvision.errors import DataError
from orchestrator.run import main as run
from orchestrator.viewing.cases import StudyCases
from orchestrator.viewing.grid import ViewGrid
from orchestrator.viewing.scenes import Scenes
from record.store import Store
from record.study import StoredStudy
from tests.orchestrator.viewing.studies import (
    CASES,
    HOSTILE,
    MODELS,
    SHAPE,
    TASK,
    finished_study,
    scenes_of,
    truth,
)


def unpacked(text: str) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8)


def mask_of(layer: dict, shape: tuple[int, ...]) -> np.ndarray:
    bits = np.unpackbits(unpacked(layer["data"]), count=int(np.prod(shape)), bitorder="little")
    return bits.reshape(shape, order="F").astype(bool)


def test_a_scene_holds_image_truth_and_masks_with_the_patients_right_at_the_high_end(
    tmp_path: Path,
) -> None:
    scene = scenes_of(finished_study(tmp_path)).scene(TASK, HOSTILE)
    assert scene["shape"] == list(SHAPE)
    assert scene["spacing"] == [1.0, 1.0, 2.0]
    assert scene["letters"] == [["L", "R"], ["P", "A"], ["I", "S"]]
    assert [axis["flipped"] for axis in scene["file"]] == [True, False, False]
    image = unpacked(scene["image"]).reshape(SHAPE, order="F")
    assert image[0].min() > image[-1].max()  # the file's x, with its values, runs to the left
    shown, exact, nothing, untested = scene["layers"]
    for layer in (shown, exact):
        np.testing.assert_array_equal(mask_of(layer, SHAPE), truth()[::-1])
    assert shown["lines"] == ["288 voxels"]
    assert exact["lines"][1] == "Dice 0.800, 288 voxels"
    assert not mask_of(nothing, SHAPE).any()
    assert nothing["warnings"] == ["Its mask is empty."]
    assert (untested["data"], untested["warnings"]) == (
        None,
        ["No finished trial of it has tested this case."],
    )
    x, y, z = scene["start"]
    assert truth()[::-1][x, y, z]
    assert scene["rank"] == "worst"
    assert "has changed since" in scene["notes"][0]  # the split file of the test names no digest


def test_a_large_case_is_shown_on_a_coarser_grid_and_says_so(tmp_path: Path) -> None:
    scene = scenes_of(finished_study(tmp_path)).scene(TASK, "good", most=1000)
    assert scene["shape"] == [10, 8, 12]
    assert scene["spacing"] == [2.0, 2.0, 2.0]
    assert "10 × 8 × 12 voxels; the file has 20 × 16 × 12" in scene["notes"][-1]
    blocks = truth()[::-1].reshape(10, 2, 8, 2, 12).mean(axis=(1, 3)) >= 0.5
    np.testing.assert_array_equal(mask_of(scene["layers"][0], (10, 8, 12)), blocks)
    assert scene["layers"][0]["lines"] == ["288 voxels"]  # of the file


@pytest.mark.parametrize("most", [1, 7, 100, 3840])
def test_a_grid_never_has_more_voxels_than_allowed(most: int) -> None:
    grid = ViewGrid.of(SHAPE, (1.0, 1.0, 2.0), np.eye(4), most)
    assert np.prod(grid.shape) <= most
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    assert grid.image(image).shape == grid.shape
    assert grid.mask(truth()).shape == grid.shape


def test_axes_that_an_affine_swaps_are_turned_and_unknown_ones_are_left() -> None:
    swapped = np.array([[0, 0, 3.0, 0], [1.0, 0, 0, 0], [0, -2.0, 0, 0], [0, 0, 0, 1]])
    grid = ViewGrid.of((4, 5, 6), (1.0, 2.0, 3.0), swapped, 1000)
    assert (grid.axes, grid.flipped) == ((2, 0, 1), (False, False, True))
    assert grid.spacing == (3.0, 1.0, 2.0)
    voxels = np.arange(120).reshape(4, 5, 6)
    np.testing.assert_array_equal(grid._turned(voxels), voxels.transpose(2, 0, 1)[..., ::-1])
    flat = ViewGrid.of((4, 5, 6), (1.0, 1.0, 1.0), np.diag([1.0, 1.0, 0.0, 1.0]), 1000)
    assert flat.axes == (0, 1, 2)
    assert flat.letters[0] == ("x−", "x+")


def test_masks_that_were_removed_are_said_to_be_gone(tmp_path: Path) -> None:
    store = finished_study(tmp_path)
    store.remove("trials/t0/token/masks.npz")
    layer = scenes_of(store).scene(TASK, "good")["layers"][1]
    assert layer["data"] is None
    assert layer["lines"][1] == "Dice 1.000"
    assert "not in the study any more" in layer["warnings"][0]
    assert "neither are its weights" in layer["warnings"][0]


def test_masks_are_predicted_again_from_the_kept_weights(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(tiny_spec), "--in-process", "--set", "tracking.enabled=false"]) == 0
    assert "viewer.html" in capsys.readouterr().out
    store = Store(str(tiny_spec.parent / "runs" / "tiny"))
    cases = StudyCases(StoredStudy.opened(store))
    (task,) = cases.cases
    case = cases.cases[task][0]
    before = Scenes(cases).scene(task, case)
    assert len(before["layers"]) == 3
    assert before["notes"] == []
    for marker in cases.commits.values():
        store.remove(marker.files["masks"])
    without = Scenes(StudyCases(StoredStudy.opened(store))).scene(task, case)
    assert all("view STUDY --predict" in one["warnings"][0] for one in without["layers"][1:])
    again = Scenes(StudyCases(StoredStudy.opened(store)), again=True).scene(task, case)
    for old, new in zip(before["layers"][1:], again["layers"][1:], strict=True):
        assert new["data"] == old["data"]
        assert any("Predicted again" in warning for warning in new["warnings"])
        assert new["lines"] == old["lines"]


def test_the_best_median_and_worst_case_are_the_first_models(tmp_path: Path) -> None:
    cases = StudyCases(StoredStudy.opened(finished_study(tmp_path)))
    assert cases.extremes[TASK] == dict(zip(CASES, ("best", "median", "worst"), strict=True))
    assert cases.tested_by(MODELS[2], TASK, CASES[0]) is None


def test_a_case_that_the_study_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no test case 'no such'"):
        scenes_of(finished_study(tmp_path)).scene(TASK, "no such")
