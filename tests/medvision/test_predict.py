"""A trial's checkpoint segments scans: the same masks as its evaluation, in the scan's geometry, or
one clear error.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from medvision.data.settings import Preparation
from medvision.models import build_model
from medvision.models.registry import resolve_settings
from medvision.predict import main, predict_scan
from medvision.training.checkpoint import (
    KEY,
    About,
    CheckpointError,
    block_fingerprint,
    load_checkpoint,
    read_about,
    save_checkpoint,
)

VIT = {"embed_dim": 16, "depth": 2, "heads": 2}
SIZES = {"image_size": (16, 16, 16), "patch_size": (4, 4, 4)}


def checkpoint(
    path: Path, label: str = "ViT_Baseline", preparation: dict[str, Any] | None = None, **more: Any
) -> Path:
    """A checkpoint of an untrained network that predicts something."""
    torch.manual_seed(0)
    wanted = {"groups": {"foreground": "all"}, "image_size": SIZES["image_size"]} | (
        preparation or {}
    )
    model = build_model(label, **SIZES, out_channels=len(wanted["groups"]), **VIT, **more)
    about = About(
        model=resolve_settings(label, **VIT, **more),
        block=block_fingerprint(model),
        task="Task99_Spheres",
        patch_size=SIZES["patch_size"],
        in_channels=1,
        preparation=Preparation.model_validate(wanted),
        precision="fp32",
    )
    path.write_bytes(save_checkpoint(model, about))
    return path


def scan(path: Path, shape: tuple[int, ...] = (17, 20, 13), seed: int = 0) -> Path:
    """An oblique scan with unequal voxels."""
    affine = nibabel.affines.from_matvec([[0, -1.5, 0.2], [0.8, 0, 0], [0, 0.1, 3]], [-40, 12, 7])
    values = np.random.default_rng(seed).normal(100, 30, shape).astype(np.float32)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def run(*flags: object) -> int:
    return main([str(flag) for flag in flags])


@pytest.mark.parametrize(("channel", "shape"), [(0, (17, 20, 13)), (1, (17, 20, 13, 2))])
@pytest.mark.parametrize("protocol", ["paper", "corrected"])
def test_the_output_has_the_scans_geometry(
    protocol: str, channel: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    weights = checkpoint(
        tmp_path / "c.safetensors", preparation={"channel": channel, "protocol": protocol}
    )
    image = scan(tmp_path / "x.nii.gz", shape)
    for name in ("y.nii.gz", "y.nii"):
        assert run("--checkpoint", weights, "--image", image, "--output", tmp_path / name) == 0
        given, made = nibabel.load(image), nibabel.load(tmp_path / name)
        assert made.shape == given.shape[:3]
        assert made.header.get_zooms() == given.header.get_zooms()[:3]
        assert made.header.get_xyzt_units()[0] == "mm"
        np.testing.assert_array_equal(made.affine, given.affine)
        np.testing.assert_array_equal(made.get_qform(coded=True)[1], given.get_qform(coded=True)[1])
        assert made.get_data_dtype() == np.uint8
        assert set(np.unique(made.dataobj)) == {0, 1}
    assert (tmp_path / "y.nii").read_bytes() == predict_scan(weights, image)[0].to_bytes()


@pytest.mark.parametrize(
    ("groups", "values"),
    [
        ({"whole": [1, 2, 3], "core": [2, 3], "middle": [3]}, {"whole": 1, "core": 2, "middle": 3}),
        ({"whole": "all", "core": [1, 2]}, {"whole": 1, "core": 2}),
        ({"bright": [7], "dark": [4]}, {"bright": 7, "dark": 4}),
    ],
)
def test_each_label_group_has_its_own_value(
    groups: dict, values: dict[str, int], tmp_path: Path
) -> None:
    weights = checkpoint(tmp_path / "c.safetensors", preparation={"groups": groups})
    made, found = predict_scan(weights, scan(tmp_path / "x.nii.gz"))
    assert found == values
    assert set(np.unique(made.dataobj)) <= {0, *values.values()}


def test_the_frozen_block_comes_from_its_source_and_must_be_the_same(
    tmp_path: Path, tiny_llama: Path, isolated_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(tiny_llama, moved)
    weights = checkpoint(tmp_path / "c.safetensors", "MedVisionLlama", llm={"source": str(moved)})
    with safe_open(weights, framework="pt") as file:
        assert not [name for name in file.keys() if name.startswith("bridge.block")]  # noqa: SIM118
    image = scan(tmp_path / "x.nii.gz")
    before = predict_scan(weights, image)[0].to_bytes()
    shutil.rmtree(moved)
    flags = ["--checkpoint", weights, "--image", image, "--output", tmp_path / "y.nii.gz"]
    assert run(*flags) == 2
    assert "no language model at" in capsys.readouterr().err
    assert predict_scan(weights, image, source=str(tiny_llama))[0].to_bytes() == before

    shutil.copytree(tiny_llama, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert run(*flags, "--llm", other) == 2
    assert "was trained with the language-model block" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="has no language-model block"):
        load_checkpoint(checkpoint(tmp_path / "v.safetensors"), source=str(tiny_llama))


def foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def truncated(path: Path) -> None:
    content = checkpoint(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def changed_about(path: Path) -> None:
    rewrite(path, lambda about, weights: about.update(precision="fp8"))


def no_such_patch(path: Path) -> None:
    rewrite(path, lambda about, weights: about.update(patch_size=[3, 4, 4]))


def claims_a_block(path: Path) -> None:
    rewrite(path, lambda about, weights: about.update(block="0" * 64))


def another_size(path: Path) -> None:
    rewrite(path, lambda about, weights: about["model"].update(embed_dim=32))


def lacking_weight(path: Path) -> None:
    rewrite(path, lambda about, weights: weights.pop(next(iter(weights))))


def rewrite(path: Path, change) -> None:
    checkpoint(path)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()[KEY])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(about, weights)
    save_file(weights, path, metadata={KEY: json.dumps(about)})


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (foreign, "is a safetensors file of something else"),
        (truncated, "cannot be read as safetensors"),
        (changed_about, "its description is wrong or of another version: precision"),
        (
            no_such_patch,
            "its model cannot be built: image_size (16, 16, 16) must be a multiple of patch_size",
        ),
        (claims_a_block, "was trained with the language-model block 000000"),
        (another_size, "its weights do not fit its ViT_Baseline"),
        (lacking_weight, "1 tensors are lacking and 0 unknown"),
        (lambda path: path.write_bytes(b""), "cannot be read as safetensors"),
        (lambda path: None, "cannot be read as safetensors"),
    ],
)
def test_a_wrong_checkpoint_is_one_clear_error(
    spoil, expected, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "c.safetensors"
    spoil(path)
    assert (
        run(
            "--checkpoint",
            path,
            "--image",
            scan(tmp_path / "x.nii.gz"),
            "--output",
            tmp_path / "y.nii.gz",
        )
        == 2
    )
    shown = capsys.readouterr().err
    assert expected in shown
    assert str(path) in shown
    assert len(shown.splitlines()) == 1
    assert not (tmp_path / "y.nii.gz").exists()


def test_wrong_images_and_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, image = (
        checkpoint(tmp_path / "c.safetensors", preparation={"channel": 1}),
        scan(tmp_path / "x.nii.gz"),
    )
    (tmp_path / "text.nii").write_text("no scan")
    before = image.read_bytes()
    for flags, expected in (
        (
            ["--image", image, "--output", tmp_path / "y.nii"],
            "is 3D and has one channel, channel 1 was asked for",
        ),
        (
            ["--image", tmp_path / "text.nii", "--output", tmp_path / "y.nii"],
            "cannot be read as NIfTI",
        ),
        (
            ["--image", tmp_path / "absent.nii", "--output", tmp_path / "y.nii"],
            "absent.nii: is missing",
        ),
        (["--image", image, "--output", tmp_path / "y.png"], "must end with .nii.gz or .nii"),
        (["--image", image, "--output", image], "is the image itself"),
    ):
        assert run("--checkpoint", weights, *flags) == 2
        assert expected in capsys.readouterr().err
    assert image.read_bytes() == before


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_one_clear_error(
    device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A torch without CUDA raises AssertionError, one with CUDA and without such a GPU
    RuntimeError.
    """
    weights, image = checkpoint(tmp_path / "c.safetensors"), scan(tmp_path / "x.nii.gz")
    flags = ("--checkpoint", weights, "--image", image, "--output", tmp_path / "y.nii.gz")
    assert run(*flags, "--device", device) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --device {device}: cannot be used here: ")
    assert not (tmp_path / "y.nii.gz").exists()


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    assert checkpoint(tmp_path / "a").read_bytes() == checkpoint(tmp_path / "b").read_bytes()
    assert read_about(tmp_path / "a").preparation.image_size == (16, 16, 16)
