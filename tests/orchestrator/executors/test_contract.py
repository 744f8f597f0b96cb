"""What every executor must do, whatever its trials run on: `Executor`'s words, as tests.

One that is added to `orchestrator.executors.registry` is tested here with the others, on what its
`machines` gives it. Three runs tell all: one of a good, a faulty and a hopeless trial, one that is
interrupted, and one that goes on from there until the storage fails.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.executors.base import Executor
from orchestrator.executors.registry import DEFAULT, EXECUTORS, make_executor
from orchestrator.planning.identity import Job, draw_of
from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store
from orchestrator.spec.study import Spec
from record.events import Epoch, Event, Started, Stopping, TrialEvent
from record.store import Store, StoreError
from record.tables import read_results
from tests.conftest import TASK
from tests.on_workers import faulty
from tests.waiting import on_workers, put

AT_FIRST = signal.getsignal(signal.SIGINT)  # ignored where a shell started us in the background
EPOCHS = 4
GOOD, FAULTY, HOPELESS = 0, 1, 2  # seeds
WHOLE = ["started", *["epoch"] * EPOCHS, "finished"]
CUT_SHORT = ["started", *["epoch"] * faulty.EPOCH]


@dataclass
class Run:
    """What one run of an executor did: its trials by seed, its events, and how it ended."""

    study: Study
    jobs: dict[int, Job]
    events: list[Event] = field(default_factory=list)
    end: BaseException | None = None
    left: dict[str, list[str]] = field(default_factory=dict)  # names in the study's folders then

    def of(self, seed: int) -> list[TrialEvent]:
        """The events of one trial in their order."""
        name = self.jobs[seed].eval_id
        return [
            event
            for event in self.events
            if isinstance(event, TrialEvent) and event.eval_id == name
        ]

    def words(self, seed: int) -> list[str]:
        return [event.word for event in self.of(seed)]


class Laboratory:
    """Runs studies on one executor, with faults."""

    def __init__(self, name: str, folder: Path, data: Path) -> None:
        self.name, self.folder, self.data = name, folder, data
        self.faults = folder / "faults"
        self.faults.mkdir()

    def run(
        self,
        storage: str,
        faults: dict[int, Sequence[str]],
        listen: Callable[[Event], None] = lambda event: None,
    ) -> Run:
        """Run a trial for each seed of `faults`, in their order, with a fault for each attempt."""
        study = Study.gathered(self._spec(storage), open_store(self._spec(storage)))
        study.write()
        every = {job.cell.seed: job for job in study.jobs("contract")}
        done = Run(study, {seed: every[seed] for seed in faults})
        draws = {trial.cell.seed: draw_of(trial.identity["train"]) for trial in study.plan.trials}
        for seed, lines in faults.items():
            (self.faults / str(draws[seed])).write_text("".join(f"{line}\n" for line in lines))

        def emit(event: Event) -> None:
            done.events.append(event)
            listen(event)

        try:
            with make_executor(self.name, study.spec, study.store) as executor:
                executor.run(list(done.jobs.values()), emit=emit)
        except (StoreError, KeyboardInterrupt) as end:
            done.end = end
        done.left = {name: study.store.names(name) for name in ("checkpoints", "commits")}
        return done

    def _spec(self, storage: str) -> Spec:
        return Spec.model_validate(
            {
                "name": "contract",
                "models": [{"label": "ViT_Baseline", "embed_dim": 16, "depth": 1, "heads": 2}],
                "tasks": [TASK],
                "seeds": [GOOD, FAULTY, HOPELESS],
                "splits": {"scheme": "holdout", "test_fraction": 0.3},
                "data": {"root": str(self.data), "image_size": [16] * 3, "patch_size": [4] * 3},
                "training": {
                    "epochs": EPOCHS,
                    "batch_size": 4,
                    "optimizer": "adamw",
                    "schedule": "onecycle",
                    "lr": 0.01,
                    "prior_bias": False,
                },
                "evaluation": {"tolerances": [1.0]},
                "resources": {"max_lanes": 1, "max_attempts": 3},
                "storage": str(self.folder / storage),
            }
        )


@pytest.fixture(scope="module", params=EXECUTORS)
def laboratory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, spheres: Path
) -> Iterator[Laboratory]:
    """An executor whose machines are there for all tests, with a cache of their own."""
    from orchestrator.trial import context

    folder = tmp_path_factory.mktemp(request.param)
    made = Laboratory(request.param, folder, spheres)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as machines:
        patch.setenv("MEDVISION_CACHE", str(folder / "cache"))
        put(patch, on_workers("faulty", MEDVISION_TEST_FAULTS=str(made.faults)))
        patch.setattr(context, "train", faulty.wrapped(context.train))
        kind = type(make_executor(made.name, *_any_study(folder)))
        machines.enter_context(kind(*_any_study(folder)).machines())
        patch.setattr(kind, "machines", lambda self: contextlib.nullcontext())
        yield made


def _any_study(folder: Path) -> tuple[Spec, Store]:
    values = {"name": "any", "models": ["ViT_Baseline"], "tasks": [TASK], "storage": str(folder)}
    spec = Spec.model_validate(values)
    return spec, open_store(spec)


@pytest.fixture(scope="module")
def three(laboratory: Laboratory) -> Run:
    """A trial that goes well, one whose first attempt fails, one that cannot go on."""
    return laboratory.run("three", {GOOD: [], FAULTY: ["exception"], HOPELESS: ["training"]})


@pytest.fixture(scope="module")
def interrupted(laboratory: Laboratory) -> Run:
    """Somebody presses Ctrl-C while the first of two trials is in its second epoch."""

    def listen(event: Event) -> None:
        if isinstance(event, Epoch) and event.epoch == faulty.EPOCH:
            os.kill(os.getpid(), signal.SIGINT)

    return laboratory.run("parted", {GOOD: ["hold"], FAULTY: []}, listen)


@pytest.fixture(scope="module")
def resumed(laboratory: Laboratory, interrupted: Run) -> Run:
    """The same command again; the storage fails in the second of its trials."""
    return laboratory.run("parted", {GOOD: [], FAULTY: ["storage"]})


def test_a_trial_that_goes_well_is_told_from_start_to_end_and_committed(three: Run) -> None:
    assert three.end is None
    assert three.words(GOOD) == WHOLE
    first, *epochs, last = three.of(GOOD)
    assert isinstance(first, Started)
    assert first.attempt == 1
    assert [event.epoch for event in epochs if isinstance(event, Epoch)] == [*range(1, EPOCHS + 1)]
    assert all(event.cell == three.jobs[GOOD].title for event in three.of(GOOD))
    assert 0 < last.dice <= 1
    assert last.seconds > 0
    assert three.jobs[GOOD].eval_id in three.study.store.commits()


def test_a_trial_that_fails_once_is_tried_again_and_leaves_no_failure(three: Run) -> None:
    assert three.words(FAULTY) == [*CUT_SHORT, "failed", *WHOLE]
    failed = three.of(FAULTY)[len(CUT_SHORT)]
    assert (failed.kind, failed.reason) == ("exception", "RuntimeError: the disk is on fire")
    assert [event.attempt for event in three.of(FAULTY) if isinstance(event, Started)] == [1, 2]
    assert three.jobs[FAULTY].eval_id in three.study.store.commits()
    assert three.study.store.failures_of(three.jobs[FAULTY].eval_id) == []


def test_a_trial_that_cannot_go_on_is_quarantined_with_its_record_and_the_others_are_run(
    three: Run,
) -> None:
    store, job = three.study.store, three.jobs[HOPELESS]
    assert three.words(HOPELESS) == [*CUT_SHORT, "quarantined"]
    assert job.eval_id not in store.commits()
    assert len(store.commits()) == 2
    (failure,) = store.failures_of(job.eval_id)
    assert failure.kind == three.of(HOPELESS)[-1].kind == "training"
    assert failure.reason == three.of(HOPELESS)[-1].reason
    assert failure.reason == "TrainingError: the training loss is nan in epoch 2"
    assert "Traceback" in failure.details
    assert failure.epoch == faulty.EPOCH
    assert failure.token.startswith("contract-")


def test_trials_run_in_the_order_given_and_one_at_a_time_where_only_one_may(three: Run) -> None:
    started = [event.eval_id for event in three.events if isinstance(event, Started)]
    good, bad, hopeless = (three.jobs[seed].eval_id for seed in (GOOD, FAULTY, HOPELESS))
    assert started == [good, bad, bad, hopeless]


def test_ctrl_c_saves_what_is_trained_and_starts_nothing_more(interrupted: Run) -> None:
    assert isinstance(interrupted.end, KeyboardInterrupt)
    assert interrupted.words(GOOD) == [*CUT_SHORT, "interrupted"]
    assert interrupted.words(FAULTY) == []
    assert sum(isinstance(event, Stopping) for event in interrupted.events) == 1
    train_id = interrupted.jobs[GOOD].train_id
    assert interrupted.left == {"checkpoints": [train_id], "commits": []}
    assert not interrupted.study.store.failures()
    assert signal.getsignal(signal.SIGINT) is AT_FIRST


def test_the_next_run_goes_on_from_there_with_the_same_numbers(three: Run, resumed: Run) -> None:
    left = EPOCHS - faulty.EPOCH
    assert resumed.words(GOOD) == ["started", *["epoch"] * left, "finished"]
    assert next(event for event in resumed.of(GOOD) if isinstance(event, Epoch)).epoch == 3
    tables = [read_results(run.study.store, "cases") for run in (three, resumed)]
    whole, parted = (table[table["seed"] == GOOD].reset_index(drop=True) for table in tables)
    assert len(whole) > 0
    assert whole.equals(parted)
    assert resumed.jobs[GOOD].train_id not in resumed.study.store.names("checkpoints")


def test_a_storage_that_fails_ends_the_run_and_is_no_trials_failure(resumed: Run) -> None:
    assert isinstance(resumed.end, StoreError)
    assert str(resumed.end) == "the bucket is gone"
    assert resumed.words(FAULTY) == CUT_SHORT
    assert not resumed.study.store.failures()
    assert resumed.jobs[FAULTY].eval_id not in resumed.study.store.commits()


def test_an_executor_is_made_without_torch_and_ray_and_has_the_interface() -> None:
    code = (
        "import sys\nfrom orchestrator.executors.registry import EXECUTORS, make_executor\n"
        "from orchestrator.spec.yaml_file import load_spec\nfrom record.store import Store\n"
        "spec, store = load_spec('ablations/quickstart.yaml'), Store('/nowhere')\n"
        "made = [make_executor(name, spec, store, 'somewhere:1') for name in EXECUTORS]\n"
        "assert not {'torch', 'ray', 'mlflow', 'pandas'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
    assert EXECUTORS[DEFAULT].help is None  # the only one without a flag
    assert sum(entry.help is None for entry in EXECUTORS.values()) == 1


@pytest.mark.parametrize("name", EXECUTORS)
def test_an_executor_takes_what_the_interface_says(name: str, tmp_path: Path) -> None:
    made = make_executor(name, *_any_study(tmp_path))
    assert isinstance(made, Executor)
    assert inspect.signature(type(made).run) == inspect.signature(Executor.run)
