"""A model in a file next to the spec, from the spec to a new scan: checked with the rest of the
spec, planned by its text, trained, reported, and used again.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medvision.predict import main as predict
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import SpecError, load_spec
from orchestrator.status import main as status
from record.store import Store
from reports.build import main as report

NET = """
from torch import nn
from own_layers import conv

class Net(nn.Module):
    def __init__(self, in_channels, out_channels, width=4):
        super().__init__()
        self.layers = nn.Sequential(conv(in_channels, width), nn.Conv3d(width, out_channels, 1))

    def forward(self, image):
        return self.layers(image)
"""
LAYERS = """
from torch import nn

def conv(before, after):
    return nn.Sequential(nn.Conv3d(before, after, 3, padding=1), nn.InstanceNorm3d(after))
"""
LOCAL = ["--in-process", "--set", "tracking.enabled=false"]


@pytest.fixture
def spec(tiny_spec: Path) -> Path:
    """The tiny study with a network of its folder instead of the second model."""
    (tiny_spec.parent / "own_net.py").write_text(NET)
    (tiny_spec.parent / "own_layers.py").write_text(LAYERS)
    lines = tiny_spec.read_text().splitlines(keepends=True)
    row = next(number for number, line in enumerate(lines) if "MedVisionLlama" in line)
    lines[row] = '  - {label: custom, network: "own_net:Net", settings: {width: 4}}\n'
    tiny_spec.write_text("".join(lines))
    return tiny_spec


def run(spec: Path, *more: str) -> int:
    return main([str(spec), *LOCAL, *more])


def test_it_is_trained_tested_and_used_on_a_new_scan_with_its_file_gone(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(spec) == 0
    shown = capsys.readouterr().out
    assert "tiny: 6 trials: 0 done, 6 new" in shown
    assert "## Net against ViT_Baseline" in shown
    study = tmp_path / "runs" / "tiny"
    assert "class Net" not in (study / "plan.json").read_text()  # which reports show

    (spec.parent / "own_net.py").unlink()
    monkeypatch.chdir(tmp_path / "runs")
    assert status([str(study)]) == 0
    assert "6 finished" in capsys.readouterr().out
    assert report([str(study)]) == 0

    image = tmp_path / "x.nii.gz"
    values = np.random.default_rng(0).normal(0, 1, (12, 14, 10)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), image)
    flags = ["--study", str(study), "--model", "Net", "--image", str(image)]
    flags += ["--output", str(tmp_path / "y.nii.gz")]
    capsys.readouterr()
    assert predict(flags) == 2
    told = capsys.readouterr().err
    assert "its model own_net:Net is Python of its author's own" in told
    assert "give --trust-code" in told
    assert not (tmp_path / "y.nii.gz").exists()
    assert predict([*flags, "--trust-code"]) == 0
    assert "3 trainings of Net on Task99_Spheres, fraction 1: fold 0 seed 0" in (
        capsys.readouterr().out
    )
    assert nibabel.load(tmp_path / "y.nii.gz").shape == (12, 14, 10)


def test_its_text_and_that_of_what_it_imports_decide_its_trainings(
    spec: Path,
) -> None:
    def planned() -> set[str]:
        loaded = load_spec(spec)
        trials = Study.gathered(loaded, open_store(loaded)).plan.trials
        return {str(trial.train_id) for trial in trials if trial.cell.model == "Net"}

    first = planned()
    (spec.parent / "own_notes.py").write_text("# nothing imports it\n")
    assert planned() == first
    (spec.parent / "own_layers.py").write_text(LAYERS + "# changed\n")
    changed = planned()
    assert len(first) == len(changed) == 3
    assert not first & changed


def test_a_worker_trains_the_text_that_was_planned_and_no_other(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever can write to the storage cannot make a worker run other code."""
    from orchestrator.trial.context import TrialContext

    loaded = load_spec(spec)
    study = Study.gathered(loaded, open_store(loaded))
    study.write()
    job = next(job for job in study.jobs("t") if job.cell.model == "Net")
    TrialContext(job, study.store)
    values = study.store.read_json("study.json")
    [own] = [model for model in values["spec"]["models"] if model["label"] == "custom"]
    own["files"]["own_net.py"] += "print('intruder')\n"
    del own["sha256"]
    study.store.write_json("study.json", values)  # with a checksum that fits
    with pytest.raises(RuntimeError, match="the study changed since this trial was planned"):
        TrialContext(job, Store(study.store.uri))
    assert "intruder" not in capsys.readouterr().out


def test_what_is_wrong_with_it_is_told_with_the_other_mistakes(spec: Path) -> None:
    def mistakes(*overrides: str) -> list[str]:
        with pytest.raises(SpecError) as caught:
            load_spec(spec, ["folds=1", *overrides])
        folds, *others = sorted(caught.value.mistakes, key=lambda text: "folds" not in text)
        assert "folds: must be 2 or more" in folds
        return others

    for override, expected in (
        ("models.1.network=own_nett:Net", "has no own_nett.py; did you mean own_net?"),
        ("models.1.network=own_net:net", "has no class or function net; did you mean Net?"),
        ("models.1.network=own_net:conv", "must take in_channels and out_channels"),
        ("models.1.settings={widht: 4}", "unexpected keyword argument 'widht'"),
        ("models.1.settings={width: -1}", "given images [2, 3, 16, 16, 16]:"),
        ("models.1.sha256=0", "sha256"),
    ):
        [told] = mistakes(override)
        assert expected in told
        assert told.startswith("--set: models.1")
    (spec.parent / "own_net.py").write_text(NET.replace("out_channels, 1)", "1, 1)"))
    [told] = mistakes()
    assert "tiny.yaml:4: models.1: own_net:Net: " in told
    assert "it returned [2, 1, 16, 16, 16], expected logits [2, 4, 16, 16, 16]" in told


def test_the_resolved_spec_of_a_study_runs_without_the_file(spec: Path, tmp_path: Path) -> None:
    values = load_spec(spec).model_dump(mode="json")
    elsewhere = tmp_path / "elsewhere" / "again.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(json.dumps(values))
    assert load_spec(elsewhere) == load_spec(spec)


def test_its_settings_can_be_searched_and_two_of_one_file_told_apart(spec: Path) -> None:
    text = spec.read_text().replace(
        "tasks:",
        '  - {label: custom, network: "own_net:Net", name: wide, settings: {width: 8}}\ntasks:',
    )
    spec.write_text(text)
    search = "search={space: {training.lr: {log: [1e-3, 1e-2]}}, trials: 2}"
    assert [model.name for model in load_spec(spec, [search]).models] == [None, "Net", "wide"]
    lone = ["models=[{label: custom, network: 'own_net:Net', settings: {width: 4}}]"]
    lone.append("search={space: {settings.width: {integers: [2, 8]}}, trials: 2}")
    assert load_spec(spec, lone).search is not None
