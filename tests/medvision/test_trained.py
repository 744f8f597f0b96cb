"""The map from model, task, fraction, fold and seed to the files of a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from medvision.errors import DataError
from medvision.predict import main
from medvision.trained import Training, chosen, trainings
from record import paths
from record.schema import Claim
from record.store import Store
from tests.record.builders import commit, study_plan


@pytest.fixture
def study(tmp_path: Path) -> Store:
    """Two models on two tasks, two fractions, two folds; one training of each model is not
    finished.
    """
    store, trials = Store(str(tmp_path / "study")), []
    for model in ("Plain", "Llama"):
        for task in ("Heart", "Liver"):
            for fraction, fold in ((1.0, 0), (1.0, 1), (0.1, 0)):
                name = f"{model}-{task}-{fraction}-{fold}"
                cell = {"model": model, "task": task, "fraction": fraction, "fold": fold, "seed": 3}
                trials.append(
                    {**cell, "train_id": f"t-{name}", "eval_id": f"e-{name}", "notes": []}
                )
                if (task, fold) == ("Liver", 1):
                    continue
                files = {"weights": f"trials/{name}/weights.safetensors"}
                files |= {kind: f"trials/{name}/{kind}.parquet" for kind in ("cases", "history")}
                for file in files.values():
                    store.write(file, name.encode())
                marker = commit(eval_id=f"e-{name}", train_id=f"t-{name}", files=files, cell=cell)
                store.save(paths.claim(marker.train_id), Claim(token=marker.token))
                store.commit(marker)
    store.save(paths.PLAN, study_plan(trials=trials, models=["Plain", "Llama"]))
    return store


def places(found: list[Training]) -> list[str]:
    return [Path(one.place).parent.name for one in found]


def test_a_model_is_all_folds_of_its_largest_training_sets(study: Store, tmp_path: Path) -> None:
    every = trainings(study.uri)
    assert len(every) == 10
    together = chosen(every, model="Llama", task="Heart")
    assert places(together) == ["Llama-Heart-1.0-0", "Llama-Heart-1.0-1"]
    assert together[0].local(tmp_path).read_text() == "Llama-Heart-1.0-0"
    assert places(chosen(every, model="Plain", task="Heart", fraction=0.1)) == ["Plain-Heart-0.1-0"]
    assert places(chosen(every, model="Plain", task="Heart", folds=[1])) == ["Plain-Heart-1.0-1"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"model": None}, "--model: name one of Plain, Llama"),
        ({"model": "Lama"}, "--model Lama: no finished training has it; did you mean Llama?"),
        ({"model": "Llama"}, "--task: name one of Heart, Liver"),
        (
            {"model": "Llama", "task": "Liver", "folds": [1]},
            "--fold 1: no finished training has it",
        ),
        ({"model": "Llama", "task": "Heart", "seeds": [0]}, "there are 3"),
        ({"model": "Llama", "task": "Heart", "fraction": 0.5}, "there are 0.1, 1"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(study: Store, wanted: dict, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        chosen(trainings(study.uri), **wanted)
    assert expected in str(caught.value)


def test_the_list_is_a_table_of_files(study: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--study", study.uri, "--list"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "task", "fraction", "fold", "seed", "weights"]
    assert len(rows) == 10
    last = rows[-1].split()
    assert last[:5] == ["Llama", "Liver", "0.1", "0", "3"]
    assert Path(last[5]).read_text() == "Llama-Liver-0.1-0"
    assert main(["--study", f"{study.uri}-no", "--list"]) == 2
    assert "error: " in capsys.readouterr().err
