"""`medvision reliance`: finished trials scored again without their block."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from orchestrator.merge import main as merge
from orchestrator.reliance import main as reliance
from orchestrator.run import main as run
from record import paths
from record.reliance import KNOCK_OUTS, knocked_of, knocked_trials
from record.schema import Commit
from record.store import Store
from record.study import StoredStudy
from record.tables import rows_of

LOCAL = ["--in-process", "--set", "tracking.enabled=false", "--set", "training.epochs=2"]
GRID = ["--set", "folds=2", "--set", "seeds=[0,1]"]
MODELS = ("MedVisionLlama", "Nothing")


@pytest.fixture
def study(tiny_spec: Path, tiny_llama: Path) -> StoredStudy:
    """A finished study of a block and of nothing in its place, two folds, two seeds."""
    first = "  - {label: ViT_Baseline, embed_dim: 16, depth: 2, heads: 2}\n"
    second = (
        "  - {label: MedVisionLlama, name: Nothing, embed_dim: 16, depth: 2, heads: 2, "
        f'llm: {{source: "{tiny_llama}", control: identity}}}}\n'
    )
    tiny_spec.write_text(tiny_spec.read_text().replace(first, second))
    assert run([str(tiny_spec), *LOCAL, *GRID]) == 0
    return StoredStudy.opened(Store(str(tiny_spec.parent / "runs" / "tiny")))


def rows_without(study: StoredStudy) -> pd.DataFrame:
    """All rows without a block."""
    knocked, found = knocked_of(study.store, study.plan, study.finished.commits)
    pairs = [(one.planned(0), found.commits[one.eval_id]) for one in knocked]
    return rows_of(study.store, paths.CASES, pairs)


def test_networks_are_scored_again_without_their_block(
    study: StoredStudy, tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = study.store.committed()
    assert reliance(["--study", study.store.uri]) == 0
    assert "8 trainings without their block: 40 scores made" in capsys.readouterr().out
    made = study.store.committed() - before
    assert len(made) == 40  # 2 models, 2 folds, 2 seeds, 5 ways
    assert all(study.store.load(paths.commit(one), Commit) for one in made)

    key = ["task", "fold", "seed", "case", "group"]
    whole = study.rows(paths.CASES).set_index(["model", *key])["dice"].sort_index()
    without = rows_without(study).set_index(["model", *key])["dice"].sort_index()
    for model in MODELS:
        # Predicted again by this machine as it is, and without a block that is none.
        for how in ("none", *(["identity"] if model == "Nothing" else [])):
            pd.testing.assert_series_equal(
                without[f"{model}, {how}"], whole[model], check_exact=True
            )
    for how in ("identity", "permuted", "mean", "swapped"):
        assert not without[f"MedVisionLlama, {how}"].equals(whole["MedVisionLlama"]), how

    # What is there is not scored again; a damaged score is, and a report without it says so.
    store, damaged = study.store, knocked_trials(study.store)[0]
    marker = store.load(paths.commit(damaged.eval_id), Commit)
    assert marker is not None
    store.write(marker.files[paths.CASES], b"changed")
    assert reliance(["--study", store.uri]) == 0
    captured = capsys.readouterr()
    assert "8 trainings without their block: 1 scores made" in captured.out
    assert "damaged: " in captured.err

    text = (Path(store.uri) / "report" / "reliance.md").read_text()
    assert "Is the block of MedVisionLlama used? " in text
    assert "Is the block of Nothing used? no: nothing changes without it" in text
    table = pd.read_csv(Path(store.uri) / "report" / "reliance.csv")
    assert set(table["knock_out"]) == set(KNOCK_OUTS)
    same = (table["model"] == "Nothing") & table["knock_out"].isin(["none", "identity"])
    assert set(table[same]["difference"]) == {0.0}

    # The tables of the whole networks are as they were, and a later run keeps all of it.
    significance = Path(store.uri) / "report" / "significance.csv"
    content = significance.read_bytes()
    assert b"identity" not in content
    assert run([str(tiny_spec), *LOCAL, *GRID]) == 0
    assert significance.read_bytes() == content
    assert "MedVisionLlama used?" in (Path(store.uri) / "report" / "reliance.md").read_text()
    assert len(knocked_trials(store)) == 40

    # A merged study has them, too.
    into = str(Path(store.uri).parent / "merged")
    assert merge([store.uri, "--into", into]) == 0
    united = StoredStudy.opened(Store(into))
    knocked, found = knocked_of(united.store, united.plan, united.finished.commits)
    assert len(knocked) == len(found.commits) == 40


def test_scores_of_earlier_weights_do_not_count(study: StoredStudy) -> None:
    assert reliance(["--study", study.store.uri, "--knock-outs", "mean"]) == 0
    knocked, _ = knocked_of(study.store, study.plan, study.finished.commits)
    assert len(knocked) == 8
    commits = dict(study.finished.commits)
    marker = commits[knocked[0].of]
    other = marker.sha256 | {paths.WEIGHTS: "0" * 64}
    commits[knocked[0].of] = marker.model_copy(update={"sha256": other})
    left, _ = knocked_of(study.store, study.plan, commits)
    assert left == knocked[1:]


def test_what_cannot_be_knocked_out_is_said(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["--set", "folds=2", "--set", "training.epochs=1"]
    assert run([str(tiny_spec), *LOCAL[:3], *one]) == 0
    capsys.readouterr()
    uri = str(tiny_spec.parent / "runs" / "tiny")
    for wrong, said in (
        (["--models", "ViT_Baseline"], "is no model with a block; the study has MedVisionLlama"),
        (["--device", "cuda:99"], "--device cuda:99: cannot be used here"),
    ):
        assert reliance(["--study", uri, *wrong]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert reliance(["--study", uri, "--knock-outs", "swapped", "mean"]) == 0
    said = capsys.readouterr().out
    assert said.count("not swapped, no other seed of it has finished") == 2
    assert "2 trainings without their block: 2 scores made" in said
