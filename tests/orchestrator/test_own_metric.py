"""A metric in a file next to the spec: checked with the rest of the spec, counted by its text,
scored from kept masks without training, tested in the table.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from medvision.data.nifti import Truth
from medvision.metrics.own import measured
from medvision.metrics.settings import OwnMetric, Scoring
from medvision.own_code import OwnCodeError
from medvision.scoring import score
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import SpecError, load_spec
from record.tables import read_results

SIZE = """
def size(prediction, truth, spacing):
    x, y, z = spacing
    return float(prediction.sum()) * x * y * z / 1000
"""
LOCAL = ["--in-process", "--set", "tracking.enabled=false"]
OWN = "{name: size, function: 'own_size:size', title: Size, unit: ml, digits: 1, perfect: 0}"


@pytest.fixture
def spec(tiny_spec: Path) -> Path:
    """The tiny study of two plain models."""
    (tiny_spec.parent / "own_size.py").write_text(SIZE)
    lines = tiny_spec.read_text().splitlines(keepends=True)
    row = next(number for number, line in enumerate(lines) if "MedVisionLlama" in line)
    lines[row] = "  - {label: ViT_Baseline, name: other, embed_dim: 16, depth: 1, heads: 2}\n"
    tiny_spec.write_text("".join(lines))
    return tiny_spec


def test_it_is_scored_from_kept_masks_and_stands_in_the_table(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(spec), *LOCAL]) == 0
    capsys.readouterr()
    more = ["--set", f"evaluation.own=[{OWN}]", "--set", "evaluation.metrics=[dice, size]"]
    assert main([str(spec), *LOCAL, *more]) == 0
    shown = capsys.readouterr().out
    assert "6 trials: 0 done, 0 new, 6 rescore" in shown
    assert "| Task99_Spheres | full | Size" in shown
    store = open_store(load_spec(spec))
    rows = read_results(store, "cases")
    now = rows[rows["size"].notna()]
    assert len(now) == 2 * 15
    assert (now["size"] >= 0).all()
    assert "def size" not in json.dumps(json.loads(store.read("plan.json") or b"{}"))

    (spec.parent / "own_size.py").write_text(SIZE.replace("/ 1000", "/ 1000 + 0"))
    assert main([str(spec), *more, "--dry-run"]) == 0
    assert "6 rescore" in capsys.readouterr().out


def test_what_is_wrong_with_it_is_told_with_the_other_mistakes(spec: Path) -> None:
    bad = spec.parent / "own_bad.py"
    for text, expected in (
        ("def f(prediction, truth): return 1", "takes prediction, truth"),
        ("def f(prediction, truth, spacing): return 'x'", "returned str, expected a number"),
        (
            "def f(prediction, truth, spacing): return 1 / truth.sum().item()",
            "given an empty truth",
        ),
        (
            "def f(prediction, truth, spacing): return 1.0 if truth.any() else float('inf')",
            "returned inf, expected a finite number, NaN for none: return a bound",
        ),
        ("def g(): pass", "own_bad has no class or function f"),
    ):
        bad.write_text(text + "\n")
        with pytest.raises(SpecError) as caught:
            load_spec(spec, ["folds=1", "evaluation.own=[{name: f, function: 'own_bad:f'}]"])
        assert len(caught.value.mistakes) == 2
        [told] = [mistake for mistake in caught.value.mistakes if "folds" not in mistake]
        assert told.startswith("--set: evaluation.own.0: own_bad:f: ")
        assert expected in told
    for own, expected in (
        (OWN.replace("name: size", "name: dice"), "dice is a metric already"),
        (OWN.replace("name: size", "name: group"), "group is a column of cases.parquet"),
        (f"{OWN}, {OWN}", "own named twice: size"),
    ):
        with pytest.raises(SpecError, match=expected):
            load_spec(spec, [f"evaluation.own=[{own}]"])
    compared = "comparisons={baseline: ViT_Baseline, candidates: [other], metrics: [siz]}"
    with pytest.raises(SpecError, match=r"unknown metric 'siz'; known metrics: dice,.*assd,.*size"):
        load_spec(spec, [f"evaluation.own=[{OWN}]", compared])
    load_spec(spec, [f"evaluation.own=[{OWN}]", compared.replace("siz]", "size]")])


def test_it_may_have_the_name_of_no_column_of_a_stored_table() -> None:
    trial = next((Path(__file__).parents[1] / "record" / "study_of_0_1").rglob("cases-*.parquet"))
    masks = np.ones((1, 2, 3, 4), bool)
    row = score(masks, Truth(masks, (1.0, 1.0, 1.0)), ["g"], Scoring(), [1.0])[0]
    names = {*pq.read_schema(trial).names, *row, "patient", "repeat"}
    files = {"own_f.py": "def f(*a):\n    return 1\n"}
    for name in names:
        with pytest.raises(ValidationError, match=r"already|is a column of|should match pattern"):
            OwnMetric(name=name, function="own_f:f", files=files)
    assert OwnMetric(name="size", function="own_f:f", files=files).name == "size"


@pytest.mark.parametrize("value", ["float('inf')", "-np.inf", "np.float32('inf')"])
def test_an_infinity_is_refused(value: str) -> None:
    files = {"own_f.py": f"import numpy as np\ndef f(*a):\n    return {value}\n"}
    metric = OwnMetric(name="f", function="own_f:f", files=files)
    mask = np.ones((2, 3, 4), bool)
    with pytest.raises(OwnCodeError, match=r"own_f:f: returned -?inf, expected a finite number"):
        measured(metric, mask, mask, (1.0, 1.0, 1.0))


def test_it_gets_masks_and_millimetres_and_cannot_change_the_masks() -> None:
    text = "def f(p, t, s):\n    p[:] = True\n    return p.sum() * s[2] + t.sum()\n"
    metric = OwnMetric(name="f", function="own_f:f", files={"own_f.py": text})
    prediction, truth = np.zeros((2, 3, 4), np.uint8), np.ones((2, 3, 4), np.uint8)
    assert measured(metric, prediction, truth, (1.0, 1.0, 0.5)) == 24 * 0.5 + 24
    assert not prediction.any()
    fails = OwnMetric(name="f", function="own_g:f", files={"own_g.py": "def f(*a):\n    1 / 0\n"})
    with pytest.raises(OwnCodeError, match=r"own_g:f: ZeroDivisionError: .* \(own_g.py:2\)"):
        measured(fails, prediction, truth, (1.0, 1.0, 1.0))
