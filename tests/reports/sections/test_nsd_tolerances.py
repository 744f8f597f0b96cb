"""Added NSD tolerances stand in a table of their own."""

from __future__ import annotations

import pandas as pd
import pytest

from record.schema import StudyPlan
from reports.render.layout import to_markdown
from reports.sections.nsd_tolerances import nsd_section
from tests.record.builders import commits, study_plan


def plan(tolerances: dict[str, list[float]]) -> StudyPlan:
    trials = [
        {"model": model, "task": task, "eval_id": f"{model}{task}"}
        for model in ("a", "b")
        for task in tolerances
    ]
    return study_plan(
        models=["a", "b"],
        tasks=list(tolerances),
        metrics={"nsd": {"title": "NSD"}},
        scoring={"nsd": "surfel", "hd95": "voxel-max", "tolerances": tolerances},
        trials=trials,
    )


def rows(of: StudyPlan) -> pd.DataFrame:
    """Two cases a cell, the second without structure in the truth."""
    made = []
    for trial in of.trials:
        cell = {"model": trial.model, "task": trial.task, "fraction": 1.0, "fold": 0, "seed": 0}
        for case, status, value in (("c1", "ok", 0.5), ("c2", "ok", 0.7), ("c3", "spurious", 0.0)):
            scores = {
                f"nsd@{edge}": value + edge / 10 for edge in of.scoring.tolerances[trial.task]
            }
            about = {"case": case, "group": "g", "status": status, "diagonal": 9.0}
            made.append(cell | about | scores)
    return pd.DataFrame(made)


def test_every_tolerance_has_a_column_and_a_task_only_its_own() -> None:
    of = plan({"T1": [1.0, 2.0], "T2": [1.0]})
    done = commits({str(trial.eval_id): {} for trial in of.trials})
    section = nsd_section(rows(of), of, done)
    assert section is not None
    [table] = section.tables
    assert table.header[4:] == ["1 mm", "2 mm"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        [task, "full", model, "2", "0.700 ± 0.141", "0.800 ± 0.141" if task == "T1" else ""]
        for task in ("T1", "T2")
        for model in ("a", "b")
    ]
    assert "descriptive" in to_markdown(section, "s")
    means = section.data.set_index(["task", "model", "tolerance_mm"])["mean"]
    assert means["T1", "a", 2.0] == pytest.approx(0.8)


def test_one_tolerance_needs_no_table() -> None:
    of = plan({"T1": [1.0]})
    assert nsd_section(rows(of), of, commits({str(t.eval_id): {} for t in of.trials})) is None
