"""Every executor by its name: a new one is a module (or a folder) of its own and a line here.

Each must pass tests/orchestrator/executors/test_contract.py, which takes them from here.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from orchestrator.executors.base import Executor
from orchestrator.spec.study import Spec
from record.store import Store


@dataclass(frozen=True)
class Entry:
    """`place`: module and class, imported only when it is chosen; `help`: of its flag on the
    command line, None for the one that needs none.
    """

    place: str
    help: str | None = None


EXECUTORS = {
    "lanes": Entry("orchestrator.executors.lanes.executor:LaneExecutor"),
    "in-process": Entry(
        "orchestrator.executors.in_process:InProcessExecutor",
        "without Ray, one trial after the other (debugging)",
    ),
}
DEFAULT = "lanes"


def make_executor(name: str, spec: Spec, store: Store, address: str | None = None) -> Executor:
    """The executor of this name for a study; nothing is started yet."""
    module, _, kind = EXECUTORS[name].place.partition(":")
    made: Executor = getattr(importlib.import_module(module), kind)(spec, store, address)
    return made
