"""What attempts cost, of studies that are merged: each place counts once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from record import paths
from record.frozen import PlannedTrainings, Trainings, TrainingsFile
from record.schema import SpentFile
from record.spent import save_spent, united_spent
from record.store import DamagedError, Store


class Places:
    """Studies in folders, each with its own first plan."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def store(self, name: str) -> Store:
        return Store(str(self.folder / name))

    def spend(self, name: str, **seconds: float) -> Store:
        """A study that has spent so much, as its runs write it down."""
        store = self.store(name)
        if store.read(paths.TRAININGS) is None:
            trainings = Trainings(folds=1, seeds=[len(list(self.folder.iterdir()))])
            planned = PlannedTrainings(trainings=trainings, time="", finished=0)
            store.save(paths.TRAININGS, TrainingsFile(planned=[planned]))
        store.save(paths.SPENT, SpentFile(gpu_seconds=seconds))
        return store

    def merge(self, into: str, *names: str) -> dict[str, float]:
        target = self.store(into)
        save_spent(target, united_spent([self.store(name) for name in names], target))
        if target.read(paths.TRAININGS) is None:
            self.spend(into, **self.spent(into))
        return self.spent(into)

    def spent(self, name: str) -> dict[str, float]:
        found = self.store(name).load(paths.SPENT, SpentFile)
        return found.gpu_seconds if found else {}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def test_attempts_at_several_places_are_added(places: Places) -> None:
    places.spend("one", a=10.0, b=2.5)
    places.spend("two", a=7.25, c=3.0)
    assert places.merge("all", "one", "two") == {"a": 17.25, "b": 2.5, "c": 3.0}
    assert places.merge("turned", "two", "one") == {"a": 17.25, "b": 2.5, "c": 3.0}


def test_a_place_that_is_merged_again_adds_what_it_spent_since(places: Places) -> None:
    places.spend("one", a=10.1)
    places.spend("two", b=2.2)
    for _ in range(2):
        assert places.merge("all", "one", "two") == {"a": 10.1, "b": 2.2}
    places.spend("one", a=30.3)
    assert places.merge("all", "one") == {"a": 30.3, "b": 2.2}


def test_what_the_merged_study_spends_itself_stays(places: Places) -> None:
    places.spend("one", a=10.0)
    places.merge("all", "one")
    places.spend("all", a=14.0, b=5.0)
    places.spend("one", a=11.0)
    for _ in range(2):
        assert places.merge("all", "one") == {"a": 15.0, "b": 5.0}


def test_one_attempt_counts_once_by_whichever_way_it_comes(places: Places) -> None:
    places.spend("one", a=10.0)
    places.spend("two", b=2.0)
    places.merge("both", "one", "two")
    assert places.merge("all", "both", "one") == {"a": 10.0, "b": 2.0}
    shutil.copytree(places.folder / "one", places.folder / "copy")
    assert places.merge("all", "copy") == {"a": 10.0, "b": 2.0}
    places.spend("copy", a=12.0)  # goes on there
    assert places.merge("all", "copy", "one") == {"a": 12.0, "b": 2.0}


def test_the_same_number_of_two_studies_without_a_record_of_planning_is_one_attempt(
    places: Places,
) -> None:
    for name in ("one", "other"):
        places.store(name).save(paths.SPENT, SpentFile(gpu_seconds={"a": 10.0}))
    assert places.merge("all", "one", "other") == {"a": 10.0}


def test_nothing_is_written_where_nothing_was_spent(places: Places) -> None:
    (places.folder / "one").mkdir()
    assert united_spent([places.store("one")], places.store("all")) is None
    assert places.merge("all", "one") == {}
    assert places.store("all").read(paths.SPENT_AT) is None


def test_a_damaged_record_is_refused(places: Places) -> None:
    store = places.spend("one", a=1.0)
    store.write(paths.SPENT, b"{")
    with pytest.raises(DamagedError, match=r"spent.json"):
        united_spent([store], places.store("all"))
