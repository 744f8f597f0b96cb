"""Faults in one process: each has its own consequence, and the same command goes on afterwards."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from medvision.llm import loading
from medvision.training.watch import TrainingError
from orchestrator.executors.in_process import InProcessExecutor
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from orchestrator.trial import context as trial_context
from record.store import Store, StoreError
from tests.waiting import PATIENCE_SECONDS

ONE_MODEL = "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"


@pytest.fixture
def options(tiny_spec: Path) -> list[str]:
    """Three trials of one model in this process."""
    settings = (ONE_MODEL, "comparisons=[]", "tracking.enabled=false")
    return [
        str(tiny_spec),
        "--in-process",
        *(word for setting in settings for word in ("--set", setting)),
    ]


@pytest.fixture
def store(tiny_spec: Path) -> Store:
    return open_store(load_spec(tiny_spec))


def fail_once(
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    name: str = "train",
    target: Any = trial_context,
) -> list[dict[str, Any]]:
    """Let the first call fail; returns the keyword arguments of all calls."""
    calls: list[dict[str, Any]] = []
    real: Callable[..., Any] = getattr(target, name)

    def called(*args: Any, **options: Any) -> Any:
        calls.append(options)
        if len(calls) == 1:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(target, name, called)
    return calls


@pytest.mark.parametrize("error", [MemoryError("no"), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_lack_of_memory_halves_the_micro_batch_and_the_record_says_so(
    options: list[str], store: Store, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    calls = fail_once(monkeypatch, error)
    assert main([*options, "--set", "resources.max_attempts=1"]) == 0
    assert [call["micro_batch"] for call in calls] == [None, 2, None, None]
    assert sorted(str(marker.attempt.micro_batch) for marker in store.commits().values()) == [
        "2",
        "None",
        "None",
    ]


def test_a_training_that_cannot_go_on_is_quarantined_at_once_and_retried_when_asked(
    options: list[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fail_once(monkeypatch, TrainingError("the training loss is nan in epoch 2"))
    assert main(options) == 1
    assert len(calls) == 3
    assert len(store.commits()) == 2
    (failures,) = store.failures().values()
    assert failures[0].kind == "training"
    assert "TrainingError" in failures[0].details
    assert main(options) == 1
    assert len(calls) == 3
    assert main([*options, "--retry-quarantined"]) == 0
    assert len(store.commits()) == 3
    assert not store.failures()


def test_another_checkpoint_than_the_planned_one_is_refused(
    tiny_spec: Path, tiny_llama: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine on which another checkpoint lies at the same path."""
    there = tmp_path / "llama"
    shutil.copytree(tiny_llama, there)
    tiny_spec.write_text(tiny_spec.read_text().replace(str(tiny_llama), str(there)))
    real = InProcessExecutor.run

    def elsewhere(*args: Any, **options: Any) -> None:
        config = json.loads((there / "config.json").read_text())
        (there / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
        real(*args, **options)

    monkeypatch.setattr(InProcessExecutor, "run", elsewhere)
    settings = ("tracking.enabled=false", "training.epochs=1", "resources.max_attempts=1")
    assert (
        main(
            [
                str(tiny_spec),
                "--in-process",
                *(word for text in settings for word in ("--set", text)),
            ]
        )
        == 1
    )
    assert {marker.cell.model for marker in store.commits().values()} == {"ViT_Baseline"}
    (reason,) = {failures[0].reason for failures in store.failures().values()}
    assert reason.startswith(
        f"RuntimeError: {socket.gethostname()} finds another language-model block for "
        "MedVisionLlama"
    )
    assert f"put the driver's checkpoint at {there} there" in reason


@pytest.mark.usefixtures("isolated_cache")
def test_trials_that_start_together_read_a_checkpoint_once(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, reads, together = loading.extract, [], threading.Barrier(4)

    def slowly(*args: Any, **options: Any) -> Any:
        reads.append(args)
        time.sleep(0.5)  # time for a second reader, if there is one; a slow machine cannot make one
        return real(*args, **options)

    def first_trial(_: int) -> str:
        together.wait()
        return loading.load_block(tiny_llama).fingerprint

    monkeypatch.setattr(loading, "extract", slowly)
    with ThreadPoolExecutor(4) as trials:
        assert len(set(trials.map(first_trial, range(4)))) == 1
    assert len(reads) == 1


def test_a_full_disk_stops_the_run_and_blames_no_trial(
    options: list[str],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_once(
        monkeypatch,
        StoreError("/full/weights: cannot be written: No space left on device"),
        "commit",
        Store,
    )
    assert main(options) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not store.commits()
    assert not store.failures()
    assert main(options) == 0
    assert len(store.commits()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_once_writes_a_checkpoint_and_the_same_command_goes_on(
    options: list[str],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = trial_context.train

    def interrupted(*args: Any, **given: Any) -> Any:
        return real(
            *args, **{**given, "on_epoch": lambda epoch, metrics: os.kill(os.getpid(), number)}
        )

    with monkeypatch.context() as patched:
        patched.setattr(trial_context, "train", interrupted)
        assert main(options) == 130
    assert "The same command goes on" in capsys.readouterr().err
    assert not store.commits()
    assert len(store.names("checkpoints")) == 1
    assert not (Path(store.root) / "lock.json").exists()
    assert main(options) == 0
    assert not store.names("checkpoints")
    whole = [*options, "--set", f"storage={tmp_path / 'whole'}"]
    assert main(whole) == 0
    tables = [
        folder / "tiny" / "report" / "models.csv"
        for folder in (tmp_path / "runs", tmp_path / "whole")
    ]
    assert tables[0].read_bytes() == tables[1].read_bytes()


def test_one_trial_is_run_again_by_its_name_or_by_the_start_of_its_id(
    options: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == 0
    first = store.commits()
    marker = next(iter(first.values()))
    assert main([*options, "--rerun", marker.train_id[:10]]) == 0
    again = store.commits()
    changed = [eval_id for eval_id in first if first[eval_id].token != again[eval_id].token]
    assert changed == [marker.eval_id]
    assert (
        len(store.names(f"trials/{marker.train_id}")) == 1
    )  # the earlier attempt's files are gone
    assert main([*options, "--rerun", "ViT_Baseline Task99_Spheres fraction 1 fold 0 seed 0"]) == 0
    assert main([*options, "--rerun", "nonsense"]) == 2
    assert "'nonsense' names 0 trials" in capsys.readouterr().err
    assert len(store.commits()) == 3


def test_what_killed_processes_left_is_swept_away(options: list[str], store: Store) -> None:
    orphan = Path(store.path("trials/0123/dead-token/weights.safetensors"))
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"half")
    (orphan.parents[2] / ".weights.safetensors.k3j2").write_bytes(b"half")
    assert main(options) == 0
    assert not orphan.exists()
    assert not [path for path in Path(store.root).rglob(".*") if path.is_file()]


def test_a_process_without_a_sign_of_life_says_where_it_hangs_and_ends() -> None:
    code = """
import queue, sys, time
from orchestrator.executors.lanes.worker import _Heartbeat
class Outbox:
    def put(self, event): print(event.kind, event.reason, event.details, flush=True)
def the_hanging_place(): time.sleep(PATIENCE)
with _Heartbeat(Outbox(), 0, 5.0): the_hanging_place()
""".replace("PATIENCE", f"{PATIENCE_SECONDS}")
    # After twice the 5 s, a timer in C would end it without a word.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("hang no sign of life for ")
    assert "the_hanging_place" in done.stdout


def test_an_attempt_that_is_told_to_stop_hears_it_while_it_computes() -> None:
    from orchestrator.executors.lanes.worker import _Inbox

    inbox: queue.Queue[Any] = queue.Queue()
    read = _Inbox(inbox)
    inbox.put({"job": 1})
    assert read.next() == {"job": 1}
    assert not read.interrupted.is_set()
    inbox.put("interrupt")
    assert read.interrupted.wait(PATIENCE_SECONDS)
    inbox.put({"job": 2})  # a new job does not hear what was meant for the one before
    assert read.next() == {"job": 2}
    assert not read.interrupted.is_set()
    inbox.put("stop")
    assert read.next() == "stop"
