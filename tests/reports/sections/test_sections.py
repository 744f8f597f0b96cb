"""Claims, rankings, the other tables and figures over a synthetic study with a planted effect, and
one without.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from record.schema import Commit, StudyPlan
from record.store import Store, StoreError
from reports.figures.curves import few_shot_curves
from reports.figures.diagrams import critical_difference_diagram
from reports.figures.panels import activation_figures, focus_rows, qualitative_panels, saved_arrays
from reports.render.html import page
from reports.render.layout import Cell, Section, Table, tex, to_latex, to_markdown
from reports.sections.claim_study import Study, study_of
from reports.sections.claims import FOLDER, ClaimsError, judge, read_claims
from reports.sections.details import ablations_section, cost_section
from reports.sections.model_ranks import rank_models
from reports.sections.overview import few_shot_section, means_section, models_section
from reports.sections.significance import significance_table
from reports.statistics.scores import case_scores, task_means
from tests.record.builders import commit, study_plan

MODELS = ("ViT_Baseline", "MedVisionLlama", "MedVision_BioGPT")
TASKS = tuple(f"T{index}" for index in range(6))
CASES, FOLDS = 8, 4
LLAMA = {
    "label": "MedVisionLlama",
    "llm": {"source": "meta-llama/Llama-3.1-8B", "layer": 31},
    "mapper": "lora",
    "lora": {"rank": 4},
}
METRICS = {
    "dice": {"higher_is_better": True, "unit": "", "title": "Dice"},
    "nsd": {"higher_is_better": True, "unit": "", "title": "NSD"},
    "hd95": {"higher_is_better": False, "unit": "mm", "title": "HD95"},
}
CLAIMS = {
    "conditions": {
        "tasks": {task: {"cases": CASES} for task in TASKS},
        "recipe": {"training.epochs": [3]},
        "models": {"MedVisionLlama": {"llm.source": ["meta-llama/Llama-3.1-8B"]}},
    },
    "claims": [
        {"id": "better", "rule": "better", "metrics": ["dice", "hd95"], "least": 12, "of": 12},
        {
            "id": "significant",
            "rule": "significant",
            "metrics": ["dice", "hd95"],
            "least": 8,
            "of": 12,
        },
        {"id": "change", "rule": "change", "metric": "dice", "percent": 10.0},
        {"id": "hd95", "rule": "change", "metric": "hd95", "percent": -10.0},
        {"id": "mean", "rule": "better-mean", "metric": "dice"},
        {"id": "few-shot", "rule": "few-shot", "fraction": 0.1, "gap": 0.05},
        {"id": "convergence", "rule": "convergence", "fraction": 0.1},
        {"id": "focus", "rule": "focus", "stage": "decoder"},
        {"id": "family", "rule": "no-difference", "metric": "dice", "baseline": "MedVision_BioGPT"},
    ],
}
for claim in CLAIMS["claims"]:  # type: ignore[union-attr]
    claim |= {
        "text": claim["id"],
        "candidate": "MedVisionLlama",
        "baseline": claim.get("baseline", "ViT_Baseline"),
    }


def plan(tasks: tuple[str, ...] = TASKS, **changes: Any) -> StudyPlan:
    trials = [
        {
            "model": m,
            "task": t,
            "fraction": f,
            "fold": fold,
            "seed": 0,
            "train_id": f"t{m}{t}{f}{fold}",
            "eval_id": f"e{m}{t}{f}{fold}",
        }
        for m, t, f, fold in itertools.product(MODELS, tasks, (0.1, 1.0), range(FOLDS))
    ]
    comparison = {
        "baseline": "ViT_Baseline",
        "candidates": list(MODELS[1:]),
        "metrics": ["dice", "hd95"],
        "family": ["candidate", "fraction"],
    }
    settings = {"ViT_Baseline": {"label": "ViT_Baseline"}, "MedVisionLlama": LLAMA}
    settings["MedVision_BioGPT"] = LLAMA | {
        "label": "MedVision_BioGPT",
        "llm": {"source": "microsoft/biogpt", "layer": 23},
    }
    values = {
        "models": list(MODELS),
        "tasks": list(tasks),
        "fractions": [0.1, 1.0],
        "metrics": METRICS,
        "scoring": {"nsd": "surfel", "hd95": "voxel-max", "tolerances": {t: [1.0] for t in tasks}},
        "comparisons": [comparison],
        "settings": settings,
        "recipe": {"epochs": 3},
        "trials": trials,
    }
    return study_plan(**values | changes)


def commits(of: StudyPlan) -> dict[str, Commit]:
    cost = {
        "seconds": 60.0,
        "chosen_epoch": 2,
        "peak_memory_bytes": 2**30,
        "trained_parameters": 10,
        "parameters": 100,
    }
    return {str(trial.eval_id): commit(eval_id=trial.eval_id, cost=cost) for trial in of.trials}


def results(
    gain: float, tasks: tuple[str, ...] = TASKS, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and histories; every model with a block gains `gain` in Dice over the baseline, up to
    noise.
    """
    rng = np.random.default_rng(seed)
    rows, curves = [], []
    for task in tasks:
        hardness = rng.uniform(0.4, 0.7, CASES)
        for model, fraction in itertools.product(MODELS, (0.1, 1.0)):
            raised = gain if model != "ViT_Baseline" else 0.0
            dice = hardness + raised + rng.normal(0, 0.01, CASES)
            cell = {"model": model, "task": task, "fraction": fraction, "seed": 0}
            rows += [
                cell
                | {
                    "fold": n % FOLDS,
                    "case": f"c{n}",
                    "group": "foreground",
                    "status": "ok",
                    "diagonal": 50.0,
                    "dice": value,
                    "nsd": value,
                    "hd95": 20 * (1 - value),
                }
                for n, value in enumerate(dice)
            ]
            for epoch, level in enumerate((0.3, 0.5, 0.6), start=1):
                value = level + raised + rng.normal(0, 0.01)
                curve = {"epoch": epoch, "split": "val", "metric": "dice", "value": value}
                curves += [cell | curve | {"fold": fold} for fold in range(FOLDS)]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def study(gain: float, of: StudyPlan | None = None) -> Study:
    of = of or plan()
    rows, history = results(gain)
    scores = case_scores(rows, of, commits(of))
    focus = pd.DataFrame(
        [
            {
                "model": m,
                "task": task,
                "case": f"c{n}",
                "stage": "decoder",
                "focus": 1 + n / 100 + gain * (m == MODELS[1]),
            }
            for m, task, n in itertools.product(MODELS[:2], TASKS, range(CASES))
        ]
    )
    table = significance_table(rows, of, commits(of))
    return study_of(of, commits(of), table, scores, task_means(scores), history, focus)


def verdicts(of: Study) -> dict[str, str]:
    return {finding.id: finding.verdict for finding in judge(CLAIMS, of)}


def test_planted_effects_are_confirmed_and_flip_with_their_sign() -> None:
    better, worse = verdicts(study(0.1)), verdicts(study(-0.1))
    assert set(better.values()) == {"confirmed"}
    assert {name for name, verdict in worse.items() if verdict != "contradicted"} == {"family"}
    assert worse["family"] == "confirmed"  # both blocks lose alike: they still do not differ


def test_a_smaller_gain_than_claimed_is_contradicted() -> None:
    found = verdicts(study(0.02))
    assert (found["change"], found["mean"]) == ("contradicted", "confirmed")


def test_other_weights_data_or_settings_never_confirm() -> None:
    other = plan(settings={"MedVisionLlama": LLAMA | {"llm": {"source": "smollm2-135m"}}})
    found = judge(CLAIMS, study(0.1, other))
    assert {one.verdict for one in found} == {"cannot be tested"}
    assert found[0].agrees is True
    assert "smollm2-135m" in found[0].reason
    assert {one.verdict for one in judge(CLAIMS, study(0.1, plan(recipe={"epochs": 10})))} == {
        "cannot be tested"
    }
    more_cases = CLAIMS | {"conditions": {"tasks": {task: {"cases": CASES + 1} for task in TASKS}}}
    assert {one.verdict for one in judge(more_cases, study(0.1))} == {"cannot be tested"}


def test_the_papers_claims_can_be_read_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    files = sorted(FOLDER.glob("*.yaml"))
    assert [path.stem for path in files] == ["medvisionllama", "medvisionllama_v1"]
    for path in files:
        found = judge(read_claims(path), study(0.1))
        assert {one.verdict for one in found} == {
            "cannot be tested"
        }  # this study is not the paper's
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("claims: [{id: x, rule: magic, text: t, candidate: c}]")
    with pytest.raises(ClaimsError, match="claim x: unknown rule 'magic'; known: better"):
        read_claims(wrong)


def test_without_an_effect_about_five_percent_are_raw_positives() -> None:
    tasks = tuple(f"R{index}" for index in range(200))
    of = plan(
        tasks,
        fractions=[1.0],
        comparisons=[
            {
                "baseline": "ViT_Baseline",
                "candidates": ["MedVisionLlama"],
                "metrics": ["dice"],
                "family": ["candidate"],
            }
        ],
    )
    rows, _ = results(0.0, tasks)
    table = significance_table(rows[rows["fraction"] == 1.0], of, commits(of))
    # n = 8: the largest attainable p below 0.05 is 0.0391, so 7.8 of 200 are expected, with a
    # deviation of 2.7.
    assert 2 <= (table["p_cases"] < 0.05).sum() <= 16
    assert 2 <= (table["p_methods"] < 0.05).sum() <= 18
    assert (table["verdict"] == "significant").sum() <= 1


def test_models_are_ranked_over_common_complete_tasks_only() -> None:
    of = plan()
    rows, history = results(0.1)
    done = commits(of)
    del done["eMedVision_BioGPTT51.03"]
    scores = case_scores(rows, of, done)
    means = task_means(scores)
    ranking = rank_models(scores, means, of)
    assert ranking is not None
    assert (ranking.n, ranking.unit) == (5, "tasks")
    assert ranking.mean_ranks[0] == 3.0
    section = models_section(scores, means, of, ranking)
    assert set(section.data["tasks"]) == {5}
    assert section.data["model"].iloc[-1] == "ViT_Baseline"
    assert section.data["rank_low"].iloc[-1] == 3.0
    assert [figure.name for figure in critical_difference_diagram(ranking)] == [
        "critical_difference"
    ]
    shots = few_shot_section(means, history, of).data
    assert set(shots[shots["fraction"] == 0.1]["tasks"]) == {6}
    assert few_shot_curves(means, of)[0].png.startswith(b"\x89PNG")
    table = significance_table(rows, of, done)
    over = means_section(table, means, of).data.set_index(["candidate", "metric"])
    assert over.loc[("MedVisionLlama", "dice"), "better"] == 6
    assert over.loc[("MedVision_BioGPT", "dice"), "tasks"] == 5
    values = means[(means["model"] == "MedVisionLlama") & (means["fraction"] == 1.0)]["dice"]
    assert over.loc[("MedVisionLlama", "dice"), "candidate_mean"] == pytest.approx(values.mean())


def test_ablations_and_cost_say_what_was_varied_and_what_it_took() -> None:
    of = plan()
    rows, _ = results(0.1)
    means = task_means(case_scores(rows, of, commits(of)))
    varies = dict(ablations_section(means, of, commits(of)).data[["model", "varies"]].to_numpy())
    assert varies == {
        "MedVisionLlama": "reference",
        "ViT_Baseline": "no block",
        "MedVision_BioGPT": "LLM family",
    }
    cost = cost_section(of, commits(of))
    assert cost.data["process_hours"].to_numpy() == pytest.approx(
        [0.8] * 3
    )  # 48 trials of a minute each
    assert "not measured" in to_markdown(cost, "s")


def npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def test_panels_and_activations_are_drawn_from_saved_arrays(tmp_path: Path) -> None:
    truth = np.zeros((12, 10, 6), dtype=bool)
    truth[3:8, 2:7, 2:4] = True
    panel = {
        "case": "c1",
        "slice": 2,
        "spacing": np.ones(3),
        "image": truth[..., 2] * np.uint8(200),
        "truth": truth[..., 2],
    }
    arrays = {
        f"panel/{rank}/{name}": value
        for rank in ("best", "median", "worst")
        for name, value in panel.items()
    }
    arrays |= {
        "activation/case": "c1",
        "activation/slice": 2,
        "activation/image": panel["image"],
        "activation/truth": truth[..., 2],
    }
    arrays |= {"activation/stage/decoder": np.eye(4, dtype=np.float16), "focus/decoder/c1": 1.5}
    masks = {"bits/c1": np.packbits(truth[None]), "shape/c1": np.array([1, *truth.shape])}
    of, store = plan(), Store(str(tmp_path))
    store.write("a.npz", npz(arrays))
    store.write("m.npz", npz(masks))
    files = {"arrays": "a.npz", "masks": "m.npz"}
    checksums = {
        kind: hashlib.sha256(store.read(file) or b"").hexdigest() for kind, file in files.items()
    }
    done = {
        str(trial.eval_id): commit(eval_id=trial.eval_id, files=files, sha256=checksums)
        for trial in of.trials
        if trial.task == "T0" and trial.fold == 0
    }
    saved = saved_arrays(store, of, done)
    assert sorted(saved) == sorted((model, "T0") for model in MODELS)
    panels = qualitative_panels(saved, saved_arrays(store, of, done, "masks"), of)
    assert [figure.name for figure in panels] == ["panels_T0"]
    assert [figure.name for figure in activation_figures(saved, of)] == ["activations_T0"]
    assert focus_rows(saved)["focus"].tolist() == [1.5] * 3
    store.write("a.npz", b"broken")
    with pytest.raises(StoreError, match="has changed since it was committed"):
        saved_arrays(store, of, done)


def test_the_page_loads_nothing_and_escapes_names() -> None:
    table = Table("A <b>", ["x"], "l", [[Cell("<script>alert(1)</script>")]])
    made = page("<study>", [("trials", "1 of 1")], [Section("s", "S", [table], pd.DataFrame())], [])
    assert "<script>alert" not in made
    assert "&lt;study&gt;" in made
    assert not any(word in made for word in ("http://", "https://", "@import", "<link"))


def test_latex_keeps_to_its_alphabet_and_cuts_long_tables() -> None:
    assert tex("é ± 90° 漢") == r"e $\pm$ 90? ?"
    table = Table("", ["a"], "l", [[Cell("x")]] * 85)
    assert to_latex(Section("s", "S", [table], pd.DataFrame())).count(r"\begin{table}") == 3


def test_a_report_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys, reports.build, reports.sections.claims, reports.figures.panels, "
        "reports.figures.diagrams, reports.render.html;assert not "
        "{'torch', 'ray', 'mlflow', 'monai'} & set(sys.modules), 'a report imported a heavy room'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
