"""`python -m medvision.data fetch`: what it prints, and its exit codes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from medvision.data.__main__ import main
from tests.medvision.data.archives import GOOD, TASK, Server


def test_the_command_line(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, md5 = str(tmp_path), hashlib.md5(GOOD, usedforsecurity=False).hexdigest()
    assert (
        main(["fetch", TASK, "--root", root, "--url", server.url]) == 1
    )  # MSD's own md5 is another
    assert "it must be 9d24dba78a72977dbd1d2e110310f31b" in capsys.readouterr().err
    assert (
        main(
            [
                "fetch",
                TASK,
                "--root",
                root,
                "--url",
                server.url.replace(TASK, "{task}"),
                "--md5",
                md5,
            ]
        )
        == 0
    )
    assert f"{TASK}: {tmp_path / TASK}" in capsys.readouterr().out
    assert main(["fetch", TASK, "--root", root]) == 0
    assert "already there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a task, or give --all"),
        (["Task99_Mine"], "no archive is known of Task99_Mine"),
        (["../up", "--file", "x.tar"], "not '../up'"),
        (["--all", "--file", "x.tar"], "are for one task"),
        ([TASK], "give --root"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MEDVISION_DATA", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["fetch", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
