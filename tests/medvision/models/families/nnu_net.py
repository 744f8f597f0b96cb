"""nnU-Net."""

SMALL = {"features": (8, 8, 16)}
MEANINGS = {"NnUNetSettings": ("label features", {}, "name overrides")}
IDS = {"nnU-Net": ("23b99d7b92d4ceff", "d8cc6422f3e4af87")}
