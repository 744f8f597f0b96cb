"""The paper's vision transformers, with and without a language-model block."""
