"""cluster.yaml on AWS, as far as moto plays it: from `ray up` to the started machines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.orchestrator.test_cluster_files import ROOT, checked, read

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
