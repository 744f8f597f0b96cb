"""Imports stay light, compiled code is cached where it can be, and no thread is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import medvision
from medvision.metrics import METRICS, STATUSES, SURFACES, evaluate_case, nsd_key
from medvision.metrics.definitions import FURTHER

PACKAGE = Path(medvision.__file__).parent


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["medvision.metrics", "medvision.metrics.definitions"])
def test_names_are_had_without_numerical_packages(module):
    heavy = ("numpy", "numba", "scipy", "torch", "monai")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    assert run(code) == "[]"


def test_numba_comes_with_the_first_call():
    code = (
        "import sys, numpy as np; from medvision.metrics import evaluate_case; print('numba' in "
        "sys.modules);evaluate_case(np.ones((2, 2, 2), int), np.ones((2, 2, 2), int), (1, 1, "
        "1));print('numba' in sys.modules, 'torch' in sys.modules)"
    )
    assert run(code).split() == ["False", "True", "False"]


def test_metrics_name_every_result():
    result = evaluate_case([[[1, 0]]], [[[1, 1]]], (1, 1, 1), tolerances=(1,), further=FURTHER)
    assert set(result) - {"status"} == set(METRICS) - {"nsd"} | {nsd_key(1)}
    assert result["status"] in STATUSES
    distances = {name for name, info in METRICS.items() if info.distance}
    assert distances == {"hd95", "hd", "assd"}
    for info in METRICS.values():
        assert info.unit in (("mm",) if info.distance else ("", "ml"))
        wanted = ((0, False),) if info.unit else ((0, False), (1, True))
        assert (info.perfect, info.higher_is_better) in wanted
    assert len(SURFACES) == 3


def test_no_attribute_but_the_public_ones():
    with pytest.raises(AttributeError, match="no attribute 'evaluate_cases'"):
        medvision.metrics.evaluate_cases  # noqa: B018


USE_A_KERNEL = (
    "import numpy as np; from medvision.metrics import kernels;print(kernels.__file__, "
    "kernels.coordinates(np.full((1, 1, 1), 5, np.uint64), 2).tolist())"
)


@pytest.fixture
def read_only_package(tmp_path):
    """A copy of the package whose folder takes no cache, for root neither."""
    copy = tmp_path / "site" / "medvision"
    shutil.copytree(
        PACKAGE / "metrics", copy / "metrics", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(PACKAGE / "__init__.py", copy)
    (copy / "metrics" / "__pycache__").write_text("no folder")
    return copy.parent


@pytest.mark.parametrize("home_is_writable", [True, False])
def test_compiled_code_of_a_read_only_package(tmp_path, read_only_package, home_is_writable):
    home = tmp_path / "home"
    if home_is_writable:
        home.mkdir()
    else:
        home.write_text("no folder")
    printed = run(
        USE_A_KERNEL,
        PYTHONPATH=str(read_only_package),
        HOME=str(home),
        XDG_CACHE_HOME=str(home / "cache"),
        NUMBA_CACHE_DIR="",
    )
    assert printed.startswith(str(read_only_package))
    assert printed.endswith("[[0, 0, 0], [0, 0, 2]]")
    assert bool(list(tmp_path.rglob("*.nbi"))) == home_is_writable


def test_no_thread_is_started():
    """But for the idle ones of BLAS, which come with importing numba and are bounded by the usual
    variable.
    """
    code = (
        "import numpy as np, psutil; from medvision.metrics import evaluate_case;before = "
        "psutil.Process().num_threads(); g = np.random.default_rng(0);evaluate_case(g.random((40, "
        "40, 40)) < 0.01, g.random((40, 40, 40)) < 0.5, (1, 1, "
        "1));print(psutil.Process().num_threads() - before)"
    )
    assert run(code, OPENBLAS_NUM_THREADS="1") == "0"
