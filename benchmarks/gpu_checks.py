"""What must hold on a GPU, each check for itself: one that fails is a row of the table, not the end
of the others.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import distributed

from benchmarks.gpu_work import STEPS, WARM, Size, loop, milliseconds, random_cases, step, trained
from benchmarks.train_step import make
from medvision.data.augment import augment
from medvision.device import make_deterministic
from medvision.models.registry import resolve_settings
from medvision.models.sizes import Sizes
from medvision.training.batches import Draw
from medvision.training.feed import Feed, room_on
from medvision.training.optimizer import make_optimizer
from medvision.training.settings import Augmentation, Training
from medvision.training.state import Checkpoints, Trained, TrainingState, sealed
from orchestrator.spec.resources import ResourcesSpec
from orchestrator.trial.attempt import failure_of

SMALL_LABEL, BLOCK_LABEL, CONVOLUTIONS = "ViT_Baseline", "MedVisionLlama", "nnU-Net"
ASKED = {SMALL_LABEL: 2.5, BLOCK_LABEL: 1.6}  # times as fast with CUDA graphs (issue 22)
PATCH = (8, 8, 8)


class Row(NamedTuple):
    """`holds`: None where nothing is asked, or it cannot be tried here."""

    check: str
    found: str
    holds: bool | None = None


@dataclass(frozen=True)
class Bench:
    """What is measured with; `seconds`: after which no further check begins."""

    size: Size
    batch: int
    llm: str
    device: torch.device
    seconds: float

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def steps(self) -> int:
        """Of a training that is timed."""
        return STEPS if self.gpu else WARM + 2

    @property
    def given(self) -> tuple[Size, int, str, torch.device]:
        return self.size, self.batch, self.llm, self.device


def checked_all(bench: Bench) -> tuple[str, bool]:
    """The table, and whether all holds that is asked."""
    make_deterministic()
    started, rows = time.monotonic(), list[Row]()
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        if time.monotonic() - started > bench.seconds:
            rows.append(Row(name, "not begun: the time is over"))
            continue
        try:
            rows += check(bench)
        except Exception as error:  # one row; the others are worth as much
            rows.append(Row(name, f"{type(error).__name__}: {str(error).splitlines()[0]}", False))
        if bench.gpu:
            torch.cuda.empty_cache()
    name = torch.cuda.get_device_name(bench.device) if bench.gpu else "CPU (a rehearsal)"
    words = {True: "yes", False: "NO", None: ""}
    lines = [f"| {row.check} | {row.found} | {words[row.holds]} |" for row in rows]
    head = f"torch {torch.__version__}, {name}; batches of {bench.batch} at {bench.size}, bf16; "
    head += f"{time.monotonic() - started:.0f} s\n\n| check | found | holds |\n|---|---|---|\n"
    return head + "\n".join(lines) + "\n", all(row.holds is not False for row in rows)


def numbers_of_a_seed(bench: Bench) -> Iterator[Row]:
    """TF32, uninitialised memory, a training twice, and one that goes on from a checkpoint."""
    exact = not (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)
    yield Row("TF32 is off", str(exact), exact)
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield Row("memory is not filled before it is written", str(not filled), not filled)
    saved = list[bytes]()
    recipe = {"steps": 6, "checkpoint_epochs": 1}
    first = trained(SMALL_LABEL, *bench.given, checkpoints=Checkpoints(save=saved.append), **recipe)
    again = trained(SMALL_LABEL, *bench.given, **recipe)
    yield Row("a training twice, bit by bit", _history(first), _same(first, again))
    going_on = Checkpoints(load=lambda: saved[0])
    resumed = trained(SMALL_LABEL, *bench.given, checkpoints=going_on, **recipe)
    yield Row("resumed after an epoch, bit by bit", _history(resumed), _same(first, resumed))


def compiled_trainings(bench: Bench) -> Iterator[Row]:
    """The same numbers whatever was compiled before."""
    if not bench.gpu:
        yield Row("training.compile", "not in a rehearsal, it takes a compiler")
        return
    given = {"steps": 3, "compile": True}
    first, _, again = (
        trained(label, *bench.given, **given) for label in (SMALL_LABEL, "ViT_MLP", SMALL_LABEL)
    )
    yield Row("compiled before and after another model", _history(again), _same(first, again))


def lack_of_memory(bench: Bench) -> Iterator[Row]:
    """Is called so, and a lane's share of a GPU is kept."""
    try:
        ResourcesSpec(workers=2, gpus_per_worker=0.5)
        yield Row("two workers with half a GPU each are refused", "taken", False)
    except ValueError as error:
        reason = str(error).splitlines()[-2].strip()[:120]
        yield Row("two workers with half a GPU each are refused", reason, True)
    if not bench.gpu:
        yield Row("out of memory", "no GPU")
        return
    _, total = torch.cuda.mem_get_info(bench.device)
    for share, wanted in ((1.0, 2.0), (0.25, 0.3)):
        torch.cuda.set_per_process_memory_fraction(share, bench.device)
        try:
            torch.empty(int(total * wanted), dtype=torch.uint8, device=bench.device)
            kind = "nothing: it was given"
        except RuntimeError as error:
            kind = failure_of(error).kind
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
        yield Row(f"{wanted} of a GPU, with a share of {share}, is", kind, kind == "memory")


def batches(bench: Bench) -> Iterator[Row]:
    """Cases on the device, through the buffer, and as before: made anew and pinned each time."""
    cases = random_cases(bench.size, bench.batch)
    draws = [Draw(case, 0) for case in cases]
    buffered, kept = Feed(cases, bench.device), Feed(cases, bench.device)
    kept.keep(list(cases), 2**62)

    def anew() -> tuple[torch.Tensor, ...]:
        shown = [cases[draw.case].sample(draw.seed) for draw in draws]
        both = [torch.stack([torch.tensor(pair[kind]) for pair in shown]) for kind in (0, 1)]
        pinned = [part.pin_memory() if bench.gpu else part for part in both]
        return tuple(part.to(bench.device, non_blocking=True).float() for part in pinned)

    ways: dict[str, Callable[[], tuple[torch.Tensor, ...]]] = {
        "made anew": anew,
        "through the buffer": lambda: buffered.batch(draws),
        "on the device": lambda: kept.batch(draws),
    }
    expected = anew()
    for name, way in ways.items():
        same = all(map(torch.equal, way(), expected))
        yield Row(f"a batch {name}", f"{milliseconds(way, bench.device):.2f} ms", same)
    images, masks = kept.batch(draws)
    changes = Augmentation().changes
    took = milliseconds(
        lambda: augment(images, masks, list(cases), seed=0, epoch=1, **changes), bench.device
    )
    yield Row("its random changes", f"{took:.2f} ms")
    yield Row("room for cases now", f"{room_on(bench.device) / 2**30:.1f} GiB")


def graphs(bench: Bench) -> Iterator[Row]:
    """CUDA graphs: the same numbers, how much faster, and what the log said."""
    for label, asked in ASKED.items():
        with _Listening() as heard:
            ways = [trained(label, *bench.given, steps=7, cuda_graphs=way) for way in WAYS]
            times = [loop(label, *bench.given, steps=bench.steps, cuda_graphs=way) for way in WAYS]
        ratio = times[0] / times[1]
        yield Row(f"{label}, by graphs, bit by bit", _history(ways[1]), _same(*ways))
        found = f"{times[0]:.1f} to {times[1]:.1f} ms a step, {ratio:.2f} times (asked: {asked})"
        yield Row(f"{label}, by graphs", found, ratio >= asked if bench.gpu else None)
        yield Row(f"{label}, said", "; ".join(dict.fromkeys(heard.lines)) or "nothing")


WAYS = ("never", "auto")


def channels_last(bench: Bench) -> Iterator[Row]:
    """What it is worth and what it changes."""
    usual, last = (
        trained(CONVOLUTIONS, *bench.given, steps=3, channels_last=way) for way in (False, True)
    )
    times = [
        loop(CONVOLUTIONS, *bench.given, steps=bench.steps, channels_last=way)
        for way in (False, True)
    ]
    losses = [one.history[-1]["train_loss"] for one in (usual, last)]
    apart = abs(losses[0] - losses[1]) / losses[0]
    found = f"{times[0]:.1f} to {times[1]:.1f} ms a step; the loss {apart:.1e} apart"
    yield Row(f"{CONVOLUTIONS}, channels last", found, apart < 0.02)


def checkpoints(bench: Bench) -> Iterator[Row]:
    """What the training waits for, and what is done behind it."""
    model = make(CONVOLUTIONS, bench.size, bench.llm).to(bench.device)
    optimizer = make_optimizer(model, Training(), bench.device)
    scaler = torch.amp.GradScaler(bench.device.type, enabled=False)
    state = TrainingState(model, optimizer, None, scaler, Trained({}, 0, []))
    waited = milliseconds(state.written, bench.device, times=1)
    both = milliseconds(lambda: sealed(state.written()), bench.device, times=1)
    size = len(state.to_bytes()) / 2**20
    behind = max(both - waited, 0)
    yield Row("a checkpoint", f"{size:.0f} MiB: {waited:.0f} ms, then {behind:.0f} ms behind it")


def rates(bench: Bench) -> Iterator[Row]:
    """Of the cost model: the least time of a step, and operations a second."""
    least = step(SMALL_LABEL, "bf16", (16, 16, 16), 1, bench.llm, bench.device)[0]
    yield Row("least time of a step", f"{least:.1f} ms")
    for label in (SMALL_LABEL, CONVOLUTIONS):
        flops = 3 * bench.batch * resolve_settings(label).flops(Sizes(bench.size, PATCH), None)
        for precision in ("fp32", "bf16"):
            took = step(label, precision, *bench.given)[0]  # type: ignore[arg-type]
            rate = flops / took / 1e9
            yield Row(f"{label}, {precision}", f"{took:.1f} ms a step, {rate:.2f} TFLOP/s")


def several(bench: Bench) -> Iterator[Row]:
    """NCCL on one node, and MPS."""
    count = torch.cuda.device_count() if bench.gpu else 0
    if count < 2:
        yield Row("NCCL", f"not tried: {count} GPUs")
    else:
        torch.multiprocessing.spawn(_summed, (2,), nprocs=2)
        yield Row("NCCL over two GPUs", "summed", True)
    control = shutil.which("nvidia-cuda-mps-control")
    yield Row("MPS", f"{control or 'is not here'}")
    yield Row("several trials in one process", "not built: nothing has measured it against MPS")


def _summed(rank: int, world: int) -> None:
    torch.cuda.set_device(rank)
    where = "tcp://127.0.0.1:29511"
    distributed.init_process_group("nccl", init_method=where, rank=rank, world_size=world)
    tensor = torch.ones(1 << 20, device="cuda")
    distributed.all_reduce(tensor)
    assert tensor.eq(world).all()
    distributed.destroy_process_group()


CHECKS = (
    numbers_of_a_seed,
    batches,
    graphs,
    channels_last,
    checkpoints,
    lack_of_memory,
    rates,
    several,
    compiled_trainings,
)


def _history(one: Trained) -> str:
    return "losses " + ", ".join(f"{metrics['train_loss']:.6f}" for metrics in one.history)


def _same(one: Trained, other: Trained) -> bool:
    return one.history == other.history and all(
        torch.equal(value, other.state[name]) for name, value in one.state.items()
    )


class _Listening(logging.Handler):
    """What the training logs in the meantime."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self._logger = logging.getLogger("medvision.training")

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> _Listening:
        self._level = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)
