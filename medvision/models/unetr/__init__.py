"""UNETR, from MONAI."""
