"""The main job from spec to table, in this process: resume, edits, failures, fencing. The Ray
driver has its own tests.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.planning.found import Inputs
from orchestrator.planning.inputs import gathered
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import load_spec
from record.schema import Split
from record.store import Store
from record.tables import read_results

LOCAL = ["--in-process", "--set", "tracking.enabled=false"]


def run(spec: Path, *more: str) -> int:
    return main([str(spec), *LOCAL, *more])


def study(spec: Path) -> Store:
    return open_store(load_spec(spec))


def commits(spec: Path) -> dict:
    return study(spec).commits()


def test_a_study_ends_with_a_filled_table_and_rerunning_trains_nothing(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_spec) == 0
    first = capsys.readouterr().out
    assert "tiny: 6 trials: 0 done, 6 new" in first
    assert "| Task99_Spheres | full | Dice |" in first
    before = {
        path: path.stat().st_mtime_ns
        for path in Path(study(tiny_spec).root).rglob("trials/**/*.parquet")
    }
    table = study(tiny_spec).read("report/significance.csv")

    assert run(tiny_spec) == 0
    assert "Nothing to train" in capsys.readouterr().out
    assert before == {
        path: path.stat().st_mtime_ns
        for path in Path(study(tiny_spec).root).rglob("trials/**/*.parquet")
    }
    assert study(tiny_spec).read("report/significance.csv") == table

    assert main([str(tiny_spec), "--dry-run"]) == 0
    assert "6 trials: 6 done, 0 new" in capsys.readouterr().out

    rows = read_results(study(tiny_spec), "cases")
    assert len(rows) == 2 * 15  # every case is a test case once per model
    assert not rows.duplicated(["model", "case"]).any()
    assert set(rows["nsd_definition"]) == {"surfel"}
    assert rows["dice"].between(0, 1).all()
    assert rows["dice"].mean() > 0.05  # no empty predictions, so that comparisons compare something


def test_two_runs_into_two_folders_give_the_same_bytes(tiny_spec: Path, tmp_path: Path) -> None:
    tables = []
    for name in ("one", "two"):
        assert run(tiny_spec, "--set", f"storage={tmp_path / name}") == 0
        tables.append((tmp_path / name / "tiny" / "report" / "significance.csv").read_bytes())
    assert tables[0] == tables[1]
    assert b"Task99_Spheres" in tables[0]


def test_an_edit_runs_only_what_changed_and_says_why(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_spec) == 0
    first = commits(tiny_spec)
    assert main([str(tiny_spec), "--dry-run", "--set", "models.1.lora.rank=2"]) == 0
    shown = capsys.readouterr().out
    assert "3 done, 0 new, 3 changed" in shown
    assert "model.lora.rank: 4 -> 2" in shown
    assert run(tiny_spec, "--set", "models.1.lora.rank=2") == 0
    assert len(commits(tiny_spec).keys() - first.keys()) == 3


def test_a_new_tolerance_scores_the_kept_masks_again_without_training(tiny_spec: Path) -> None:
    assert run(tiny_spec) == 0
    before = read_results(study(tiny_spec), "cases")
    weights = {marker.files["weights"] for marker in commits(tiny_spec).values()}
    assert run(tiny_spec, "--set", "evaluation.tolerances=[3.0]") == 0
    after = read_results(study(tiny_spec), "cases")
    assert {marker.files["weights"] for marker in commits(tiny_spec).values()} == weights
    assert (after["dice"] == before["dice"]).all()
    assert set(after["nsd_tolerance"]) == {3.0}
    assert (after["nsd"] > before["nsd"]).any()


def test_a_broken_image_quarantines_only_the_trials_that_need_it(
    tiny_spec: Path,
    spheres: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = tmp_path / "copy"
    shutil.copytree(spheres, data)
    spec = load_spec(tiny_spec, [f"data.root={data}"])
    fold = gathered(spec).tasks["Task99_Spheres"].folds[1]
    used = {
        case
        for other in (0, 2)
        for case in _used(gathered(spec).tasks["Task99_Spheres"].folds[other], 0.2)
    }
    victim = next(case for case in fold.test if case not in used)
    image = data / "Task99_Spheres" / "imagesTr" / f"{victim}.nii.gz"
    whole = image.read_bytes()

    def breaks_after_the_check(spec: Spec, splits: Mapping[str, Split | None]) -> Inputs:
        image.write_bytes(whole)
        inputs = gathered(spec, splits)
        image.write_bytes(bytes(len(whole)))
        return inputs

    monkeypatch.setattr("orchestrator.planning.study.gathered", breaks_after_the_check)
    arguments = [
        "--set",
        f"data.root={data}",
        "--set",
        "fractions=[0.2]",
        "--set",
        "resources.max_attempts=2",
    ]

    assert run(tiny_spec, *arguments) == 1
    shown = capsys.readouterr().out
    assert "4 of 6 trials are in this report" in shown
    assert "incomplete: 2 of 6 trials missing" in shown
    assert f"{victim}.nii.gz: cannot be read as NIfTI" in shown
    failures = study(tiny_spec).failures()
    assert [len(entries) for entries in failures.values()] == [2, 2]
    assert "Traceback" in next(iter(failures.values()))[0].details

    assert run(tiny_spec, *arguments) == 1  # quarantined trials are not tried again unasked
    assert "Nothing to train" in capsys.readouterr().out
    image.write_bytes(whole)
    monkeypatch.setattr("orchestrator.planning.study.gathered", gathered)
    assert run(tiny_spec, *arguments, "--retry-quarantined") == 0
    assert "6 of 6 trials are in this report" in capsys.readouterr().out


def test_missing_data_are_all_named_before_anything_starts(
    tiny_spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--set",
        "tasks=[Task01_BrainTumour, Task02_Heart]",
        "--set",
        "models.1.llm.source=/nowhere/llama",
    ]
    assert run(tiny_spec, *arguments) == 2
    errors = capsys.readouterr().err
    assert "Task01_BrainTumour" in errors
    assert "Task02_Heart" in errors
    assert "/nowhere/llama" in errors
    assert not Path(study(tiny_spec).root, "plan.json").exists()


def _used(fold: object, fraction: float) -> set[str]:
    roles = fold.roles(fraction)  # type: ignore[attr-defined]
    return {*roles.train, *roles.validation, *roles.test}


def test_a_dry_run_before_any_data_exits_0_and_imports_nothing_heavy(tiny_spec: Path) -> None:
    code = (
        "import sys\nfrom orchestrator.run import main\n"
        "status = main([sys.argv[1], '--dry-run', '--set', 'data.root=null'])\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'transformers', 'monai', 'numba', "
        "'nibabel'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(status)\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "MEDVISION_CACHE": str(tiny_spec.parent / "empty")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_spec)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "6 unknown" in done.stdout
    assert "missing: no data folder is set" in done.stdout
    assert not Path(study(tiny_spec).root).exists()


def test_splits_and_manifest_are_there_for_a_reviewer(tiny_spec: Path) -> None:
    assert run(tiny_spec) == 0
    store = study(tiny_spec)
    split = store.read_json("splits/Task99_Spheres.json")
    assert len(split["folds"]) == 3
    assert "every fifth patient" in split["rule"]
    manifest = store.read_json("manifest.json")
    assert manifest["packages"]["torch"].startswith("2.13")
    assert manifest["fingerprints"]["cases"]["Task99_Spheres"] == split["cases"]
    assert "environment" not in json.dumps(manifest).lower()


def test_cells_of_one_id_are_trained_once_and_all_of_them_are_reported(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"
    assert (
        run(
            tiny_spec,
            "--set",
            models,
            "--set",
            "fractions=[0.1, 0.11]",
            "--set",
            "training.epochs=1",
        )
        == 0
    )
    assert "6 of 6 trials are in this report" in capsys.readouterr().out
    assert len(commits(tiny_spec)) == 3  # both fractions are one case
    store = study(tiny_spec)
    plan = store.read_json("plan.json")["trials"]
    assert len(plan) == 6
    assert len({trial["eval_id"] for trial in plan}) == 3
    rows = read_results(store, "cases")
    assert set(rows["fraction"]) == {0.1, 0.11}
    assert len(rows) == 2 * 15
