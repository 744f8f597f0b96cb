"""What is frozen stays, is checked when it is read, and the record knows when trainings were
planned.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from record import frozen as module
from record.frozen import (
    Analysis,
    freeze,
    frozen_analysis,
    note_trainings,
    planned_trainings,
)
from record.schema import StudyPlan
from record.store import DamagedError, Store, StoreError
from tests.record.builders import commit, study_plan


def plan(seeds: tuple[int, ...] = (0,), folds: int = 3, repeats: int = 1, **more: Any) -> StudyPlan:
    return study_plan(
        trials=[
            {"fold": fold, "seed": seed, "repeat": fold // folds}
            for fold in range(folds * repeats)
            for seed in seeds
        ],
        **more,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "study"))


def finish(store: Store, count: int = 1) -> None:
    for number in range(count):
        store.save(f"commits/e{number}.json", commit(eval_id=f"e{number}"))


def test_what_is_frozen_is_read_back_with_its_hash(store: Store) -> None:
    assert frozen_analysis(store) is None
    written = freeze(store, plan((0, 1)), {"claims.yaml": "abc"})
    found = frozen_analysis(store)
    assert found == written
    assert found is not None
    assert found.finished == 0
    assert found.analysis.trainings.seeds == [0, 1]
    assert found.sha256 == Analysis.of(plan((0, 1)), {"claims.yaml": "abc"}).sha256
    assert found.sha256 != Analysis.of(plan((0, 2)), {"claims.yaml": "abc"}).sha256


def test_it_says_how_many_results_there_were(store: Store) -> None:
    finish(store, 2)
    assert freeze(store, plan(), {}).finished == 2


def test_a_second_freeze_is_refused_with_the_remedy(store: Store) -> None:
    freeze(store, plan(), {})
    before = store.read("analysis.json")
    with pytest.raises(StoreError, match=r"frozen at 20.*run without --freeze.*another name"):
        freeze(store, plan((0, 1)), {})
    assert store.read("analysis.json") == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace(b'"exclude"', b'"perfect"'), "has changed since it was written"),
        (lambda text: text[:-20], "is not valid JSON"),
        (lambda text: b"{}", "lacks time"),
    ],
)
def test_a_damaged_file_is_named(store: Store, damage: Any, message: str) -> None:
    freeze(store, plan(), {})
    store.write("analysis.json", damage(store.read("analysis.json")))
    with pytest.raises(DamagedError, match=message) as raised:
        frozen_analysis(store)
    assert "analysis.json" in str(raised.value)


def test_a_freeze_that_was_changed_with_its_checksum_is_named_by_its_hash(store: Store) -> None:
    freeze(store, plan(), {})
    found = store.read_json("analysis.json")
    found["analysis"]["both_empty"] = "perfect"
    store.write_json("analysis.json", found)
    with pytest.raises(DamagedError, match=r"analysis.json: has changed since it was frozen at 20"):
        frozen_analysis(store)


def test_trainings_are_noted_when_they_change(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"))
    monkeypatch.setattr(module, "_now", lambda: next(times))
    for now in (plan(), plan()):
        note_trainings(store, now)
        store.save("plan.json", now)
    finish(store, 3)
    note_trainings(store, plan((0, 1)))
    note_trainings(store, plan((0, 1), repeats=2))
    found = planned_trainings(store)
    assert [(one.time[:10], one.finished) for one in found] == [
        ("2026-01-01", 0),
        ("2026-01-02", 3),
        ("2026-01-03", 3),
    ]
    assert [(one.trainings.seeds, one.trainings.repeats) for one in found] == [
        ([0], 1),
        ([0, 1], 1),
        ([0, 1], 2),
    ]
    assert {one.trainings.folds for one in found} == {3}


def test_of_an_older_study_the_old_plan_is_what_was_planned_first(store: Store) -> None:
    store.save("plan.json", plan())
    finish(store)
    note_trainings(store, plan((0, 1)))
    first, second = planned_trainings(store)
    assert (first.trainings.seeds, first.time) == ([0], "")
    assert (second.trainings.seeds, second.finished) == ([0, 1], 1)
    assert json.loads(store.read("trainings.json") or b"")["planned"][1]["finished"] == 1


def test_a_damaged_plan_is_no_hindrance_since_it_is_written_anew(store: Store) -> None:
    store.write("plan.json", b"{")
    note_trainings(store, plan())
    assert len(planned_trainings(store)) == 1
