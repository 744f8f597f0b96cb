"""One attempt at one trial: prepare, train, predict, score, commit. The same code runs in a lane
and in-process.

All but the few fields of the job is read from the study, and the ids are computed again from what
is found there, so that a worker can never train anything but what was planned.
"""

from __future__ import annotations

import os
import re
import resource
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from medvision.activations import picture_arrays
from medvision.data.preprocess import file_channels
from medvision.inference import Inference
from medvision.training.checkpoint import About, block_fingerprint, save_checkpoint
from medvision.training.ranks import Ranks
from medvision.training.state import summed
from medvision.training.watch import TrainingError, Watch
from orchestrator.planning.identity import Job
from orchestrator.planning.plan import notes_of
from orchestrator.spec.other_tools import NnUNetV2Settings
from orchestrator.trial.choosing import inference_of, keep_choice
from orchestrator.trial.context import Measure, TrialContext, train_model
from orchestrator.trial.energy import joules
from orchestrator.trial.log_tail import LAST_WORDS
from orchestrator.trial.nnunet.training import train_and_score_nnunet
from orchestrator.trial.rescoring import KINDS, rescored
from orchestrator.trial.scoring import ScoredCase, history_rows, scores_of_all
from orchestrator.trial.system_metrics import SystemMetrics
from orchestrator.trial.tuning import run_tuning
from record import paths
from record.events import Emit, Epoch, Outcome
from record.manifest import environment
from record.masks import pack_masks
from record.schema import Attempt, Commit, Cost, Identity
from record.store import DamagedError, Store, StoreError
from record.tables import table_bytes


def run_attempt(
    job: Job,
    store: Store,
    ranks: Ranks,
    emit: Emit,
    watch: Watch | None = None,
    *,
    measure: Measure = lambda context, model: {},
) -> Outcome | None:
    """Run one job to its commit; rank 0 returns what it took and its mean Dice, the others None.

    Args:
        emit: takes events of rank 0 (`Epoch`), for a live view only.
        measure: further numbers of the model at the end of an epoch, for the history; draws no
            random numbers.

    Raises:
        Interrupted: `watch.stop` asked for it; what was trained is in the checkpoint.
        Exception: whatever goes wrong; nothing is committed then.
    """
    LAST_WORDS.lines.clear()
    started = time.perf_counter()
    watch = replace(watch or Watch(), spent=_meter(ranks))
    context = TrialContext(job, store)
    if job.tuning:
        return run_tuning(context, ranks, emit, watch)
    kept = rescored(context, ranks, watch) if job.rescore_of else None
    if kept:
        rows, files, cost = kept
    elif isinstance(context.model_spec, NnUNetV2Settings):
        rows, files, cost = train_and_score_nnunet(context, ranks, emit, watch)
    else:
        rows, files, cost = _train_and_score(context, ranks, emit, watch, measure)
    if ranks.rank:
        return None
    files[paths.CASES] = paths.cases(context.folder, job.eval_id)
    store.write(files[paths.CASES], table_bytes(rows))
    if not kept:  # a rescore keeps what its training took
        cost["seconds"] += time.perf_counter() - started
    marker = Commit(
        eval_id=job.eval_id,
        train_id=job.train_id,
        token=job.token,
        cell=job.cell,
        identity=Identity.model_validate(context.identity),
        files=files,
        cost=Cost.model_validate(cost),
        notes=list(notes_of(context.model_spec, context.roles, context.spec.training.select)),
        attempt=Attempt(
            world=ranks.world,
            threads=torch.get_num_threads(),
            micro_batch=job.micro_batch,
            device=_device_name(ranks.device),
            tf32=_rounds_to_tf32() if ranks.device.type == "cuda" else None,
            host=socket.gethostname(),
            pid=os.getpid(),
        ),
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        environment=environment(),
    )
    store.commit(marker)
    dice = [row["dice"] for row in rows]
    mean = float(np.nanmean(dice)) if not np.isnan(dice).all() else float("nan")
    return Outcome(cost["seconds"], mean)


class Cause(NamedTuple):
    """Why an attempt failed: `orchestrator.planning.retry`'s kind or `storage`, one line, and the
    traceback.
    """

    kind: str
    reason: str
    details: str


def failure_of(error: Exception) -> Cause:
    """The cause that an attempt's exception stands for."""
    kind = "exception"
    if isinstance(error, TrainingError):
        kind = "training"
    elif isinstance(error, StoreError) and not isinstance(error, DamagedError):
        kind = "storage"
    elif isinstance(error, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY.search(str(error)):
        kind = "memory"
    reason = str(error) if kind == "storage" else f"{type(error).__name__}: {error}"
    details = "".join(traceback.format_exception(error)) + LAST_WORDS.text()
    return Cause(kind, reason.splitlines()[0] if kind == "memory" else reason, details)


# What lack of memory raises outside of torch's allocator on a GPU, which has a class of its own.
_NO_MEMORY = re.compile(
    # the allocator on a CPU
    r"not enough memory|can't allocate memory"
    # contexts, pinned memory, the driver (also what NCCL and Triton hand on from it)
    r"|(cuda|nccl|hip)[^\n]{0,200}out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"
    # libraries that find no room for their own workspace or, in a full GPU, for their handle
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE)_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)|CUFFT_ALLOC_FAILED"
    r"|CUDNN_STATUS_INTERNAL_ERROR_(HOST|DEVICE)_ALLOCATION_FAILED|unable to find an engine",
    re.IGNORECASE | re.DOTALL,
)


def _meter(ranks: Ranks) -> Callable[[], dict[str, float]]:
    """Gives what this attempt has spent from now on: seconds, and the joules of all ranks' GPUs.
    All ranks ask together.
    """
    started, energy = time.perf_counter(), joules(ranks.device)

    def spent() -> dict[str, float]:
        used = None if energy is None else (joules(ranks.device) or energy) - energy
        used_by_all = [value for value in ranks.gather(used) if value is not None]
        energy_joules = {"energy_joules": sum(used_by_all)} if used_by_all else {}
        return {"seconds": time.perf_counter() - started} | energy_joules

    return spent


def _train_and_score(
    context: TrialContext, ranks: Ranks, emit: Emit, watch: Watch, measure: Measure
) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]]:
    job, spec, roles = context.job, context.spec, context.roles
    usage, epochs = SystemMetrics(ranks.device), spec.training.total_epochs(len(roles.train))

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        emit(Epoch(job.title, job.eval_id, epoch, {**metrics, **usage()}, epochs))

    model, trained = train_model(context, ranks, watch, on_epoch, measure)
    model.load_state_dict(trained.state, strict=False)
    inference = inference_of(context, model, ranks, watch)
    scored = scores_of_all(context, model, ranks, watch, inference)
    memory = sum(ranks.gather(_peak_memory(ranks.device)))
    spent = {**watch.spent(), "seconds": 0.0}  # this attempt's are added when all is written
    if ranks.rank:
        return [], {}, {}
    files = {kind: paths.attempt_file(context.folder, kind) for kind in KINDS}
    context.store.write(files[paths.HISTORY], table_bytes(history_rows(trained.history)))
    context.store.write(
        files[paths.WEIGHTS], save_checkpoint(model, _about(context, model, inference))
    )
    files |= keep_choice(context, inference)
    context.store.write(files[paths.MASKS], pack_masks({one.case: one.mask for one in scored}))
    if (
        job.cell.fold == 0 and job.cell.seed == spec.seeds[0]
    ):  # enough for the figures, and it keeps a study small
        files[paths.ARRAYS] = paths.attempt_file(context.folder, paths.ARRAYS)
        context.store.write(files[paths.ARRAYS], _pictures(context, model, scored, ranks.device))
    cost = {
        "epochs": len(trained.history),
        "chosen_epoch": trained.epoch,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "peak_memory_bytes": memory,  # of all ranks, training and prediction
        **summed(trained.spent, spent),  # with what earlier attempts at this training took
    }
    return [row for case in scored for row in case.rows], files, cost


def _about(context: TrialContext, model: nn.Module, inference: Inference) -> About:
    """What `medvision.predict` needs to know of the weights."""
    case, wanted = context.roles.test[0], context.preparation
    by_file = wanted.scaled == "file"
    return About(
        model=context.model_spec,
        block=block_fingerprint(model),
        task=context.task.name,
        patch_size=context.spec.data.patch_size,
        in_channels=len(context.prepared(case).image),
        file_channels=file_channels(context.cases[case].images) if by_file else None,
        preparation=wanted,
        precision=context.spec.training.precision,
        output=context.spec.training.output,
        inference=inference,
    )


def _pictures(
    context: TrialContext, model: nn.Module, scored: Sequence[ScoredCase], device: torch.device
) -> bytes:
    return picture_arrays(
        model,
        context.roles.test,
        cases=context.cases,
        prepared=context.prepared,
        dice={case.case: float(np.mean([row["dice"] for row in case.rows])) for case in scored},
        groups=context.groups,
        channel=0 if context.task.channel == "all" else context.task.channel,
        device=device,
        precision=context.spec.training.precision,
        output=context.spec.training.output,
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )  # of the process, over all its trials so far


def _rounds_to_tf32() -> bool:
    return torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
