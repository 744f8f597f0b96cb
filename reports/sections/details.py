"""Tables 5 to 7: what the ablations changed and cost, and where every number comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from record.external import EXTERNAL
from record.schema import Commit, StudyPlan
from reports.render.layout import Cell, Section, Table, number, spread, spread_over, stands_out
from reports.statistics.scores import common_tasks, matrix

Commits = Mapping[str, Commit]


def model_settings(plan: StudyPlan, commits: Commits) -> dict[str, dict[str, Any]]:
    """Each model's resolved settings; from a finished trial where the plan of an older study lacks
    them.
    """
    settings = {name: dict(values) for name, values in plan.settings.items()}
    for trial, marker in plan.finished(commits):
        if trial.model not in settings and (found := marker.identity.train.get("model")):
            settings[trial.model] = dict(found)
    return settings


def ablations_section(means: pd.DataFrame, plan: StudyPlan, commits: Commits) -> Section:
    """Table 5: what each model is, its trained parameters and its Dice, grouped by what it
    varies.
    """
    settings, fraction = model_settings(plan, commits), max(plan.fractions)
    reference = reference_model(plan, settings)
    done = [
        model
        for model in plan.models
        if ((means["model"] == model) & (means["fraction"] == fraction)).any()
    ]
    tasks = common_tasks(means, done, fraction)
    made = []
    for model in plan.models:
        known, cost = settings.get(model, {}), _costs(plan, commits, model)
        row: dict[str, Any] = {
            "varies": _varies(known, settings.get(reference, {}))
            if model != reference
            else "reference",
            "model": model,
            "block": _block(known),
            "mapper": _mapper(known),
            "rank": _lora_rank(known),
            "trained_parameters": cost["trained_parameters"].iloc[0] if len(cost) else np.nan,
            "parameters": cost["parameters"].iloc[0] if len(cost) else np.nan,
        }
        for metric in ("dice", "nsd"):
            if metric in means and model in done and tasks:
                values = matrix(means, done, fraction, metric)[model]
                row |= {f"{metric}_mean": values.mean(), f"{metric}_sd": values.std(ddof=1)}
        made.append(row)
    order = {
        "reference": 0,
        "no block": 1,
        "capacity": 2,
        "LLM family": 3,
        "LoRA rank": 4,
        "control": 5,
        "other network": 6,
    }
    made.sort(key=lambda row: order[row["varies"]])
    frame = pd.DataFrame(made)
    rows = [
        [
            Cell(row["varies"]),
            Cell(row["model"]),
            Cell(row["block"]),
            Cell(row["mapper"]),
            number(row["trained_parameters"], 0),
            number(row["parameters"], 0),
            *(_score(row, frame, metric) for metric in ("dice", "nsd")),
        ]
        for row in frame.to_dict("records")
    ]
    notes = [
        f"What each model varies against {reference}; the frozen block counts in the parameters, "
        f"not in the trained ones. Dice and NSD: {spread_over(len(tasks))} that all of them have "
        "finished. Tests: the table of significance."
    ]
    header = ["Varies", "Model", "Frozen block", "Mappers", "Trained", "Parameters", "Dice", "NSD"]
    return Section(
        "ablations",
        "Ablations",
        [Table("", header, "llllrrrr", rows, notes[0], keys=2)],
        frame,
        notes,
        place="shown" if len(plan.models) > 1 else "file",
    )


def reference_model(plan: StudyPlan, settings: Mapping[str, Mapping[str, Any]]) -> str:
    """The first model labelled MedVisionLlama, otherwise the first candidate or model."""
    labelled = [
        name for name in plan.models if settings.get(name, {}).get("label") == "MedVisionLlama"
    ]
    candidates = [name for comparison in plan.comparisons for name in comparison.candidates]
    return str([*labelled, *candidates, *plan.models][0])


def _varies(known: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    if not str(known.get("label", "ViT")).startswith(("ViT", "MedVision")):
        return "other network"
    if not known.get("llm"):
        return "no block" if known.get("label", "ViT_Baseline") == "ViT_Baseline" else "capacity"
    if _is_control(known["llm"]):
        return "control"
    if (
        _lora_rank(known) != _lora_rank(reference)
        and known.get("mapper") == reference.get("mapper") == "lora"
    ):
        return "LoRA rank"
    if known.get("llm") != reference.get("llm") and known.get("mapper") == reference.get("mapper"):
        return "LLM family"
    return "control"


def _is_control(llm: Mapping[str, Any]) -> bool:
    """Whether the block is left out, untrained, trained with the rest, or changed as the official
    code changes it; `control` stands in a trial's identity.
    """
    left_out = llm.get("block") == "identity"
    stands_in = llm.get("control", "none") != "none"
    changed = llm.get("kv_pairing") == "tiled" or llm.get("final_norm_weights") == "ones"
    return (
        left_out
        or stands_in
        or changed
        or llm.get("weights") == "random"
        or bool(llm.get("trainable"))
    )


def _lora_rank(known: Mapping[str, Any]) -> float:
    return (
        float(known.get("lora", {}).get("rank", np.nan))
        if known.get("llm") and known.get("mapper") == "lora"
        else np.nan
    )


def _block(known: Mapping[str, Any]) -> str:
    llm = known.get("llm")
    if not llm:
        return "unknown" if known.get("label") == EXTERNAL else "none"
    source = llm.get("source") or str(llm.get("block") or "unknown")[:12]
    return f"{source}, layer {llm.get('layer', -1)}"


def _mapper(known: Mapping[str, Any]) -> str:
    rank = _lora_rank(known)
    plain = str(known.get("mapper", "")) if known.get("llm") else ""
    return f"LoRA, rank {rank:.0f}" if not np.isnan(rank) else plain


def _score(row: Mapping[Any, Any], frame: pd.DataFrame, metric: str) -> Cell:
    name = f"{metric}_mean"
    if name not in frame:
        return Cell("")
    best = stands_out(row[name], frame[name].max(), frame[name])
    return spread(row[name], row[f"{metric}_sd"], best=best)


def _costs(plan: StudyPlan, commits: Commits, model: str) -> pd.DataFrame:
    """Cost of each finished trial of a model, with its device and processes."""
    found = []
    for trial, marker in plan.finished(commits):
        if trial.model == model and marker.cost.known:
            attempt = marker.attempt
            gpus = trial.gpus or attempt.world  # an old plan does not say
            told = {"device": attempt.device, "world": attempt.world, "gpus": gpus}
            found.append(marker.cost.to_json() | told)
    return pd.DataFrame(found)


def cost_section(plan: StudyPlan, commits: Commits) -> Section:
    """Table 6: what the finished trials of each model took."""
    made = []
    for model in plan.models:
        cost = _costs(plan, commits, model)
        if cost.empty:
            continue
        on_gpu = cost["device"] != "cpu"
        hours = cost["seconds"] / 3600
        joules = cost["energy_joules"].sum() if "energy_joules" in cost else np.nan
        made.append(
            {
                "model": model,
                "device": ", ".join(sorted(set(cost["device"]))),
                "trials": len(cost),
                "gpu_hours": (hours * cost["gpus"])[on_gpu].sum(),
                "process_hours": (hours * cost["world"]).sum(),
                "seconds_mean": cost["seconds"].mean(),
                "seconds_sd": cost["seconds"].std(ddof=1),
                "epochs_mean": cost["chosen_epoch"].mean(),
                "peak_memory_gib": cost["peak_memory_bytes"].max() / 2**30,
                "trained_parameters": cost["trained_parameters"].iloc[0],
                "energy_kwh": joules / 3.6e6,
            }
        )
    rows = [
        [
            Cell(row["model"]),
            Cell(row["device"]),
            number(row["trials"], 0),
            number(row["gpu_hours"], 2),
            number(row["process_hours"], 2),
            spread(row["seconds_mean"], row["seconds_sd"], 1),
            number(row["epochs_mean"], 1),
            number(row["peak_memory_gib"], 2),
            Cell("not measured") if np.isnan(row["energy_kwh"]) else number(row["energy_kwh"], 3),
        ]
        for row in made
    ]
    header = [
        "Model",
        "Device",
        "Trials",
        "GPU-hours",
        "Process-hours",
        "Seconds a trial",
        "Chosen epoch",
    ]
    header += ["Peak memory [GiB]", "Energy [kWh]"]
    unknown = [
        model for model in plan.models if plan.settings.get(model, {}).get("label") == EXTERNAL
    ]
    notes = [
        "Finished trials only, reading, training and scoring together; process-hours: seconds "
        "times processes. Peak memory: of the device on a GPU, of the whole process (all its "
        "trials so far) on a CPU. Chosen epoch: mean over trials. A training that several folds or "
        "fractions share counts in each of them, though it ran once."
    ]
    if unknown:
        notes.append(f"Made by other tools, at unknown cost: {', '.join(unknown)}.")
    return Section(
        "cost",
        "Cost",
        [Table("", header, "llrrrrrrr", rows, " ".join(notes))],
        pd.DataFrame(made, columns=None if made else ["model"]),
        notes,
        place="folded",
    )
