"""What others see of a running study: progress.json and the page live.html."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.console import live, live_page
from orchestrator.console.live import LiveFiles
from orchestrator.console.live_page import Results, moved_on
from orchestrator.console.picture import Picture
from orchestrator.console.progress import Screen
from orchestrator.run import main
from record import paths
from record.events import Failed
from record.progress import Progress
from record.schema import Cell
from record.store import Store, StoreError
from tests.record.builders import study_plan
from tests.waiting import wait_for

Study = Callable[..., Any]
DRIVER = "a driver"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "WRITE_SECONDS", 0.01)


def page(store: Store) -> str:
    return (store.read(paths.LIVE) or b"").decode()


def picture_of(study: Any) -> Picture:
    trials = study.trials[1:]
    cells = {
        trial["eval_id"]: Cell(*(trial[k] for k in ("model", "task", "fraction", "fold", "seed")))
        for trial in trials
    }
    return Picture("fake", dict.fromkeys(cells, 100.0), epochs=9, cells=cells)


def test_both_files_follow_the_run_and_hand_over_to_the_report(fake_study: Study) -> None:
    study = fake_study(count=4)
    study.finished(0)  # by an earlier run
    store, screen = study.store, Screen()
    with LiveFiles(store, DRIVER, screen.lock) as files:
        screen.published = files
        with screen.shows(picture_of(study)):
            wait_for("a first page", lambda: "1 finished" in page(store), more=lambda: page(store))
            for event in (study.started(1), study.epoch(1, 1), study.started(2)):
                screen(event)
            wait_for("an epoch", lambda: "1/9</td>" in page(store), more=lambda: page(store))
            shown = store.load(paths.PROGRESS, Progress)
            assert shown is not None
            assert shown.token == DRIVER
            assert shown.counts == {"pending": 1, "running": 2, "finished": 1}
            one, two = shown.lanes
            assert (one.number, one.epoch, one.epochs, one.loss) == (1, 1, 9, study.losses(1)[0])
            assert (two.cell, two.epoch) == (Cell("ViT_Baseline", "Task99_Spheres", 1.0, 2, 0), 0)
            assert '<meta http-equiv="refresh" content="5">' in page(store)
            assert re.search(
                r"<td>ViT_Baseline</td>.*>0\.250</td><td class=\"r\">1 of 4<", page(store)
            )

            screen(study.finished(1))
            screen(Failed("fold 2", study.trials[2]["eval_id"], "<b>odd</b>", lane=2))
            wait_for("a failure", lambda: "&lt;b&gt;odd&lt;/b&gt;" in page(store))
            wait_for("another result", lambda: "2 of 4</td>" in page(store))
    assert store.read(paths.PROGRESS) is None
    assert 'content="0; url=report/report.html"' in page(store)
    assert page(store) == moved_on("fake")  # the same after every run: no time, no counts


def test_a_run_that_is_stopped_says_so_and_does_not_load_itself_again(fake_study: Study) -> None:
    study = fake_study(count=3)
    screen = Screen()

    def stopped() -> None:
        with LiveFiles(study.store, DRIVER, screen.lock) as files:
            screen.published = files
            with screen.shows(picture_of(study)):
                screen(study.started(1))
                wait_for("a lane", lambda: "At work" in page(study.store))
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert "The run was stopped" in page(study.store)
    assert "<b>2 pending, 1 quarantined</b>" in page(study.store)
    assert "refresh" not in page(study.store)
    assert "At work" not in page(study.store)
    assert study.store.read(paths.PROGRESS) is None


def test_a_run_that_trains_nothing_leaves_the_page_alone(fake_study: Study) -> None:
    study = fake_study()
    with LiveFiles(study.store, DRIVER):
        pass
    assert study.store.read(paths.LIVE) is None


def test_a_storage_that_is_away_for_a_while_stops_nothing(
    fake_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, away = fake_study(count=3), [True] * 3
    write = study.store.write

    def unreliable(name: str, content: bytes) -> None:
        if name == paths.LIVE and away:
            away.pop()
            raise StoreError("the disk is full")
        write(name, content)

    monkeypatch.setattr(study.store, "write", unreliable)
    monkeypatch.setattr(live, "SIGN_OF_LIFE_SECONDS", 0.01)
    with LiveFiles(study.store, DRIVER) as files:
        files(picture_of(study))
        wait_for("a version", lambda: files.versions > 0)
    assert away == []


def test_a_trial_of_a_search_is_shown_by_its_name_and_without_the_grids_counts(
    fake_study: Study,
) -> None:
    study = fake_study()
    with LiveFiles(study.store, DRIVER) as files:
        picture = Picture("fake: search", {"s": 1.0})
        picture.update(study.started(0), 0.0)
        files(picture)
        wait_for("a version", lambda: files.versions > 0)
        shown = study.store.load(paths.PROGRESS, Progress)
        assert shown is not None
        assert "finished" not in shown.counts
        assert '<td colspan="5">fold 0</td>' in page(study.store)


def test_results_are_means_over_finished_trials() -> None:
    place = {"model": "m", "task": "T"}
    names = [{"eval_id": f"e{i}", "fold": i, "fraction": 0.1 if i == 3 else 1.0} for i in range(5)]
    plan = study_plan(trials=[place | trial for trial in names])
    dice = {"e0": 0.5, "e1": 0.25, "e2": math.nan, "of another plan": 1.0}
    assert Results.of(plan, dice).rows == [("m", "T", 1.0, 3, 4, 0.375)]
    assert Results.of(plan, {"e3": math.nan}).rows == [("m", "T", 0.1, 1, 1, None)]


def test_after_a_whole_run_the_page_leads_to_the_report(tiny_spec: Path, tmp_path: Path) -> None:
    alone = ["--set", "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"]
    assert main([str(tiny_spec), "--in-process", "--set", "tracking.enabled=false", *alone]) == 0
    study = tmp_path / "runs" / "tiny"
    assert "url=report/report.html" in (study / paths.LIVE).read_text()
    assert (study / "report" / "report.html").exists()
    assert not (study / paths.PROGRESS).exists()


@pytest.mark.slow
def test_a_browser_follows_the_page_to_the_report(
    fake_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.report_screenshots import browser
    from tools.tracking_screenshots import chromium

    try:
        browser()
    except RuntimeError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(live_page, "RELOAD_SECONDS", 1.0)
    study = fake_study(count=3)
    store, picture = study.store, picture_of(study)
    store.write(paths.report(paths.HTML), b"<title>the report</title>")

    async def look() -> None:
        async with chromium() as tab:
            with LiveFiles(store, DRIVER) as files:
                files(picture)
                wait_for("a version", lambda: files.versions > 0)
                await tab.call("Page.navigate", url=Path(store.path(paths.LIVE)).as_uri())
                await tab.shows("2 pending")
                with files.lock:
                    picture.update(study.started(1), 0.0)
                    picture.update(study.epoch(1, 1), 1.0)
                files(picture)
                await tab.shows("1/9")  # nobody touched the page
            await tab.until("document.title === 'the report'")

    asyncio.run(look())
