"""Files that are written whole have the rights that the user's umask gives."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from medvision.cache import atomic_path
from record.atomic import is_half_written, write_local


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_groups_umask_lets_the_group_read(umask: int, tmp_path: Path) -> None:
    write_local(tmp_path / "new" / "file.json", b"{}")
    with atomic_path(tmp_path / "mask.nii.gz") as temporary:
        temporary.write_bytes(b"mask")
    for path in (tmp_path / "new" / "file.json", tmp_path / "mask.nii.gz"):
        assert rights(path) == 0o666 & ~umask
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.nii.gz", "new"]


def test_half_written_files_are_told_from_peoples_own(tmp_path: Path) -> None:
    seen: list[str] = []
    write_local(tmp_path / "plan.json", b"{}", lambda source, target: seen.append(source))
    assert is_half_written(Path(seen[0]).name)
    for name in (".gitignore", ".gitattributes", "plan.json", ".lock.json", ".nojekyll"):
        assert not is_half_written(name)


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    def full(source: str, target: Path) -> None:
        del source, target
        raise OSError("no space left on device")

    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="no space left"):
        write_local(tmp_path / "file", b"new", full)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"
