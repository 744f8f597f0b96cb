"""The official command line as its users know it: its recipe, names and README."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import psutil
import pytest
import torch

from medvision.training.checkpoint import read_about
from orchestrator.official import main
from record.store import Store
from tests.orchestrator.test_official import COLUMNS, TINY, check_files, run_here


def test_sizes_are_z_y_x_and_files_are_named_as_the_official_code_names_them(
    spheres: Path, tmp_path: Path, isolated_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--image_size", "8,16,12", "--patch_size", "4,4,2", "--dataset_fraction", "0.4")
    more = ("--epochs", "6", "--predictions")
    assert run_here(tmp_path, spheres / "Task99_Spheres", *sizes, *more) == 0
    shown = capsys.readouterr().out
    assert "z,y,x, as in the official code: image 8 x 16 x 12, patch 4 x 4 x 2 voxels" in shown
    name = "Task99_Spheres_ViT_Baseline_40pct"
    study = Store(str(tmp_path / "official_runs" / name)).read_json("study.json")["spec"]["data"]
    assert (study["image_size"], study["patch_size"]) == ([12, 16, 8], [2, 4, 4])
    check_files(tmp_path, "Task99_Spheres", name, epochs=6)

    recipe = f"{name}_patch4x4x2_batch4_lr0.002"
    saved = torch.load(tmp_path / f"new_model_{recipe}.pth", weights_only=True)
    assert saved["last_epoch"] == 5
    assert saved["optimizer"]["state"][0]["step"] == 6  # a batch an epoch
    assert saved["model"].keys() == saved["last_model"].keys()
    for epoch in (0, 5):  # counted from 0: the first and the sixth
        pictures = tmp_path / "predictions" / f"{recipe}_epoch_{epoch}"
        files = sorted(path.name for path in pictures.iterdir())
        assert files == sorted(f"epoch_{epoch}_slice_{k}_combined.png" for k in range(8))
        assert all((pictures / file).read_bytes().startswith(b"\x89PNG") for file in files)
    assert len(list((tmp_path / "predictions").iterdir())) == 2


def test_another_model_replaces_the_tasks_csv_and_says_where_the_first_one_lies(
    spheres: Path, tmp_path: Path, isolated_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = spheres / "Task99_Spheres"
    first_run = ("--epochs", "1", "--dataset_fraction", "0.2")
    assert run_here(tmp_path, data, *first_run) == 0
    table = tmp_path / "Task99_Spheres" / "Task99_Spheres_training_results.csv"
    first = table.read_bytes()
    assert "replaced" not in capsys.readouterr().out
    assert run_here(tmp_path, data, "--epochs", "1", "--dataset_fraction", "0.3") == 0
    assert "note: replaced Task99_Spheres/Task99_Spheres_training_" in capsys.readouterr().out
    assert table.read_bytes() != first
    kept = tmp_path / "official_runs/Task99_Spheres_ViT_Baseline_20pct/report" / table.name
    assert kept.read_bytes() == first
    assert run_here(tmp_path, data, *first_run) == 0  # trains nothing
    assert table.read_bytes() == first


@pytest.mark.parametrize("named", [False, True])
def test_scans_of_one_patient_keep_to_one_role(
    named: bool,
    spheres: Path,
    tmp_path: Path,
    isolated_cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "Task99_Spheres"
    shutil.copytree(spheres / "Task99_Spheres", folder)
    patients = {f"case_{index:02d}": f"patient{index // 3}" for index in range(15)}
    file = tmp_path / "elsewhere.csv" if named else folder / "patients.csv"
    lines = [f"{case},{patient}\n" for case, patient in patients.items()]
    file.write_text("case,patient\n" + "".join(lines))
    flags = ["--group_file", str(file)] if named else []
    assert run_here(tmp_path / "out", folder, *flags, "--epochs", "1") == 0
    assert f"5 patients by {file}" in capsys.readouterr().out
    store = Store(str(tmp_path / "out/official_runs/Task99_Spheres_ViT_Baseline"))
    split = store.read_json("splits/Task99_Spheres.json")
    [fold] = split["folds"]
    roles = [set(fold["test"]), *(set(unit) for unit in fold["order"])]
    for unit in roles:
        others = set(patients) - unit
        assert not {patients[case] for case in unit} & {patients[case] for case in others}
    assert sorted(split["patients"]) == sorted(patients)


def test_without_validation_cases_the_columns_are_still_seven(
    spheres: Path, tmp_path: Path, isolated_cache: Path
) -> None:
    assert run_here(tmp_path, spheres / "Task99_Spheres", "--dataset_fraction", "0.1") == 0
    with (tmp_path / "Task99_Spheres/Task99_Spheres_training_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert [rows[0][column] for column in ("Val Loss", "Val Dice", "Val NSD")] == ["", "", ""]


def test_the_official_recipe_is_one_flag_with_a_study_of_its_own(
    spheres: Path, tmp_path: Path, isolated_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--recipe", "official", "--epochs", "1", "--dataset_fraction", "0.3")
    assert run_here(tmp_path, spheres / "Task99_Spheres", *flags) == 0
    folder = tmp_path / "official_runs" / "Task99_Spheres_ViT_Baseline_30pct_official"
    spec = Store(str(folder)).read_json("study.json")["spec"]
    assert spec["recipe"] == "official"
    assert spec["splits"]["rounding"] == "down"
    assert spec["models"][0]["position_std"] == 1.0
    # the epoch is chosen by the training loss, validation or not
    assert "note: no validation case is left\n" in capsys.readouterr().out
    [weights] = folder.glob("trials/*/*/weights.safetensors")
    assert read_about(weights).file_channels == 1
    # its network has no norm before the projection, and is drawn all the same
    assert (tmp_path / "Task99_Spheres" / f"{folder.name}_activations.png").is_file()


# The command lines of the official README, with its [other_params] those of its first command.
README = [
    ["--dataset_fraction", "full", "--model_label", "MedVisionLlama"],
    ["--dataset_fraction", "0.1", "--model_label", "MedVisionLlama"],
    ["--dataset_fraction", "0.3", "--model_label", "MedVisionLlama"],
    *(
        ["--model_label", label]
        for label in (
            "MedVision_BioBERT",
            "MedVision_BioGPT",
            "MedVision_ClinicalBERT",
            "ViT_Depth",
            "ViT_MLP",
        )
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("flags", README, ids=" ".join)
def test_the_official_readmes_commands_run_offline_with_small_blocks(
    flags: list[str],
    spheres: Path,
    tmp_path: Path,
    isolated_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the sizes and epochs are smaller than in the README; the data folder is the one above
    the tasks."""
    if "ViT_Depth" in flags and psutil.virtual_memory().available < 14e9:
        pytest.skip("ViT_Depth with its optimizer takes 11 GB")
    monkeypatch.setenv("MEDVISION_LLM", "small")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    listing = tmp_path / "list.txt"
    names = [f"case_{index:02d}.nii.gz" for index in range(15)]
    listing.write_text("".join(f"imagesTr/{name},labelsTr/{name}\n" for name in names))
    command = ["--data_dir", str(spheres), "--data_file", str(listing), *TINY, "--epochs", "1"]
    assert main([*command, "--task_name", "Task99_Spheres", *flags]) == 0
    assert Path("Task99_Spheres/Task99_Spheres_training_results.csv").is_file()
    assert len(list(Path().glob("new_model_Task99_Spheres_*.pth"))) == 1
