"""Wrong arguments of any command end in one clear line and exit code 2 (or 1), never in a traceback
or in an hour of work.

Every script with a command line is found by itself, benchmarks and tools, too; what is wrong with
each of its arguments follows from its own parser.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from medvision.data.__main__ import main as check_data

ROOT = Path(__file__).parents[1]
ROOMS = ("benchmarks", "medvision", "orchestrator", "record", "reports", "tools")
ABSENT = "/no/such/place"
BROKEN = "/dev/null/broken"  # no file or folder can be made here, whoever asks
WORDS = ("no-such-thing", ABSENT, BROKEN, "")
NUMBERS = ("-1", "1.5.1", "nan", "many", "9" * 400)


def scripts() -> Iterator[str]:
    """Modules that do something when they are run."""
    yield "main"
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if path.name == "__main__.py" or '__name__ == "__main__"' in text:
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


SCRIPTS = list(scripts())


class Parsed(BaseException):
    """The parser that a command asked."""


def parser_of(module: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """A script's parser, without what would follow."""

    def caught(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> NoReturn:
        raise Parsed(self)

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", caught)
        patch.setattr(sys, "argv", [module])
        with pytest.raises(Parsed) as found:
            importlib.import_module(module).main()
    return found.value.args[0]


def wrong_arguments(parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """Command lines with one wrong value each, or an unknown option; other files that a command
    needs are absent."""
    yield ["--no-such-option"]
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    valued = [action for action in shown if action.nargs != 0]
    if any(isinstance(action, argparse._SubParsersAction) for action in valued):
        yield ["no-such-command"]
        return
    options = [action for action in valued if action.option_strings]
    positional = [action for action in valued if not action.option_strings]
    for action in valued:
        others = [one for one in options if one.required and one is not action]
        line = [part for one in others for part in (one.option_strings[-1], ABSENT)]
        wrong = NUMBERS if action.type or isinstance(action.default, int | float) else WORDS
        for value in wrong:
            if value == action.default:  # empty is as if it were not given
                continue
            given = [value] * (action.nargs if isinstance(action.nargs, int) else 1)
            if action.option_strings:
                needed = [ABSENT for one in positional if one.nargs is None]
                yield [*line, *needed, action.option_strings[-1], *given]
            else:
                yield [*line, *(value if one is action else ABSENT for one in positional)]


def refused(
    module: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """What a command says of its wrong arguments."""
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    capsys.readouterr()
    try:
        code = importlib.import_module(module).main()
    except SystemExit as end:
        code = end.code
    except Exception as error:
        raise AssertionError(f"{module} {arguments}: a traceback: {error!r}") from error
    out = capsys.readouterr()
    said = [line for line in out.err.splitlines() if "error: " in line]
    assert code in (1, 2), f"{module} {arguments}: exit code {code}: {out}"
    assert said, f"{module} {arguments}: no line says what is wrong: {out}"
    assert "Traceback" not in out.err + out.out
    return said[-1]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))
    for name in ("MEDVISION_DATA", "RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("module", SCRIPTS)
def test_every_wrong_argument_is_refused_in_one_line(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if module == "orchestrator.cli":  # hands all arguments on
        assert "no command 'none'" in refused(module, ["none"], monkeypatch, capsys)
        return
    parser = parser_of(module, monkeypatch)
    for arguments in wrong_arguments(parser):
        line = refused(module, arguments, monkeypatch, capsys)
        assert len(line) < 900, line
        for internal in ("invalid whole value", "invalid _", "invalid size value", "Error:"):
            assert internal not in line, line


def test_the_scripts_are_found() -> None:
    assert {"main", "benchmarks.gpu", "tools.report_screenshots", "reports.build"} < set(SCRIPTS)
    assert {"medvision.data.__main__", "medvision.predict", "orchestrator.run"} < set(SCRIPTS)


@pytest.mark.parametrize("module", SCRIPTS)
def test_help_comes_out_on_a_terminal_that_knows_ascii_only(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with contextlib.suppress(SystemExit):
        assert importlib.import_module(module).main() in (0, None)
    sys.stdout.flush()
    assert b"usage: " in content.getvalue()


def test_a_cache_that_cannot_be_written_stops_no_check(
    spheres: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDVISION_CACHE", BROKEN)
    assert check_data(["check", str(spheres / "Task99_Spheres")]) == 0
    assert "15 cases, 0 unusable" in capsys.readouterr().out


def test_what_must_be_kept_and_cannot_be_is_told(
    tiny_spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An embedded task and a block, without a place for them; a study without a folder."""
    monkeypatch.setenv("MEDVISION_CACHE", BROKEN)
    line = refused("orchestrator.run", [str(tiny_spec), "--in-process"], monkeypatch, capsys)
    assert "the block cannot be kept in" in line
    embedded = ["--set", "data.root=embedded", "--set", "models=[ViT_Baseline, ViT_MLP]"]
    line = refused(
        "orchestrator.run", [str(tiny_spec), "--in-process", *embedded], monkeypatch, capsys
    )
    assert "MEDVISION_CACHE" in line
    nowhere = ["--set", f"storage={BROKEN}"]
    line = refused("orchestrator.run", [str(tiny_spec), *nowhere], monkeypatch, capsys)
    assert BROKEN in line
