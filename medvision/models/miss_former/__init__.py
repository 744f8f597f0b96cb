"""MISSFormer in 3D."""
