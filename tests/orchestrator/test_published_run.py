"""A study whose machine was lost goes on from what was published of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.publish import main as publish
from orchestrator.run import main
from record.store import Store


def test_what_was_published_is_not_trained_again(
    tiny_spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(runs: str, *more: str) -> str:
        storage = f"storage={tmp_path / runs}"
        assert (
            main(
                [
                    str(tiny_spec),
                    "--in-process",
                    "--set",
                    "tracking.enabled=false",
                    "--set",
                    storage,
                    *more,
                ]
            )
            == 0
        )
        return capsys.readouterr().out

    run("whole")
    table = Store(str(tmp_path / "whole" / "tiny")).read("report/significance.csv")

    run("lost", "--set", "models=[{label: ViT_Baseline, embed_dim: 16, depth: 2, heads: 2}]")
    folder, lost, back = (str(tmp_path / name) for name in ("paper", "lost/tiny", "back/tiny"))
    assert publish([lost, "--into", folder]) == 0
    assert publish([folder, "--back", "--into", back]) == 0
    capsys.readouterr()
    said = run("back")
    assert "tiny: 6 trials: 3 done, 3 new" in said
    assert Store(back).read("report/significance.csv") == table
    assert "Nothing to train" in run("back")
