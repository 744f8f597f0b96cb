"""Cases of a study to be looked at: three planes and 3D, with the truth and each model's mask."""
