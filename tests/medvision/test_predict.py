"""A trial's checkpoint segments scans: the same masks as its evaluation, in the scan's geometry, or
one clear error.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from safetensors import safe_open

from medvision.predict import predict_scan
from medvision.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    read_about,
    save_checkpoint,
)
from tests.medvision.checkpoints import checkpoint, run, scan


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


@pytest.mark.parametrize(
    ("bias", "said"),
    [
        ([-50.0, -50.0], "the mask is empty: the model found nothing in this image"),
        ([50.0, -50.0], "the mask fills the whole image: the model took everything for structure"),
        ([0.0, -50.0], "the mask has no voxel of dark"),
        ([0.0, 0.0], ""),
    ],
)
def test_an_empty_and_a_full_mask_are_said_to_be_so(
    bias: list[float], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bias`: the logit that each group starts from."""
    groups = {"bright": [1], "dark": [2]}
    weights = checkpoint(tmp_path / "c.safetensors", preparation={"groups": groups}, bias=bias)
    image, output = scan(tmp_path / "x.nii.gz"), tmp_path / "y.nii.gz"
    assert run("--checkpoint", weights, "--image", image, "--output", output) == 0
    shown = capsys.readouterr()
    assert shown.err == (f"warning: {output}: {said}\n" if said else "")
    assert "1 = bright, 2 = dark" in shown.out


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


def test_several_files_are_one_scan_in_the_order_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = checkpoint(tmp_path / "c.safetensors", preparation={"channel": 1})
    both = scan(tmp_path / "x.nii.gz", (17, 20, 13, 2))
    whole = nibabel.load(both)
    parts = []
    for channel in range(2):
        parts.append(tmp_path / f"x_000{channel}.nii.gz")
        values = np.asarray(whole.dataobj)[..., channel]
        nibabel.save(nibabel.Nifti1Image(values, whole.affine, whole.header), parts[-1])
    out = tmp_path / "y.nii"
    assert run("--checkpoint", weights, "--image", *parts, "--output", out) == 0
    made, expected = nibabel.load(out), predict_scan(weights, both)[0]
    np.testing.assert_array_equal(made.dataobj, expected.dataobj)
    np.testing.assert_array_equal(made.affine, expected.affine)
    assert np.asarray(made.dataobj).any()
    turned = predict_scan(weights, parts[::-1])[0]
    assert not np.array_equal(turned.dataobj, expected.dataobj)
    assert run("--checkpoint", weights, "--image", parts[0], "--output", out) == 2
    assert "channel 1 was asked for" in capsys.readouterr().err
    assert run("--checkpoint", weights, "--image", *parts, "--output", parts[1]) == 2
    assert "is the image itself" in capsys.readouterr().err
    odd = scan(tmp_path / "odd.nii.gz", (17, 20, 12))
    assert run("--checkpoint", weights, "--image", parts[0], odd, "--output", out) == 2
    assert "differs from its image's" in capsys.readouterr().err


def test_a_file_is_scaled_by_as_many_channels_as_in_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = checkpoint(
        tmp_path / "c.safetensors", preparation={"scaled": "file"}, file_channels=2
    )
    one, both = scan(tmp_path / "x.nii.gz"), scan(tmp_path / "xx.nii.gz", (17, 20, 13, 2))
    flags = ("--checkpoint", weights, "--output", tmp_path / "y.nii", "--image")
    assert run(*flags, one) == 2
    shown = capsys.readouterr().err
    assert "x.nii.gz: 1 channels in all, the model was trained on files of 2" in shown
    assert not (tmp_path / "y.nii").exists()
    assert run(*flags, both) == 0
    assert run(*flags, one, one) == 0


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


def test_a_folder_of_scans_becomes_a_folder_of_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, scans = checkpoint(tmp_path / "c.safetensors"), tmp_path / "scans"
    scans.mkdir()
    for number, name in enumerate(("a.nii.gz", "b.nii")):
        scan(scans / name, seed=number)
    (scans / "notes.txt").write_text("no scan")
    flags = ("--checkpoint", weights, "--image", scans, "--output", tmp_path / "masks")
    assert run(*flags) == 0
    assert "2 of 2 scans segmented" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"a.nii.gz", "b.nii"}
    alone = predict_scan(weights, scans / "b.nii")[0].to_bytes()
    assert (tmp_path / "masks" / "b.nii").read_bytes() == alone

    (scans / "broken.nii").write_text("no scan")
    assert run(*flags) == 2
    told = capsys.readouterr()
    assert "2 of 3 scans segmented" in told.out
    assert "broken.nii: cannot be read as NIfTI" in told.err
    for flags, expected in (
        (("--image", scans, "--output", scans), "is the images' own folder"),
        (("--image", scans, "--output", tmp_path / "y.nii"), "is a folder, so name a folder"),
        (("--image", tmp_path / "masks" / "..", "--output", tmp_path / "m"), "holds no .nii.gz or"),
    ):
        assert run("--checkpoint", weights, *flags) == 2
        assert expected in capsys.readouterr().err


def test_several_checkpoints_cut_the_mean_of_their_probabilities(tmp_path: Path) -> None:
    """One that is sure of everything and one that is a little against it: together everything."""
    image = scan(tmp_path / "x.nii.gz")
    paths = {}
    for name, logit in (("sure", 9.0), ("against", -0.5), ("much against", -9.0)):
        path = checkpoint(tmp_path / f"{name}.safetensors")
        model, about = load_checkpoint(path)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            model.set_output_bias(torch.tensor([logit]))
        path.write_bytes(save_checkpoint(model, about))
        paths[name] = path
    for names, share in (
        (["sure"], 1),
        (["against"], 0),
        (["sure", "against"], 1),
        (["sure", "much against", "against"], 0),
    ):
        made, _ = predict_scan([paths[name] for name in names], image)
        assert np.mean(np.asarray(made.dataobj)) == share, names


def test_checkpoints_of_other_images_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = checkpoint(tmp_path / "one.safetensors")
    other = checkpoint(tmp_path / "other.safetensors", preparation={"protocol": "corrected"})
    image = scan(tmp_path / "x.nii.gz")
    assert run("--checkpoint", one, other, "--image", image, "--output", tmp_path / "y.nii") == 2
    assert "other.safetensors: was trained on other images than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "give --checkpoint, or --study with --model"),
        (["--checkpoint", "c", "--study", "s"], "give --checkpoint, or --study with --model"),
        (["--checkpoint", "c", "--model", "m"], "--model goes with --study"),
        (["--checkpoint", "c", "--image", "x.nii"], "give --image and --output"),
    ],
)
def test_flags_that_do_not_go_together(
    flags: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*flags)
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err
