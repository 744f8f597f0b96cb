"""The live picture: events in, picture out; how it looks at two widths; a real terminal after
Ctrl-C.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.console.logs import TrialLogs
from orchestrator.console.picture import BETWEEN_SECONDS, Picture
from orchestrator.console.progress import (
    JsonLines,
    Lines,
    LiveScreen,
    Screen,
    draw,
    make_screen,
    outlook,
)
from orchestrator.planning.cost import CostModel, Work
from orchestrator.planning.retry import State
from orchestrator.run import main
from record.events import Beat, Ended, Event, Message, Stopping, WaitsForMachines, from_json
from record.store import Store

CELL = "MedVisionLlama Task01_BrainTumour fraction 0.1 fold {} seed 0"


def event(kind: str, number: int, lane: int = 0, **more: Any) -> Event:
    told = {"event": kind, "lane": lane, "cell": CELL.format(number), "eval_id": f"e{number}"}
    needed = {"started": {"attempt": 1}, "finished": {"seconds": 1.0, "dice": 0.5}}
    return from_json(needed.get(kind, {}) | told | more)


def halfway() -> Picture:
    """Four trials of 100, 100, 100 and 300 s: one finished in half of that, one failed once and
    runs, one runs, one waits.
    """
    picture = Picture("study", {"e0": 100.0, "e1": 100.0, "e2": 100.0, "e3": 300.0}, epochs=10)
    picture.update(event("started", 0, lane=71), 0.0)
    picture.update(event("started", 1, lane=72), 0.0)
    for lane in (71, 72):
        picture.update(event("lane-ready", lane - 71, lane=lane), 0.0)
    picture.update(event("finished", 0, lane=71, dice=0.5, seconds=50.0), 50.0)
    picture.update(event("started", 2, lane=71), 50.0)
    picture.update(event("failed", 1, lane=72, reason="RuntimeError: [bold]odd[/] text"), 60.0)
    picture.update(event("started", 1, lane=72), 61.0)
    picture.update(event("lane-ready", 1, lane=72), 61.0)
    for epoch in range(1, 6):
        picture.update(
            event("epoch", 1, lane=72, epoch=epoch, train_loss=1 / epoch), 60.0 + 2.5 * epoch
        )
    return picture


def test_states_lanes_and_the_time_left_follow_the_events() -> None:
    picture = halfway()
    assert picture.counts() == {State.PENDING: 1, State.RUNNING: 2, State.FINISHED: 1}
    assert picture.share_done() == pytest.approx((100 + 50) / 600)  # a trial and half of another
    left = picture.forecast(
        75.0
    )  # two lanes: one has 50 - 25 and then 150 s to go, the other 50 - 14
    assert left is not None
    assert left.seconds == pytest.approx(25 + 150)
    assert picture.numbers == {71: 1, 72: 2}
    lane = picture.lanes[72]
    assert (lane.epoch, lane.loss, lane.epoch_seconds) == (5, 0.2, 2.5)
    picture.update(
        event("started", 1, lane=73), 76.0
    )  # its lane was lost, another has taken it over
    assert set(picture.lanes) == {71, 73}
    picture.update(event("quarantined", 1, lane=73, reason="again"), 80.0)
    picture.update(event("interrupted", 2, lane=71), 80.0)
    assert picture.counts() == {State.PENDING: 2, State.FINISHED: 1, State.QUARANTINED: 1}
    assert picture.lanes == {}
    assert [reason for _, reason in picture.failures] == [
        "RuntimeError: [bold]odd[/] text",
        "again",
    ]


def test_nothing_is_estimated_before_anything_is_done() -> None:
    picture = Picture("study", {"e0": 5.0})
    assert picture.forecast(10.0) is None
    picture.update(event("started", 0), 0.0)
    picture.update(Stopping(), 1.0)
    picture.update(Beat(), 1.0)
    assert picture.forecast(10.0) is None
    assert Picture("done", {}).share_done() == 1.0


def test_the_time_left_knows_the_lanes_also_between_two_trials_and_the_gpus() -> None:
    works = {f"e{number}": Work("a", "T", 100.0, gpus=2.0) for number in range(9)}
    picture = Picture("study", dict.fromkeys(works, 100.0), cost=CostModel(works))
    for lane in (1, 2, 3):
        picture.update(event("started", lane, lane=lane), -500.0)
    for lane in (1, 2):  # the third waits for a machine all the time
        picture.update(event("lane-ready", lane, lane=lane), 0.0)
    # The second lane is about to end its own.
    picture.update(event("finished", 1, lane=1, dice=0.5, seconds=100.0), 100.0)
    left = picture.forecast(100.0)
    assert left is not None
    assert left.seconds == pytest.approx(400.0)  # seven trials on two lanes
    assert outlook(left.seconds, left.gpu_hours) == "7 min left, 0.4 GPU-hours"
    assert picture.forecast(101.0) is left  # not computed anew with every line
    later = picture.forecast(100.0 + BETWEEN_SECONDS + 1)
    assert later is not None
    assert later.seconds == pytest.approx(700.0)  # a lane that takes no other trial is gone
    picture.update(event("failed", 2, lane=2, reason="lost"), 200.0)
    picture.update(event("started", 2, lane=2), 200.0)
    assert not picture.lanes[2].at_work  # until its new workers are there
    assert outlook(None) == ""


def test_lines_tell_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Lines()
    with screen.shows(Picture("study", {"e0": 1.0, "e1": 300.0})):
        for told in (event("started", 0), event("finished", 0, dice=0.5, seconds=2.0)):
            screen(told)
    assert "  1/2  10 min left] " in capsys.readouterr().out


def test_a_line_does_not_look_at_every_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand lines of a study of a thousand trials."""
    count, asked, seconds = 1_000, [], Picture._seconds
    monkeypatch.setattr(
        Picture, "_seconds", lambda self, name: (asked.append(name), seconds(self, name))[1]
    )
    screen = Lines(io.StringIO())
    with screen.shows(Picture("study", {f"e{number}": 1.0 for number in range(count)})):
        for number in range(count):
            screen(event("started", number))
            screen(event("finished", number, dice=0.5, seconds=1.0))
    assert screen.picture.counts() == {State.FINISHED: count}
    assert len(asked) < 10 * count


@pytest.mark.parametrize("width", [60, 120])
def test_the_picture_fits_the_terminal(width: int) -> None:
    console = Console(record=True, width=width, file=io.StringIO(), color_system=None)
    console.print(draw(halfway().progress(75.0, 75.0), width))
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "study: 1 pending, 2 running, 1 finished" in text
    assert "25%, 3 min left" in text
    assert re.search(r"2 5/10 +MedVisionLlama.* 0.2000 +2.5", text)
    assert re.search(r"1 starting +MedVisionLlama", text)
    assert "failed: MedVisionLlama Task01_BrainTumour" in text
    if width == 120:
        assert "[bold]odd[/] text" in text  # shown as it is, not taken for markup


def test_plain_lines_for_files_and_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    screen = make_screen()  # pytest's stdout is no terminal
    assert type(screen) is Lines
    with screen.shows(Picture("study", {"e0": 1.0})):
        for told in (
            event("started", 0),
            event("epoch", 0, epoch=1),
            event("finished", 0, dice=0.5, seconds=2.0),
        ):
            screen(told)
        screen(Stopping())
        screen(WaitsForMachines("no machine can hold it"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2].endswith("no machine can hold it")
    assert lines[0].endswith(f"s  1/1] {CELL.format(0)}: Dice 0.500, 2.0 s")
    assert "Ctrl-C again" in lines[1]


def test_json_is_one_object_a_line_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    screen = make_screen("json")
    assert type(screen) is JsonLines
    screen.say("hello")
    screen(event("finished", 0, dice=float("nan"), seconds=2.0))
    screen(event("epoch", 0, epoch=1, train_loss=float("inf")))
    with screen.shows(screen.picture):
        print("(raylet) A worker died")
    screen.say("table", result=True)
    printed = capsys.readouterr()
    told = [json.loads(line, parse_constant=pytest.fail) for line in printed.out.splitlines()]
    assert printed.err == "(raylet) A worker died\n"
    assert [line["event"] for line in told] == ["message", "finished", "epoch", "result"]
    assert told[1]["dice"] is told[2]["train_loss"] is None
    assert told[3]["text"] == "table"


def test_quiet_shows_the_end_only(capsys: pytest.CaptureFixture[str]) -> None:
    screen = make_screen("quiet")
    assert type(screen) is Screen
    screen.say("hello")
    screen(event("failed", 0, reason="x"))
    screen.say("table", result=True)
    states = {"finished": 5, "quarantined": 1}
    screen.end(Ended(1, "incomplete", 6, states, "runs/s/report/report.html"))
    assert capsys.readouterr().out == (
        "incomplete: 5 of 6 trials finished, 1 quarantined: runs/s/report/report.html\n"
    )
    screen.end(Ended(2, "the spec is wrong"))  # which stderr says
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", [Lines, LiveScreen])
def test_a_screen_that_showed_all_says_nothing_at_the_end(
    kind: type[Screen], capsys: pytest.CaptureFixture[str]
) -> None:
    kind().end(Ended(0, "complete", 1, {"finished": 1}, "r"))
    assert capsys.readouterr().out == ""


def test_a_line_for_people_among_the_events_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Lines()
    with screen.shows(Picture("study", {"e0": 1.0})):
        screen(Message("4 GPUs lie idle"))
    assert capsys.readouterr().out.endswith("4 GPUs lie idle\n")


def test_a_whole_study_as_json(tiny_spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = ["--set", "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"]
    assert (
        main([str(tiny_spec), "--in-process", "--json", "--set", "tracking.enabled=false", *alone])
        == 0
    )
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [line["event"] for line in told]
    assert kinds.count("started") == kinds.count("finished") == 3
    assert [line["epoch"] for line in told if line["event"] == "epoch"] == [1, 2, 3] * 3
    assert {line["eval_id"] for line in told if line["event"] == "epoch"} == {
        line["eval_id"] for line in told if line["event"] == "finished"
    }
    assert (
        "significance" in next(line["text"] for line in told if line["event"] == "result").lower()
    )
    assert told[-1]["event"] == "ended"
    assert (told[-1]["code"], told[-1]["reason"], told[-1]["trials"]) == (0, "complete", 3)
    assert told[-1]["states"] == {"finished": 3}
    assert Path(told[-1]["report"]).is_file()


def test_json_ends_with_what_was_wrong(tiny_spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tiny_spec), "--in-process", "--json", "--set", "folds=1"]) == 2
    [told] = capsys.readouterr().out.splitlines()
    ended = json.loads(told)
    assert (ended["event"], ended["code"]) == ("ended", 2)
    assert "folds: must be 2 or more" in ended["reason"]


def test_failures_stay_on_the_terminal_above_the_picture() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    screen = LiveScreen(console)
    with screen.shows(Picture("study", {"e0": 1.0, "e1": 1.0})):
        screen(event("started", 0))
        screen(event("failed", 0, reason="lost [red]colour[/]"))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{CELL.format(0)}: failed, will be tried again: lost [red]colour[/]" in written
    assert written.endswith("\x1b[?25h") or "\x1b[?25h" in written[written.rindex("\x1b[?25l") :]


def test_each_trial_has_its_log(tmp_path: Path) -> None:
    logs = TrialLogs(Store(str(tmp_path)), {"e0": "train0"})
    for told in (
        event("started", 0, attempt=1),
        event("epoch", 0, epoch=1, train_loss=0.5),
        event("started", 9),
    ):
        logs(told)
    logs(Stopping())
    (path,) = (tmp_path / "logs").iterdir()
    assert path.name == "train0.log"
    title, *lines = path.read_text().splitlines()
    assert title == f"--- {CELL.format(0)}"
    assert [line[19:] for line in lines] == [
        "  started      attempt 1",
        "  epoch        epoch 1  train_loss 0.5",
    ]


def test_a_run_whose_trials_have_ended_writes_its_report() -> None:
    picture = Picture("study", {"e0": 1.0})
    picture.update(event("started", 0), 0.0)
    picture.update(event("failed", 0, reason="x"), 1.0)
    assert not picture.progress(2.0, 2.0).has_ended  # it is tried again
    picture.update(event("quarantined", 0, reason="x"), 3.0)
    progress = picture.progress(4.0, 4.0)
    assert progress.has_ended
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(draw(progress, 80))
    assert "the report is being written" in console.export_text()
