"""A checkpoint that is damaged, foreign or does not fit is one clear error of `predict`; one of an
older version is read.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from medvision.predict import predict_scan
from medvision.training.checkpoint import KEY, read_about
from tests.medvision.checkpoints import checkpoint, run, scan


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
        (
            lambda path: path.write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9000\n"
            ),
            "is a Git LFS pointer to a file of 9,000 bytes",
        ),
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


def test_a_header_from_before_file_channels_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    rewrite(path, lambda about, weights: about.pop("file_channels"))
    assert read_about(path).file_channels is None
    predict_scan(path, scan(tmp_path / "x.nii.gz"))
