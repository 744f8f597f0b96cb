"""A study that was interrupted goes on, and no earlier driver disturbs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from record.store import FencedError, Store, StoreError
from record.tables import read_results
from tests.orchestrator.test_run import run, study
from tests.record.builders import commit


def test_an_interrupted_training_goes_on_from_its_checkpoint_with_the_same_numbers(
    tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.trial import context as trial_context

    arguments = [
        "--set",
        "training.checkpoint_epochs=1",
        "--set",
        "models=[{label: ViT_Baseline, embed_dim: 16, depth: 2, heads: 2}]",
    ]
    assert run(tiny_spec, *arguments, "--set", f"storage={tmp_path / 'whole'}") == 0
    whole = read_results(Store(str(tmp_path / "whole" / "tiny")), "cases")

    real, epochs, broken = trial_context.train, [], []

    def train_that_breaks_once(*args: object, on_epoch: object, **kwargs: object) -> object:
        def watch(epoch: int, metrics: object) -> None:
            epochs.append(epoch)
            on_epoch(epoch, metrics)  # type: ignore[operator]
            if epoch == 3 and not broken:
                broken.append(True)
                raise RuntimeError("the machine was taken away")

        return real(*args, on_epoch=watch, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(trial_context, "train", train_that_breaks_once)
    assert run(tiny_spec, *arguments) == 0
    assert epochs[:5] == [
        1,
        2,
        3,
        3,
        1,
    ]  # the second attempt starts after the checkpoint of epoch 2
    resumed = read_results(study(tiny_spec), "cases")
    assert (resumed["dice"] == whole["dice"]).all()
    assert (resumed["hd95"] == whole["hd95"]).all()
    assert study(tiny_spec).names("checkpoints") == []


def test_an_orphan_of_an_earlier_driver_cannot_commit(tiny_spec: Path) -> None:
    assert run(tiny_spec) == 0
    store = study(tiny_spec)
    marker = next(iter(store.commits().values()))
    store.remove(f"commits/{marker.eval_id}.json")
    store.write_json(f"claims/{marker.train_id}.json", {"token": "successor"})
    with pytest.raises(FencedError, match="successor"):
        store.commit(marker)
    assert marker.eval_id not in store.commits()


def test_a_commit_that_names_a_missing_file_is_refused(tiny_spec: Path) -> None:
    store = study(tiny_spec)
    store.write_json("claims/t.json", {"token": "a"})
    marker = commit(token="a", files={"cases": "trials/t/a/cases.parquet"})
    with pytest.raises(StoreError, match="is missing"):
        store.commit(marker)
    assert store.commits() == {}


def test_a_second_driver_is_refused_in_clear_words(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from record.lock import study_lock

    with study_lock(study(tiny_spec)):
        assert run(tiny_spec) == 2
    assert "is being run by process" in capsys.readouterr().err
    assert (
        run(tiny_spec, "--set", "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]")
        == 0
    )


def test_what_a_driver_left_that_died_between_commit_and_cleanup_is_removed(
    tiny_spec: Path,
) -> None:
    assert run(tiny_spec) == 0
    store = study(tiny_spec)
    eval_id, marker = next(iter(store.commits().items()))
    train_id = marker.train_id
    store.write(f"checkpoints/{train_id}/1x1.pt", b"state")
    store.write_json(f"failures/{eval_id}/token.json", {"kind": "lost", "reason": "x", "time": 1.0})
    store.write("checkpoints/of-another-edit/1x1.pt", b"state")
    assert run(tiny_spec) == 0
    assert store.names("checkpoints") == ["of-another-edit"]
    assert not store.names("failures")
