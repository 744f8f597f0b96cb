"""The arrays that trials kept for figures, of the first fold and the first seed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from record import paths
from record.damage import read_committed
from record.schema import Commit, StudyPlan
from record.store import Store, StoreError

Arrays = Mapping[str, np.ndarray]
Saved = Mapping[tuple[str, str], Arrays]  # by model and task
PAPER_MODELS = ("ViT_Baseline", "MedVisionLlama")


def saved_arrays(
    store: Store, plan: StudyPlan, commits: Mapping[str, Commit], kind: str = paths.ARRAYS
) -> dict[tuple[str, str], Arrays]:
    """Arrays by (model, task) at the largest share of the data; empty where a study saved none.

    Args:
        kind: `arrays` (panels and activations) or `masks` of the same trials.

    Raises:
        StoreError: a committed file is missing, not what was committed, or no npz file.
    """
    found: dict[tuple[str, str], Arrays] = {}
    fraction = max(plan.fractions)
    for trial in plan.trials:
        marker = commits.get(trial.eval_id or "")
        if (
            marker is None
            or trial.fraction != fraction
            or paths.ARRAYS not in marker.files
            or (trial.model, trial.task) in found
        ):
            continue
        try:
            content = io.BytesIO(read_committed(store, marker, kind))
            with np.load(content, allow_pickle=False) as arrays:
                found[trial.model, trial.task] = {name: arrays[name] for name in arrays.files}
        except (ValueError, OSError, EOFError) as error:
            raise StoreError(
                f"{store.path(marker.files[kind])}: is no valid npz file: {error}"
            ) from error
    return found


def focus_rows(arrays: Saved) -> pd.DataFrame:
    """Columns model, task, case, stage, focus: mean activation inside the structure over the mean
    everywhere.
    """
    rows = []
    for (model, task), saved in arrays.items():
        for name, value in saved.items():
            if name.startswith("focus/"):
                _, stage, case = name.split("/", 2)
                rows.append(
                    {
                        "model": model,
                        "task": task,
                        "case": case,
                        "stage": stage,
                        "focus": float(value),
                    }
                )
    return pd.DataFrame(rows, columns=["model", "task", "case", "stage", "focus"])


def predicted_masks(saved: Arrays, case: str) -> np.ndarray | None:
    """Predicted label groups, bool [G, X, Y, Z]; None where the trial did not test this case."""
    if f"bits/{case}" not in saved:
        return None
    shape = tuple(saved[f"shape/{case}"].tolist())
    bits = np.unpackbits(saved[f"bits/{case}"], count=int(np.prod(shape)))
    return bits.reshape(shape).astype(bool)


def case_dice(
    rows: pd.DataFrame, plan: StudyPlan, model: str, task: str, case: str
) -> dict[str, float]:
    """Dice of a test case by label group, of the trial whose arrays are drawn: the largest share of
    the data, the first fold that tests the case and the first seed.
    """
    here = rows[
        (rows["model"] == model)
        & (rows["task"] == task)
        & (rows["case"] == case)
        & (rows["fraction"] == max(plan.fractions))
    ]
    first = here.sort_values(["fold", "seed"], kind="stable").drop_duplicates("group")
    return {
        str(group): float(value) for group, value in zip(first["group"], first["dice"], strict=True)
    }


def shown_models(plan: StudyPlan, having: Iterable[str]) -> list[str]:
    """The models of a figure that has room for few: the paper's two where the study has them, else
    those of its first comparison, else all; of these the ones in `having`.
    """
    labels = {name: settings.get("label") for name, settings in plan.settings.items()}
    papers = [
        next((model for model in plan.models if labels.get(model, model) == label), None)
        for label in PAPER_MODELS
    ]
    chosen = [model for model in papers if model is not None]
    if len(chosen) < len(PAPER_MODELS):
        first = plan.comparisons[:1]
        chosen = [name for one in first for name in (one.baseline, *one.candidates[:3])]
    known = set(having)
    return [model for model in (chosen or plan.models[:4]) if model in known]
