"""What the size of volumes costs under protocol `patches` is arithmetic that a dry run says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medvision.data.fingerprints import CaseIndex
from medvision.data.splits import Roles
from medvision.data.tiling import prediction_bytes, preparation_bytes, windows
from medvision.data.windows import slide
from orchestrator.planning.cost import arithmetic_seconds
from orchestrator.planning.volumes import said, volumes_of
from orchestrator.run import main
from orchestrator.spec.study import Spec

SpecOf = Callable[..., Spec]
PATCHES = ["data.protocol=patches", "data.image_size=[8, 8, 8]", "data.patch_size=[4, 4, 4]"]


def case(name: str, shape: tuple[int, ...], spacing: tuple[float, ...]) -> CaseIndex:
    return CaseIndex(name, "", 1.0, 2, shape=shape, spacing=spacing)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("shape", [(20, 8, 31), (5, 9, 16)])
def test_windows_are_counted_as_they_slide(shape: tuple[int, ...], overlap: float) -> None:
    seen = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return images

    slide(network, torch.zeros(1, *shape), (8, 8, 8), overlap)
    assert sum(seen) == windows(shape, (8, 8, 8), overlap)


def test_the_largest_case_decides_on_memory_and_all_on_windows(spec: SpecOf) -> None:
    of = spec(*PATCHES, "data.spacing=[1, 1, 1]", "evaluation.inference.overlap=0")
    (task,) = of.tasks
    cases = [case("a", (16, 16, 16), (1, 1, 1)), case("b", (16, 16, 8), (1, 1, 4))]
    found = volumes_of(of, task.model_copy(update={"channel": "all"}), cases, 3)
    assert found is not None
    assert (found.largest, found.grid) == ((16, 16, 8), (16, 16, 32))
    assert found.windows == (8 + 16) / 2
    assert found.segmenting == prediction_bytes((16, 16, 8), (16, 16, 32), 2, 3)
    assert found.preparing == preparation_bytes((16, 16, 8), (16, 16, 32), 2)
    assert "12 windows a case on average" in said("T", found)
    assert volumes_of(spec(), task, cases, 1) is None
    median = volumes_of(spec(*PATCHES), task, [*cases, case("c", (4, 4, 4), (2, 2, 4))], 1)
    assert median is not None
    assert median.grid == (16, 16, 8)


def test_a_volume_of_512x512x400_needs_a_few_gib() -> None:
    """benchmarks/large_volume.py measures it."""
    shape = (512, 512, 400)
    assert prediction_bytes(shape, shape, 1, 1) / 2**30 == pytest.approx(2.34, abs=0.01)
    assert preparation_bytes(shape, shape, 1) / 2**30 == pytest.approx(1.76, abs=0.01)
    finer = (585, 585, 444)
    assert preparation_bytes(shape, finer, 1) / 2**30 == pytest.approx(2.98, abs=0.02)
    assert prediction_bytes(shape, finer, 1, 1) / 2**30 == pytest.approx(2.78, abs=0.02)


def test_more_windows_cost_more_and_a_choice_of_mirror_images_too(spec: SpecOf) -> None:
    roles = Roles(tuple("abcdefgh"), ("i", "j"), ("k",))

    def seconds(*settings: str, of_case: float | None = None) -> float:
        of = spec(*PATCHES, *settings)
        return arithmetic_seconds(of, of.models[0], of.tasks[0], 1.0, roles, None, windows=of_case)

    four, forty = seconds(of_case=4), seconds(of_case=40)
    assert seconds() == four
    each = (forty - four) / 36  # a window of one test case
    mirror = "evaluation.inference.mirror=true"
    assert seconds(mirror, of_case=40) - forty == pytest.approx(7 * 40 * each)
    chosen = seconds(mirror, "evaluation.choose=[mirror]", of_case=40)
    assert chosen - seconds(mirror, of_case=40) == pytest.approx(2 * 9 * 40 * each)


def test_a_dry_run_says_it(
    tiny_spec: Path,
    spheres: Path,
    isolated_cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from orchestrator.planning.inputs import gathered
    from orchestrator.spec.yaml_file import load_spec

    settings = [*PATCHES, "tasks=[{name: Task99_Spheres, modality: [MRI]}]"]
    gathered(load_spec(tiny_spec, settings))
    flags = [part for setting in settings for part in ("--set", setting)]
    assert main([str(tiny_spec), "--dry-run", *flags]) == 0
    out = capsys.readouterr().out
    assert "note: Task99_Spheres: " in out
    assert "GiB to segment, beside the network" in out
