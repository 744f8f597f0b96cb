"""Fixtures shared by all rooms: a cache of one's own, a small real-format task, a small Llama
checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.waiting import Barrier, put

TASK = "Task99_Spheres"
CASES = 15
EDGE = 16

# The same examples in every run: a change is refused for what it did, never for what was drawn that
# day. `pytest --hypothesis-profile default` draws new ones, as `make any-study` does.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

# Slow tests that start several nodes or lanes of Ray: one after the other, or two cores have a
# hundred processes to run.
CROWDED = (
    "tests/chaos/",
    "tests/cluster/",
    "tests/orchestrator/executors/",
    "tests/orchestrator/test_real_parts.py",
)


class OneCrowd(LoadFileScheduling):
    """A process of pytest-xdist takes a file, or all that is CROWDED."""

    def _split_scope(self, nodeid: str) -> str:
        return "crowded" if nodeid.startswith(CROWDED) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is switched off
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """How the slow tests are shared out (`make test-slow`)."""
    return OneCrowd(config, log) if config.getoption("markexpr") == "slow" else None


@pytest.fixture(scope="session")
def assets_cache() -> str:
    """The cache that `make test` filled with assets, before `isolated_cache` points elsewhere."""
    from record.local_files import cache_root

    return str(cache_root())


@pytest.fixture
def isolated_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assets_cache: str) -> Path:
    """A cache folder of this test alone, in which the downloaded assets are to be found."""
    cache = tmp_path / "cache"
    cache.mkdir()
    if Path(assets_cache, "assets").is_dir():
        (cache / "assets").symlink_to(Path(assets_cache, "assets"))
    monkeypatch.setenv("MEDVISION_CACHE", str(cache))
    return cache


def write_task(root: Path, *, name: str = TASK, cases: int = CASES, seed: int = 0) -> Path:
    """A task in MSD layout: noisy bright spheres (label 1) with a core (label 2), sizes and spacing
    differing by case.
    """
    rng = np.random.default_rng(seed)
    folder = root / name
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    training = []
    for index in range(cases):
        shape = (EDGE, EDGE + index % 3, EDGE - index % 2)
        centre = rng.uniform(0.4, 0.6, 3) * shape
        distance = np.linalg.norm(np.stack(np.indices(shape), -1) - centre, axis=-1)
        radius = rng.uniform(3.5, 5.5)
        label = (distance < radius).astype(np.uint8) + (distance < radius / 2)
        image = (label > 0) * 100 + rng.normal(0, 20, shape)
        affine = np.diag([1.0, 1.0 + 0.25 * (index % 2), 1.5, 1.0])
        file = f"case_{index:02d}.nii.gz"
        nibabel.save(
            nibabel.Nifti1Image(image.astype(np.float32), affine), folder / "imagesTr" / file
        )
        nibabel.save(
            nibabel.Nifti1Image(label.astype(np.uint8), affine), folder / "labelsTr" / file
        )
        training.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    description = {"name": name, "description": "Synthetic spheres", "training": training}
    (folder / "dataset.json").write_text(json.dumps(description))
    return root


@pytest.fixture(scope="session")
def written_spheres(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, bytes]]:
    """The folder of `spheres`, with what its files hold."""
    root = write_task(tmp_path_factory.mktemp("data"))
    return root, contents(root)


@pytest.fixture(scope="session")
def spheres(written_spheres: tuple[Path, dict[Path, bytes]]) -> Path:
    """Root of a data folder with one synthetic task, which all tests share."""
    return written_spheres[0]


def contents(root: Path) -> dict[Path, bytes]:
    """What the files below a folder hold."""
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(autouse=True)
def _spheres_are_kept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Who changes the data of all tests fails, and not those that come after."""
    if "spheres" not in request.fixturenames:
        yield
        return
    root, written = request.getfixturevalue("written_spheres")
    yield
    if contents(root) != written:
        shutil.rmtree(root)
        for path, content in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        pytest.fail("the test changed the data folder of all tests; let it change a copy")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama checkpoint in the Hugging Face format."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
    )
    folder = tmp_path_factory.mktemp("tiny-llama")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_spec(spheres: Path, tiny_llama: Path, tmp_path: Path, isolated_cache: Path) -> Path:
    """A spec file of two small models on the spheres, three folds, stored under tmp_path/runs."""
    spec = f"""\
name: tiny
models:
  - {{label: ViT_Baseline, embed_dim: 16, depth: 2, heads: 2}}
  - {{label: MedVisionLlama, embed_dim: 16, depth: 2, heads: 2, llm: {{source: "{tiny_llama}"}}}}
tasks: [{TASK}]
folds: 3
data: {{root: "{spheres}", image_size: [16, 16, 16], patch_size: [4, 4, 4]}}
training: {{epochs: 3, batch_size: 4, optimizer: adamw, schedule: onecycle, lr: 1.0e-2,
  prior_bias: false}}
evaluation: {{metrics: [dice, nsd, hd95], tolerances: [1.0]}}
resources: {{max_lanes: 1}}
storage: "{tmp_path / "runs"}"
"""
    path = tmp_path / "tiny.yaml"
    path.write_text(spec)
    return path


@pytest.fixture
def barrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Barrier]:
    """A barrier for the trials of every process that is started after this.

    It comes before a fixture that starts Ray.
    """
    made = Barrier(tmp_path / "barrier")
    put(monkeypatch, made.environment)
    yield made
    made.lift()
