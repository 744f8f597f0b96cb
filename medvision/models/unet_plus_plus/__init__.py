"""UNet++, from MONAI."""
