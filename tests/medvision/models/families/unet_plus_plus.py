"""UNet++."""

SMALL = {"features": (8, 8, 8, 16, 16, 8)}
MEANINGS = {"UNetPlusPlusSettings": ("label features", {}, "name overrides")}
IDS = {"UNet++": ("acb51c4525aab97f", "47811535ef7547ab")}
