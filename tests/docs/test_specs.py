"""Every YAML of README.md and docs/*.md that is a spec, or a part of one, is valid; whole specs can
be planned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medvision.models.registry import MODEL_LABELS
from orchestrator.run import main
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import SpecError, load_spec
from reports.sections.claims import read_claims

WHOLE = {"name", "models", "tasks"}
CLAIMS = {"source", "title", "conditions", "claims"}
MODELS = [
    {"label": label, "llm": {"source": "smollm2-135m"}} if label.startswith("MedVision") else label
    for label in MODEL_LABELS
]


@pytest.fixture(scope="module")
def yamls(guides: list[Any]) -> list[tuple[Any, Any]]:
    """Blocks with their values; an indented block counts where its first line is a key of a
    spec.
    """
    found = []
    for block in (block for guide in guides for block in guide.blocks):
        first = block.text.partition(":")[0]
        if block.info == "yaml" or (block.info == "" and first in Spec.model_fields):
            found.append((block, yaml.safe_load(block.text)))
    return found


def test_every_spec_and_part_of_a_spec_is_valid(
    yamls: list[tuple[Any, Any]], tmp_path: Path
) -> None:
    problems, specs = [], 0
    for block, values in yamls:
        keys = set(values) if isinstance(values, dict) else set()
        path = tmp_path / "block.yaml"
        if keys & set(Spec.model_fields):
            specs += 1
            whole = {"name": "part", "models": MODELS, "tasks": ["Task04_Hippocampus"]} | values
            path.write_text(block.text if keys >= WHOLE else yaml.safe_dump(whole))
            try:
                load_spec(path)
            except SpecError as error:
                problems += [f"{block.where}: {mistake}" for mistake in error.mistakes]
        elif keys & CLAIMS:
            path.write_text(yaml.safe_dump({"claims": []} | values))
            read_claims(path)
        elif is_claims(values):
            path.write_text(yaml.safe_dump({"claims": values}))
            read_claims(path)
        else:
            problems.append(
                f"{block.where}: neither a part of a spec nor claims: fence it as something else "
                "than yaml"
            )
    assert problems == []
    assert specs >= 15


def is_claims(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(claim, dict) and "rule" in claim for claim in values
    )


def test_every_whole_spec_can_be_planned(
    yamls: list[tuple[Any, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    isolated_cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDVISION_DATA", raising=False)
    whole = [
        (block, values)
        for block, values in yamls
        if isinstance(values, dict) and set(values) >= WHOLE
    ]
    assert len(whole) >= 5
    for block, values in whole:
        Path("study.yaml").write_text(block.text)
        assert main(["study.yaml", "--dry-run"]) == 0, block.where
        folds = values.get("folds", 5)
        trials = len(values["models"]) * len(values["tasks"]) * folds
        trials *= len(values.get("fractions", ["full"])) * len(values.get("seeds", [0]))
        assert f"{values['name']}: {trials} trials: " in capsys.readouterr().out, block.where
    assert not (tmp_path / "runs").exists()  # a dry run leaves nothing behind
