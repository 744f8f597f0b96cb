"""The health of studies whose models segment well, find nothing, or take everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

from orchestrator import status
from record.study import StoredStudy
from reports.build import build_report, main
from reports.findings import LISTED, Finding, Kind, Place, in_lines
from reports.health import capped_rows, health, shares
from reports.render.html import Figure
from tests.record.builders import commit
from tests.reports.figures.pictures import TASK, columns, filled, pixels, truth
from tests.reports.health_studies import (
    AGAIN,
    EVERYTHING,
    FINE,
    GOOD,
    NOTHING,
    commits_of,
    history_of,
    plan_of,
    rows_of,
    scored,
    study_of,
)


def _filled_share(png: bytes) -> list[float]:
    """Filled part of the tiles of each of the two models, the truth's column left out."""
    picture = pixels(Figure("", "", {"png": png}))
    tiles = columns(picture[: int(0.9 * len(picture))], 3)[1:]
    return [float(filled(tile).mean()) for tile in tiles]


@pytest.mark.parametrize(
    ("kind", "kinds", "least", "most"),
    [
        (GOOD, [], 0.1, 0.3),
        (NOTHING, [Kind.NOTHING, Kind.TRIVIAL, Kind.NOT_LEARNT, Kind.CAPPED], 0.0, 0.02),
        (EVERYTHING, [Kind.EVERYTHING, Kind.TRIVIAL, Kind.NOT_LEARNT], 0.6, 1.0),
    ],
)
def test_a_failed_study_looks_failed_and_a_good_one_does_not(
    kind: str,
    kinds: list[Kind],
    least: float,
    most: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = study_of(kind, tmp_path)
    report = build_report(StoredStudy.opened(store))
    page = (store.read("report/report.html") or b"").decode()
    markdown = (store.read("report/significance.md") or b"").decode()
    assert ('<aside id="health" class="banner failed"' in page) is bool(kinds)
    assert len(report.health) == len(kinds)
    for line, found in zip(report.health, kinds, strict=True):
        mark, text = ("failed", line[8:]) if found.failed else ("note", line[6:])
        assert line == f"{mark}: {text}"
        assert text.startswith(f"{found.words}: {kind} on {TASK}")
        assert f"; {AGAIN} on {TASK}" in text
        assert f'<li class="{mark}"><b>{mark}</b>: {escape(found.words)}' in page
        assert f"\n> **{mark}**: {text}\n" in markdown
    assert page.index("</header>") > page.find('id="health"')  # above every table
    said = [text.find(f"{AGAIN} against {kind}") for text in (page, markdown)]
    banner = [page.find('id="health"'), markdown.find("\n> ")]
    if kinds:  # a failure stands before the sentences, and in them
        assert all(place < sentence for place, sentence in zip(banner, said, strict=True))
        assert f"{AGAIN} failed: {kinds[0].short}; " in markdown
        assert f'<b class="failed">{kind} failed: {kinds[0].short}; {AGAIN} failed: ' in page
    tex = (store.read("report/report.tex") or b"").decode()
    assert ("failed: " in tex.split("against")[0]) is bool(kinds)
    assert ("\n> " in markdown) is bool(kinds)
    for share in _filled_share(store.read(f"report/panels_{TASK}.png") or b""):
        assert least <= share <= most
    assert main([store.uri]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{line}\n" in shown for line in report.health)


def test_the_shares_are_those_of_the_voxels() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((6, 5, 4)) < 0.3
    masks = [rng.random(true.shape) < share for share in (0.0, 0.1, 0.6, 1.1)]
    masks += [true, true & (rng.random(true.shape) < 0.5)]
    for number, of in enumerate((true, np.ones_like(true))):  # the second one fills the volume
        place = {"task": TASK, "case": f"case{number}", "group": "x"}
        found = shares(pd.DataFrame([place | scored(mask, of) for mask in masks]))
        assert found["truth"].to_list() == pytest.approx([of.mean()] * len(masks), abs=1e-12)
        volumes = [mask.mean() for mask in masks]
        assert found["predicted"].to_list() == pytest.approx(volumes, abs=1e-12)
    alone = shares(pd.DataFrame([place | {"case": "perfect"} | scored(true, true)]))
    assert alone.isna().all(axis=None)  # perfect scores alone say nothing of volumes


def test_a_model_that_misses_some_cases_is_told_from_one_that_misses_most() -> None:
    true, none = truth(1)[0], np.zeros_like(truth(1)[0])
    speck = none.copy()
    speck[6, 6, 3] = True
    plan = plan_of((GOOD,))
    for few, expected in ((1, set()), (2, {Kind.NOTHING})):
        rows = rows_of([[true]] * (4 - few) + [[speck], [none]][:few])
        found = health(plan, commits_of(plan), rows, history_of(plan, FINE[GOOD]))
        assert {one.kind for one in found} == expected
    assert (found[0].count, found[0].total) == (1, 1)
    rows = rows.assign(seed=[0, 0, 1, 1])  # the same predictions of two trainings
    found = health(plan, commits_of(plan), rows, history_of(plan, FINE[GOOD]))
    assert [str(one) for one in found] == [f"good on {TASK} (1 of 2 trainings)"]


@pytest.mark.parametrize(("kind", "fill"), [(Kind.NOTHING, False), (Kind.EVERYTHING, True)])
def test_one_collapsed_training_of_five_is_seen(kind: Kind, fill: bool) -> None:
    true, plan = truth(1)[0], plan_of((GOOD,))
    fine, bad = rows_of([[true]] * 3), rows_of([[np.full_like(true, fill)]] * 3)
    folds = [(bad if fold == 2 else fine).assign(fold=fold) for fold in range(5)]
    rows = pd.concat(folds, ignore_index=True)
    lines = in_lines(health(plan, commits_of(plan), rows, pd.DataFrame()))
    assert [str(line) for line in lines] == [
        f"failed: {kind.words}: good on {TASK} (1 of 5 trainings)."
    ]


def test_missing_one_structure_and_missing_both_are_told_apart() -> None:
    both, plan = truth(2), plan_of()
    one = both.copy()
    one[1] = False
    rows = rows_of([list(both)] * 4 + [list(one)] * 2 + [list(np.zeros_like(both))], (GOOD, AGAIN))
    lines = in_lines(health(plan, commits_of(plan), rows, history_of(plan, FINE[GOOD])))
    assert [line.failed for line in lines] == [False]
    said = "(one structure in 2 and 2 structures in 1 of 7 cases)"
    assert f"good on {TASK} {said}; {AGAIN} on {TASK} {said}" in lines[0].text


def test_a_structure_that_is_always_missed_is_named() -> None:
    both, plan = truth(2), plan_of((GOOD,))
    one = both.copy()
    one[1] = False
    found = health(plan, commits_of(plan), rows_of([list(one)] * 3), pd.DataFrame())
    places = [str(finding) for finding in found if finding.kind is Kind.NOTHING]
    assert places == [f"good on {TASK}, part1 (1 of 1 trainings)"]


def test_cases_without_structure_fail_nobody() -> None:
    plan = plan_of((GOOD,))
    rows = rows_of([[truth(1)[0]]])
    empty = np.zeros_like(truth(1)[0])
    none = {**rows.iloc[0].to_dict(), "case": "none", **scored(empty, empty)}
    spurious = {**none, "case": "spurious", **scored(~empty, empty)}
    every = pd.concat([rows, pd.DataFrame([none, spurious])], ignore_index=True)
    assert health(plan, commits_of(plan), every, pd.DataFrame()) == []
    compared = plan_of((GOOD, AGAIN), both_empty="perfect")
    assert list(capped_rows(every, compared)) == [False, False, True]


def test_what_trainings_say_is_counted() -> None:
    plan = plan_of((GOOD,), seeds=3)
    good = rows_of([[truth(1)[0]]])

    def found(curve: list[float], **given: Any) -> list[str]:
        of = health(plan, commits_of(plan, **given), good, history_of(plan, curve))
        return [f"{one.kind.name} {one.count}/{one.total}" for one in of]

    assert found([0.2, 0.5, 0.4]) == []
    assert found([0.5, 0.2, 0.509]) == ["NO_RISE 3/3"]
    assert found([0.905, 0.910, 0.912]) == ["NO_RISE 3/3"]  # good from the first epoch on
    assert found([0.05, 0.02, 0.059]) == ["NOT_LEARNT 3/3"]
    assert found([0.5]) == []  # one epoch has nothing to rise over
    assert found([np.nan] * 3) == found([np.nan, 0.5]) == []  # no structure to find
    assert found([0.2, np.nan, 0.5]) == []
    assert found([0.2, 0.5], cost={"epochs": 9, "chosen_epoch": 9}) == ["LAST_EPOCH 3/3"]
    assert found([0.2, 0.5], cost={"epochs": 1, "chosen_epoch": 1}) == []
    assert found([0.2, 0.5], attempt={"micro_batch": 2}) == ["MICRO_BATCH 3/3"]


def test_one_stalled_training_of_many_is_a_note() -> None:
    plan, good = plan_of((GOOD,), seeds=20), rows_of([[truth(1)[0]]])
    curves = history_of(plan, [0.02, 0.6])

    def lines(stalled: int) -> list[str]:
        flat = curves.assign(value=curves["value"].where(curves["seed"] >= stalled, 0.02))
        return [str(line) for line in in_lines(health(plan, commits_of(plan), good, flat))]

    assert lines(1) == [f"note: {Kind.NO_RISE.words}: good on {TASK} (1 of 20 trainings)."]
    assert lines(10) == [f"failed: {Kind.NOT_LEARNT.words}: good on {TASK} (10 of 20 trainings)."]


def test_a_training_at_the_dice_of_everything_has_not_learnt() -> None:
    plan, true = plan_of((GOOD,)), truth(1)[0]
    other = true.copy()
    other[:, :, 5] = False  # imperfect scores tell the volumes
    volume = 2 * true.mean() / (1 + true.mean())
    for dice, kind in ((volume, Kind.NOT_LEARNT), (volume + 0.02, Kind.NO_RISE)):
        curve = history_of(plan, [dice] * 2)
        found = health(plan, commits_of(plan), rows_of([[other]]), curve)
        assert [one.kind for one in found] == [kind]


def test_the_last_epoch_is_no_finding_where_it_is_what_the_spec_selects() -> None:
    plan = plan_of((GOOD,), training={"select": "last"})
    made = commits_of(plan, cost={"epochs": 9, "chosen_epoch": 9})
    assert health(plan, made, rows_of([[truth(1)[0]]]), pd.DataFrame()) == []


def test_mixed_hardware_is_said_of_the_study() -> None:
    plan = plan_of((GOOD,), seeds=3)
    made = commits_of(plan)
    first = str(plan.trials[0].eval_id)
    made[first] = commit(eval_id=first, attempt={"device": "NVIDIA H200"})
    [line] = in_lines(health(plan, made, rows_of([[truth(1)[0]]]), pd.DataFrame()))
    said = "1 on NVIDIA H200, 1 x 1 threads; 2 on cpu, 1 x 1 threads."
    assert str(line) == f"note: {Kind.HARDWARE.words}: {said}"


def test_many_places_are_counted_in_one_line() -> None:
    many = [
        Finding(Kind.CAPPED, Place("m", f"T{number}", 0.1), 1, 2, "cases") for number in range(9)
    ]
    [line] = in_lines(many)
    assert line.text.count(" at 10% (1 of 2 cases)") == LISTED
    assert line.text.endswith("; and 3 more.")


def test_the_status_of_a_study_names_what_its_report_does(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestrator.planning.study_files import open_store
    from orchestrator.run import main as run
    from orchestrator.spec.yaml_file import load_spec

    assert run([str(tiny_spec), "--in-process", "--set", "tracking.enabled=false"]) == 0
    ended = capsys.readouterr().out
    store = open_store(load_spec(tiny_spec))
    assert status.main([store.uri]) == 0
    report = build_report(StoredStudy.opened(store))
    assert report.health  # an epoch or two teach nothing
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if line.startswith("health: ")] == [
        f"health: {line}" for line in report.health
    ]
    assert all(f"\n{line}\n" in ended for line in report.health)
