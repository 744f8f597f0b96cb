"""Every command that README.md and docs/*.md tell to type is one: its module, its flags, its target
exist.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from orchestrator.cli import COMMANDS

ROOMS = ("orchestrator", "medvision", "reports")
INLINE = re.compile(r"(?<!`)`((?:python|make|medvision) [^`\n]+)`")
END = re.compile(r"[|;&<>]+")  # of a command, in a shell


class Parsed(BaseException):
    """The parser took the arguments; what would follow is not the test's business."""


class Refused(Exception):
    """The parser did not take the arguments."""


def commands_in(text: str) -> Iterator[list[str]]:
    """Our commands in a shell block, with lines joined where they end in a backslash, without
    comments and redirections.
    """
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # an output with a lonely quote
            continue
        for is_end, command in itertools.groupby(words, lambda word: bool(END.fullmatch(word))):
            if not is_end:
                yield from ours_in(list(command))


def ours_in(words: Sequence[str]) -> Iterator[list[str]]:
    """The parts of a command that are ours: `python ...`, `make ...`, `medvision ...`, also at the
    end of another one.
    """
    for place, word in enumerate(words):
        before = [other for other in words[:place] if "=" not in other]
        at_start = not before or words[place - 1] == "--"
        if at_start and Path(word).name in ("python", "make", "medvision"):
            yield [Path(word).name, *words[place + 1 :]]


def check(words: Sequence[str]) -> str:
    """What is wrong with one of our commands; empty if nothing is."""
    program, *arguments = words
    try:
        if program == "make":
            return unknown_targets(arguments)
        if program == "medvision":
            if arguments[0] not in (*COMMANDS, "completion"):
                return f"no command {arguments[0]!r}"
            return (
                ""
                if arguments[0] == "completion"
                else parse(COMMANDS[arguments[0]][0], arguments[1:])
            )
        if arguments[0] == "-m":
            module, *rest = arguments[1:]
            return parse(module, rest)
        return parse("main", arguments[1:]) if arguments[0] == "main.py" else missing(arguments[0])
    except Refused as refusal:
        return str(refusal)


def missing(script: str) -> str:
    known = (
        Path(__file__).parents[2] / script
    ).is_file() or script == "make_task.py"  # written by docs/adding.md
    return "" if known else f"no script {script}"


def unknown_targets(arguments: Sequence[str]) -> str:
    targets = re.findall(
        r"^([a-z-]+):", (Path(__file__).parents[2] / "Makefile").read_text(), flags=re.M
    )
    unknown = [word for word in arguments if "=" not in word and word not in targets]
    return f"no target {', '.join(unknown)} in the Makefile" if unknown else ""


def parse(module: str, arguments: Sequence[str]) -> str:
    """Let a module's own parser take the arguments; of other people's modules, whether they are
    there.
    """
    name = f"{module}.__main__" if module in ("medvision.data", "medvision.models") else module
    name = "orchestrator.official" if name == "main" else name
    if importlib.util.find_spec(name) is None:
        return f"no module {module}"
    if module.split(".")[0] not in ROOMS and module != "main":
        return ""
    imported = importlib.import_module(name)
    if not hasattr(imported, "main"):
        return "" if not arguments else f"{module} takes no arguments"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        patch.setattr(argparse.ArgumentParser, "error", refuse)
        patch.setattr("sys.argv", [module, *arguments])
        try:
            imported.main(
                list(arguments)
            ) if imported.main.__code__.co_argcount else imported.main()
        except Parsed:
            return ""
    return f"{module} did not parse its arguments"


def parse_only(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> NoReturn:
    _, unknown = self.parse_known_args(args, namespace)
    if unknown:
        raise Refused(f"{self.prog} does not know {' '.join(unknown)}")
    raise Parsed


def refuse(self: argparse.ArgumentParser, message: str) -> NoReturn:
    raise Refused(f"{self.prog}: {message}")


def test_every_command_in_a_block_is_accepted(guides: list[Any]) -> None:
    found = [
        (block, words)
        for guide in guides
        for block in guide.blocks
        if block.info in ("", "sh", "bash", "console")
        for words in commands_in(block.text)
    ]
    assert len(found) >= 30
    told = [(block, words, check(words)) for block, words in found]
    assert [
        f"{block.where}: {' '.join(words)}: {problem}" for block, words, problem in told if problem
    ] == []


def test_every_command_within_a_line_is_accepted(documents: list[Any]) -> None:
    """There, required arguments may be left out."""
    found = [
        (document.name, words)
        for document in documents
        for inline in INLINE.findall(document.prose)
        for words in commands_in(
            re.sub(r"\s\|\s.*|\.\.\.", "", inline)
        )  # `fetch | check`, `COMMAND ...`
        if words != ["medvision", "COMMAND"]
    ]
    assert len(found) >= 15
    told = [(name, words, check(words)) for name, words in found]
    problems = [
        f"{name}: {' '.join(words)}: {text}"
        for name, words, text in told
        if text and "are required" not in text
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("python -m orchestrator.run SPEC --dry-runs", "does not know --dry-runs"),
        ("python -m orchestrator.status", "are required"),
        ("python -m orchestrator.nothing", "no module"),
        ("python -m medvision.data fetsh", "invalid choice"),
        ("python main.py --data_dir d --batchsize 4", "does not know --batchsize"),
        ("A=1 python -m reports.build runs/NAME --pdf | less", "does not know --pdf"),
        (
            "ray job submit --address A -- python -m orchestrator.run S --sets a=1",
            "does not know --sets",
        ),
        ("make quickstrat", "no target quickstrat"),
        ("medvision rum quickstart", "no command 'rum'"),
        ("medvision report", "are required"),
    ],
)
def test_a_wrong_command_is_found(command: str, problem: str) -> None:
    (words,) = commands_in(command)
    assert problem in check(words)
