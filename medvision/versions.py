"""Versions of the numbers: both enter the trial ids, so raising one makes old results count as
outdated.

`tests/medvision/training/test_training.py` holds golden losses; when they move on purpose, raise
`TRAIN_NUMERICS`.
"""

TRAIN_NUMERICS = 2  # 2: rotation by sums of rows, 1e-5 from grid_sample
EVAL_NUMERICS = 2  # 2: the false-positive volume is stored
