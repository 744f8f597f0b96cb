"""TransUNet in 3D."""
