"""Studies that earlier versions have written are read, and written again key for key; what cannot
be read says so in one line with what to do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import status
from orchestrator.tracking.journal import Journal
from record import paths
from record.manifest import Manifest, Needs
from record.schema import Claim, Commit, Split, StudyFile, StudyPlan
from record.store import Store, StoreError
from record.stored import CHECKSUM, Stored
from record.study import StoredStudy
from record.tables import read_results
from reports.build import build_report

OLD = Path(__file__).parent / "study_of_0_1"


@pytest.fixture
def old(tmp_path: Path) -> Store:
    shutil.copytree(OLD, tmp_path / "quickstart")
    return Store(str(tmp_path / "quickstart"))


def test_every_file_reads_and_is_written_again_with_a_checksum(old: Store) -> None:
    kinds: dict[str, type[Stored]] = {
        paths.PLAN: StudyPlan,
        paths.STUDY: StudyFile,
        paths.MANIFEST: Manifest,
        paths.NEEDS: Needs,
        paths.split("MNI152_GreyMatter"): Split,
    }
    plan = old.plan()
    for trial in plan.trials:
        kinds[paths.commit(str(trial.eval_id))] = Commit
        kinds[paths.claim(str(trial.train_id))] = Claim
    for name, kind in kinds.items():
        value, before = old.load(name, kind), old.read(name) or b""
        assert value is not None
        assert not value.model_extra, name  # every key is known to the type
        old.save(name, value)
        if name == paths.PLAN:  # reading it adds what a metric means, which it did not say
            written = old.read_json(name) | {"metrics": json.loads(before)["metrics"]}
            old.write_json(name, written)
        after = json.loads(old.read(name) or b"")
        assert len(after.pop(CHECKSUM)) == 64
        assert after == json.loads(before), name
    journal = Path(old.path(paths.TRACKING), paths.JOURNAL)
    events, _ = Journal(journal).read(0, 10_000)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [event.to_json() for event in events] == lines


def test_its_results_status_and_report_are_there(old: Store) -> None:
    rows = read_results(old, paths.CASES)
    assert len(rows) == 38
    assert status.describe(StoredStudy.opened(old), 0.0).startswith("quickstart: 4 finished")
    report = build_report(StoredStudy.opened(old))
    assert report.complete
    assert "4 of 4 trials are in this report" in report.markdown
    assert "significant" in report.markdown


def test_a_plan_from_before_most_of_its_parts_reads(old: Store) -> None:
    """What came later: settings, recipe, blocks, exclusions, costs of trials, schema numbers."""
    plan = old.read_json(paths.PLAN)
    for name in ("schema", "settings", "recipe", "blocks", "excluded", "modalities", "resources"):
        del plan[name]
    for trial in plan["trials"]:
        for name in ("notes", "arithmetic_seconds", "gpus", "rescore"):
            del trial[name]
    old.write_json(paths.PLAN, plan)
    for eval_id in sorted(old.committed()):
        marker = old.read_json(paths.commit(eval_id))
        del marker["schema"], marker["notes"], marker["attempt"]["device"]
        old.write_json(paths.commit(eval_id), marker)
    report = build_report(StoredStudy.opened(old))
    assert report.complete
    assert "LoRA, rank 4" in (old.read(paths.report("ablations.md")) or b"").decode()


def without(*keys: str) -> Callable[[Any], Any]:
    def cut(value: Any) -> Any:
        inside = value
        for key in keys[:-1]:
            inside = inside[int(key) if isinstance(inside, list) else key]
        del inside[keys[-1]]
        return value

    return cut


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (paths.PLAN, without("trials"), "lacks trials; run the study's command again"),
        (paths.PLAN, without("trials", "3", "fold"), "trials.3 lacks fold; run the study's"),
        (paths.PLAN, lambda plan: plan | {"models": 7}, "models: Input should be a valid list"),
        (paths.PLAN, lambda plan: [plan], "it is no mapping; run the study's command again"),
    ],
)
def test_what_no_version_wrote_is_named_in_one_line_with_what_to_do(
    old: Store, name: str, change: Callable[[Any], Any], told: str
) -> None:
    old.write(name, json.dumps(change(old.read_json(name))).encode())
    with pytest.raises(StoreError) as error:
        build_report(StoredStudy.opened(old))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{old.path(name)}: is not what this version reads: ")
    assert told in str(error.value)
