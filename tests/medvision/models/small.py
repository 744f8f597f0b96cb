"""What tests know of every family of models: a module of `families` each, by its folder's name.

SMALL       settings that make the network small, for tests that hold whatever the label
MEANINGS    what each of its settings means for the ids of results, as `MEANINGS` in
            tests/orchestrator/planning/test_identities.py
IDS         label -> digests of the ids of its trainings and evaluations, which never change
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from medvision.models.family import NetworkSettings
from medvision.models.registry import FAMILIES, PAPER_SOURCES


def _facts(family: type[NetworkSettings]) -> Any:
    folder = family.__module__.removesuffix(".settings").rpartition(".")[2]
    return importlib.import_module(f"tests.medvision.models.families.{folder}")


SMALL: dict[str, dict[str, Any]] = {
    label: _facts(family).SMALL for family in FAMILIES for label in family.labels()
}
MEANINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    name: meaning for family in FAMILIES for name, meaning in _facts(family).MEANINGS.items()
}
IDS: dict[str, tuple[str, str]] = {
    label: ids for family in FAMILIES for label, ids in _facts(family).IDS.items()
}


def settings_of(label: str, block: Path) -> dict[str, Any]:
    """Small settings of a label.

    Args:
        label: one of the public labels.
        block: the checkpoint of its language-model block, for a label that has one.
    """
    llm = {"llm": {"source": str(block)}} if label in PAPER_SOURCES else {}
    return SMALL[label] | llm
