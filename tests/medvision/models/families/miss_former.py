"""MissFormer."""

SMALL = {"base_dim": 8, "depth": 1, "bridge_depth": 1}
MEANINGS = {
    "MissFormerSettings": (
        "label base_dim depth bridge_depth mlp_ratio",
        {"heads": (3, 6, 12, 24)},
        "name overrides",
    )
}
IDS = {"MissFormer": ("f54c3360fc566576", "d4b3f39dfd539bff")}
