"""Secrets are in no log and no result."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.run import main
from record.redact import shown
from tests.test_security import CANARY


def test_secrets_are_in_no_log_and_no_result(
    tiny_spec: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A whole run with secrets wherever a user may have put them."""
    variables = (
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "RAY_AUTH_TOKEN",
        "HF_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
    )
    for name in variables:
        monkeypatch.setenv(name, f"{CANARY}-{name}")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://somebody:{CANARY}@127.0.0.1:9/mlflow"  # nothing listens there
    settings = (
        "training.epochs=1",
        "folds=2",
        "models=[ViT_Baseline, ViT_MLP]",
        f"tracking.uri={uri}",
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
    shown = capfd.readouterr()
    assert CANARY not in shown.out + shown.err
    assert "***@127.0.0.1:9" in shown.out
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != tiny_spec]
    assert {"manifest.json", "study.json", "plan.json", "report.html"} <= {
        path.name for path in files
    }
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://user:pa@ss@host:5000/x", "http://***@host:5000/x"),
        (
            "postgresql://host/db?user=me&password=pw&sslmode=require",
            "postgresql://host/db?user=me&password=***&sslmode=require",
        ),
        ("postgresql://me:pa/ss@host/db", "postgresql://***@host/db"),
        ("postgresql://me:p@/ss@host/db", "postgresql://***@host/db"),
        ("http://token@host/x@y", "http://***@host/x@y"),
        ("sqlite:////home/me@x/mlflow.db", "sqlite:////home/me@x/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_a_tracking_address_is_shown_without_its_password(address: str, expected: str) -> None:
    assert shown(address) == expected
