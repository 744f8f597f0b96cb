"""Commands on terminals that know ASCII only, and storages whose names mean something to fsspec."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cli import COMMANDS
from record import paths
from record.store import Store, StoreError
from record.terminal import plain, plain_output
from reports import build

OLD = Path(__file__).parent / "study_of_0_1"


class Terminal(io.TextIOWrapper):
    """A stdout of some encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_the_table_is_printed_on_any_terminal(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(OLD, tmp_path / "quickstart")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal(encoding))
    assert build.main([str(tmp_path / "quickstart")]) == 0
    shown = terminal.text()
    sign = "+-" if encoding == "ascii" else "±"
    assert f"0.674 {sign} 0." in shown or f" {sign} " in shown
    assert "?" not in shown.split("\n## ")[0]


@pytest.mark.parametrize("command", [*COMMANDS, "completion", "nonsense"])
def test_every_command_may_say_what_the_terminal_does_not_know(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each prepares the streams before it says anything: here an argument that it refuses."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal("ascii"))
    module = COMMANDS[command][0] if command in COMMANDS else "orchestrator.cli"
    arguments = ["--±µ"] if command in COMMANDS else [command, "±"]
    with contextlib.suppress(SystemExit):  # argparse's way of refusing
        importlib.import_module(module).main(arguments)
    assert "Traceback" not in terminal.text()
    assert terminal.errors != "strict"


@given(st.text())
@settings(deadline=None)
def test_any_text_has_a_plain_form_that_keeps_its_ascii(text: str) -> None:
    found = plain(text)
    assert found.isascii()
    if text.isascii():
        assert found == text


def test_streams_without_an_encoding_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", object())
    plain_output()
    print("±")
    assert sys.stdout.getvalue() == "±\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["a::b", "a::b/c::d", "zip::x", "a b", "ä", "[x]*?"])
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder_is_the_folder_whatever_its_name_means_to_fsspec(
    tmp_path: Path, name: str, scheme: str
) -> None:
    store = Store(f"{scheme}{tmp_path}/{name}/study")
    assert store.local
    store.write(paths.PLAN, b"{}")
    store.write(paths.commit("e"), b"{}")
    assert (tmp_path / name / "study" / "plan.json").read_bytes() == b"{}"
    assert store.committed() == {"e"}
    assert [path.name for path in tmp_path.iterdir()] == [name.split("/")[0]]
    store.remove(paths.COMMITS)
    assert store.committed() == set()
    assert sorted(store.filesystem.find(store.root)) == [f"{tmp_path}/{name}/study/plan.json"]


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("s3://bucket/a::b", "holds ::, which fsspec takes for a chain of file systems"),
        ("simplecache::s3://bucket/x", "holds ::"),
        ("hdfs://name/x", "hdfs:// needs Java and Hadoop on every machine (JAVA_HOME"),
        ("nosuch://x", "Protocol not known"),
        ("s3://user:secret@bucket/a::b", "storage s3://***@bucket/a::b"),
    ],
)
def test_a_storage_that_cannot_be_used_says_why_in_one_line(
    uri: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    def without_java(*_: object, **__: object) -> None:
        raise OSError("Unable to load libjvm\n dlopen(/usr/lib/jvm/libjvm.so) failed\n" * 50)

    if uri.startswith("hdfs"):  # whatever this machine has
        monkeypatch.setattr(fsspec.core, "url_to_fs", without_java)
    with pytest.raises(StoreError) as error:
        Store(uri)
    line = str(error.value)
    assert told in line
    assert line.startswith("storage ")
    assert "\n" not in line
    assert len(line) < 500
    assert "secret" not in line


def test_a_reader_that_goes_away_ends_nothing(tmp_path: Path) -> None:
    """As `| head -1` does: what follows is written to nobody, and the command goes on to its
    end.
    """
    program = (
        "import sys\n"
        "from record.command import begin_command\n"
        "begin_command()\n"
        "print('first', flush=True)\n"
        "sys.stdin.readline()\n"  # until the reader is gone
        "for number in range(10_000):\n"
        "    print('more', number)\n"
        "    print('more', number, file=sys.stderr)\n"
        "open('done', 'w').write('to the end')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    assert process.stdin
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    process.stdin.close()
    assert process.wait(60) == 0
    assert (tmp_path / "done").read_text() == "to the end"


@pytest.mark.parametrize("command", [*COMMANDS, "completion"])
def test_every_command_begins_so(command: str) -> None:
    """A command whose reader is gone before it starts shows no traceback and ends as ever."""
    module = COMMANDS[command][0] if command in COMMANDS else "orchestrator.cli"
    text = Path(str(importlib.util.find_spec(module).origin)).read_text()  # type: ignore[union-attr]
    assert re.search(r"def main\(.*?\n    begin_command\(\)\n", text, flags=re.S)
