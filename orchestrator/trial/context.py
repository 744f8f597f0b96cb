"""What one attempt works with, and its training; `orchestrator.trial.attempt` scores and commits,
`search_trial` records.
"""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from medvision.data.fingerprints import require_unchanged
from medvision.data.fitted import fitted
from medvision.data.nifti import Truth, read_truth
from medvision.data.preprocess import prepare
from medvision.data.readers.base import Case
from medvision.data.readers.registry import read_task
from medvision.data.settings import LabelGroups, Preparation
from medvision.data.split_files import from_split
from medvision.data.splits import Roles
from medvision.data.views.base import PreprocessedCase
from medvision.device import make_deterministic
from medvision.llm.scrambled import changed_fingerprint
from medvision.models import build_model
from medvision.models.language.shared import forget_shared
from medvision.seeds import derive_seed
from medvision.training.checkpoint import block_fingerprint
from medvision.training.loop import train
from medvision.training.ranks import Ranks
from medvision.training.state import Checkpoints, Trained
from medvision.training.watch import Watch
from orchestrator.planning.identity import Job, digest, draw_of, eval_identity, train_identity
from orchestrator.planning.search import tuning_roles
from orchestrator.planning.study_files import parsed_spec
from orchestrator.spec.data import TaskSpec
from orchestrator.spec.search import tuned
from orchestrator.spec.study import model_name
from record import paths
from record.schema import Split, StudyFile
from record.store import Store

Measure = Callable[["TrialContext", nn.Module], Mapping[str, float]]


class TrialContext:
    """What one attempt works with, read from the study: settings, roles and cases of its cell.

    Raises:
        RuntimeError: the study's files no longer give the ids that the job was planned with.
    """

    def __init__(self, job: Job, store: Store) -> None:
        study, cell = store.load(paths.STUDY, StudyFile), job.cell
        split = store.load(paths.split(cell.task), Split)
        if study is None or split is None:
            raise RuntimeError(f"{store.uri} holds no study any more; run the same command again")
        self.job, self.store = job, store
        spec = parsed_spec(json.dumps(study.spec))
        model = next(model for model in spec.models if model_name(model) == cell.model)
        self.spec, self.model_spec = tuned(spec, model, job.settings)
        self.task: TaskSpec = next(task for task in self.spec.tasks if task.name == cell.task)
        self.fingerprints: Mapping[str, str] = split.cases
        fold = from_split(split)[cell.fold]
        reserved = split.reserved_for_search
        self.roles: Roles = (
            tuning_roles(reserved, fold) if job.tuning else fold.roles(cell.fraction)
        )
        self.block: str | None = study.blocks.get(cell.model)
        training = train_identity(
            self.spec,
            self.model_spec,
            self.task,
            cell.fold,
            cell.seed,
            self.roles,
            self.fingerprints,
            self.block,
        )
        if job.tuning:
            training = job.tuning.identity(training)
        scoring = eval_identity(
            self.spec, self.task, digest(training), self.roles, self.fingerprints
        )
        self.identity = {"train": training, "eval": scoring}
        if (digest(training), digest(scoring)) != (job.train_id, job.eval_id):
            raise RuntimeError(
                f"{job.title}: the study changed since this trial was planned; run the same "
                "command again"
            )
        self.draw = draw_of(training)
        self.model_spec = self.model_spec.drawn(derive_seed("model", self.draw))
        found = read_task(Path(study.data_root), cell.task)
        self.declared = found.declared
        self.cases: Mapping[str, Case] = {
            case.id: case for case in (*found.cases, *found.test_cases)
        }
        self.folder = paths.attempt(job.train_id, job.token)

    @functools.cached_property
    def groups(self) -> LabelGroups:
        """The label groups of its task."""
        return self.spec.groups(self.task)

    @functools.cached_property
    def preparation(self) -> Preparation:
        """What a network sees of the cases of its task, with what its protocol takes from the
        training cases.
        """
        training = [(self.cases[case], self.fingerprints[case]) for case in self.roles.train]
        return fitted(self.spec.preparation(self.task), training)

    def prepared(self, case: str) -> PreprocessedCase:
        return prepare(self.cases[case], self.fingerprints[case], self.preparation)

    def truth(self, case: str) -> Truth:
        """The case's label groups on its own grid.

        Raises:
            DataError: as `read_truth`; or the files are no longer those that the ids were made of.
        """
        truth = read_truth(self.cases[case], self.groups)
        require_unchanged(self.cases[case], self.fingerprints[case])
        return truth


def train_model(
    context: TrialContext,
    ranks: Ranks,
    watch: Watch,
    on_epoch: Callable[[int, dict[str, float]], None],
    measure: Measure = lambda context, model: {},
) -> tuple[nn.Module, Trained]:
    """Build and train the context's model, going on from its checkpoint; returns what
    `medvision.training.loop.train` does.
    """
    job, spec, roles = context.job, context.spec, context.roles
    make_deterministic()
    if context.model_spec.block is None:
        forget_shared()
    torch.manual_seed(derive_seed("initialisation", context.draw))
    model = build_model(
        image_size=spec.data.image_size,
        patch_size=spec.data.patch_size,
        in_channels=len(context.prepared(roles.train[0]).image),
        out_channels=len(context.groups),
        **context.model_spec.model_dump(mode="json", exclude={"name"}),
    )
    _refuse_another_block(context, model)
    if ranks.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(ranks.device)

    cases = {}
    for case in (*roles.train, *roles.validation, *roles.test):
        watch.beat()
        cases[case] = context.prepared(case)
    trained = train(
        model,
        cases,
        roles.train,
        roles.validation,
        spec.training,
        seed=context.draw,
        ranks=ranks,
        on_epoch=on_epoch,
        measure=lambda: dict(measure(context, model)),
        checkpoints=checkpoints_of(context, ranks),
        micro_batch=job.micro_batch,
        watch=watch,
    )
    return model, trained


def _refuse_another_block(context: TrialContext, model: nn.Module) -> None:
    """A machine whose checkpoint is not the planned one would train other numbers under the planned
    id.

    Raises:
        RuntimeError: the model's block is another one; the message names machine, model and remedy.
    """
    found, llm = block_fingerprint(model), context.model_spec.block
    if found is None or llm is None or llm.weights == "random":
        return  # a matched control has no block, a random one not the checkpoint's weights
    planned = context.block
    if llm.seeded:
        planned = changed_fingerprint(llm.control, int(llm.random_seed or 0), str(planned))
    if found != planned:
        raise RuntimeError(
            f"{socket.gethostname()} finds another language-model block for "
            f"{context.job.cell.model} than the study was planned with ({found[:12]} instead of "
            f"{str(planned)[:12]}): put the driver's checkpoint at {llm.source} there, and "
            "run the same command again; if the checkpoint was meant to change, that plans its "
            "trials anew"
        )


def checkpoints_of(context: TrialContext, ranks: Ranks) -> Checkpoints:
    """The trial's checkpoint in the study."""
    name = checkpoint_path(context.job.train_id, ranks.world, ranks.device)
    return Checkpoints(
        load=functools.partial(context.store.read, name),
        save=functools.partial(context.store.write, name),
    )


def checkpoint_path(train_id: str, world: int, device: torch.device) -> str:
    """Where a training keeps its checkpoint: apart by world size, threads of this process and
    device, because others would give other numbers.
    """
    kind = "" if device.type == "cpu" else f"-{device.type}"
    return paths.checkpoint(train_id, f"{world}x{torch.get_num_threads()}{kind}")
