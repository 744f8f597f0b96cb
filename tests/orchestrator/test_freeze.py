"""`run --freeze` and `--dry-run --freeze`: written once, before anything is trained, and no part of
any id.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planning.found import Inputs, TaskInputs
from orchestrator.planning.plan import make_plan
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store, study_plan
from orchestrator.run import main
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import load_spec
from record.frozen import Analysis, frozen_analysis, planned_trainings
from record.store import Store
from reports.sections.exploratory import Exploratory
from reports.sections.planned import added_notes
from tests.conftest import write_task
from tests.record.builders import commit

MODELS = "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}, {label: ViT_MLP, "
MODELS += "embed_dim: 16, depth: 1, heads: 2}]"


def arguments(tiny_spec: Path, data: Path, *more: str) -> list[str]:
    return [str(tiny_spec), "--set", MODELS, "--set", f"data.root={data}", *more]


def look(tiny_spec: Path, data: Path, *changes: str) -> Study:
    spec = load_spec(tiny_spec, [MODELS, f"data.root={data}", *changes])
    return Study.gathered(spec, open_store(spec))


@pytest.fixture
def data(tmp_path: Path, isolated_cache: Path) -> Path:
    return write_task(tmp_path / "data", cases=12)


def test_a_freeze_needs_the_data_then_stands_and_seeds_that_it_planned_are_no_look(
    tiny_spec: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(tiny_spec, data, "--dry-run", "--freeze", "--set", "seeds=[0, 1]")
    assert main(command) == 2
    assert "--freeze needs data and blocks" in capsys.readouterr().err
    study = look(tiny_spec, data)
    assert main(command) == 0
    assert "Analysis frozen at" in capsys.readouterr().out
    frozen = frozen_analysis(study.store)
    assert frozen is not None
    assert frozen.analysis.trainings.seeds == [0, 1]
    assert frozen.analysis.comparisons[0].candidates == ["ViT_MLP"]
    assert frozen.finished == 0
    assert [one.trainings.seeds for one in planned_trainings(study.store)] == [[0, 1]]
    assert study.store.read("plan.json") is None
    assert main(command) == 2
    assert "frozen at" in capsys.readouterr().err


def test_a_freeze_after_a_look_plans_nothing_ahead(
    tiny_spec: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = look(tiny_spec, data, "seeds=[0]").write().store
    store.save("commits/e.json", commit(eval_id="e"))
    command = arguments(tiny_spec, data, "--dry-run", "--freeze", "--set", "seeds=[0, 1, 2]")
    assert main(command) == 0
    assert ", after 1 trials had finished: " in capsys.readouterr().out
    (line,) = added_notes(planned_trainings(store), frozen_analysis(store))
    assert line.startswith("seed 1, seed 2: added at")
    assert "came after a look at results" in line


def test_what_is_frozen_knows_how_folds_are_made_and_the_search(
    tiny_spec: Path, data: Path
) -> None:
    def analysis(*changes: str) -> Analysis:
        study = look(tiny_spec, data, *changes)
        return Analysis.of(study_plan(study.spec, study.inputs, study.plan, {}), {})

    frozen = analysis()
    test = ("ViT_Baseline", "ViT_MLP", frozen.tasks[0], frozen.fractions[0], "dice")

    def against(*changes: str) -> Exploratory:
        return Exploratory(frozen, analysis(*changes))

    assert not against("splits.repeats=2").row(test)
    changed = against("splits.seed=7")
    assert changed.row(test)
    assert changed.differences() == ["splits seed: 0 -> 7"]
    searched = against(
        "search={trials: 2, cases: nested, space: {training.lr: {log: [0.0001, 0.1]}}}"
    )
    assert searched.row(test)
    assert "search trials: none -> 2" in searched.differences()


def test_a_metric_of_ones_own_that_changes_after_the_freeze_is_seen(
    tiny_spec: Path, data: Path
) -> None:
    file = tiny_spec.parent / "own_size.py"
    own = "evaluation.own=[{name: size, function: 'own_size:size'}]"

    def analysis(text: str) -> Analysis:
        file.write_text(f"def size(prediction, truth, spacing):\n    return {text}\n")
        study = look(tiny_spec, data, own, "evaluation.metrics=[dice, size]")
        return Analysis.of(study_plan(study.spec, study.inputs, study.plan, {}), {})

    frozen = analysis("float(prediction.sum())")
    assert not Exploratory(frozen, analysis("float(prediction.sum())")).differences()
    changed = Exploratory(frozen, analysis("float(truth.sum())"))
    place = ("ViT_Baseline", "ViT_MLP", frozen.tasks[0], frozen.fractions[0])
    assert [changed.row((*place, metric)) for metric in ("dice", "size")] == [False, True]
    assert changed.differences()[0].startswith("scoring own size sha256: ")


def test_a_checkpoint_may_move_and_other_settings_may_not(tiny_llama: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_llama, tmp_path / "moved")

    def deciding(source: Path, **changed: Any) -> Any:
        model = {"label": "MedVisionLlama", "llm": {"source": str(source)}, **changed}
        spec = Spec.model_validate({"name": "s", "models": [model], "tasks": ["T"]})
        inputs = Inputs({"T": TaskInputs(missing="no data")}, {})
        return study_plan(spec, inputs, make_plan(spec, inputs, {}, {}), {}).counted

    assert deciding(tiny_llama) == deciding(moved)
    assert deciding(tiny_llama) != deciding(moved, mapper="linear")
    assert deciding(tiny_llama) != deciding(moved, overrides={"training.lr": 0.01})


def test_a_freeze_counts_what_a_rerun_would_forget(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_spec), "--freeze", "--rerun", "abc"]) == 2
    assert "error: --freeze with --rerun: the freeze counts" in capsys.readouterr().err


def test_seeds_that_come_with_a_rerun_came_after_a_look(tiny_spec: Path, data: Path) -> None:
    before = look(tiny_spec, data, "seeds=[0]")
    store, trial = before.write().store, before.plan.trials[0]
    found = commit(eval_id=trial.eval_id, train_id=trial.train_id)
    store.save(f"commits/{trial.eval_id}.json", found)
    after = look(tiny_spec, data, "seeds=[0, 1]").forget([str(trial.cell)])
    assert not store.committed()
    after.write()
    assert [one.finished for one in planned_trainings(store)] == [0, 1]


def test_no_id_changes_by_a_freeze_by_repeats_or_by_more_seeds(tiny_spec: Path, data: Path) -> None:
    plain = look(tiny_spec, data)
    ids = {trial.cell: (trial.train_id, trial.eval_id) for trial in plain.plan.trials}
    plain.freeze()
    seeds = f"seeds={[*plain.spec.seeds, 98, 99]}"
    for more in ("splits.repeats=3", seeds):
        study = look(tiny_spec, data, more)
        now = {trial.cell: (trial.train_id, trial.eval_id) for trial in study.plan.trials}
        assert len(now) > len(ids)
        assert ids.items() <= now.items()
        assert len(set(now.values())) == len(now)


def test_repeats_shuffle_anew_test_every_case_once_each_and_stay_in_the_split_file(
    tiny_spec: Path, data: Path
) -> None:
    study = look(tiny_spec, data, "splits.repeats=3")
    (task,) = study.inputs.tasks.values()
    parts = study.spec.folds
    tests = [
        [frozenset(fold.test) for fold in task.folds[first : first + parts]]
        for first in range(0, 3 * parts, parts)
    ]
    assert len(tests) == 3
    for repeat in tests:
        assert sorted(case for test in repeat for case in test) == sorted(task.fingerprints)
    assert len({frozenset(repeat) for repeat in tests}) == 3
    for fold in task.folds:
        trained = {case for unit in fold.order for case in unit}
        assert not trained & set(fold.test)
    study.write()
    (name,) = study.store.names("splits")
    file = study.store.read_json(f"splits/{name}")
    assert [fold["repeat"] for fold in file["folds"]] == [0] * parts + [1] * parts + [2] * parts
    planned = study.store.plan().trials
    assert {trial.fold: trial.repeat for trial in planned} == {
        number: number // parts for number in range(3 * parts)
    }
    assert look(tiny_spec, data, "splits.repeats=3").inputs.tasks == study.inputs.tasks
    assert "repeats" in file["settings"]
    look(tiny_spec, data).write()
    assert "repeats" not in study.store.read_json(f"splits/{name}")["settings"]


def test_repeats_keep_their_folds_when_a_case_comes(
    tiny_spec: Path, data: Path, tmp_path: Path
) -> None:
    before = look(tiny_spec, data, "splits.repeats=2")
    before.write()
    more = write_task(tmp_path / "more", cases=13)
    after = look(tiny_spec, more, "splits.repeats=2")
    old, new = (next(iter(study.inputs.tasks.values())) for study in (before, after))
    assert new.changes.endswith("; likewise in the other repeats")
    for was, now in zip(old.folds, new.folds, strict=True):
        assert set(now.test) - {"case_12"} == set(was.test)
        assert now.order[: len(was.order)] == was.order


def test_only_a_cross_validation_is_repeated(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ("--set", "splits.scheme=holdout", "--set", "splits.repeats=2", "--dry-run")
    assert main([str(tiny_spec), *changes]) == 2
    assert "only a cross-validation is repeated" in capsys.readouterr().err


@pytest.mark.usefixtures("isolated_cache")
def test_a_damaged_freeze_stops_a_run_before_it_trains(
    tiny_spec: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = look(tiny_spec, data)
    study.freeze()
    store: Store = study.store
    changed = (store.read("analysis.json") or b"").replace(b'"exclude"', b'"perfect"')
    store.write("analysis.json", changed)
    assert main(arguments(tiny_spec, data, "--in-process")) == 2
    assert "analysis.json: has changed since it was written" in capsys.readouterr().err
    assert store.names("trials") == []
