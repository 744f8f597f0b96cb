"""One attempt at one trial: prepare, train, predict, score, commit. The same code runs in a lane and in-process.

Everything but the job's few words is read from the study, and the ids are computed again from what is found there, so
that a worker can never train something else than the plan meant.
"""

from __future__ import annotations

import functools
import io
import os
import resource
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_tensors
from torch import distributed, nn

from medvision.activations import picture_arrays
from medvision.data.augment import derive_seed
from medvision.data.msd import Case, read_task
from medvision.data.splits import Roles, from_json
from medvision.data.volumes import Prepared, prepare, read_truth
from medvision.evaluation import predict, score
from medvision.models import build_model
from medvision.training import Checkpoints, Ranks, Trained, portable_state, train
from orchestrator.spec import Spec, TaskSpec, model_name
from orchestrator.trial import Job, digest, eval_identity, train_identity
from reports.store import Store, table_bytes

Emit = Callable[[dict[str, Any]], None]


class Workbench:
    """What one attempt works with, read from the study: settings, roles and cases of its cell.

    Raises:
        RuntimeError: the study's files no longer give the ids that the job was planned with.
    """

    def __init__(self, job: Job, store: Store) -> None:
        study, cell = store.read_json("study.json"), job.cell
        self.job, self.store = job, store
        self.spec = Spec.model_validate(study["spec"])
        self.model_spec = next(model for model in self.spec.models if model_name(model) == cell.model)
        self.task: TaskSpec = next(task for task in self.spec.tasks if task.name == cell.task)
        split = store.read_json(f"splits/{cell.task}.json")
        self.fingerprints: Mapping[str, str] = split["cases"]
        self.roles: Roles = from_json(split)[cell.fold].roles(cell.fraction)
        block = study["blocks"].get(cell.model)
        training = train_identity(
            self.spec, self.model_spec, self.task, cell.seed, self.roles, self.fingerprints, block
        )
        scoring = eval_identity(self.spec, self.task, digest(training), self.roles, self.fingerprints)
        self.identity = {"train": training, "eval": scoring}
        if (digest(training), digest(scoring)) != (job.train_id, job.eval_id):
            raise RuntimeError(f"{cell}: the study changed since this trial was planned; run the same command again")
        found = read_task(Path(study["data_root"]), cell.task)
        self.cases: Mapping[str, Case] = {case.id: case for case in (*found.cases, *found.test_cases)}
        self.folder = f"trials/{job.train_id}/{job.token}"

    @property
    def groups(self) -> Mapping[str, Any]:
        return self.spec.data.label_groups

    @functools.cache  # noqa: B019  # a workbench lives as long as its attempt
    def prepared(self, case: str) -> Prepared:
        return prepare(
            self.cases[case],
            self.fingerprints[case],
            groups=self.groups,
            image_size=self.spec.data.image_size,
            channel=self.task.channel,
            intensity=self.spec.data.intensity,
        )


def run_attempt(job: Job, store: Store, ranks: Ranks, emit: Emit) -> dict[str, Any] | None:
    """Run one job to its commit; rank 0 returns the marker's cost and mean scores, the others None.

    Args:
        emit: takes events of rank 0 (`{"event": "epoch", ...}`), for a live view only.

    Raises:
        Exception: whatever goes wrong; nothing is committed then.
    """
    started = time.perf_counter()
    bench = Workbench(job, store)
    rows, files, cost = (_rescore if job.rescore_of else _train_and_score)(bench, ranks, emit)
    if ranks.rank:
        return None
    files["cases"] = f"{bench.folder}/cases-{job.eval_id[:16]}.parquet"
    store.write(files["cases"], table_bytes(rows))
    cost.setdefault("seconds", time.perf_counter() - started)  # a rescore keeps what the training took
    marker = {
        "eval_id": job.eval_id,
        "train_id": job.train_id,
        "token": job.token,
        "cell": job.to_json()["cell"],
        "identity": bench.identity,
        "files": files,
        "cost": cost,
        "notes": list(bench.roles.notes),
        "attempt": {
            "world": ranks.world,
            "threads": torch.get_num_threads(),
            "device": _device_name(ranks.device),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        },
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    store.commit(marker)
    store.remove(f"checkpoints/{job.train_id}")
    dice = [row["dice"] for row in rows]
    return {
        "seconds": cost["seconds"],
        "dice": float(np.nanmean(dice)) if not np.isnan(dice).all() else float("nan"),
    }


def _train_and_score(
    bench: Workbench, ranks: Ranks, emit: Emit
) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]]:
    job, spec, roles = bench.job, bench.spec, bench.roles
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(derive_seed("initialisation", job.cell.seed))
    model = build_model(
        image_size=spec.data.image_size,
        patch_size=spec.data.patch_size,
        out_channels=len(bench.groups),
        **bench.model_spec.model_dump(mode="json", exclude={"name"}),
    )
    if ranks.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(ranks.device)

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        emit({"event": "epoch", "epoch": epoch, **metrics})

    used = [*roles.train, *roles.validation, *roles.test]
    trained = train(
        model,
        {case: bench.prepared(case) for case in used},
        roles.train,
        roles.validation,
        spec.training,
        seed=job.cell.seed,
        ranks=ranks,
        on_epoch=on_epoch,
        checkpoints=_checkpoints(bench, ranks),
    )
    model.load_state_dict(trained.state, strict=False)
    mine = _predict_and_score(bench, model, ranks)
    scored = [part for share in _gathered(mine, ranks) for part in share]
    scored.sort(key=lambda part: roles.test.index(part["case"]))
    if ranks.rank:
        return [], {}, {}
    files = {name: f"{bench.folder}/{file}" for name, file in _FILES.items()}
    bench.store.write(files["history"], table_bytes(_history_rows(trained)))
    bench.store.write(files["weights"], save_tensors(portable_state(model)))
    bench.store.write(files["masks"], _pack_masks(scored))
    if job.cell.fold == 0 and job.cell.seed == spec.seeds[0]:  # enough for the figures, and it keeps a study small
        files[PICTURES] = f"{bench.folder}/arrays.npz"
        bench.store.write(files[PICTURES], _pictures(bench, model, scored, ranks.device))
    cost = {
        "epochs": len(trained.history),
        "chosen_epoch": trained.epoch,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "peak_memory_bytes": _peak_memory(ranks.device),
    }
    return [row for part in scored for row in part["rows"]], files, cost


PICTURES = "arrays"
_FILES = {"history": "history.parquet", "weights": "weights.safetensors", "masks": "masks.npz"}


def _pictures(bench: Workbench, model: nn.Module, scored: Sequence[Mapping[str, Any]], device: torch.device) -> bytes:
    return picture_arrays(
        model,
        bench.roles.test,
        cases=bench.cases,
        prepared=bench.prepared,
        dice={part["case"]: float(np.mean([row["dice"] for row in part["rows"]])) for part in scored},
        groups=bench.groups,
        channel=bench.task.channel,
        device=device,
        bf16=bench.spec.training.precision == "bf16",
    )


def _predict_and_score(bench: Workbench, model: nn.Module, ranks: Ranks) -> list[dict[str, Any]]:
    """This rank's share of the test cases: case id, mask as one bit a voxel with its shape, and rows."""
    scored = []
    for case in bench.roles.test[ranks.rank :: ranks.world]:
        truth = read_truth(bench.cases[case], bench.groups)
        mask = predict(
            model,
            bench.prepared(case),
            truth.masks.shape[1:],
            device=ranks.device,
            bf16=bench.spec.training.precision == "bf16",
        )
        scored.append(
            {
                "case": case,
                "bits": np.packbits(mask),
                "shape": mask.shape,
                "rows": _rows(bench, case, mask, truth),
            }
        )
    return scored


def _rescore(bench: Workbench, ranks: Ranks, emit: Emit) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]]:
    """Score the kept masks of an earlier evaluation of the same training with other definitions."""
    earlier = bench.store.read_json(f"commits/{bench.job.rescore_of}.json")
    masks = _unpack_masks(bench.store.read(earlier["files"]["masks"]) or b"")
    rows: list[dict[str, Any]] = []
    for case in bench.roles.test if ranks.rank == 0 else ():
        rows += _rows(bench, case, masks[case], read_truth(bench.cases[case], bench.groups))
    return (
        rows,
        {kind: earlier["files"][kind] for kind in (*_FILES, PICTURES) if kind in earlier["files"]},
        dict(earlier["cost"]),
    )


def _rows(bench: Workbench, case: str, mask: np.ndarray, truth: Any) -> list[dict[str, Any]]:
    """Rows of cases.parquet: the cell, the ids, the case, then what `medvision.evaluation.score` gives."""
    job = bench.job
    scored = score(mask, truth, list(bench.groups), bench.spec.evaluation, bench.spec.tolerances(bench.task))
    return [
        {**job.to_json()["cell"], "train_id": job.train_id, "eval_id": job.eval_id, "case": case, **row}
        for row in scored
    ]


def _history_rows(trained: Trained) -> list[dict[str, Any]]:
    """`train_loss` of epoch 3 becomes (3, "train", "loss", value)."""
    rows = []
    for epoch, metrics in enumerate(trained.history, start=1):
        for name, value in metrics.items():
            split, _, metric = name.rpartition("_")
            rows.append({"epoch": epoch, "split": split or "train", "metric": metric, "value": float(value)})
    return rows


def _checkpoints(bench: Workbench, ranks: Ranks) -> Checkpoints:
    """The trial's checkpoint in the study, kept apart by world size and threads: others would give other numbers."""
    name = f"checkpoints/{bench.job.train_id}/{ranks.world}x{torch.get_num_threads()}.pt"
    return Checkpoints(load=functools.partial(bench.store.read, name), save=functools.partial(bench.store.write, name))


def _gathered(mine: Any, ranks: Ranks) -> list[Any]:
    if ranks.world == 1:
        return [mine]
    everyone: list[Any] = [None] * ranks.world
    distributed.all_gather_object(everyone, mine)
    return everyone


def _pack_masks(scored: Sequence[Mapping[str, Any]]) -> bytes:
    """Masks as one bit a voxel, compressed; `shape/CASE` holds each shape."""
    arrays = {f"bits/{part['case']}": part["bits"] for part in scored}
    arrays |= {f"shape/{part['case']}": np.asarray(part["shape"]) for part in scored}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpack_masks(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        shapes = {name.removeprefix("shape/"): arrays[name] for name in arrays.files if name.startswith("shape/")}
        return {
            case: np.unpackbits(arrays[f"bits/{case}"], count=int(np.prod(shape))).reshape(shape).astype(bool)
            for case, shape in shapes.items()
        }


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # of the process, over all its trials so far


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
