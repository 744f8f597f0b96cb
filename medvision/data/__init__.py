"""Tasks in the layout of the Medical Segmentation Decathlon: reading, splitting, preparing,
augmenting.
"""
