"""Swin-UNet as Swin UNETR, from MONAI."""
