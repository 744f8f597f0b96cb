"""docs/adding.md, executed as it is: its files, its changes and its commands, in a copy of the
repository.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SECTIONS = ("A task", "A model in your own file", "A model", "A metric")
COPIED = ("ablations", "medvision", "orchestrator", "record", "reports", "tests", "pyproject.toml")
FILE = re.compile(r"^# ([\w./]+\.(?:py|yaml))\n")
# Writes each section's files and runs its commands, all in one process that imports our packages
# anew for every section: importing torch takes longer than all the rest.
DRIVER = """
import json, pathlib, runpy, shlex, sys
sys.dont_write_bytecode = True
sys.path.insert(0, "")
for section in json.load(sys.stdin):
    print(f"### {section['title']}", flush=True)
    for name, text in section["files"].items():
        path = pathlib.Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ours = ("medvision", "orchestrator", "record", "reports")
    for name in [name for name in sys.modules if name.split(".")[0] in ours]:
        del sys.modules[name]
    for line in section["commands"]:
        python, *words = shlex.split(line, comments=True)
        assert python == "python", line
        start = runpy.run_module if words[0] == "-m" else runpy.run_path
        sys.argv = words[words[0] == "-m":]
        print(f"$ {line}", flush=True)
        try:
            start(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            if end.code:
                sys.exit(f"{line}: exit code {end.code}")
"""


@dataclass
class Section:
    """What a part of the guide says: whole files by their path, commands, and lines that these
    print.
    """

    title: str
    files: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def guide(documents: list[Any], root: Path) -> list[Section]:
    """The sections in their order, with the files as they are after each."""
    document = next(document for document in documents if document.name == "docs/adding.md")
    sections, files = [Section(title) for title in SECTIONS], Files(root)
    lines = document.prose.splitlines()
    for block in document.blocks:
        heading = next(
            line for line in reversed(lines[: block.line]) if line.startswith("#")
        ).lstrip("# ")
        for section in (section for section in sections if section.title == heading):
            take(section, block, files)
    numerics = re.sub(
        r"(?<=^EVAL_NUMERICS = )\d+",
        lambda n: str(int(n[0]) + 1),
        files["medvision/versions.py"],
        flags=re.M,
    )
    assert numerics != files["medvision/versions.py"]
    metric = sections[SECTIONS.index("A metric")]
    metric.files["medvision/versions.py"] = numerics  # the step that the guide tells in words
    metric.commands += [
        "python -m orchestrator.spec.reference",
        "python -m orchestrator.run --schema",
    ]  # make schema
    return sections


class Files(dict[str, str]):
    """Texts of the repository's files by path, as they are after the changes so far."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __missing__(self, name: str) -> str:
        return (self.root / name).read_text()


def take(section: Section, block: Any, files: Files) -> None:
    """Add a block of the guide to what its section does."""
    if named := FILE.match(block.text):
        section.files[named[1]] = block.text.removeprefix(named[0])
    elif block.info == "diff":
        for name in change(files, block.text):
            section.files[name] = files[name]
    elif block.info == "text":
        section.shown += block.text.splitlines()
    else:
        assert block.info == "", (
            f"{block.where}: neither a file nor a change, a command or an output"
        )
        section.commands += block.text.splitlines()


def change(files: Files, diff: str) -> list[str]:
    """Apply a diff by the lines around each change, which must be there exactly once."""
    changed = []
    for part in re.split(r"^--- .*\n", diff, flags=re.M)[1:]:
        head, *hunks = re.split(r"^@@ .* @@\n", part, flags=re.M)
        name = head.strip().removeprefix("+++ b/")
        for hunk in hunks:
            lines = hunk.splitlines(keepends=True)
            old, new = (
                "".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +")
            )
            text = files[name]
            assert text.count(old) == 1, f"{name} holds {text.count(old)} times:\n{old}"
            files[name] = text.replace(old, new)
        changed.append(name)
    return changed


@pytest.fixture(scope="module")
def workshop(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's code; the metrics' compiled code comes along."""
    folder = tmp_path_factory.mktemp("workshop")
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(
                root / name, folder / name, ignore=shutil.ignore_patterns("*.pyc*", "*.tmp*")
            )
        else:
            shutil.copy2(root / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def printed(guide: list[Section], workshop: Path) -> dict[str, str]:
    """What the commands of each section print."""
    here = {
        "PYTHONPATH": str(workshop),
        "MEDVISION_CACHE": str(workshop / "cache"),
        "MPLBACKEND": "Agg",
    }
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([vars(section) for section in guide]),
        cwd=workshop,
        env={**os.environ, **here},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    _, *parts = re.split(r"^### (A .+)\n", done.stdout, flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_git_applies_every_diff(documents: list[Any], root: Path, tmp_path: Path) -> None:
    document = next(document for document in documents if document.name == "docs/adding.md")
    diffs = [block.text for block in document.blocks if block.info == "diff"]
    assert len(diffs) == 2
    for diff in diffs:
        files = Files(root)
        for name in change(files, diff):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, tmp_path / name)
        done = subprocess.run(
            ["git", "apply", "-"], input=diff, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert {name: (tmp_path / name).read_text() for name in files} == files


@pytest.mark.parametrize("place", range(len(SECTIONS)), ids=SECTIONS)
def test_every_section_prints_what_it_shows(
    guide: list[Section], printed: dict[str, str], place: int
) -> None:
    shown = guide[place].shown
    assert shown
    assert [line for line in shown if line not in printed[SECTIONS[place]]] == [], printed[
        SECTIONS[place]
    ]


def test_the_task_is_tested_in_the_table(printed: dict[str, str]) -> None:
    row = next(
        line
        for line in printed["A task"].splitlines()
        if line.startswith("| Task90_Balls | full | Dice |")
    )
    assert "significant" in row  # whichever way it came out


def test_a_model_in_a_file_stands_in_the_table(printed: dict[str, str]) -> None:
    shown = printed["A model in your own file"]
    trained = re.findall(r"^\[.*?\d/2.*?\] (\S+) Task90_Balls", shown, flags=re.M)
    assert trained == ["Plain", "Plain"]  # the baseline was not trained again


def test_the_model_passes_the_tests_of_every_label_and_stands_in_the_table(
    printed: dict[str, str],
) -> None:
    passed = re.search(r"^(\d+) passed, \d+ deselected", printed["A model"], flags=re.M)
    assert passed, printed["A model"]
    assert int(passed[1]) >= 5
    trained = re.findall(r"^\[.*?\d/2.*?\] (\S+) Task90_Balls", printed["A model"], flags=re.M)
    assert trained == ["PlainCNN", "PlainCNN"]  # the baseline was not trained again
    assert re.search(
        r"^\| Task90_Balls \| full \| Dice .* significant", printed["A model"], flags=re.M
    )


def test_the_metric_stands_in_the_table_without_any_training(
    printed: dict[str, str], workshop: Path
) -> None:
    row = next(line for line in printed["A metric"].splitlines() if "| Volume similarity |" in line)
    assert row.split("|")[5].strip() == "10"
    assert 0 < float(row.split("|")[6].replace("*", "").split("±")[0]) <= 1
    assert (
        len(list((workshop / "runs" / "balls").rglob("weights.safetensors"))) == 8
    )  # two models of the task, and two more


def test_the_generated_files_follow_by_themselves(printed: dict[str, str]) -> None:
    assert "### PlainCNN" in printed["A metric"]
    assert "| `volume_similarity` | Volume similarity |" in printed["A metric"]
    assert '"const": "PlainCNN"' in printed["A metric"]
