"""`medvision compare`: masks of any tools, scored and tested without a spec or a study."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medvision.errors import DataError
from medvision.metrics import evaluate_case
from orchestrator.compare import compare, main
from record import paths
from record.store import Store, StoreError
from tests.orchestrator.comparing.masks import CASES, SPACING, moved, truths, written


def test_folders_give_a_whole_report_of_exact_scores(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = f"A={folders / 'A'}", f"B={folders / 'B'}"
    out = folders / "out"
    line = [str(folders / "truth"), "--masks", a, b, "--labels", "ball=1,2", "core=2"]
    assert main([*line, "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "these trainings only, which favour A" in printed
    assert f"n = {CASES} cases" in printed
    written_files = {path.name for path in (out / "report").iterdir()}
    assert {"report.html", "report.tex", "significance.tex", "worst.md", "cases.csv"} <= (
        written_files
    )
    assert "forest_B_vs_A_page.png" in written_files
    again = compare(
        folders / "truth",
        {"A": folders / "A", "B": folders / "B"},
        output=out,
        labels={"ball": [1, 2], "core": 2},
    )
    row = again.cases[(again.cases["model"] == "B") & (again.cases["case"] == "c3")].iloc[0]
    mask, truth = moved(truths(), 2)["c3"], truths()["c3"]
    expected = evaluate_case(mask > 0, truth > 0, SPACING)
    assert row["group"] == "ball"
    for name in ("dice", "hd95", "assd", "nsd@1.0", "false_positive_volume"):
        assert row[name] == expected[name]


def test_arrays_give_the_numbers_of_files(folders: Path) -> None:
    masks = {"A": folders / "A", "B": folders / "B"}
    files = compare(folders / "truth", masks, output=folders / "1", name="truth")
    arrays = compare(
        truths(),
        {"A": moved(truths(), 1), "B": moved(truths(), 2)},
        output=folders / "2",
        spacing=SPACING,
        name="truth",
    )
    ids = ["train_id", "eval_id"]
    columns = [name for name in files.cases.columns if name not in ids]
    assert files.cases[columns].equals(arrays.cases[columns])
    assert files.table["p_cases"].equals(arrays.table["p_cases"])


def test_one_training_says_nothing_of_methods_and_several_test_them(tmp_path: Path) -> None:
    one = compare(
        truths(), {"A": truths(), "B": moved(truths(), 1)}, output=tmp_path / "one"
    ).table.iloc[0]
    assert one["verdict"] == "not testable for methods"
    assert np.isnan(one["p_methods"])
    several = compare(
        truths(),
        {
            "A": [moved(truths(), 1, axis) for axis in range(3)],
            "B": [moved(truths(), 3, axis) for axis in range(3)],
        },
        output=tmp_path / "several",
    ).table.iloc[0]
    assert several["folds"] == several["trainings"] == 3
    assert several["n"] == CASES  # each case once, its trainings averaged
    assert several["p_methods"] < 0.05
    assert several["verdict"] == "significant"


def test_folds_are_found_by_a_pattern(folders: Path) -> None:
    for method, voxels in (("A", 1), ("B", 2)):
        masks = moved(truths(), voxels)
        for fold in range(4):
            here = {case: masks[case] for case in list(masks)[fold::4]}
            written(folders / "cv" / method / f"fold_{fold}" / "validation", here)
    found = compare(
        folders / "truth",
        {method: folders / "cv" / method for method in "AB"},
        trainings="fold_{fold}/validation",
        output=folders / "out",
    ).table.iloc[0]
    assert (found["folds"], found["n"]) == (4, CASES)


def test_patients_are_the_unit(folders: Path) -> None:
    listed = folders / "patients.csv"
    lines = [f"c{case},p{case // 2}" for case in range(CASES)]
    listed.write_text("\n".join(["case,patient", *lines]))
    given = (folders / "truth", {"A": folders / "A", "B": folders / "B"})
    found = compare(*given, patients=listed, output=folders / "out")
    assert found.table.iloc[0]["n"] == CASES // 2
    listed.write_text("\n".join(["case,patient", *lines[1:]]))
    with pytest.raises(DataError, match="1 cases have none: c0"):
        compare(*given, patients=listed, output=folders / "out")


def test_a_new_method_is_scored_beside_those_that_are_done(folders: Path) -> None:
    masks = {"A": folders / "A", "B": folders / "B"}
    compare(folders / "truth", masks, output=folders / "out")
    store = Store(str(folders / "out"))
    before = {name: marker.token for name, marker in store.commits().items()}
    written(folders / "C", moved(truths(), 3))
    found = compare(folders / "truth", masks | {"C": folders / "C"}, output=folders / "out")
    after = {name: marker.token for name, marker in store.commits().items()}
    assert before.items() < after.items()
    assert len(after) == 3
    assert set(found.table["candidate"]) == {"B", "C"}
    assert not any(marker.cost.known for marker in store.commits().values())
    (folders / "out" / "study.json").write_text("{}")
    with pytest.raises(StoreError, match="holds a study that was trained"):
        compare(folders / "truth", masks, output=folders / "out")


def test_equal_masks_are_scored_for_each_method_and_training(tmp_path: Path) -> None:
    one, other, third = (moved(truths(), voxels) for voxels in (1, 2, 3))

    def compared(masks: dict[str, object], place: str) -> tuple[int, object]:
        found = compare(truths(), masks, output=tmp_path / place)
        assert not found.study.missing
        return len(found.cases), found.table.set_index(["metric", "candidate"]).loc["dice"]

    count, rows = compared({"A": one, "B": other, "C": other}, "methods")
    assert count == 3 * CASES
    assert rows.loc["B", "p_cases"] == rows.loc["C", "p_cases"] < 0.01
    _, rows = compared({"A": one, "B": one}, "alike")
    assert rows.loc["B", "p_cases"] == 1
    # A tool without chance: its trainings count, as the other method's differ.
    count, rows = compared({"A": [one, third], "B": [other, other]}, "seeds")
    assert count == 4 * CASES
    assert rows.loc["B", ["n", "trainings"]].tolist() == [CASES, 2]
    # The same trainings of both methods twice say no more than once.
    for place, times in (("once", 1), ("twice", 2)):
        masks = {
            "A": [one, third, *[one] * (times - 1)],
            "B": [other, third, *[other] * (times - 1)],
        }
        _, rows = compared(masks, place)
        assert rows.loc["B", "trainings"] == 2
    _, rows = compared({"A": [one, one], "B": [other, other]}, "copies")
    assert rows.loc["B", "verdict"] == "not testable for methods"


def test_damaged_scores_are_made_again(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = (folders / "truth", {"A": folders / "A", "B": folders / "B"})
    first = compare(*given, output=folders / "out")
    store = first.study.store
    eval_id = str(first.study.plan.trials[1].eval_id)
    scores = store.commits()[eval_id].files[paths.CASES]
    store.write(scores, b"changed")
    again = compare(*given, output=folders / "out")
    assert not again.study.missing
    assert again.cases.equals(first.cases)
    assert "has changed since it was committed" in capsys.readouterr().err
    assert (
        store.read(f"{paths.damaged(eval_id, 1)}/{'/'.join(scores.split('/')[2:])}") == b"changed"
    )


def test_values_of_structures_may_be_numpys(tmp_path: Path) -> None:
    labels = {"core": np.int64(2), "ball": np.array([1, 2])}
    found = compare(truths(), {"A": truths()}, output=tmp_path, labels=labels)
    assert (found.cases["dice"] == 1).all()


def test_it_needs_no_torch(folders: Path) -> None:
    script = (
        "import sys; from orchestrator.compare import main; "
        "code = main(sys.argv[1:]); assert not {'torch', 'ray', 'mlflow'} & set(sys.modules); "
        "sys.exit(code)"
    )
    masks = [f"{name}={folders / name}" for name in "AB"]
    line = [str(folders / "truth"), "--masks", *masks, "--output", str(folders / "out")]
    done = subprocess.run([sys.executable, "-c", script, *line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
