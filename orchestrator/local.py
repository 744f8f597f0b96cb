"""Runs trials one after the other in this process: for tests and for debugging with breakpoints, without Ray."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from medvision.training import Ranks
from orchestrator.attempt import run_attempt
from orchestrator.execution import AttemptFailed, Emit, run_to_the_end
from orchestrator.spec import Spec
from orchestrator.trial import Job
from reports.store import Store


def run_jobs(jobs: Sequence[Job], spec: Spec, store: Store, emit: Emit) -> None:
    """Run every job to its end, in order."""
    torch.set_num_threads(spec.resources.cpus_per_worker)

    def attempt(job: Job) -> Mapping[str, Any]:
        try:
            return run_attempt(job, store, Ranks(), emit) or {}
        except Exception as error:
            raise AttemptFailed(f"{type(error).__name__}: {error}", traceback.format_exc()) from error

    for job in jobs:
        run_to_the_end(job, store, attempt, emit, max_attempts=spec.resources.max_attempts)
