"""What a process computes with: the same numbers each time, in full float32."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from medvision.device import autocast, make_deterministic, moved


@pytest.fixture
def as_torch_comes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And as it was again afterwards."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    places = (
        (torch.backends.cudnn, "allow_tf32"),
        (torch.backends.cuda.matmul, "allow_tf32"),
        (torch.utils.deterministic, "fill_uninitialized_memory"),
    )
    before = [getattr(*place) for place in places]
    for place in places:
        setattr(*place, True)
    yield
    for place, value in zip(places, before, strict=True):
        setattr(*place, value)


@pytest.mark.usefixtures("as_torch_comes")
def test_a_trials_process_is_deterministic_without_tf32_and_without_fills() -> None:
    make_deterministic()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    # a fill writes NaN into what torch.empty gives, a kernel each time
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.isnan(torch.empty(64)).all()


def test_what_a_user_set_for_cublas_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    make_deterministic()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_products_run_in_the_precision(precision: str, expected: torch.dtype) -> None:
    values = moved(torch.rand(4, 4), torch.device("cpu"))
    with autocast(torch.device("cpu"), precision):  # type: ignore[arg-type]
        assert (values @ values).dtype == expected
    assert (values @ values).dtype == torch.float32
