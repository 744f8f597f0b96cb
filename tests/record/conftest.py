"""A finished study to be damaged, and a bucket."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.run import main
from tests.record.small_study import small_spec

BUCKET = "studies"
LOCAL = ["--in-process", "--set", "tracking.enabled=false"]


@pytest.fixture(scope="module")
def whole(
    spheres: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory, assets_cache: str
) -> Iterator[tuple[Path, list[str]]]:
    """A finished study, and the command that ran it."""
    folder = tmp_path_factory.mktemp("whole")
    spec = small_spec(folder, "whole", spheres)
    command = [str(spec), *LOCAL, "--set", f"storage={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVISION_CACHE", str(folder / "cache"))
        assert main(command) == 0
        yield folder / "whole", command


@pytest.fixture
def copied(whole: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of that study, to be damaged, and the command that runs it there."""
    original, command = whole
    shutil.copytree(original, tmp_path / "whole")
    return tmp_path / "whole", [*command, "--set", f"storage={tmp_path}"]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket, and the surroundings that lead to it: what docs/cluster.md says to set."""
    import boto3
    import s3fs

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield f"s3://{BUCKET}/lab"
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page.get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)
    s3fs.S3FileSystem.clear_instance_cache()
