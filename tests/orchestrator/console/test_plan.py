"""What a dry run says besides its trials: models in no comparison, and what it assumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from medvision.assets import AssetError, locate
from medvision.data.embedded import TASK_CASES, embedded_root
from medvision.llm import cached_fingerprint, describe_block
from medvision.models.language.settings import PACKAGED_SIZES
from orchestrator.console.plan import uncompared
from orchestrator.planning.cost import UNKNOWN_CASES
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec

SPEC = """\
name: noted
models:
  - ViT_Baseline
  - ViT_MLP
  - {label: MedVisionLlama, name: small, llm: {source: smollm2-135m}}
  - {label: MedVisionLlama, name: unread, llm: {source: ./nowhere}}
tasks: [MNI152_GreyMatter, Task04_Hippocampus, Own]
data: {image_size: [32, 32, 32]}
training: {epochs: 1}
"""


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec whose data and blocks are not on this machine."""
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("MEDVISION_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "noted.yaml"
    path.write_text(SPEC)
    return path


def test_what_the_estimate_assumes_of_unread_data_and_checkpoints_is_said(
    noted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(noted), "--dry-run"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if "the estimate" in line]
    assert notes == [
        f"  note: the estimate counts {TASK_CASES} cases of MNI152_GreyMatter, 260 cases of "
        f"Task04_Hippocampus, {UNKNOWN_CASES} cases of Own, which were not read yet",
        "  note: the estimate takes ./nowhere of unread, which was not read yet, to be as large as "
        "meta-llama/Llama-3.1-8B",
    ]


def test_what_was_only_not_read_yet_is_not_called_missing(
    noted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, spheres: Path
) -> None:
    only = ["--set", "models=[ViT_Baseline]", "--set", "tasks=[Task99_Spheres]"]
    data = ["--set", f"data.root={spheres}"]
    assert main([str(noted), "--dry-run", *only, *data]) == 0
    shown = capsys.readouterr().out
    assert "data not read yet" in shown
    assert "  note: task 'Task99_Spheres' was not read yet" in shown
    assert "missing" not in shown
    embedded = ["--set", "data.root=embedded", "--set", "tasks=[MNI152_GreyMatter]", *only[:2]]
    assert main([str(noted), "--dry-run", *embedded]) == 0
    shown = capsys.readouterr().out
    assert "was not read yet; the first run makes it out of its asset" in shown
    assert "missing" not in shown
    assert main([str(noted), "--dry-run", *only, "--set", "data.root=nowhere"]) == 0
    shown = capsys.readouterr().out
    assert "its data are missing" in shown
    assert "  missing: task 'Task99_Spheres': there is no folder" in shown


def test_packaged_checkpoints_are_as_large_as_is_assumed_before_they_are_read(
    isolated_cache: Path,
) -> None:
    for name, size in PACKAGED_SIZES.items():
        try:
            locate(name)
        except AssetError:
            pytest.skip(f"{name} was not fetched")
        about = describe_block(name)
        attention = 2 * about["head_dim"] * (about["heads"] + about["kv_heads"])
        feed_forward = (3 if about["gated"] else 2) * about["intermediate_size"]
        width = about["hidden_size"]
        assert size == {"hidden_size": width, "parameters": width * (attention + feed_forward)}


def test_the_embedded_task_has_as_many_cases_as_is_assumed_before_it_is_written() -> None:
    folder = embedded_root() / "MNI152_GreyMatter" / "imagesTr"
    if not folder.is_dir():
        pytest.skip("the quickstart's task was not written")
    assert len(list(folder.iterdir())) == TASK_CASES


@pytest.mark.parametrize(
    ("comparisons", "expected"),
    [
        ("{baseline: ViT_Baseline, candidates: [small, unread, ViT_MLP]}", []),
        ("{baseline: ViT_Baseline, candidates: [small]}", ["ViT_MLP, unread"]),
        (None, []),  # all against the first
    ],
)
def test_models_in_no_comparison_are_named(
    noted: Path, comparisons: str | None, expected: list[str]
) -> None:
    spec = load_spec(noted, [f"comparisons={comparisons}"] if comparisons else [])
    said = ": in no comparison: trained and scored, and tested against nothing"
    assert uncompared(spec) == [names + said for names in expected]


def test_blocks_are_fetched_before_the_machines_have_no_internet(
    noted: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = f"models=[ViT_Baseline, {{label: MedVisionLlama, llm: {{source: {tiny_llama}}}}}]"
    assert main([str(noted), "--fetch-models", "--set", models]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"MedVisionLlama: layer -1 of {tiny_llama} is in ")
    assert cached_fingerprint(tiny_llama) is not None

    nowhere = "models=[{label: MedVisionLlama, llm: {source: ./nowhere}}]"
    assert main([str(noted), "--fetch-models", "--set", nowhere]) == 2
    assert "error: model MedVisionLlama: llm.source: no language model at './nowhere'" in (
        capsys.readouterr().err
    )
