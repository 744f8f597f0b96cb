"""Controls that keep something of the weights: their values, or their singular values."""

from __future__ import annotations

import pytest
import torch

from medvision.llm import load_block
from medvision.llm.scrambled import keep_spectrum, permute_weights
from tests.medvision.llm.native_models import MODELS


@pytest.mark.parametrize("change", [permute_weights, keep_spectrum])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_other_weights_decided_by_the_seed(change, family, make_model, write):
    folder = write(make_model(family))
    x = torch.randn(1, 7, 64, generator=torch.Generator().manual_seed(1))
    plain, first, again, other = (load_block(folder) for _ in range(4))
    for block, seed in ((first, 1), (again, 1), (other, 2)):
        assert change(block, seed) is block
    assert torch.equal(first(x), again(x))
    assert not torch.allclose(first(x), other(x), atol=1e-3)
    assert not torch.allclose(first(x), plain(x), atol=1e-3)
    assert first.fingerprint == again.fingerprint
    assert len({plain.fingerprint, first.fingerprint, other.fingerprint}) == 3
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_permuted_weights_are_the_same_values(make_model, write):
    folder = write(make_model("qwen2"))
    before, after = load_block(folder), permute_weights(load_block(folder), 3)
    for name, tensor in before.named_parameters():
        changed = after.get_parameter(name)
        assert not torch.equal(changed, tensor), name
        assert torch.equal(changed.flatten().sort().values, tensor.flatten().sort().values), name


def test_rotated_matrices_have_the_same_singular_values(make_model, write, tmp_path):
    MODELS["qwen3_moe"].make().save_pretrained(tmp_path / "experts")
    for folder in (write(make_model("llama")), tmp_path / "experts"):
        before, after = load_block(folder), keep_spectrum(load_block(folder), 3)
        for name, tensor in before.named_parameters():
            changed = after.get_parameter(name)
            if tensor.ndim < 2:
                assert torch.equal(changed, tensor), name
                continue
            found, wanted = torch.linalg.svdvals(changed), torch.linalg.svdvals(tensor)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5, msg=name)
            # The directions are others: what was the first one is now one of many.
            first = torch.linalg.svd(tensor).U[..., :, 0]
            turned = torch.linalg.svd(changed).U[..., :, 0]
            assert ((first * turned).sum(-1).abs() < 0.9).all(), name
