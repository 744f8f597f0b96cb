"""nnU-Net itself as a method of a study (`label: nnUNetv2`): planned, trained and predicted by
nnunetv2's own code in a process of its own, on a cell's cases, and scored as our networks are.
"""
