"""A tiny BioGPT checkpoint with random weights in the format of `microsoft/biogpt`, where the real
one (1.5 GB) is not at hand.

python -m medvision.assets fetch tiny-biogpt     # and then llm: {source: tiny-biogpt}
"""

from __future__ import annotations

from pathlib import Path


def write_biogpt(folder: Path, *, hidden_size: int = 128, layers: int = 2, seed: int = 0) -> None:
    """Write config.json and pytorch_model.bin, the same numbers for the same seed.

    The weights are drawn as transformers initialises BioGPT; such a block shows that the path
    through BioGPT works, and is no evidence about what its pre-training brings.
    """
    import torch
    from transformers import BioGptConfig, BioGptForCausalLM

    config = BioGptConfig(
        vocab_size=64,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=64,
        architectures=["BioGptForCausalLM"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BioGptForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
