"""A study whose cases change keeps its folds: nobody moves for a new case, sizes stay equal."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from medvision.data.kept_splits import changes
from medvision.data.split_files import to_split
from medvision.data.splits import earlier_split, make_folds, reserve, study_order

quick = settings(deadline=None, max_examples=100)
VOLUMES = {f"c{index:02d}": float(index % 7) for index in range(40)}
names = st.lists(st.sampled_from(sorted(VOLUMES)), min_size=8, max_size=40, unique=True)


def fold_of(folds: list[Any]) -> dict[str, int]:
    return {case: number for number, fold in enumerate(folds) for case in fold.test}


def some(cases: list[str]) -> dict[str, float]:
    return {case: VOLUMES[case] for case in cases}


@given(names, names, st.integers(0, 3), st.integers(2, 5))
@quick
def test_whoever_was_there_keeps_its_fold_and_sizes_differ_by_one_at_most(
    before: list[str], after: list[str], seed: int, parts: int
) -> None:
    options: dict[str, Any] = {"scheme": "kfold", "seed": seed, "folds": parts}
    first = make_folds(some(before), **options)
    split = to_split(first, {}, dict.fromkeys(before, "f"))
    if set(before).isdisjoint(after):
        return
    now = make_folds(some(after), **options, earlier=earlier_split(split, seed))
    sizes = [len(fold.test) for fold in now]
    assert max(sizes) - min(sizes) <= 1
    assert sorted(case for fold in now for case in fold.test) == sorted(after)
    for fold in now:
        assert sorted([*fold.test, *(case for (case,) in fold.order)]) == sorted(after)
    old, new = fold_of(first), fold_of(now)
    stayed = [case for case in after if case in old]
    moved = [case for case in stayed if old[case] != new[case]]
    if len(stayed) == len(before):
        assert not moved
    kept = [sum(old[case] == part for case in stayed) for part in range(parts)]
    assert len(moved) <= sum(max(0, count - min(sizes)) for count in kept)  # no more than needed
    assert bool(changes(split, [fold.test for fold in now], after)) == (set(before) != set(after))


@given(names, st.integers(0, 3), st.sampled_from(["kfold", "holdout"]), st.booleans())
@quick
def test_without_a_change_the_folds_are_those_of_the_file(
    cases: list[str], seed: int, scheme: str, grouped: bool
) -> None:
    patients = {case: case[:2] + case[2] * (case < "c2") for case in cases} if grouped else None
    if grouped and len(set(patients.values())) < 4:  # type: ignore[union-attr]
        return
    options: dict[str, Any] = {"scheme": scheme, "seed": seed, "folds": 3, "patients": patients}
    first = make_folds(some(cases), **options)
    split = to_split(first, {}, dict.fromkeys(cases, "f"), patients)
    earlier = earlier_split(split, seed)
    assert make_folds(some(cases[::-1]), **options, earlier=earlier) == first
    plain = study_order(cases, seed=seed, patients=patients)
    assert study_order(cases, seed=seed, patients=patients, earlier=earlier) == plain
    assert changes(split, [fold.test for fold in first], cases) == ""


@given(names, st.integers(0, 3), st.floats(0.05, 0.5))
@quick
def test_new_cases_leave_small_fractions_and_their_roles_as_they_were(
    cases: list[str], seed: int, share: float
) -> None:
    """The id of a trial whose fraction takes the same cases stays, and so does its result."""
    half = cases[: max(6, len(cases) // 2)]
    options: dict[str, Any] = {"scheme": "kfold", "seed": seed, "folds": 2}
    first = make_folds(some(half), **options)
    earlier = earlier_split(to_split(first, {}, dict.fromkeys(half, "f")), seed)
    for old, new in zip(first, make_folds(some(cases), **options, earlier=earlier), strict=True):
        units = list(old.order)
        assert list(new.order[: len(units)]) == units  # new ones are at the end
        roles = old.roles(share)
        taken = len(roles.train) + len(roles.validation)
        again = new.roles(taken / len(new.order))
        assert (again.train, again.validation) == (roles.train, roles.validation)


def test_the_order_of_a_study_that_grew_twice_is_kept() -> None:
    cases = sorted(VOLUMES)
    options: dict[str, Any] = {"scheme": "kfold", "seed": 0, "folds": 4}
    split, order = None, ()
    for count in (20, 21, 24, 40):
        earlier = earlier_split(split, 0) if split else None
        folds = make_folds(some(cases[:count]), **options, earlier=earlier)
        before, order = order, study_order(cases[:count], seed=0, earlier=earlier)
        assert order[: len(before)] == before
        old = fold_of(list(split.folds)) if split else {}
        assert {case: fold_of(folds)[case] for case in old} == old
        split = to_split(folds, {}, dict.fromkeys(cases[:count], "f"), None, order)
    assert split is not None
    assert [tuple(unit) for unit in split.order] == list(order)


@given(names, names, st.integers(0, 3), st.floats(0.1, 0.5))
@quick
def test_a_holdout_and_a_reserve_keep_whom_they_have_and_their_share(
    before: list[str], after: list[str], seed: int, share: float
) -> None:
    if set(before).isdisjoint(after):
        return
    options: dict[str, Any] = {"scheme": "holdout", "seed": seed, "test_fraction": share}
    first = make_folds(some(before), **options)
    split = to_split(first, {}, dict.fromkeys(before, "f"))
    (now,) = make_folds(some(after), **options, earlier=earlier_split(split, seed))
    assert len(now.test) == max(1, round(share * len(after)))
    kept = set(first[0].test) & set(after)
    assert kept <= set(now.test) or set(now.test) <= kept
    if set(before) <= set(after):
        assert set(now.test) - kept <= set(after) - set(before)  # new ones fill it up

    units = reserve(some(before), share=share, seed=seed)
    taken = {case for unit in units for case in unit}
    rest = [case for case in before if case not in taken]
    folds = make_folds(some(rest), scheme="kfold", seed=seed, folds=2) if rest[1:] else []
    if not folds or set(rest).isdisjoint(after):
        return
    file = to_split(folds, {}, dict.fromkeys(before, "f"))
    file = file.model_copy(update={"reserved_for_search": [list(unit) for unit in units]})
    again = reserve(some(after), share=share, seed=seed, earlier=earlier_split(file, seed))
    both = {case for unit in again for case in unit}
    assert len(both) == round(share * len(after))
    assert taken & set(after) <= both or both <= taken


def test_a_new_scan_of_a_patient_goes_where_the_patient_is() -> None:
    patients = {f"p{p}_{scan}": f"p{p}" for p in range(8) for scan in "ab"}
    volumes = dict.fromkeys(patients, 1.0)
    options: dict[str, Any] = {"scheme": "kfold", "seed": 0, "folds": 4}
    first = make_folds(volumes, **options, patients=patients)
    split = to_split(first, {}, dict.fromkeys(patients, "f"), patients)
    more = patients | {"p3_c": "p3"}
    now = make_folds(
        dict.fromkeys(more, 1.0), **options, patients=more, earlier=earlier_split(split, 0)
    )
    old, new = fold_of(first), fold_of(now)
    assert {case: new[case] for case in old} == old
    assert new["p3_c"] == old["p3_a"]
    told = changes(split, [fold.test for fold in now], more)
    assert told == (
        f"1 new: p3_c (fold {old['p3_a']}); no other moves; folds with other test cases: "
        f"{old['p3_a']}"
    )


def test_what_came_went_and_moved_is_told_in_a_line() -> None:
    cases = sorted(VOLUMES)[:12]
    options: dict[str, Any] = {"scheme": "kfold", "seed": 0, "folds": 3}
    first = make_folds(some(cases), **options)
    split = to_split(first, {}, dict.fromkeys(cases, "f"))
    left = [case for case in cases if case not in first[0].test[:3]]
    now = make_folds(some(left), **options, earlier=earlier_split(split, 0))
    told = changes(split, [fold.test for fold in now], left)
    moved = [case for case in left if fold_of(first)[case] != fold_of(now)[case]]
    assert len(moved) == 2
    assert told.startswith("3 gone: ")
    assert "; 2 others move: " in told
    assert f"{moved[0]} (fold 0)" in told
    assert told.endswith("; folds with other test cases: 0, 1, 2")
