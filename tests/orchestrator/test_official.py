"""The official command line as a user gives it: `python main.py` in an empty folder, and what lies
there afterwards.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medvision.predict import predict_scan
from orchestrator.official import main
from record.store import Store
from record.study import StoredStudy
from reports.findings import in_lines
from reports.health import health_of

ROOT = Path(__file__).parents[2]
MSD = Path(os.environ.get("MEDVISION_DATA", "/nonexistent")) / "Task04_Hippocampus"
TINY = [
    "--epochs",
    "2",
    "--batch_size",
    "4",
    "--image_size",
    "16,16,16",
    "--patch_size",
    "4,4,4",
    "--lr",
    "2e-3",
]
CURVES = ("loss_curve.png", "dice_curve.png", "nsd_curve.png")
OURS = ("slices.png", "activations.png")
FILES = 8  # in the task's folder
COLUMNS = ["Epoch", "Train Loss", "Val Loss", "Train Dice", "Val Dice", "Train NSD", "Val NSD"]

needs_msd = pytest.mark.skipif(
    not MSD.is_dir(), reason="MEDVISION_DATA does not name a folder with Task04_Hippocampus"
)


def official(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("DISPLAY", None)
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *flags],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def check_files(folder: Path, task: str, name: str, epochs: int = 2) -> None:
    here = folder / task
    for file in (*(f"{task}_{kind}" for kind in CURVES), *(f"{name}_{kind}" for kind in OURS)):
        assert (here / file).read_bytes().startswith(b"\x89PNG"), file
    with (here / f"{task}_training_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["Epoch"] for row in rows] == [str(epoch + 1) for epoch in range(epochs)]
    assert list(rows[0]) == COLUMNS
    for row in rows:
        assert all(0 <= float(row[column]) <= 1 for column in COLUMNS[3:])
    assert (here / f"{name}.safetensors").stat().st_size > 1000


@pytest.mark.slow
@needs_msd
@pytest.mark.parametrize(
    ("label", "flags", "name"),
    [
        ("ViT_Baseline", [], "Task04_Hippocampus_ViT_Baseline"),
        ("medvisionllama", ["--llm", "smollm2-135m"], "Task04_Hippocampus_MedVisionLlama"),
    ],
)
def test_a_handful_of_real_cases(
    label: str, flags: list[str], name: str, tmp_path: Path, isolated_cache: Path
) -> None:
    """The list lies elsewhere than the data, as the official code allows; every test case is in the
    table.
    """
    lines = (MSD / "data_file.txt").read_text().splitlines()[:20]
    (tmp_path / "elsewhere.txt").write_text("\n".join(lines))
    folder = tmp_path / "empty"
    folder.mkdir()
    done = official(
        folder,
        *(
            "--data_dir",
            str(MSD),
            "--data_file",
            "../elsewhere.txt",
            "--task_name",
            "Task04_Hippocampus",
        ),
        *TINY,
        *("--dataset_fraction", "full", "--model_label", label, *flags),
    )
    assert done.returncode == 0, done.stderr
    check_files(folder, "Task04_Hippocampus", name)
    store = Store(str(folder / "official_runs" / name))
    tested = store.read_json("splits/Task04_Hippocampus.json")["folds"][0]["test"]
    with (folder / "Task04_Hippocampus" / f"{name}_test_cases.csv").open() as file:
        assert sorted(row["case"] for row in csv.DictReader(file)) == sorted(tested)
    assert len(tested) == 2
    assert "wrote Task04_Hippocampus/Task04_Hippocampus_training_results.csv" in done.stdout
    assert not list(folder.glob("**/mlflow*"))


def test_the_same_command_again_trains_nothing_and_a_fraction_has_its_own_name(
    spheres: Path, tmp_path: Path, isolated_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data_dir", str(spheres / "Task99_Spheres"), *TINY, "--model_label", "ViT_Baseline"]
    flags += ["--output_dir", str(tmp_path), "--device", "cpu", "--dataset_fraction"]
    assert main([*flags, "thirty"]) == 0
    shown = capsys.readouterr().out
    assert "epoch 2/2" in shown
    name = "Task99_Spheres_ViT_Baseline_30pct"
    lines = in_lines(health_of(StoredStudy.opened(Store(str(tmp_path / "official_runs" / name)))))
    assert lines  # two epochs teach nothing
    assert shown.splitlines()[-len(lines) :] == list(map(str, lines))
    folder = tmp_path / "Task99_Spheres"
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(first) == FILES
    assert main([*flags, "0.3"]) == 0
    assert "epoch 1/" not in capsys.readouterr().out.split("wrote")[0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first

    # The checkpoint gives for a scan what the trial predicted for it, bit for bit.
    store = Store(str(tmp_path / "official_runs" / name))
    [marker] = store.commits().values()
    with np.load(io.BytesIO(store.read(marker.files["masks"]) or b"")) as masks:
        cases = [entry.removeprefix("bits/") for entry in masks.files if entry.startswith("bits/")]
        for case in cases:
            image = spheres / "Task99_Spheres" / "imagesTr" / f"{case}.nii.gz"
            found, values = predict_scan(folder / f"{name}.safetensors", image)
            assert values == {"foreground": 1}
            np.testing.assert_array_equal(
                np.packbits(np.asarray(found.dataobj)[None] > 0), masks[f"bits/{case}"]
            )
    assert cases


def test_a_training_that_fails_says_so_and_leaves_its_traceback(
    spheres: Path,
    tmp_path: Path,
    isolated_cache: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("orchestrator.trial.context.build_model", explode)
    flags = ["--data_dir", str(spheres / "Task99_Spheres"), *TINY, "--model_label", "ViT_Baseline"]
    assert main([*flags, "--output_dir", str(tmp_path), "--device", "cpu"]) == 1
    assert "RuntimeError: no such luck" in capsys.readouterr().err
    assert "in explode" in (tmp_path / "Task99_Spheres_ViT_Baseline_error.log").read_text()
    assert not list(tmp_path.glob("**/*.csv"))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--epochs", "0"], "--epochs: '0' is not a whole number of at least 1"),
        (["--image_size", "16,16"], "--image_size: '16,16' is not three whole numbers"),
        (["--lr", "fast"], "--lr: 'fast' is not a number above 0"),
        (["--dataset_fraction", "half"], "--dataset_fraction: 'half' is none of full, ten, thirty"),
        (["--model_label", "MedVisionLama"], "did you mean MedVisionLlama?"),
        (["--learning_rate", "1"], "unrecognized arguments: --learning_rate"),
        (["--image_size", "10,16,16"], "must be a multiple of patch_size"),
        (["--data_file", "absent.txt"], "--data_file: there is no file absent.txt"),
        (["--group_file", "absent.csv"], "--group_file: there is no file absent.csv"),
        (["--data_dir", "absent"], "--data_dir: there is no folder absent"),
        (
            ["--model_label", "ViT_MLP", "--llm", "smollm2-135m"],
            "--llm: ViT_MLP has no language-model block",
        ),
        (
            ["--model_label", "MedVisionLlama", "--llm", "./nowhere"],
            "--llm: no language model at './nowhere'",
        ),
        (["--device", "abacus"], "--device abacus: cannot be used here"),
        (["--task_name", "../evil"], "tasks.0.name"),
    ],
)
def test_wrong_flags_are_clear_errors(
    flags: list[str],
    expected: str,
    spheres: Path,
    tmp_path: Path,
    isolated_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "--data_dir": str(spheres / "Task99_Spheres"),
        "--model_label": "ViT_Baseline",
        "--patch_size": "4,4,4",
    }
    given |= {"--image_size": "16,16,16"} | dict(zip(flags[::2], flags[1::2], strict=True))
    try:
        code = main([part for pair in given.items() for part in pair])
    except SystemExit as stopped:  # argparse
        code = int(stopped.code or 0)
    shown = capsys.readouterr().err
    assert (code, expected in shown) == (2, True), shown
    assert "Traceback" not in shown


def test_a_list_of_cases_that_are_not_there(
    spheres: Path, tmp_path: Path, isolated_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "data_file.txt"
    listing.write_text("imagesTr/absent.nii.gz,labelsTr/absent.nii.gz\n")
    folder = spheres / "Task99_Spheres"
    flags = [
        "--data_dir",
        str(folder),
        "--data_file",
        str(listing),
        "--model_label",
        "ViT_Baseline",
    ]
    assert main([*flags, "--output_dir", str(tmp_path)]) == 2
    assert str(folder / "imagesTr" / "absent.nii.gz") in capsys.readouterr().err


def test_one_broken_case_stops_unless_it_is_left_out(
    spheres: Path, tmp_path: Path, isolated_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Task99_Spheres"
    shutil.copytree(spheres / "Task99_Spheres", folder)
    (folder / "imagesTr" / "case_03.nii.gz").write_bytes(b"broken")
    flags = [
        "--data_dir",
        str(folder),
        *TINY,
        "--model_label",
        "ViT_Baseline",
        "--output_dir",
        str(tmp_path),
    ]
    assert main(flags) == 2
    shown = capsys.readouterr().err
    assert "case_03.nii.gz: cannot be read as NIfTI" in shown
    assert "--on_bad_case exclude" in shown
    assert main([*flags, "--on_bad_case", "exclude"]) == 0
    assert "note: left out: imagesTr/case_03.nii.gz" in capsys.readouterr().out.replace(
        f"{folder}/", ""
    )


def run_here(folder: Path, data: Path, *flags: str) -> int:
    """main.py's `main` on the spheres with a tiny baseline, unless flags say otherwise."""
    given = ["--data_dir", str(data), *TINY, "--model_label", "ViT_Baseline", "--device", "cpu"]
    return main([*given, "--output_dir", str(folder), *flags])


def test_a_checkpoint_that_cannot_be_had_is_one_line_with_the_ways_out(
    spheres: Path,
    tmp_path: Path,
    isolated_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    flags = ("--model_label", "MedVisionLlama")
    assert run_here(tmp_path, spheres / "Task99_Spheres", *flags) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert "needs meta-llama/Llama-3.1-8B" in shown[0]
    assert "--llm small (or MEDVISION_LLM=small)" in shown[0]


def test_help_has_an_example_and_says_what_is_done_differently(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "--dataset_fraction full --model_label MedVisionLlama" in shown
    assert "its defects are not" in shown
