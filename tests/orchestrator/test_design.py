"""Designs with known power: what a pilot or stated variances promise is what simulated studies find
through the report's own test, the cheapest one is chosen, and what cannot be is said in one line.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from orchestrator.cli import main as medvision
from orchestrator.design import main
from orchestrator.planning.pilot import PilotError, read_pilot
from record import paths
from record.schema import Claim, Split
from record.store import Store
from record.study import StoredStudy
from record.tables import table_bytes
from reports.statistics import detectable, method_difference, power
from tests.record.builders import commit, study_plan

CASES, FOLDS = 40, 5
SPEC = {
    "name": "planned",
    "models": ["ViT_Baseline", "ViT_MLP"],
    "tasks": ["T"],
    "data": {"image_size": [16, 16, 16]},
    "training": {"epochs": 2},
    "tracking": {"enabled": False},
}
ASSUMED = {"fold": 0.0, "training": 1e-4, "case": 2e-3, "rest": 5e-4}
TEXT = ",".join(f"{name}={value:g}" for name, value in ASSUMED.items())


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "planned.yaml"
    path.write_text(str(SPEC | {"storage": str(tmp_path / "runs")}))
    return path


def pilot_study(
    folder: Path,
    seeds: int = 3,
    folds: int = FOLDS,
    seconds: float = 36.0,
    models: Sequence[str] = ("ViT_Baseline", "ViT_MLP"),
) -> Store:
    """Models on one task, whose trainings and cases scatter; each trial took so long.

    A third model has the scores of the first.
    """
    rng = np.random.default_rng(0)
    store = Store(str(folder))
    hardness = rng.uniform(0.5, 0.8, CASES)
    cells = list(itertools.product(models, range(folds), range(seeds)))
    store.save(
        "plan.json",
        study_plan(
            name="pilot",
            models=list(models),
            tasks=["T"],
            metrics={"dice": {"title": "Dice"}, "hd95": {"title": "HD95"}},
            comparisons=[
                {"baseline": models[0], "candidates": list(models[1:]), "metrics": ["hd95"]}
                | {"family": []}
            ],
            trials=[
                {"model": m, "fold": f, "seed": s, "train_id": f"{m}{f}{s}"}
                | {"eval_id": f"e{m}{f}{s}", "arithmetic_seconds": 1.0}
                for m, f, s in cells
            ],
        ),
    )
    scored: dict[tuple[int, int, int], list[dict[str, Any]]] = {}
    for model, fold, seed in cells:
        luck = rng.normal(0, 0.02)
        rows = [
            {"case": f"c{case:02d}", "group": "foreground", "status": "ok", "diagonal": 50.0}
            | {"dice": hardness[case] + luck + rng.normal(0, 0.02), "hd95": rng.uniform(1, 3)}
            for case in range(fold, CASES, folds)
        ]
        rows = scored.setdefault((models.index(model) % 2, fold, seed), rows)
        names = {"train_id": f"{model}{fold}{seed}", "eval_id": f"e{model}{fold}{seed}"}
        file = f"trials/{names['train_id']}/t/cases.parquet"
        store.write(file, table_bytes(rows))
        store.save(f"claims/{names['train_id']}.json", Claim(token="t"))
        store.write("history", table_bytes([{"epoch": 1, "metric": "loss", "value": 1.0}]))
        files = {"cases": file, "history": "history"}
        store.commit(commit(**names, token="t", files=files, cost={"seconds": seconds}))
    return store


def test_each_metric_sees_in_its_own_unit(
    tmp_path: Path, spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = pilot_study(tmp_path / "pilot")
    both = ["--from", store.uri, "--folds", "5", "--seeds", "3", "--detect", "dice=0.03"]
    main([str(spec_file), *both, "--detect", "hd95=2", "--set", "splits.repeats=2"])
    shown = capsys.readouterr().out
    assert "| Sees, Dice | Sees, HD95 [mm] |" in shown
    assert "Folds: of each of 2 cross-validations" in shown
    assert "5 folds in each of 2 repeats" in shown
    data = pd.read_csv(tmp_path / "runs/planned/design/design.csv").iloc[0]
    rows = read_pilot(StoredStudy.opened(store), ["dice", "hd95"]).rows
    of = {"folds": 5, "seeds": 3, "cases": CASES, "repeats": data["repeats"]}
    for row in rows:
        seen = detectable(row.components, **of)
        assert data[f"detectable_{row.metric}"] == pytest.approx(seen), row.metric


def test_a_pilot_gives_its_components_and_what_its_trials_took(
    tmp_path: Path, spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = pilot_study(tmp_path / "pilot")
    pilot = read_pilot(StoredStudy.opened(store), ["dice"])
    (row,) = pilot.rows
    assert (row.metric, row.cases, row.folds, row.trainings) == ("dice", CASES, FOLDS, 15)
    assert 0 < row.components["training"] < 10 * 0.02**2
    assert pilot.cost.ratio("ViT_MLP", "T") == pytest.approx(36, rel=0.5)
    command = [str(spec_file), "--from", store.uri, "--detect", "dice=0.03"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "Variances of the pilot pilot (15 trainings a model on 5 training sets" in shown
    assert "what the pilot's trials took" in shown
    assert "cheapest" in shown
    assert "T was not read yet: 40 cases, the pilot's." in shown
    folder = tmp_path / "runs/planned/design"
    assert {path.suffix for path in folder.iterdir()} == {".md", ".csv", ".tex", ".png", ".pdf"}
    data = pd.read_csv(folder / "design.csv")
    assert data["cheapest"].sum() == 1
    assert data["enough"].any()
    best = data[data["cheapest"]].iloc[0]
    assert best["core_hours"] == data[data["enough"]]["core_hours"].min()
    assert set(data["source"]) == {data["source"][0]}
    assert "pilot" in data["source"][0]
    assert not (tmp_path / "runs/planned/plan.json").exists()


def test_patients_are_counted_by_the_tests_and_cases_by_the_cost(
    tmp_path: Path, spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = pilot_study(tmp_path / "pilot")
    patients = {f"c{case:02d}": f"p{case % 5}{case // 10}" for case in range(CASES)}  # two each
    store.save(paths.split("T"), Split(cases={}, patients=patients, folds=[]))
    pilot = read_pilot(StoredStudy.opened(store), ["dice"])
    assert (pilot.cases, pilot.patients, pilot.rows[0].cases) == ({"T": 40}, {"T": 20}, 20)
    command = [str(spec_file), "--from", store.uri, "--detect", "dice=0.03", "--folds", "5"]
    command += ["--seeds", "3"]
    grouped = ["--set", "splits.group_pattern=(...).*"]
    found = {}
    for cases, arguments in ((40, []), (80, ["--cases", "80"])):
        main([*command, *grouped, *arguments])
        shown = capsys.readouterr().out
        assert "The tests of T count patients: 20 of 40 cases." in shown
        assert "on 5 training sets, 20 patients)" in shown
        found[cases] = pd.read_csv(tmp_path / "runs/planned/design/design.csv").iloc[0]
        assert found[cases]["cases"] == cases
        of = {"folds": 5, "seeds": 3, "cases": cases / 2}
        assert found[cases]["power"] == pytest.approx(power(0.03, pilot.rows[0].components, **of))
    assert found[80]["core_hours"] > found[40]["core_hours"]
    main([*command, "--cases", "80"])
    assert "variances of T are of patients, and this spec names none" in capsys.readouterr().out
    main([str(spec_file), "--assume", TEXT, *command[3:], *grouped, "--cases", "80"])
    assert "How many patients T has is not known" in capsys.readouterr().out


def test_stated_variances_are_called_so_in_every_output(
    tmp_path: Path, spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--detect", "dice=0.03", "--assume", TEXT, "--cases", "100,200"]
    assert medvision(["design", str(spec_file), *command]) == 0
    assert "stated assumptions, not measured" in capsys.readouterr().out
    folder = tmp_path / "runs/planned/design"
    for suffix in ("md", "csv", "tex"):
        text = (folder / f"design.{suffix}").read_text()
        assert "stated assumptions, not measured: fold 0, training 0.0001" in text
    assert set(pd.read_csv(folder / "design.csv")["cases"]) == {100, 200}


def test_where_nothing_suffices_it_says_so(
    spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--detect", "dice=0.0001", "--assume", TEXT, "--cases", "50"]
    assert main([str(spec_file), *command]) == 1
    assert "None of these designs has power 0.8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detect", "dice=0.01"], "give --from STUDY"),
        (["--detect", "dice=0.01", "--assume", TEXT, "--from", "x"], "give --from STUDY"),
        (["--detect", "iou=0.01", "--assume", TEXT], "unknown metric 'iou'; known metrics: dice"),
        (["--detect", "dice", "--assume", TEXT], "'' is not a difference above 0"),
        (["--detect", "dice=-1", "--assume", TEXT], "'-1' is not a difference above 0"),
        (["--detect", "accuracy=0.1", "--assume", TEXT], "no comparison of planned tests it"),
        (["--detect", "dice=0.01", "--detect", "dice=0.02", "--assume", TEXT], "dice twice"),
        (
            ["--detect", "dice=0.01", "--detect", "hd95=1", "--assume", TEXT],
            "names dice (a ratio) and hd95 (mm): ask for one unit at a time",
        ),
        (["--detect", "dice=0.01", "--assume", TEXT, "--power", "1"], "between 0.05 and 1"),
        (["--detect", "dice=0.01", "--assume", TEXT, "--power", "0.01"], "between 0.05 and 1"),
        (["--detect", "dice=0.01", "--assume", "fold=0,training=1"], "lacks case, rest"),
        (["--detect", "dice=0.01", "--assume", "luck=1"], "name each of fold, training, case"),
        (["--detect", "dice=0.01", "--assume", TEXT.replace("0.0001", "-1")], "a variance, 0 or"),
        (["--detect", "dice=0.01", "--assume", "fold=0,training=0,case=0,rest=0"], "nothing var"),
        (["--detect", "dice=0.01", "--assume", TEXT, "--folds", "1"], "at least 2"),
        (["--detect", "dice=0.01", "--assume", TEXT, "--seeds", "many"], "whole numbers"),
        (["--detect", "dice=0.01", "--assume", TEXT, "--cases", "5"], "at least 6"),
        (["--detect", "dice=0.01", "--assume", TEXT], "how many cases T has is not known"),
        (["--detect", "dice=0.01", "--assume", TEXT, "--set", "splits.scheme=holdout"], "kfold"),
        (["--detect", "dice=0.01", "--from", "/nowhere/x"], "holds no plan.json"),
        (
            ["--detect", "dice=0.01", "--assume", TEXT, "--cases", "6", "--folds", "7"],
            "no design can be tested",
        ),
    ],
)
def test_every_mistake_is_one_line(
    arguments: list[str], message: str, spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(spec_file), *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1


def test_a_missing_argument_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("pilot", "message"),
    [
        ({"seeds": 1}, "has one seed, so that luck of training cannot be told"),
        ({"folds": 1}, "has one training set, which says nothing of others"),
    ],
)
def test_a_pilot_that_does_not_tell_the_components_apart_is_refused_in_one_line(
    pilot: dict[str, Any],
    message: str,
    tmp_path: Path,
    spec_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = pilot_study(tmp_path / "pilot", **pilot)
    assert main([str(spec_file), "--from", store.uri, "--detect", "dice=0.01"]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_a_comparison_without_any_difference_teaches_nothing_and_is_named(
    tmp_path: Path, spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = pilot_study(tmp_path / "pilot", models=("ViT_Baseline", "ViT_MLP", "ViT_Depth"))
    (row,) = read_pilot(StoredStudy.opened(store), ["dice"]).rows
    assert row.candidate == "ViT_MLP"
    assert main([str(spec_file), "--from", store.uri, "--detect", "dice=0.03"]) == 0
    assert (
        "Not learnt from: ViT_Depth against ViT_Baseline, T, full, dice: the models do not differ "
        "in any case" in capsys.readouterr().out
    )


def test_a_pilot_without_any_difference_is_refused(tmp_path: Path) -> None:
    store = pilot_study(tmp_path / "pilot", models=("ViT_Baseline", "ViT_MLP", "ViT_Depth"))
    plan = StoredStudy.opened(store).plan
    only = plan.comparisons[0].model_copy(update={"candidates": ["ViT_Depth"]})
    store.save("plan.json", plan.model_copy(update={"comparisons": [only]}))
    with pytest.raises(PilotError, match=r"do not differ in any case.*or state --assume"):
        read_pilot(StoredStudy.opened(store), ["dice"])


def test_components_of_a_pilot_are_those_of_its_report(tmp_path: Path) -> None:
    (row,) = read_pilot(StoredStudy.opened(pilot_study(tmp_path / "pilot")), ["dice"]).rows
    frames = []
    for path in sorted((tmp_path / "pilot/trials").rglob("cases.parquet")):
        name = path.parent.parent.name
        frame = pd.read_parquet(path)
        frames.append(frame.assign(model=name[:-2], fold=int(name[-2]), seed=int(name[-1])))
    table = pd.concat(frames).set_index(["model", "fold", "seed", "case"])["dice"]
    d = table["ViT_MLP"] - table["ViT_Baseline"]
    labels = {
        name: d.index.get_level_values(level).tolist()
        for name, level in (("fold", "fold"), ("training", "seed"), ("case", "case"))
    }
    expected = method_difference(d.to_numpy(), **labels).components
    assert row.components == pytest.approx(expected, rel=1e-6)
