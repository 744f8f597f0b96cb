"""Splits: nothing leaks, everything is tested once, fractions are nested, and the file tells
all.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvision.data.grouping import patients_of, read_patients
from medvision.data.split_files import from_split, to_split
from medvision.data.splits import Fold, make_folds
from medvision.errors import DataError
from record.schema import Split

cases = st.dictionaries(
    st.text(alphabet="abcdefghij0123456789_", min_size=1, max_size=8),
    st.floats(min_value=0, max_value=1e6),
    min_size=6,
    max_size=60,
)
quick = settings(deadline=None, max_examples=80)
SIX = {f"a{index}": 1.0 for index in range(6)}


@given(cases, st.integers(0, 5), st.integers(2, 6))
@quick
def test_every_case_is_tested_once_and_never_plays_two_roles(
    volumes: dict[str, float], seed: int, folds: int
) -> None:
    made = make_folds(volumes, scheme="kfold", seed=seed, folds=folds)
    assert sorted(case for fold in made for case in fold.test) == sorted(volumes)
    for fold in made:
        roles = fold.roles(1.0)
        every = [*roles.train, *roles.validation, *roles.test]
        assert sorted(every) == sorted(volumes)
        assert len(set(every)) == len(every)


@given(cases, st.integers(0, 3), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
@quick
def test_fractions_are_nested_in_both_roles(
    volumes: dict[str, float], seed: int, one: float, two: float
) -> None:
    small, large = sorted((one, two))
    for fold in make_folds(volumes, scheme="kfold", seed=seed, folds=3):
        a, b = fold.roles(small), fold.roles(large)
        assert set(a.train) <= set(b.train)
        assert set(a.validation) <= set(b.validation)
        assert len(a.train) >= 1
        assert a.test == b.test


@given(
    cases,
    st.integers(0, 5),
    st.floats(0.01, 0.5),
    st.floats(0.01, 1.0),
    st.sampled_from(["holdout", "fixed"]),
)
@quick
def test_no_case_plays_two_roles_in_one_test_set_either(
    volumes: dict[str, float], seed: int, share: float, fraction: float, scheme: str
) -> None:
    given = sorted(volumes)[: len(volumes) // 3]
    (fold,) = make_folds(
        volumes,
        scheme=scheme,
        seed=seed,
        test_fraction=share,
        fixed_test=given * (scheme == "fixed"),
    )
    assert len(fold.test) == (
        len(given) if scheme == "fixed" else max(1, round(share * len(volumes)))
    )
    for roles in (fold.roles(fraction), fold.roles(1.0)):
        every = [*roles.train, *roles.validation, *roles.test]
        assert len(set(every)) == len(every)
        assert set(every) <= set(volumes)
    assert len(every) == len(volumes)


@given(
    st.integers(4, 20),
    st.integers(1, 4),
    st.integers(0, 3),
    st.floats(0.05, 1.0),
    st.sampled_from(["kfold", "holdout"]),
)
@quick
def test_patients_never_divide(
    patients: int, visits: int, seed: int, fraction: float, scheme: str
) -> None:
    volumes = {f"p{p:02d}_v{v}": float(p * v) for p in range(patients) for v in range(visits)}
    named = {case: case[:3] for case in volumes}
    by_file = make_folds(
        volumes, scheme=scheme, seed=seed, folds=4, test_fraction=0.3, patients=named
    )
    pattern = r"^(p\d+)_"
    assert patients_of(volumes, group_pattern=pattern) == named
    assert patients_of(volumes, patients=named | {"p99_v0": "p99"}) == named
    for fold in by_file:
        roles = fold.roles(fraction)
        sets = [{case[:3] for case in role} for role in (roles.train, roles.validation, roles.test)]
        assert len(set.union(*sets)) == sum(map(len, sets))


def test_folds_are_stratified_by_volume() -> None:
    volumes = {f"c{index:03d}": float(index) for index in range(100)}
    means = [
        sum(volumes[case] for case in fold.test) / len(fold.test)
        for fold in make_folds(volumes, scheme="kfold", seed=0, folds=5)
    ]
    assert max(means) - min(means) < 4  # at most one place within each of twenty blocks of five


def test_a_tenth_of_sixteen_cases_is_at_least_one_and_says_when_it_rounds() -> None:
    fold = Fold(test=("t",), order=tuple((f"c{index}",) for index in range(16)))
    roles = fold.roles(0.1)
    assert len(roles.train) == 2
    assert roles.notes[0] == "fraction 0.1 of 16 is 1.6, rounded to 2"
    assert roles.notes[1] == "no validation case is left"
    assert roles.notes_for("best") == (
        roles.notes[0],
        f"{roles.notes[1]}, so the last epoch is taken",
    )
    assert roles.notes_for("training-loss") == roles.notes_for("last") == roles.notes
    assert len(fold.roles(0.001).train) == 1


def test_every_fifth_case_of_the_order_validates() -> None:
    fold = Fold(test=(), order=tuple((f"c{index:02d}",) for index in range(12)))
    assert fold.roles(1.0).validation == ("c04", "c09")


def test_a_new_case_does_not_reshuffle_the_order() -> None:
    volumes = {f"c{index:02d}": 1.0 for index in range(20)}
    more = volumes | {"new": 1.0}
    before = make_folds(volumes, scheme="holdout", seed=0, test_fraction=0.25)[0]
    after = make_folds(more, scheme="holdout", seed=0, test_fraction=0.25)[0]
    both = set(before.order) & set(after.order)
    assert [unit for unit in before.order if unit in both] == [
        unit for unit in after.order if unit in both
    ]


def test_holdout_and_fixed_give_one_fold() -> None:
    volumes = {f"c{index:02d}": float(index) for index in range(20)}
    (held,) = make_folds(volumes, scheme="holdout", seed=0, test_fraction=0.1)
    assert len(held.test) == 2
    (fixed,) = make_folds(volumes, scheme="fixed", seed=0, fixed_test=["c03", "c04"])
    assert fixed.test == ("c03", "c04")
    assert len(fixed.order) == 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "kfold", "folds": 7}, "cannot be divided into 7 test sets"),
        ({"scheme": "fixed"}, "needs test cases"),
        ({"scheme": "holdout", "test_fraction": 0.9}, "at most 0.5"),
        (
            {"scheme": "fixed", "fixed_test": ["a0"], "patients": dict.fromkeys(SIX, "a")},
            "patients in both",
        ),
        ({"scheme": "kfold", "folds": 2, "patients": {"a0": "x"}}, "no patient of 5 cases: a1, a2"),
    ],
)
def test_impossible_splits_say_why(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_folds(SIX, seed=0, **arguments)


def test_a_pattern_that_does_not_fit_a_case_says_so() -> None:
    with pytest.raises(ValueError, match="does not match the case"):
        patients_of(SIX, group_pattern="^(x)")


def test_a_pattern_that_finds_an_empty_patient_says_so() -> None:
    with pytest.raises(ValueError, match="matches empty text in the case 'a0'"):
        patients_of(SIX, group_pattern="^a(x*)")


def test_a_fraction_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\]"):
        Fold(test=(), order=(("a",),)).roles(1.5)


@given(cases, st.integers(0, 3))
@quick
def test_the_file_gives_back_the_folds_and_is_stable(volumes: dict[str, float], seed: int) -> None:
    folds = make_folds(volumes, scheme="kfold", seed=seed, folds=3)
    text = json.dumps(to_split(folds, {"seed": seed}, dict.fromkeys(volumes, "f")).to_json())
    assert from_split(Split.model_validate(json.loads(text))) == folds
    shuffled = dict(sorted(volumes.items(), key=lambda item: item[0][::-1]))
    assert make_folds(shuffled, scheme="kfold", seed=seed, folds=3) == folds


def test_the_order_is_the_same_on_every_machine() -> None:
    volumes = {f"case_{index}": float(index) for index in range(8)}
    (first, *_) = make_folds(volumes, scheme="kfold", seed=0, folds=4)
    assert first.test == ("case_2", "case_7")
    assert [unit[0] for unit in first.order] == [
        "case_0",
        "case_6",
        "case_1",
        "case_3",
        "case_4",
        "case_5",
    ]


def test_patients_are_read_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("\ufeffcase,age,patient\na0,70,p 1\na1,70, p 1\nb0,50,p2\n", encoding="utf-8")
    assert read_patients(path) == {"a0": "p 1", "a1": "p 1", "b0": "p2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "case,subject\na,b\n",
            "patients.csv:1: lacks the column patient; its header must be case,patient",
        ),
        ("", "lacks the column case, patient"),
        ("case,patient\na0,p1\na1,\n", "patients.csv:3: expected `case,patient`"),
        ("case,patient\na0,p1\na0,p2\n", "patients.csv:3: a0 is of p1 and of p2"),
        (None, "cannot be read as a table"),
    ],
)
def test_a_wrong_table_of_patients_says_where(
    text: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "patients.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_patients(path)


def test_numbers_of_cases_can_be_cut_as_int_does() -> None:
    """MSD's Colon has 126 cases: int() makes 12 of its tenth, rounding 13."""
    volumes = {f"c{index:03d}": float(index) for index in range(126)}
    counts = {}
    for rounding in ("nearest", "down"):
        (fold,) = make_folds(volumes, scheme="holdout", seed=0, rounding=rounding)
        taken = fold.roles(0.3)
        counts[rounding] = len(fold.test), len(taken.train) + len(taken.validation)
    assert counts == {"nearest": (13, 34), "down": (12, int(0.3 * 114))}
    few = make_folds(SIX, scheme="holdout", seed=0, rounding="down")
    assert len(few[0].test) == 1


def test_a_fold_can_validate_on_cases_that_no_fraction_shrinks() -> None:
    """A tenth of MSD's Heart, 16 cases of a fold, has none of its own to validate on."""
    volumes = {f"c{index:02d}": float(index) for index in range(20)}
    own, kept = (
        make_folds(volumes, scheme="kfold", seed=0, validation=validation)[0]
        for validation in ("fraction", "fold")
    )
    assert own.roles(0.1).validation == ()
    roles = kept.roles(0.1)
    assert roles.validation == kept.roles(1.0).validation == own.roles(1.0).validation
    assert roles.train == own.roles(0.1).train
    assert "validates on 3 cases of the fold, 3 of them beyond the fraction" in roles.notes[-1]
    assert kept.roles(1.0) == own.roles(1.0)


@pytest.mark.parametrize("how", [{"rounding": "down"}, {"validation": "fold"}])
def test_the_file_keeps_how_roles_are_counted(how: dict[str, str]) -> None:
    folds = make_folds(SIX, scheme="kfold", seed=0, folds=2, **how)
    assert from_split(to_split(folds, how, dict.fromkeys(SIX, "f"))) == folds
