"""TransUNet."""

SMALL = {"features": (8, 8, 8, 16), "embed_dim": 16, "heads": 2, "depth": 1}
MEANINGS = {
    "TransUNetSettings": (
        "label features embed_dim depth heads mlp_ratio dropout",
        {},
        "name overrides",
    )
}
IDS = {"TransUNet": ("9c0b407e4683f762", "439ff03343030862")}
