"""Fetching from a real server on this machine: cut connections, no ranges, wrong files, refusals,
unsafe archives.
"""

from __future__ import annotations

import hashlib
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from medvision.data import fetch as fetching
from medvision.data.__main__ import main
from medvision.data.fetch import ATTEMPTS, BadArchiveError, FetchError, fetch_task
from tests.medvision.data.archives import GOOD, NOISE, TASK, Server, archive, damaged, link


@pytest.fixture
def fetch(server: Server, tmp_path: Path) -> Callable[..., Path]:
    def call(content: bytes = GOOD, **options: object) -> Path:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        given = {"md5": md5, "url": server.url, "wait": lambda seconds: None} | options
        return fetch_task(TASK, tmp_path / "root", **given)  # type: ignore[arg-type]

    return call


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "root").iterdir())


def test_an_archive_becomes_a_task_without_apple_files_and_leaves_nothing_else(
    fetch: Callable[..., Path], server: Server, tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    folder = fetch(progress=lambda done, total: seen.append((done, total)))
    files = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    assert files == ["dataset.json", "imagesTr/a.nii.gz"]
    assert (folder / "imagesTr" / "a.nii.gz").read_bytes() == NOISE
    assert seen[-1] == (len(GOOD), len(GOOD))
    assert left(tmp_path) == [TASK]
    assert fetch() == folder
    assert len(server.asked) == 1  # the second time it was there


def test_a_download_that_is_cut_off_goes_on_where_it_was(
    fetch: Callable[..., Path], server: Server
) -> None:
    server.cut = 100_000
    folder = fetch()
    assert (folder / "imagesTr" / "a.nii.gz").read_bytes() == NOISE
    assert server.asked == [
        None,
        *(f"bytes={start}-" for start in range(100_000, len(GOOD), 100_000)),
    ]


def test_a_download_goes_on_in_another_run_and_a_whole_one_is_not_repeated(
    fetch: Callable[..., Path], server: Server, tmp_path: Path
) -> None:
    part = tmp_path / "root" / f".{TASK}.tar.part"
    part.parent.mkdir()
    part.write_bytes(GOOD[:1000])
    assert fetch().is_dir()
    assert server.asked == ["bytes=1000-"]
    (tmp_path / "root" / TASK).rename(tmp_path / "away")
    part.write_bytes(GOOD)
    assert fetch().is_dir()
    assert server.asked[1:] == [f"bytes={len(GOOD)}-"]


def test_more_than_the_whole_archive_is_fetched_anew(
    fetch: Callable[..., Path], server: Server, tmp_path: Path
) -> None:
    part = tmp_path / "root" / f".{TASK}.tar.part"
    part.parent.mkdir()
    part.write_bytes(GOOD + b"more")
    assert fetch().is_dir()
    assert server.asked == [f"bytes={len(GOOD) + 4}-", None]


def test_a_server_without_ranges_is_read_from_the_start_again(
    fetch: Callable[..., Path], server: Server, tmp_path: Path
) -> None:
    part = tmp_path / "root" / f".{TASK}.tar.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    server.ranges = False
    assert fetch().is_dir()
    assert server.asked == ["bytes=1000-"]


def test_passing_trouble_is_met_with_growing_waits(
    fetch: Callable[..., Path], server: Server
) -> None:
    server.refusals = [503, 429, 500]
    waits: list[float] = []
    notes: list[str] = []
    assert fetch(wait=waits.append, note=notes.append).is_dir()
    assert waits == [1.0, 2.0, 4.0]
    assert "503 Service Unavailable; trying again in 1 s" in notes[0]


def test_vain_attempts_come_to_an_end_and_keep_what_is_there(
    fetch: Callable[..., Path], server: Server, tmp_path: Path
) -> None:
    server.cut, server.ranges = 1000, False  # brings the same 1,000 bytes every time
    waits: list[float] = []
    with pytest.raises(
        FetchError, match="ended early, 6 times in a row; run the same command again"
    ):
        fetch(wait=waits.append)
    assert len(waits) == ATTEMPTS - 1
    assert left(tmp_path) == [f".{TASK}.tar.part"]
    with pytest.raises(FetchError, match="Connection refused"):
        fetch(url="http://127.0.0.1:1/x.tar")


def test_a_refusal_is_final(fetch: Callable[..., Path], server: Server) -> None:
    server.refusals = [404]
    with pytest.raises(FetchError, match="the server answers 404 Not Found"):
        fetch()
    assert len(server.asked) == 1


def test_a_wrong_file_is_named_with_both_sums_and_removed(
    fetch: Callable[..., Path], server: Server, tmp_path: Path
) -> None:
    server.content = b"something else"
    sums = [
        hashlib.md5(content, usedforsecurity=False).hexdigest()
        for content in (b"something else", GOOD)
    ]
    with pytest.raises(
        BadArchiveError, match=f"md5 is {sums[0]}, it must be {sums[1]}: the file was removed"
    ):
        fetch()
    assert left(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x.tar", "/etc/passwd"])
def test_only_http_is_fetched_even_behind_a_redirect(
    fetch: Callable[..., Path], server: Server, url: str
) -> None:
    with pytest.raises(FetchError, match="only http and https"):
        fetch(url=url)
    if url.startswith(("file", "ftp")):
        server.redirect = url
        with pytest.raises(FetchError, match=r"Found|unknown url type"):
            fetch()
        assert len(server.asked) == 1  # asking again would not help


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive((f"{TASK}/dataset.json", b"{}"), ("../escape", b"x")), "OutsideDestinationError"),
        (
            archive((f"{TASK}/dataset.json", b"{}"), (f"{TASK}/../../../escape", b"x")),
            "OutsideDestinationError",
        ),
        (
            archive((f"{TASK}/dataset.json", b"{}"), link(f"{TASK}/out", "/etc")),
            "neither a file nor a folder",
        ),
        (
            archive(link(f"{TASK}/dataset.json", "/etc/passwd", tarfile.LNKTYPE)),
            "neither a file nor a folder",
        ),
        (archive(link(f"{TASK}/pipe", "", tarfile.FIFOTYPE)), "neither a file nor a folder"),
        (archive(("readme", b"x")), "holds no task"),
        (b"no tar at all", "cannot be unpacked: ReadError"),
        (GOOD[:5000], "cannot be unpacked: ReadError"),
        (
            damaged(random.Random(0).randbytes(300_000)),
            "cannot be unpacked: BadGzipFile: CRC check failed",
        ),
        (damaged(b"".join(b"%d" % number for number in range(200_000))), "cannot be unpacked: "),
    ],
)
def test_an_unsafe_or_broken_archive_leaves_nothing(
    fetch: Callable[..., Path], server: Server, tmp_path: Path, content: bytes, message: str
) -> None:
    server.content = content
    with pytest.raises(BadArchiveError, match=message):
        fetch(content)
    assert left(tmp_path) == []
    assert not list(tmp_path.rglob("escape"))


def test_absolute_paths_stay_inside(
    fetch: Callable[..., Path], server: Server, tmp_path: Path
) -> None:
    server.content = archive((f"{TASK}/dataset.json", b"{}"), (f"{tmp_path}/escape", b"x"))
    fetch(server.content)
    assert not (tmp_path / "escape").exists()


def test_free_space_is_asked_for_first(
    fetch: Callable[..., Path], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fetching.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1.5 * len(GOOD))
    )
    with pytest.raises(FetchError, match="are needed for the archive and its content"):
        fetch(expected_bytes=len(GOOD))
    assert server.asked == []
    with pytest.raises(FetchError, match="are needed"):
        fetch()  # the server tells the size
    assert left(tmp_path) == []


def test_several_tasks_need_the_space_of_all_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: SimpleNamespace(free=60e9))
    monkeypatch.setattr(
        "medvision.data.__main__._fetch_one", lambda *args: pytest.fail("asked for a task")
    )
    assert main(["fetch", "--all", "--root", str(tmp_path)]) == 1
    assert "97.48 GB are needed" in capsys.readouterr().err


def test_a_local_archive_is_used_and_kept(
    fetch: Callable[..., Path], server: Server, tmp_path: Path
) -> None:
    local = tmp_path / "mine.tar"
    local.write_bytes(b"wrong")
    with pytest.raises(BadArchiveError, match="give another file"):
        fetch(file=local)
    assert local.exists()
    local.write_bytes(archive(("dataset.json", b"{}")))  # a task without a folder of its own
    assert (fetch(local.read_bytes(), file=local) / "dataset.json").is_file()
    assert local.exists()
    assert server.asked == []


def test_something_else_in_its_place_is_left_alone(
    fetch: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "root" / TASK).mkdir(parents=True)
    with pytest.raises(FetchError, match="move it away first"):
        fetch()
