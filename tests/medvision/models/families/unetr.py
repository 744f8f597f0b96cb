"""UNETR."""

SMALL = {"feature_size": 8, "embed_dim": 24, "mlp_dim": 48, "heads": 2}
MEANINGS = {
    "UnetrSettings": (
        "label feature_size embed_dim mlp_dim heads dropout",
        {},
        "name overrides",
    )
}
IDS = {"UNETR": ("44c49ea3b7b87ca3", "869b4eddec993c13")}
