"""nnU-Net's network, from MONAI."""
