"""nnU-Net itself beside our networks under `recipe: strong`: one fold of Task04, as many iterations
of each on the CPU with as many patches of the same size, all scored by the same code.

    MEDVISION_DATA=... python -m benchmarks.nnunet --iterations 1000

Needs `pip install '.[nnunet]'`. A run that was stopped goes on where it was; the time that is
printed is that of all of them. An iteration is a step of the optimizer. Seconds are those that
passed: nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from orchestrator.run import main as run
from record import paths
from record.arguments import amount, new_folder, whole
from record.store import Store
from record.study import StoredStudy

TASK, GROUPS = "Task04_Hippocampus", {"anterior": [1], "posterior": [2]}
PATCH = (40, 56, 40)  # what nnU-Net plans for this task
NETWORKS: dict[str, dict[str, object]] = {
    "nnU-Net": {"label": "nnU-Net", "name": "our nnU-Net network"},
    "ViT_Baseline": {"label": "ViT_Baseline"},
    "MedVisionLlama": {"label": "MedVisionLlama", "llm": {"source": "smollm2-135m"}},
}


def spec(options: argparse.Namespace) -> dict[str, object]:
    """A study of nnU-Net itself and the networks that were asked for."""
    epochs = max(1, options.iterations // options.per_epoch)
    itself = {"label": "nnUNetv2", "name": "nnU-Net itself", "batch_size": options.batch_size}
    budget = {"epochs": epochs, "iterations": options.per_epoch, "validation_iterations": 2}
    return {
        "name": "nnunet",
        "recipe": "strong",
        "models": [itself | budget, *(NETWORKS[network] for network in options.networks)],
        "tasks": [TASK],
        "fractions": [options.fraction],
        "splits": {"scheme": "holdout", "test_fraction": options.test_fraction},
        "data": {"image_size": list(PATCH), "patch_size": [8, 8, 8], "label_groups": GROUPS},
        "training": {
            "steps": epochs * options.per_epoch,
            "batch_size": options.batch_size,
            "checkpoint_epochs": 1,
        },
        "evaluation": {"metrics": ["dice", "nsd"]},
        "resources": {"cpus_per_worker": options.threads, "gpus_per_worker": 0},
        "tracking": {"enabled": False},
        "storage": str(options.folder.resolve()),
    }


def table(study: StoredStudy) -> list[str]:
    """The lines of the table in docs/benchmarks.md."""
    rows = study.rows(paths.CASES)
    nsd = next(name for name in rows.columns if name.startswith("nsd"))
    lines = [
        "| method | label | Dice | NSD | minutes | peak memory, MiB | parameters, M |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for trial, marker in study.plan.finished(study.finished.commits):
        cost = marker.cost
        mine = rows[rows["model"] == trial.model]
        for group in GROUPS:
            of_group = mine[mine["group"] == group]
            lines.append(
                f"| {trial.model} | {group} | {of_group['dice'].mean():.3f} | "
                f"{of_group[nsd].mean():.3f} | {cost.seconds / 60:.1f} | "
                f"{cost.peak_memory_bytes / 2**20:.0f} | {cost.parameters / 1e6:.1f} |"
            )
    return lines


def main() -> int:
    """Command line; see `--help`."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.nnunet")
    add = parser.add_argument
    add("--iterations", type=whole, default=1000, help="of each method")
    add("--per-epoch", type=whole, default=50, help="iterations of an epoch of nnU-Net")
    add("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS), help="of ours")
    add("--fraction", type=amount, default=1.0, help="of the training cases")
    add("--test-fraction", type=amount, default=0.2, help="of all cases")
    add("--batch-size", type=whole, default=2, help="patches of a step, of all")
    add("--threads", type=whole, default=1)
    add("--folder", type=new_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    file = options.folder / "nnunet.yaml"
    file.write_text(yaml.safe_dump(spec(options), sort_keys=False))
    code = run([str(file), "--in-process", "--quiet"])
    if code in (0, 1):  # not stopped, nor refused, as without nnunetv2 or data
        study = StoredStudy.opened(Store(str(options.folder.resolve() / "nnunet")))
        print("\n".join([*table(study), json.dumps({"exit code": code})]))
    return code


if __name__ == "__main__":
    sys.exit(main())
