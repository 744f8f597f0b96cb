"""Which folder is which training, and which cases it tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medvision.errors import DataError
from orchestrator.comparing.trainings import Found, Training, arranged, found_in

CASES = ("a", "b", "c", "d")
NOTHING = np.zeros((2, 2, 2), np.uint8)


def of(cases: str | tuple[str, ...], fold: str | None = None, seed: str | None = None) -> Found:
    return Found(f"folder {fold} {seed}", dict.fromkeys(cases, NOTHING), fold, seed)


def cells(trainings: list[Training], method: str = "A") -> list[tuple[int, int, int]]:
    return [(one.fold, one.seed, one.repeat) for one in trainings if one.method == method]


def test_folders_without_a_pattern_are_one_training_each() -> None:
    trainings, lines = arranged({"A": [of(CASES)], "B": [of(CASES)]}, CASES)
    assert not lines
    assert cells(trainings) == cells(trainings, "B") == [(0, 0, 0)]


def test_seeds_share_their_cases_so_each_is_a_repeat_with_a_training_of_its_own() -> None:
    found = [of(CASES, seed="3"), of(CASES, seed="10")]
    trainings, lines = arranged({"A": found, "B": found}, CASES)
    assert not lines
    assert cells(trainings) == [(3, 0, 3), (10, 0, 10)]


def test_folds_that_divide_the_cases_are_a_cross_validation() -> None:
    found = [of("ab", fold="0"), of("cd", fold="1")]
    trainings, lines = arranged({"A": found, "B": found}, CASES)
    assert not lines
    assert cells(trainings) == [(0, 0, 0), (1, 0, 0)]


def test_folds_that_all_test_every_case_are_repeats() -> None:
    found = [of(CASES, fold="0"), of(CASES, fold="1")]
    trainings, _ = arranged({"A": found}, CASES)
    assert cells(trainings) == [(0, 0, 0), (1, 0, 1)]


def test_names_that_differ_between_methods_are_ranked_naturally() -> None:
    mine, theirs = (
        [of(CASES, seed=f"{name}{number}") for number in (10, 2)] for name in ("run", "s")
    )
    trainings, _ = arranged({"A": mine, "B": theirs}, CASES)
    assert [one.folder for one in trainings if one.fold == 0] == [
        "folder None run2",
        "folder None s2",
    ]


def test_a_folder_of_folders_asks_for_the_pattern(tmp_path: Path) -> None:
    (tmp_path / "fold_0").mkdir()
    with pytest.raises(DataError, match=r"it has the folders fold_0: say .* --trainings 'fold_"):
        found_in(tmp_path, None)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([of("abc")], "d: folder None None has no mask of it"),
        (
            [of((*CASES, "x"))],
            "x: folder None None has a mask of it, and it is no case with a truth",
        ),
        ([of("ab", fold="0"), of("c", fold="1")], "d: no fold of A has its mask"),
        ([of("ab", fold="0"), of("bcd", fold="1")], "c: folder 0 None has no mask of it"),
    ],
)
def test_missing_and_extra_masks_are_named_by_case(found: list[Found], said: str) -> None:
    _, lines = arranged({"A": found}, CASES)
    assert said in lines


def test_another_methods_folds_must_be_the_same() -> None:
    mine = [of("ab", fold="0"), of("cd", fold="1")]
    theirs = [of("ac", fold="0"), of("bd", fold="1")]
    _, lines = arranged({"A": mine, "B": theirs}, CASES)
    assert "b: folder 0 None has no mask of it" in lines
    assert "c: folder 0 None has a mask of it, and it is no case of this fold" in lines


def test_methods_of_different_numbers_of_trainings_are_refused() -> None:
    mine, theirs = [of(CASES, seed=name) for name in "01"], [of(CASES, seed="0")]
    with pytest.raises(DataError, match="number of seeds differs: A 2, B 1"):
        arranged({"A": mine, "B": theirs}, CASES)


def test_every_fold_needs_every_seed() -> None:
    found = [of("ab", "0", "0"), of("cd", "1", "0"), of("ab", "0", "1")]
    with pytest.raises(DataError, match="3 folders of 2 folds and 2 seeds"):
        arranged({"A": found}, CASES)


def test_a_pattern_finds_folders_below_others(tmp_path: Path) -> None:
    for fold in (0, 1):
        place = tmp_path / f"fold_{fold}" / "validation_raw"
        place.mkdir(parents=True)
        (place / f"case{fold}.nii.gz").write_bytes(b"read later")
        (place / "summary.json").write_text("{}")
    found = found_in(tmp_path, "fold_{fold}/validation*")
    assert [(one.fold, list(one.masks)) for one in found] == [("0", ["case0"]), ("1", ["case1"])]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("folds", "needs {fold}, {seed} or both"),
        ("{run}", "needs {fold}, {seed} or both"),
        ("model_{seed}", "it has fold_0"),
    ],
)
def test_a_pattern_that_finds_nothing_is_explained(tmp_path: Path, pattern: str, said: str) -> None:
    (tmp_path / "fold_0").mkdir()
    with pytest.raises(DataError) as raised:
        found_in(tmp_path, pattern)
    assert said in str(raised.value)
