"""An object store that fails now and then: what was written is there, and a study comes to the
table of an undisturbed one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.run import main
from record import lock, paths
from record.lock import study_lock
from record.schema import Claim
from record.store import Store
from tests.record.builders import commit
from tests.record.faulty_proxy import KINDS, FaultyProxy
from tests.record.kills import quick_trainings

SHARE = 0.1
EVERY = os.environ.get("MEDVISION_KILLS") == "all"  # make kills
CHOSEN = ("503", "dropped", "applied but failed")
Faults = Callable[..., FaultyProxy]


@pytest.fixture
def faults(s3: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """From the call on, requests go through a proxy with these kinds of faults."""
    import s3fs

    proxies = []

    def begin(*kinds: str, share: float = SHARE) -> FaultyProxy:
        proxies.append(FaultyProxy(endpoint, kinds, share))
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxies[-1].address)
        s3fs.S3FileSystem.clear_instance_cache()
        return proxies[-1]

    yield begin
    for proxy in proxies:
        proxy.shutdown()
        proxy.server_close()


def test_a_store_says_what_is_there_whatever_fails(
    s3: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.05)
    proxy = faults(*(kind for kind in KINDS if kind != "slow"), share=0.04)
    store = Store(f"{s3}/study")
    for number in range(12):
        store.write(f"files/{number}", str(number).encode())
    assert [store.read(f"files/{number}") for number in range(12)] == [
        str(number).encode() for number in range(12)
    ]
    assert store.read("files/none") is None
    store.move("files/0", "moved/0")
    store.move("files/none", "moved/none")
    assert store.names("moved") == ["0"]
    for number in range(1, 10):
        store.remove(f"files/{number}")
    assert store.below("files") == sorted(f"files/{number}" for number in range(10, 12))
    for _ in range(2):
        with study_lock(store) as token:
            assert token
        assert store.read(paths.LOCK) is None
    store.save(paths.claim("t"), Claim(token="token"))
    for _ in range(2):
        store.commit(commit(files={"cases": "files/10"}))
    assert store.committed() == {"e"}
    assert sum(proxy.faults.values()) > 3


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS if EVERY else CHOSEN)
def test_a_study_on_a_store_that_fails_gives_the_table_of_another(
    s3: str, faults: Faults, tiny_spec: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.05)
    settings = ["--set", "tracking.enabled=false", "--set", "folds=2"]
    models = "[{label: ViT_Baseline, embed_dim: 16, depth: 1, heads: 2}, "
    models += "{label: ViT_Depth, embed_dim: 16, depth: 1, heads: 2}]"
    command = [str(tiny_spec), "--in-process", *settings, "--set", f"models={models}"]
    with quick_trainings():
        assert main(command) == 0
        proxy = faults(kind)
        remote = [*command, "--set", f"storage={s3}"]
        codes = [main(remote)]
        while codes[-1] and len(codes) < 4:  # told, and the same command goes on
            codes.append(main(remote))
    assert codes[-1] == 0, codes
    assert proxy.faults[kind] > 5
    here, there = Store(str(tiny_spec.parent / "runs" / "tiny")), Store(f"{s3}/tiny")
    for name in ("significance.csv", "models.csv"):
        assert there.read(paths.report(name)) == here.read(paths.report(name))
    named = {file for one in there.commits().values() for file in one.files.values()}
    assert set(there.below(paths.TRIALS)) == named
    assert there.read(paths.LOCK) is None
