"""The committed specs on real images and a real language-model block, and a cluster that somebody
else started.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest

from medvision.assets import ASSETS, AssetError, fetch
from medvision.models import MODEL_LABELS
from orchestrator.run import main
from record.store import Store
from record.study import StoredStudy
from record.tables import read_results
from reports.findings import in_lines
from reports.health import health_of, shares
from tools.tracking_screenshots import free_port

ROOT = Path(__file__).parents[2]
MSD = Path(os.environ.get("MEDVISION_DATA", "/nonexistent"))

needs_msd = pytest.mark.skipif(
    not (MSD / "Task04_Hippocampus").is_dir(),
    reason="MEDVISION_DATA does not name a folder with Task04_Hippocampus",
)


@pytest.mark.slow
def test_the_quickstart_on_real_images_and_a_real_block(
    tmp_path: Path, isolated_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every part real; six steps, two folds and one seed, to be quick."""
    options = ["--set", f"storage={tmp_path}", "--set", "training.steps=6", "--set", "folds=2"]
    options += ["--set", "seeds=[0]"]
    assert main([str(ROOT / "ablations" / "quickstart.yaml"), *options]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"\| MNI152_GreyMatter \| full \| Dice \| [^|]+ \| 49 \|", shown)
    assert "no subjects, no MSD scores" in shown
    store = Store(str(tmp_path / "quickstart"))
    assert store.read_json("study.json")["blocks"]["MedVisionLlama"]
    rows = read_results(store, "cases")
    assert len(rows) == 2 * 49
    assert (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_models_of_the_quickstart_segment(tmp_path: Path, isolated_cache: Path) -> None:
    options = ["--set", f"storage={tmp_path}", "--set", "tracking.enabled=false"]
    assert main([str(ROOT / "ablations" / "quickstart.yaml"), *options]) == 0
    study = StoredStudy.opened(Store(str(tmp_path / "quickstart")))
    assert not [line for line in in_lines(health_of(study)) if line.failed]
    rows = study.rows("cases")
    share = shares(rows)["truth"]
    rows = rows.assign(everything=2 * share / (1 + share))
    means = rows.groupby("model")[["dice", "everything"]].mean()
    assert means["everything"].to_list() == pytest.approx([0.463, 0.463], abs=5e-4)
    assert (means["dice"] > means["everything"] + 0.25).all()


@pytest.mark.slow
@pytest.mark.timeout(3600)  # Swin-UNet's two trials are most of it: its images are padded to 64^3
def test_every_label_trains_and_reaches_the_report(
    tmp_path: Path, isolated_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        for asset in ASSETS:
            fetch(asset)
    except AssetError as error:
        pytest.skip(f"assets cannot be had: {error}")
    options = ["--in-process", "--set", f"storage={tmp_path}", "--set", "tracking.enabled=false"]
    assert main([str(ROOT / "ablations" / "architectures.yaml"), *options]) == 0
    assert "30 of 30 trials are in this report" in capsys.readouterr().out
    store = Store(str(tmp_path / "architectures"))
    assert set(read_results(store, "cases")["model"]) == set(MODEL_LABELS)
    listed = pd.read_csv(io.BytesIO(store.read("report/ablations.csv") or b""))
    assert set(listed["model"]) == set(MODEL_LABELS)


@pytest.mark.slow
@needs_msd
def test_real_msd_cases_train_and_score_in_their_own_grid(
    tmp_path: Path, isolated_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--in-process", "--set", f"storage={tmp_path}", "--set", "tracking.enabled=false"]
    options += [
        "--set",
        "models=[ViT_Baseline]",
        "--set",
        "comparisons=[]",
        "--set",
        "fractions=[0.1]",
        "--set",
        "folds=5",
    ]
    options += ["--set", "training.epochs=null", "--set", "training.steps=4"]
    assert main([str(ROOT / "ablations" / "hippocampus.yaml"), *options]) == 0
    rows = read_results(Store(str(tmp_path / "hippocampus")), "cases")
    assert (
        rows["case"].nunique()
        == len(rows)
        == len(list((MSD / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz")))
    )
    assert rows["dice"].between(0, 1).all()


@pytest.mark.slow
def test_a_cluster_that_somebody_else_started(tiny_spec: Path, tmp_path: Path) -> None:
    port = free_port()
    ray = str(Path(sys.executable).with_name("ray"))
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0" * 32,
        "RAY_TMPDIR": str(tmp_path),
    }
    environment.pop("RAY_ADDRESS", None)
    head = [ray, "start", "--head", f"--port={port}", "--num-cpus=2", '--resources={"lane": 100}']
    head += ["--dashboard-host=127.0.0.1", "--disable-usage-stats"]
    # The sockets' paths must stay short, so Ray gets a folder of its own under the system's.
    scratch = Path("/tmp") / f"ray-{port}"  # noqa: S108
    command = [
        sys.executable,
        "-m",
        "orchestrator.run",
        str(tiny_spec),
        "--address",
        f"127.0.0.1:{port}",
    ]
    impossible = ["--set", "resources.cpus_per_worker=512", "--set", "resources.max_lanes=1"]
    shutil.copy(
        ROOT / "cluster.yaml", tmp_path / "ray_bootstrap_config.yaml"
    )  # as if `ray up` had started the head
    at_home = {**environment, "HOME": str(tmp_path)}
    try:
        subprocess.run(
            [*head, f"--temp-dir={scratch}"], env=environment, check=True, capture_output=True
        )
        refused = subprocess.run(
            [*command, *impossible],
            env=at_home,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
    finally:
        for process in psutil.process_iter():  # `ray stop` would end everybody's Ray
            with contextlib.suppress(psutil.Error):
                if re.search(rf"{scratch}(/|\s|$)", " ".join(process.cmdline())):
                    process.kill()
        shutil.rmtree(scratch, ignore_errors=True)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    # The head as cluster.yaml has it, without CPUs for trials, and eight machines of which none
    # runs yet.
    held = (
        "one trial asks for 512 CPU, the cluster's machines hold: 1 with 0 CPU, 0 GPU; 8 with 8 "
        "CPU, 1 GPU"
    )
    assert f"{held}, with all that `ray up` may start" in refused.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 trials are in this report" in done.stdout
