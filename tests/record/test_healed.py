"""What a run does with what is damaged: it sets it aside and makes it again, and loses nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator.run import main
from record import paths
from record.store import Store
from tests.record.test_every_damage import files_of, look


@pytest.mark.parametrize("change", ["emptied", "swapped", "gone"])
@pytest.mark.parametrize("kind", [paths.COMMITS, paths.CASES, paths.HISTORY])
def test_a_rerun_heals_a_damaged_trial_and_keeps_what_was_left_of_it(
    copied: tuple[Path, list[str]],
    kind: str,
    change: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, again = copied
    store = Store(str(folder))
    table, (name, *_) = look(store).table, sorted(store.committed())
    marker = store.commits()[name]
    file = paths.commit(name) if kind == paths.COMMITS else marker.files[kind]
    other = next(one for one in files_of(folder) if one.endswith(Path(file).suffix) and one != file)
    if change == "gone":
        (folder / file).unlink()
    else:
        content = b"" if change == "emptied" else (folder / other).read_bytes()
        (folder / file).write_bytes(content)
    assert main(again) == 0
    shown = capsys.readouterr().out
    if kind != paths.COMMITS or change != "gone":  # without its marker a trial was never finished
        assert f"damaged: {folder / file}: " in shown
        (left,) = (folder / paths.DAMAGED).iterdir()
        assert str(left) in shown
        assert (left / paths.commit(name)).is_file()
        assert list(left.rglob("weights.safetensors"))
    assert look(store).table == table
    assert not look(store).lines
    assert set(store.committed()) == set(store.commits())
    assert main(again) == 0
    assert "Nothing to train" in capsys.readouterr().out


def test_a_file_of_a_newer_version_is_refused_by_name(copied: tuple[Path, list[str]]) -> None:
    folder, _ = copied
    store = Store(str(folder))
    values: dict[str, Any] = store.read_json(paths.PLAN) | {"schema": 2, "anything": "new"}
    store.write_json(paths.PLAN, values)
    (line,) = look(store).lines
    assert line == (
        f"{folder / paths.PLAN}: was written by a newer version of medvision (schema 2, this one "
        "reads up to 1): install that version"
    )


def test_a_marker_that_nothing_else_knows_is_not_swept_away_with_its_files(
    copied: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, again = copied
    store = Store(str(folder))
    name, *_ = sorted(store.committed())
    (folder / paths.commit(name)).write_bytes(b"{")
    (folder / paths.PLAN).unlink()
    weights = set(folder.rglob("weights.safetensors"))
    shutil.rmtree(folder / paths.CLAIMS)
    assert main(again) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {folder / paths.commit(name)}: ")
    assert "nothing else says which training it is of" in shown
    assert set(folder.rglob("weights.safetensors")) == weights


def test_a_newer_version_s_results_are_not_set_aside(
    copied: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, again = copied
    store = Store(str(folder))
    name, *_ = sorted(store.committed())
    newer = json.loads((folder / paths.commit(name)).read_bytes()) | {"schema": 2}
    (folder / paths.commit(name)).write_text(json.dumps(newer))
    assert main(again) == 2
    assert "was written by a newer version of medvision" in capsys.readouterr().err
    assert json.loads((folder / paths.commit(name)).read_bytes()) == newer
    assert not (folder / paths.DAMAGED).exists()


@pytest.mark.parametrize("kind", [paths.MASKS, paths.WEIGHTS])
def test_what_cannot_be_scored_again_is_trained_anew(
    copied: tuple[Path, list[str]], kind: str
) -> None:
    folder, again = copied
    store = Store(str(folder))
    before = store.commits()
    without_pictures = [one for one in before.values() if paths.ARRAYS not in one.files]
    rotten = folder / without_pictures[0].files[kind]
    rotten.write_bytes(rotten.read_bytes()[:-1])
    assert main([*again, "--set", "evaluation.hd95=surfel"]) == 0
    said = (folder / paths.LOGS / paths.DRIVER_LOG).read_text()
    assert f"cannot be scored again: {rotten}: has changed" in said
    after = {name: one for name, one in store.commits().items() if name not in before}
    assert len(after) == len(before)
    anew = [one for one in after.values() if one.token in one.files[kind]]
    assert [one.cell for one in anew] == [without_pictures[0].cell]
    assert not store.failures()


def test_a_dry_run_says_what_a_run_will_set_aside(
    copied: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, again = copied
    store = Store(str(folder))
    marker = next(iter(store.commits().values()))
    file = folder / marker.files[paths.CASES]
    file.write_bytes(b"")
    assert main([*again, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("whole: 4 trials: 3 done, 1 new\n")
    assert f"  damaged: {file}: has changed since it was committed" in shown
    assert store.committed() == set(store.commits())
