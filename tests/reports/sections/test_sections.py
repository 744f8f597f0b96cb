"""Claims, rankings, the other tables and figures over a synthetic study with a planted effect, and
one without.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from record.store import Store, StoreError
from reports.figures.activations import activation_figures
from reports.figures.curves import few_shot_curves
from reports.figures.diagrams import critical_difference_diagram
from reports.figures.panels import qualitative_panels
from reports.figures.saved import focus_rows, saved_arrays
from reports.render.html import Page, page
from reports.render.layout import Cell, Section, Table, to_markdown
from reports.sections.claims import FOLDER, ClaimsError, judge, read_claims
from reports.sections.details import ablations_section, cost_section
from reports.sections.few_shot import few_shot_section
from reports.sections.model_ranks import rank_models
from reports.sections.overview import means_section, models_section
from reports.sections.significance import significance_table
from reports.statistics.scores import case_scores, task_means
from tests.record.builders import commit
from tests.reports.sections.planted import (
    CASES,
    CLAIMS,
    LLAMA,
    MODELS,
    TASKS,
    commits,
    plan,
    results,
    study,
    verdicts,
)


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
    assert "Rank by Dice: models are ranked in each task, and then by the mean" in section.notes[0]
    assert "± standard deviation over the 5 tasks" in section.notes[0]
    one = models_section(scores, means[means["task"] == means["task"].iloc[0]], of, None)
    assert one.notes[0].startswith("Mean over the cases of the one task that")
    assert "Rank by the mean Dice" in one.notes[0]
    assert "±" not in " ".join(cell.text for row in one.tables[0].rows for cell in row)
    assert section.data["model"].iloc[-1] == "ViT_Baseline"
    assert section.data["rank_low"].iloc[-1] == 3.0
    assert [figure.name for figure in critical_difference_diagram(ranking)] == [
        "critical_difference"
    ]
    shots = few_shot_section(means, history, of).data
    assert set(shots[shots["fraction"] == 0.1]["tasks"]) == {6}
    assert few_shot_curves(few_shot_section(means, history, of).data, of)[0].png.startswith(
        b"\x89PNG"
    )
    table = significance_table(rows, of, done)
    over = means_section(table, means, of).data.set_index(["candidate", "metric"])
    assert over.loc[("MedVisionLlama", "dice"), "better"] == 6
    assert over.loc[("MedVision_BioGPT", "dice"), "tasks"] == 5
    values = means[(means["model"] == "MedVisionLlama") & (means["fraction"] == 1.0)]["dice"]
    assert over.loc[("MedVisionLlama", "dice"), "candidate_mean"] == pytest.approx(values.mean())


def test_a_task_without_structure_in_its_test_cases_has_no_mean() -> None:
    of = plan()
    rows, _ = results(0.1)

    def over(empty: tuple[str, ...]) -> pd.DataFrame:
        nothing = rows["task"].isin(empty)
        cells = {"status": "both-empty", **dict.fromkeys(("dice", "nsd", "hd95"), np.nan)}
        here = rows.assign(
            **{name: rows[name].where(~nothing, value) for name, value in cells.items()}
        )
        means = task_means(case_scores(here, of, commits(of)))
        table = significance_table(here, of, commits(of))
        return means_section(table, means, of).data.set_index(["candidate", "metric"])

    of_five = over(TASKS[:1]).loc[("MedVisionLlama", "dice")]
    assert of_five["tasks"] == 5
    assert of_five["favours"] == 1
    values = rows[(rows["fraction"] == 1.0) & ~rows["task"].isin(TASKS[:1])]
    means = values[values["model"] == "MedVisionLlama"].groupby("task")["dice"].mean()
    assert of_five["candidate_mean"] == pytest.approx(means.mean())
    of_none = over(TASKS).loc[("MedVisionLlama", "dice")]
    assert (of_none["tasks"], of_none["favours"]) == (0, 0)
    assert np.isnan(of_none["candidate_mean"])


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
    masks = saved_arrays(store, of, done, "masks")
    panels = qualitative_panels(saved, masks, results(0.1)[0], of)
    assert [figure.name for figure in panels] == ["panels_T0"]
    drawn = activation_figures(saved, of, "page")
    assert [figure.name for figure in drawn] == ["paper_activations_T0_page"]
    assert focus_rows(saved)["focus"].tolist() == [1.5] * 3
    store.write("a.npz", b"broken")
    with pytest.raises(StoreError, match="has changed since it was committed"):
        saved_arrays(store, of, done)


def test_the_page_loads_nothing_and_escapes_names() -> None:
    table = Table("A <b>", ["x"], "l", [[Cell("<script>alert(1)</script>")]])
    sections = [Section("s", "S", [table], pd.DataFrame())]
    made = page(Page("<study>", sections, [("trials", "1 of 1")]))
    assert "<script>alert" not in made
    assert "&lt;study&gt;" in made
    assert not any(word in made for word in ("http://", "https://", "@import", "<link"))


def test_a_report_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys, reports.build, reports.sections.claims, reports.figures.panels, "
        "reports.figures.diagrams, reports.render.html;assert not "
        "{'torch', 'ray', 'mlflow', 'monai'} & set(sys.modules), 'a report imported a heavy room'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
