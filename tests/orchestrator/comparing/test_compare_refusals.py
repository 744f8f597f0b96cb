"""`medvision compare` refuses by case what would give wrong numbers, before it scores any."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medvision.errors import DataError
from orchestrator.compare import compare, main
from orchestrator.comparing.scored import MasksError
from tests.orchestrator.comparing.masks import CASES, SHAPE, SPACING, truths, written


def remove(folder: Path) -> None:
    (folder / "c2.nii.gz").unlink()


def add(folder: Path) -> None:
    written(folder, {"x9": truths()["c2"]})


def misshape(folder: Path) -> None:
    written(folder, {"c2": truths()["c2"][:-1]})


def misplace(folder: Path) -> None:
    written(folder, {"c2": truths()["c2"]}, move=4.0)


def empty(folder: Path) -> None:
    written(folder, {"c2": np.zeros(SHAPE, np.uint8)})


def cut(folder: Path) -> None:
    (folder / "c2.nii.gz").write_bytes(b"")


def fractions(folder: Path) -> None:
    written(folder, {"c2": truths()["c2"] * np.float32(0.5)})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (remove, "c2: .* has no mask of it"),
        (add, "x9: .* it is no case with a truth"),
        (misshape, r"c2: .*shape \(11, 11, 10\) differs from its truth's \(12, 11, 10\)"),
        (misplace, "c2: .*puts it 4 mm .* away from its truth"),
        (empty, "c2: .*c2.nii.gz: is empty, and the truth is not; .*--allow-empty"),
        (cut, r"c2: .*is empty \(0 bytes\)"),
        (fractions, "c2: .*labels must be whole numbers"),
    ],
)
def test_wrong_masks_are_refused_by_case_and_nothing_is_written(
    folders: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(folders / "B")
    with pytest.raises(MasksError, match=said) as raised:
        compare(folders / "truth", {"A": folders / "A", "B": folders / "B"}, output=folders / "out")
    assert len(raised.value.problems) == 1
    assert not (folders / "out").exists()


def test_an_empty_mask_counts_as_a_miss_where_that_is_said(folders: Path) -> None:
    empty(folders / "B")
    given = (folders / "truth", {"A": folders / "A", "B": folders / "B"})
    found = compare(*given, output=folders / "out", allow_empty=True)
    row = found.cases[(found.cases["model"] == "B") & (found.cases["case"] == "c2")].iloc[0]
    assert (row["status"], row["dice"]) == ("missed", 0.0)
    assert found.table.set_index("metric").loc["hd95", "capped"] == 1
    with pytest.raises(MasksError, match=r"c2: .*is empty"):  # the folder remembers no permission
        compare(*given, output=folders / "out")


def test_masks_with_other_values_than_the_structures_are_refused_and_no_miss(
    folders: Path,
) -> None:
    given = (folders / "truth", {"A": folders / "A", "B": folders / "B"})
    labels = {"ball": [1, 2]}
    written(folders / "B", {case: (mask > 0) * np.uint8(255) for case, mask in truths().items()})
    for allow_empty in (False, True):
        with pytest.raises(MasksError, match=r"c2: .*label 255 and none of .* --labels") as raised:
            compare(*given, output=folders / "out", labels=labels, allow_empty=allow_empty)
        assert len(raised.value.problems) == CASES
    own = {"B": {"ball": 255}}
    found = compare(*given, output=folders / "out", labels=labels, labels_of=own)
    assert set(found.cases["status"]) == {"ok"}


def test_another_structure_alone_is_a_miss_where_that_is_said(folders: Path) -> None:
    given = (folders / "truth", {"A": folders / "A", "B": folders / "B"})
    written(folders / "B", {"c2": np.minimum(truths()["c2"], 1)})  # the rim, and no core
    with pytest.raises(MasksError, match=r"c2: .*label 1 and none of .*core.* --allow-empty"):
        compare(*given, output=folders / "out", labels={"core": 2})
    found = compare(*given, output=folders / "out", labels={"core": 2}, allow_empty=True)
    row = found.cases[(found.cases["model"] == "B") & (found.cases["case"] == "c2")].iloc[0]
    assert (row["status"], row["dice"]) == ("missed", 0.0)


def test_labels_of_dataset_json_are_the_structures_and_other_values_are_refused(
    folders: Path,
) -> None:
    (folders / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "ball": 1, "core": 2}, "training": []})
    )
    given = (folders / "truth", {"A": folders / "A", "B": folders / "B"})
    assert set(compare(*given, output=folders / "out").cases["group"]) == {"ball", "core"}
    written(folders / "B", {"c2": truths()["c2"] * 2})
    with pytest.raises(MasksError, match=r"c2: .*holds the label 4, which belongs to no group"):
        compare(*given, output=folders / "out")


def test_a_method_may_have_values_of_its_own(tmp_path: Path) -> None:
    other = {
        case: np.where(mask > 0, 257 - mask.astype(np.int16), 0) for case, mask in truths().items()
    }
    found = compare(
        truths(),
        {"A": truths(), "B": other},
        labels={"rim": 1, "core": 2},
        labels_of={"B": {"core": 255, "rim": 256}},
        output=tmp_path,
    )
    assert (found.cases["dice"] == 1).all()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--baseline", "C"], "there is no method 'C'"),
        (["--name", "a\x1bb"], "cannot be printed"),
        (["--name", "nul"], "device on Windows"),
        (["--labels", "liver"], "expected NAME=VALUE, got 'liver'"),
        (["--labels", "liver=0"], "expected values from 1 upward"),
        (["--labels-of", "C:liver=1"], "there is no method 'C'"),
        (["--patients", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["--equivalence", "fun=1"], "unknown metric 'fun'"),
    ],
)
def test_wrong_flags_end_in_a_line(
    folders: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    masks = [f"{name}={folders / name}" for name in "AB"]
    out = str(folders / "out")
    assert main([str(folders / "truth"), "--masks", *masks, "--output", out, *flags]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"spacing": {"c0": SPACING}}, "spacing: 7 cases have none: c1, c2, "),
        ({"spacing": ("x", 1, 1)}, r"spacing of c0: .* got \('x', 1, 1\)"),
        ({"spacing": 1.0}, "spacing of c0: three numbers of mm"),
        ({"labels": {"t": 1.0}}, "labels: 't' has 1.0; give values from 1 upward"),
        ({"labels": {"t": None}}, "labels: 't' has None"),
        ({"equivalence": {"dice": -1}}, "equivalence of dice: a number above 0 .* -1"),
        ({"equivalence": {"dice": "0.1"}}, "equivalence of dice: a number above 0"),
        ({"both_empty": "drop"}, "both_empty: 'drop' is unknown; give exclude or perfect"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_scored(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        compare(truths(), {"A": truths()}, output=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
