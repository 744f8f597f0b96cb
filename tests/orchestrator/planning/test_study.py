"""A planned study and what its folder says of it are the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.planning.study import Study
from orchestrator.planning.study_files import open_store, stored_spec
from orchestrator.spec.yaml_file import load_spec
from record import paths
from record.store import StoreError
from record.study import StoredStudy


def test_what_a_run_keeps_of_its_plan_is_what_is_read_of_it_later(tiny_spec: Path) -> None:
    """In the order of the keys, too: a run's report is then that of its folder, byte for byte."""
    spec = load_spec(tiny_spec)
    study = Study.gathered(spec, open_store(spec))
    kept, found = study.write(), StoredStudy.opened(study.store)
    assert kept.plan == found.plan
    assert json.dumps(kept.plan.to_json()) == json.dumps(found.plan.to_json())
    assert stored_spec(found) == study.spec


def test_settings_that_this_version_does_not_know_are_named_with_what_to_do(
    tiny_spec: Path,
) -> None:
    spec = load_spec(tiny_spec)
    study = Study.gathered(spec, open_store(spec))
    stored = study.write()
    values = stored.settings.to_json()
    values["spec"]["training"]["epochs"] = "many"
    study.store.write_json(paths.STUDY, values)
    with pytest.raises(StoreError) as error:
        stored_spec(stored.again())
    assert "\n" not in str(error.value)
    assert "study.json: holds no spec of this version: training.epochs: " in str(error.value)
    assert "run the study's command again" in str(error.value)
