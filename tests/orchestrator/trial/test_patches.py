"""A study of protocol `patches` from its spec to its report, and its trainings on new scans."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from medvision.predict import main as predict
from medvision.training.checkpoint import read_about
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import SpecError, load_spec
from record import paths
from record.masks import unpack_masks
from record.tables import read_results

TASK = "Task99_Spheres"
STRONG = (
    "training.output: softmax, training.dice: batch, training.optimizer: sgd, training.lr: 0.05, "
    "training.schedule: poly, training.augmentation: null, training.strong_augmentation: {}, "
    "training.select: smoothed"
)
SETTINGS = [
    "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}, "
    "{label: nnU-Net, features: [4, 8, 8], deep_supervision: true, overrides: {" + STRONG + "}}]",
    f"tasks=[{{name: {TASK}, modality: [MRI]}}]",
    "folds=2",
    "data.protocol=patches",
    "data.intensity=z-score",
    "data.image_size=[12, 12, 12]",
    "data.label_groups={shell: [1], core: [2]}",
]
LOCAL = ["--in-process", "--set", "tracking.enabled=false"]


def flags(*settings: str) -> list[str]:
    return [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]


def test_a_study_of_patches_trains_reports_and_segments(
    tiny_spec: Path, spheres: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(tiny_spec), *LOCAL, *flags("training.epochs=4")]
    assert main([*command, "--dry-run"]) == 0
    assert "4 trials: 0 done" in capsys.readouterr().out
    assert main(command) == 0
    assert f"| {TASK} | full | Dice |" in capsys.readouterr().out
    store = open_store(load_spec(tiny_spec, [*SETTINGS, "training.epochs=4"]))
    rows = read_results(store, "cases")
    assert len(rows) == 2 * 2 * 15
    assert rows["dice"].mean() > 0.05
    history = read_results(store, "history")
    dice = history[(history["split"] == "val") & (history["metric"] == "dice")]["value"]
    assert dice.between(0, 1).all()
    for marker in store.commits().values():
        weights = Path(store.path(marker.files[paths.WEIGHTS]))
        x, y, z = read_about(weights).preparation.spacing or ()
        assert (x, z) == (1.0, 1.5)
        assert y in (1.0, 1.125, 1.25)  # half of the cases have 1, the others 1.25
        output = {"ViT_Baseline": "sigmoid", "nnU-Net": "softmax"}[marker.cell.model]
        assert read_about(weights).output == output
    trained = {marker.files[paths.HISTORY] for marker in store.commits().values()}
    largest = [*command, "--set", "evaluation.inference.largest=[core]"]
    assert main([*largest, "--dry-run"]) == 0
    assert "segmented again by its weights" in capsys.readouterr().out
    assert main(largest) == 0
    assert {marker.files[paths.HISTORY] for marker in store.commits().values()} == trained

    scans, made = tmp_path / "scans", tmp_path / "made"
    shutil.copytree(spheres / TASK / "imagesTr", scans)
    segment = ["--study", store.root, "--model", "nnU-Net", "--image", str(scans)]
    assert predict([*segment, "--fold", "0", "--output", str(made)]) == 0
    (marker,) = [
        one
        for one in store.commits().values()
        if (one.cell.model, one.cell.fold) == ("nnU-Net", 0)
        and "inference" in one.identity.eval["scoring"]
    ]
    scored = unpack_masks(store.read(marker.files[paths.MASKS]) or b"")
    for case, (core, shell) in scored.items():  # the masks that the trial's evaluation made
        mask, image = (nibabel.load(folder / f"{case}.nii.gz") for folder in (made, scans))
        np.testing.assert_array_equal(mask.dataobj, np.where(shell, 1, 2 * core))
        np.testing.assert_array_equal(mask.affine, image.affine)
        assert not (core & shell).any()
        assert ndimage.label(core, np.ones((3, 3, 3)))[1] <= 1
    assert predict([*segment, "--output", str(tmp_path / "both")]) == 0  # of both folds together


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.foreground=0.5"], "foreground: no part of protocol `paper`; set protocol: patches"),
        (["data.protocol=patches", "data.crop=true"], "crop: no part of protocol `patches`"),
        (["data.protocol=patches", "data.foreground=1.5"], "foreground: must be 1 or less"),
        (["evaluation.inference.largest=[core]"], "'core' is no label group of any task"),
    ],
)
def test_settings_that_do_not_go_together_are_named(
    tiny_spec: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(tiny_spec, settings)
