"""Settings of the data from the spec to the scores: protocol, channels, label groups of each task,
patients.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medvision.data.splits import Roles
from orchestrator.planning.identity import digest, train_identity
from orchestrator.planning.inputs import InputError, gathered, resolved
from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import SpecError, load_spec
from record.tables import read_results

TASK, TWO = "Task99_Spheres", "Task98_TwoChannels"
LABELS = {"0": "background", "1": "shell", "2": "core"}
LOCAL = ["--in-process", "--set", "tracking.enabled=false", "--set", "training.epochs=1"]


@pytest.fixture
def data(spheres: Path, tmp_path: Path) -> Path:
    """The spheres with their labels declared, and the same with two channels (the second inverted)
    and half the labels.
    """
    root = tmp_path / "data"
    for name in (TASK, TWO):
        shutil.copytree(spheres / TASK, root / name)
        declare(
            root / name, labels=LABELS if name == TASK else {"1": "sphere"}, modality={"0": "MRI"}
        )
    for path in (root / TWO / "imagesTr").iterdir():
        volume = nibabel.load(path)
        array = np.asarray(volume.dataobj)
        nibabel.save(nibabel.Nifti1Image(np.stack([array, -array], -1), volume.affine), path)
    for path in (root / TWO / "labelsTr").iterdir():
        volume = nibabel.load(path)
        nibabel.save(
            nibabel.Nifti1Image((np.asarray(volume.dataobj) > 0).astype(np.uint8), volume.affine),
            path,
        )
    return root


def declare(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(content | changes))


def options(data: Path, *more: str) -> list[str]:
    vit = "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]"
    return [f"data.root={data}", vit, "splits.scheme=holdout", *more]


def test_tasks_with_their_own_channels_and_groups_train_together_on_the_corrected_protocol(
    tiny_spec: Path, data: Path
) -> None:
    chosen = options(
        data,
        f"tasks=[{TASK}, {{name: {TWO}, channel: all}}]",
        "data.protocol=corrected",
        "data.label_groups=each",
        "data.crop=true",
        "training.augmentation.elastic=0.2",
    )
    command = [str(tiny_spec), *LOCAL, *(flag for value in chosen for flag in ("--set", value))]
    assert main(command) == 0
    store = open_store(load_spec(tiny_spec, chosen))
    rows = read_results(store, "cases")
    assert rows.groupby("task")["group"].unique().map(sorted).to_dict() == {
        TASK: ["core", "shell"],
        TWO: ["sphere"],
    }
    written = store.read_json("study.json")["spec"]["tasks"]
    assert written[0]["label_groups"] == {"shell": [1], "core": [2]}
    assert [task["modality"] for task in written] == [["MRI"], ["MRI"]]
    assert all(marker.cost.epochs == 1 for marker in store.commits().values())
    assert main(command) == 0  # the second time, everything is done
    assert len(store.commits()) == 2


def test_each_stands_under_a_task_too_and_gives_the_same_ids(tiny_spec: Path, data: Path) -> None:
    named = f"tasks=[{{name: {TASK}, label_groups: {{shell: [1], core: [2]}}}}, {TWO}]"
    one = load_spec(
        tiny_spec, options(data, f"tasks=[{{name: {TASK}, label_groups: each}}, {TWO}]")
    )
    assert one.groups(one.tasks[0]) == {}  # until the task was read
    read = resolved(one)
    assert read.groups(read.tasks[0]) == {"shell": [1], "core": [2]}
    assert read.groups(read.tasks[1]) == {"foreground": "all"}
    assert identity(read) == identity(load_spec(tiny_spec, options(data, named)))
    declare(data / TASK, labels={"0": "background"})
    with pytest.raises(InputError, match=r"tasks.label_groups: each: .*declares no labels"):
        resolved(one)


def test_what_dataset_json_decides_is_part_of_the_ids(tiny_spec: Path, data: Path) -> None:
    spec = load_spec(tiny_spec, options(data, "data.protocol=corrected", "data.label_groups=each"))
    before = identity(resolved(spec))
    declare(data / TASK, modality={"0": "CT"})
    ct = identity(resolved(spec))
    assert ct != before
    declare(data / TASK, labels={"1": "shell"})
    assert identity(resolved(spec)) not in (ct, before)
    paper = load_spec(tiny_spec, options(data))
    assert resolved(paper) == paper


def identity(spec: Spec) -> str:
    roles = Roles(("a",), ("b",), ("c",))
    return digest(
        train_identity(
            spec, spec.models[0], spec.tasks[0], 0, 0, roles, dict.fromkeys("abc", "f"), None
        )
    )


NEUTRAL = [
    "data.ct_window=[-1000, 1000]",
    "data.spacing=null",
    "data.crop=false",
    "training.augmentation.flip=[0, 0, 0]",
    "training.augmentation={elastic: 0, gamma: 0, noise: 0}",
    f"tasks=[{{name: {TASK}, channel: 0, label_groups: null, modality: null, ct_window: null}}]",
    "splits.group_pattern='(.+)'",
]
OTHER = [
    "data.protocol=corrected",
    "training.augmentation.flip=[0.5, 0, 0]",
    "training.augmentation.elastic=0.1",
    "training.augmentation.gamma=0.1",
    "training.augmentation.noise=0.1",
    f"tasks=[{{name: {TASK}, channel: all}}]",
    f"tasks=[{{name: {TASK}, label_groups: {{core: [2]}}}}]",
]


@pytest.mark.parametrize("setting", NEUTRAL)
def test_new_settings_at_their_defaults_leave_the_ids_alone(tiny_spec: Path, setting: str) -> None:
    assert identity(load_spec(tiny_spec, [setting])) == identity(load_spec(tiny_spec))


@pytest.mark.parametrize("setting", OTHER)
def test_a_setting_that_changes_numbers_changes_the_id(tiny_spec: Path, setting: str) -> None:
    assert identity(load_spec(tiny_spec, [setting])) != identity(load_spec(tiny_spec))


@pytest.mark.parametrize(
    "setting", ["data.ct_window=[-100, 300]", "data.spacing=[1, 1, 2]", "data.crop=true"]
)
def test_settings_of_the_corrected_protocol_need_it(tiny_spec: Path, setting: str) -> None:
    with pytest.raises(SpecError, match="no part of protocol `paper`"):
        load_spec(tiny_spec, [setting])
    changed = load_spec(tiny_spec, ["data.protocol=corrected", setting])
    assert identity(changed) != identity(load_spec(tiny_spec, ["data.protocol=corrected"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.label_groups=each"], "declares no labels; name them"),
        (["data.protocol=corrected"], r"say `modality: \[CT\]` or `\[MRI\]`"),
    ],
)
def test_a_task_that_declares_nothing_must_be_told(
    tiny_spec: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        resolved(load_spec(tiny_spec, settings))


def test_patients_of_a_file_stay_together(tiny_spec: Path, data: Path, tmp_path: Path) -> None:
    lines = [f"case_{index:02d},p{index // 3}" for index in range(15)]
    (data / TASK / "patients.csv").write_text("\n".join(["case,patient", *lines]))
    spec = load_spec(
        tiny_spec, options(data, "splits.group_file=patients.csv", "splits.scheme=kfold")
    )
    for fold in gathered(spec).tasks[TASK].folds:
        assert len(fold.test) == 3 * len({int(case[5:]) // 3 for case in fold.test})
        assert all(len(unit) == 3 for unit in fold.order)
    with pytest.raises(InputError, match="cannot be read as a table"):
        gathered(load_spec(tiny_spec, options(data, f"splits.group_file={tmp_path}/absent.csv")))
    with pytest.raises(SpecError, match="give group_file or group_pattern, not both"):
        load_spec(tiny_spec, ["splits.group_file=a.csv", "splits.group_pattern='(.)'"])
