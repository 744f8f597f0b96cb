"""No password of a tracking server is stored or shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.planning.study_files import open_store
from orchestrator.run import main
from orchestrator.spec.yaml_file import load_spec
from record.redact import shown


def test_a_password_in_the_address_is_not_shown() -> None:
    assert shown("http://user:secret@host:5000/x") == "http://***@host:5000/x"
    assert shown("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_no_password_is_stored_or_shown(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "http://user:hunter2@127.0.0.1:9/"
    assert main([str(tiny_spec), "--in-process", "--set", f"tracking.uri={uri}"]) == 0
    shown = capsys.readouterr()
    assert "MLflow   not delivered, the next run tries again" in shown.out
    assert "hunter2" not in shown.out + shown.err
    root = Path(open_store(load_spec(tiny_spec)).root)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert [path.name for path in files if path.name == "events.jsonl"]
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
