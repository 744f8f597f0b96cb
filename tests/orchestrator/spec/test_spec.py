"""The spec file: every mistake at once, with file, line and key; overrides; the committed
schema.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from orchestrator.spec.study import Spec, model_name
from orchestrator.spec.yaml_file import SpecError, load_spec

ROOT = Path(__file__).parents[3]
GOOD = "name: good\nmodels: [ViT_Baseline]\ntasks: [Task02_Heart]\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return path


def mistakes(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, text), overrides)
    return caught.value.mistakes


def test_three_mistakes_are_all_reported_with_their_lines(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        "name: bad\nmodels: [ViT_Baseline, MedVisionLama]\ntasks: [Task02_Heart]\ntraining:\n  "
        "epoch: 5\n  lr: -1\n",
    )
    assert len(found) == 3
    text = "\n".join(found)
    assert (
        "spec.yaml:2: models.1: unknown model label 'MedVisionLama'; did you mean MedVisionLlama?"
        in text
    )
    assert "spec.yaml:5: training.epoch: unknown key; did you mean epochs?" in text
    assert "spec.yaml:6: training.lr: must be above 0, got -1" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "a spec is a mapping"),
        ("name: [", "not valid YAML"),
        (GOOD + "name: twice\n", "spec.yaml:4: name: given twice"),
        (GOOD.replace("ViT_Baseline", "MedVisionLlama"), "models.0.llm: this key is required"),
        (GOOD + "data: {image_size: [30, 32, 32]}\n", "must be a multiple of patch_size"),
        (GOOD + "training: {epochs: 1, steps: 2}\n", "give epochs or steps, not both"),
        (
            GOOD + "comparisons: {baseline: ViT_MLP, candidates: [ViT_Baseline]}\n",
            "'ViT_MLP' is no model of this study",
        ),
        (GOOD + "fractions: [0.5, 0.5]\n", "values given twice"),
        (GOOD + "fractions: [0]\n", "must be above 0"),
        (GOOD + "evaluation: {metrics: [dize]}\n", "unknown metric 'dize'"),
        (GOOD + "splits: {group_pattern: '('}\n", "is not a regular expression"),
        (GOOD.replace("good", "../evil"), "name"),
        (GOOD.replace("Task02_Heart", "../../etc"), "tasks.0.name"),
        (
            GOOD.replace("ViT_Baseline", "{label: ViT_Baseline, heads: 3}"),
            "must be a multiple of heads 3",
        ),
    ],
)
def test_each_mistake_has_a_clear_message(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(mistakes(tmp_path, text))


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent.yaml: there is no such file$"):
        load_spec(tmp_path / "absent.yaml")


def test_overrides_reach_any_key(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    spec = load_spec(
        path, ["training.epochs=5", "seeds=[1, 2]", "models.0=ViT_MLP", "storage=elsewhere"]
    )
    assert (spec.training.epochs, spec.seeds, model_name(spec.models[0]), spec.storage) == (
        5,
        [1, 2],
        "ViT_MLP",
        "elsewhere",
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs", "must be KEY=VALUE"),
        ("models.7=ViT_MLP", "'7' is no index of a list of 1"),
        ("name.x=1", "has no keys"),
        ("training.epochs=0", "--set: training.epochs"),
    ],
)
def test_wrong_overrides_are_named(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in "\n".join(mistakes(tmp_path, GOOD, override))


def test_labels_forgive_case_and_separators(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD.replace("ViT_Baseline", "vit-baseline")))
    assert spec.models[0].label == "ViT_Baseline"


@pytest.mark.parametrize("wanted", ["MedVisionLlama", "medvision-llama", "MEDVISIONLLAMA"])
@pytest.mark.parametrize("listed", ["MedVisionLlama", "medvision_llama"])
def test_a_match_forgives_spelling_as_labels_do(wanted: str, listed: str, tmp_path: Path) -> None:
    models = (
        f"[{{label: ViT_MLP, params: match {wanted}}}, {{label: {listed}, llm: {{source: "
        "minilm-l6}}]"
    )
    spec = load_spec(write(tmp_path, GOOD.replace("[ViT_Baseline]", models)))
    assert spec.models[0].params.match.llm.source == "minilm-l6"


def test_a_match_takes_a_name_as_it_is(tmp_path: Path) -> None:
    models = (
        "[{label: ViT_MLP, params: match medvisionllama}, {label: MedVisionLlama, llm: {source: "
        "one}}, "
        "{label: MedVisionLlama, name: medvisionllama, llm: {source: two}}]"
    )
    spec = load_spec(write(tmp_path, GOOD.replace("[ViT_Baseline]", models)))
    assert spec.models[0].params.match.llm.source == "two"
    found = mistakes(
        tmp_path,
        GOOD.replace("[ViT_Baseline]", models.replace("match medvisionllama", "match nobody")),
    )
    assert "`params: match nobody` names no model of this study" in "\n".join(found)


def test_presets_fill_what_the_user_leaves_out(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD.replace("ViT_Baseline", "{label: ViT_Depth, depth: 3}")))
    assert (spec.models[0].embed_dim, spec.models[0].depth) == (1024, 3)


def test_the_committed_schema_is_current() -> None:
    committed = json.loads((ROOT / "ablations" / "schema.json").read_text())
    assert committed == Spec.model_json_schema(), "run `make schema`"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "ablations").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_committed_spec_is_valid_and_says_what_it_answers(path: Path) -> None:
    load_spec(path)
    header = "".join(
        line for line in path.read_text().splitlines(keepends=True) if line.startswith("#")
    )
    assert "Answers:" in header
    assert "core" in header or "GPU" in header


def test_the_paper_grid_has_1200_trials() -> None:
    spec = load_spec(ROOT / "ablations" / "full.yaml")
    assert (
        len(spec.models) * len(spec.tasks) * len(spec.fractions) * spec.folds * len(spec.seeds)
        == 1200
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "comparisons: {baseline: ViT_Baseline, candidates: [ViT_MLP, ViT_MLP]}",
            "comparisons.candidates: candidates named twice: ViT_MLP; name each once",
        ),
        (
            "comparisons: {baseline: ViT_Baseline, candidates: [ViT_MLP], metrics: [dice, dice]}",
            "comparisons.metrics: metrics named twice: dice; name each once",
        ),
        (
            "comparisons: {baseline: ViT_Baseline, candidates: [ViT_MLP], family: [task, task]}",
            "comparisons.family: family named twice: task",
        ),
        ("evaluation: {metrics: [nsd, nsd]}", "evaluation.metrics: metrics named twice: nsd"),
        (
            "comparisons: [{baseline: ViT_Baseline, candidates: [ViT_MLP], metrics: [dice]}, "
            "{baseline: ViT_Baseline, candidates: [ViT_Depth, ViT_MLP]}]",
            "comparisons named twice: ViT_MLP against ViT_Baseline in dice; name each once",
        ),
    ],
)
def test_no_test_stands_twice_in_a_study(tmp_path: Path, more: str, message: str) -> None:
    """In one family it would double Holm's p of every other test."""
    path = tmp_path / "spec.yaml"
    head = "name: x\nmodels: [ViT_Baseline, ViT_MLP, ViT_Depth]\ntasks: [T]\n"
    path.write_text(f"{head}{more}\n")
    with pytest.raises(SpecError, match=re.escape(message)):
        load_spec(path)


def test_comparisons_that_share_a_pair_in_other_metrics_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "name: x\nmodels: [ViT_Baseline, ViT_MLP]\ntasks: [T]\ncomparisons:\n"
        "  - {baseline: ViT_Baseline, candidates: [ViT_MLP], metrics: [dice]}\n"
        "  - {baseline: ViT_Baseline, candidates: [ViT_MLP], metrics: [nsd]}\n"
    )
    assert len(load_spec(path).comparisons) == 2


@pytest.mark.parametrize("pattern", ["(.*)", "^(\\\\d*)", "(p?)", "^(.*)_?"])
def test_a_pattern_that_matches_empty_text_makes_no_patients(tmp_path: Path, pattern: str) -> None:
    path = tmp_path / "spec.yaml"
    head = "name: x\nmodels: [ViT_Baseline]\ntasks: [T]\n"
    path.write_text(f'{head}splits: {{group_pattern: "{pattern}"}}\n')
    with pytest.raises(SpecError, match="matches empty text, so that cases without a patient"):
        load_spec(path)


def test_a_file_that_is_not_there_and_what_others_call_a_key_are_told(tmp_path: Path) -> None:
    (tmp_path / "few_shot.yaml").write_text(
        "name: x\nmodels: [ViT_Baseline]\ntasks: [T]\ntraining: {learning_rate: 0.1}\nn_folds: 3\n"
    )
    with pytest.raises(SpecError) as refused:
        load_spec(tmp_path / "fewshot.yaml")
    there = tmp_path / "few_shot.yaml"
    assert str(refused.value).endswith(f"there is no such file; did you mean {there}?")
    with pytest.raises(SpecError, match="did you mean lr") as refused:
        load_spec(there)
    assert "n_folds: unknown key; did you mean folds?" in str(refused.value)
