"""Studies on S3: moto's server on loopback is the endpoint, the requests are real."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from orchestrator.status import main as status
from record.lock import StudyLockedError, study_lock
from record.schema import Claim
from record.store import FencedError, Store, StoreError
from record.stored import Stored
from record.study import StoredStudy
from record.tables import read_results
from reports.build import build_report
from tests.record.builders import commit
from tests.waiting import PATIENCE_SECONDS

BUCKET = "studies"


def test_files_are_written_read_listed_and_removed(s3: str) -> None:
    store, other = Store(f"{s3}/study"), Store(f"{s3}/study/")
    assert store.read("a/b.json") is None
    assert store.names("a") == []
    store.remove("a")
    store.write_json("a/b.json", {"x": 1})
    store.write("a/c/d.bin", bytes(1000))
    assert other.read_json("a/b.json") == {"x": 1}
    assert other.names("a") == ["b.json", "c"]
    store.write_json("a/b.json", {"x": 2})  # over the old one, and seen by whoever listed it before
    assert other.read_json("a/b.json") == {"x": 2}
    assert other.load_folder("a", Stored)["b"].to_json() == {"x": 2}
    store.remove("a")
    assert other.names("a") == []
    assert other.read("a/c/d.bin") is None


def test_what_another_process_writes_and_removes_is_seen_at_once(s3: str) -> None:
    """Workers write past the driver's memory of listings."""
    import boto3

    store, client = Store(f"{s3}/study"), boto3.client("s3")
    store.write("commits/one.json", b"{}")
    assert store.names("commits") == ["one.json"]
    client.put_object(Bucket=BUCKET, Key="lab/study/commits/two.json", Body=b"{}")
    assert store.names("commits") == ["one.json", "two.json"]
    assert store.read("commits/two.json") == b"{}"
    client.delete_object(Bucket=BUCKET, Key="lab/study/commits/one.json")
    assert store.read("commits/one.json") is None
    assert store.names("commits") == ["two.json"]
    client.delete_object(Bucket=BUCKET, Key="lab/study/commits/two.json")
    store.remove("commits")
    assert store.names("commits") == []
    client.put_object(Bucket=BUCKET, Key="lab/study/failures/late.json", Body=b"{}")
    store.remove("failures")  # written by somebody else since the last listing
    assert store.read("failures/late.json") is None


def test_readers_see_the_old_file_or_the_new_one_whole(s3: str) -> None:
    store, size = Store(f"{s3}/study"), 300_000
    contents = [bytes([letter]) * size for letter in b"ab"]
    store.write("file", contents[0])
    begun, ended, seen = threading.Event(), threading.Event(), set()

    def read() -> None:
        reader = Store(f"{s3}/study")
        while not ended.is_set():
            seen.add(reader.read("file"))
            begun.set()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        assert begun.wait(PATIENCE_SECONDS)
        for turn in range(10):
            store.write("file", contents[turn % 2])
    finally:
        ended.set()
        thread.join()
    assert seen <= set(contents)


def test_a_bucket_that_is_not_there_is_a_clear_error(s3: str) -> None:
    with pytest.raises(StoreError, match="no-such-bucket"):
        Store("s3://no-such-bucket/study").write("file", b"x")


def test_missing_credentials_and_a_silent_endpoint_are_clear_errors(
    s3: str, tiny_spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    assert main([str(tiny_spec), "--in-process", "--set", f"storage={s3}"]) == 2
    assert "credentials" in capsys.readouterr().err
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match=r"plan\.json: cannot be read"):
        Store(f"{s3}/study").read("plan.json")


def test_an_orphan_cannot_commit(s3: str) -> None:
    store = Store(f"{s3}/study")
    store.save("claims/t.json", Claim(token="new"))
    with pytest.raises(FencedError):
        store.commit(commit(token="old"))
    assert store.commits() == {}


def test_one_driver_at_a_time(s3: str) -> None:
    store = Store(f"{s3}/study")
    with study_lock(store), pytest.raises(StudyLockedError), study_lock(Store(f"{s3}/study")):
        pass
    with study_lock(store) as token:
        assert token


@pytest.mark.slow
def test_a_whole_study_on_s3_gives_the_table_of_a_local_one(
    s3: str, tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results, checkpoints, claims and report on the bucket; running it again trains nothing."""
    local = [str(tiny_spec), "--in-process", "--set", "tracking.enabled=false"]
    remote = [*local, "--set", f"storage={s3}"]
    assert main(local) == 0
    assert main(remote) == 0
    assert main(remote) == 0
    assert "Nothing to train" in capsys.readouterr().out
    here, there = (
        open_store(load_spec(tiny_spec)),
        open_store(load_spec(tiny_spec, [f"storage={s3}"])),
    )
    assert there.uri == f"{s3}/tiny"
    assert (read_results(here, "cases")["dice"] == read_results(there, "cases")["dice"]).all()
    name = "report/significance.csv"
    assert there.read(name) == here.read(name)
    there.remove("report")
    report = build_report(StoredStudy.opened(Store(f"{s3}/tiny")))
    assert report.complete
    assert there.read(name) == here.read(name)
    assert there.read("lock.json") is None
    capsys.readouterr()
    assert status([f"{s3}/tiny"]) == 0
    assert "6 finished" in capsys.readouterr().out


def test_an_interrupted_training_goes_on_from_its_checkpoint_on_s3(
    s3: str, tiny_spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [
        "models=[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}]",
        "tracking.enabled=false",
    ]
    words = [
        str(tiny_spec),
        "--in-process",
        *(word for change in few for word in ("--set", change)),
    ]
    assert main(words) == 0
    started, epochs = [], []
    load = Store.read

    def read(store: Store, relative: str) -> bytes | None:
        content = load(store, relative)
        if relative.startswith("checkpoints/"):
            started.append(content)
        return content

    class PowerCut(BaseException):
        pass

    write = Store.write

    def cut(store: Store, relative: str, content: bytes) -> None:
        write(store, relative, content)
        if relative.startswith("checkpoints/"):
            epochs.append(relative)
            if len(epochs) == 2:
                raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", cut)
        with pytest.raises(PowerCut):
            main([*words, "--set", f"storage={s3}"])
    monkeypatch.setattr(Store, "read", read)
    assert main([*words, "--set", f"storage={s3}"]) == 0
    assert (
        sum(content is not None for content in started) == 1
    )  # one trial had a checkpoint, the others began anew
    here = open_store(load_spec(tiny_spec, few))
    there = open_store(load_spec(tiny_spec, [*few, f"storage={s3}"]))
    assert (read_results(here, "cases")["dice"] == read_results(there, "cases")["dice"]).all()
    assert there.names("checkpoints") == []
