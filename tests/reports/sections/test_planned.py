"""Trainings that were added after a look are called so, and those that were planned or frozen and
are not there are missed.
"""

from __future__ import annotations

from pathlib import Path

from record.frozen import PlannedTrainings, Trainings, freeze
from record.store import Store
from reports.sections.planned import added_notes, dropped_notes
from tests.record.builders import commit
from tests.reports.sections.test_exploratory import report
from tests.reports.studies import plan


def planned(*entries: tuple[tuple[int, ...], int]) -> list[PlannedTrainings]:
    return [
        PlannedTrainings(
            trainings=Trainings(folds=5, seeds=list(seeds)),
            time=f"2026-01-0{day}T00:00:00Z",
            finished=finished,
        )
        for day, (seeds, finished) in enumerate(entries, 1)
    ]


def test_trainings_added_after_a_look_are_called_so() -> None:
    (line,) = added_notes(planned(((0,), 0), ((0, 1, 2), 10)), None)
    assert line.startswith("seed 1, seed 2: added at 2026-01-02T00:00:00Z, when 10 trials had fin")
    assert "came after a look at results" in line


def test_trainings_added_before_any_result_or_planned_at_first_are_no_look() -> None:
    assert added_notes(planned(((0,), 0), ((0, 1), 0)), None) == []
    assert added_notes(planned(((0, 1), 0), ((0,), 5), ((0, 1), 10)), None) == []
    assert added_notes([], None) == []


def test_what_the_freeze_planned_is_no_look(tmp_path: Path) -> None:
    of = plan(trials=[{"fold": fold, "seed": seed} for fold in range(5) for seed in (0, 1)])
    frozen = freeze(Store(str(tmp_path / "study")), of, {})
    later = planned(((0,), 0), ((0, 1, 2), 10))
    look, as_planned = added_notes(later, frozen)
    assert look.startswith("seed 2: added at")
    assert as_planned == "seed 1: run later, as the frozen analysis had planned."


def test_other_folds_and_repeats_are_added_too() -> None:
    one, two = (Trainings(folds=folds, repeats=folds, seeds=[0]) for folds in (1, 2))
    entries = [
        PlannedTrainings(trainings=trainings, time="t", finished=number)
        for number, trainings in enumerate((one, two))
    ]
    (line,) = added_notes(entries, None)
    assert line.startswith("folds 2, repeat 2: added at t, when 1 trials")


def test_a_freeze_after_a_look_hides_no_look(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "study"))
    store.save("commits/e.json", commit(eval_id="e"))
    of = plan(trials=[{"fold": fold, "seed": seed} for fold in range(5) for seed in (0, 1)])
    (line,) = added_notes(planned(((0,), 0), ((0, 1), 10)), freeze(store, of, {}))
    assert line.startswith("seed 1: added at 2026-01-02T00:00:00Z, when 10 trials had finished.")


def test_trainings_that_were_planned_until_there_were_results_are_missed() -> None:
    dropped = planned(((0, 1, 2), 0), ((0, 2), 10), ((0,), 20))
    first, second = dropped_notes(dropped, None, dropped[-1].trainings)
    assert first.startswith(
        "Planned, but not in this report: seed 1, dropped at 2026-01-02T00:00:00Z, when 10 trials "
        "had finished. A choice of trainings that follows"
    )
    assert second.startswith("Planned, but not in this report: seed 2, dropped at 2026-01-03")
    for unseen in (
        planned(((0, 1), 0), ((0,), 0)),
        planned(((0, 1), 0), ((0,), 5), ((0, 1), 10)),
        planned(((0,), 0), ((0, 1), 5)),
    ):
        assert dropped_notes(unseen, None, unseen[-1].trainings) == []
    assert dropped_notes([], None, Trainings(folds=5, seeds=[0])) == []


def test_frozen_trainings_that_the_report_lacks_are_missed(tmp_path: Path) -> None:
    trials = plan().trials
    more = [trial.model_copy(update={"seed": seed}) for trial in trials for seed in (0, 1, 2)]
    frozen = plan(trials=[trial.model_dump() for trial in more])
    made, _ = report(tmp_path, frozen, plan())
    assert "Frozen, but not in this report: seed 1, seed 2. A choice of" in made.markdown
