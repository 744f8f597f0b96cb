"""Versions of the numbers: both enter the trial ids, so raising one makes old results count as
outdated.

`tests/medvision/training/test_training.py` holds golden losses; when they move on purpose, raise
`TRAIN_NUMERICS`.
"""

# 2: rotation by sums of rows, 1e-5 from grid_sample
# 3: initialisation, order of batches, dropout and augmentation differ between folds and tasks too
TRAIN_NUMERICS = 3
TOOL_NUMERICS = 1  # of what nnU-Net itself is given and how; its own versions are no part of it
EVAL_NUMERICS = 2  # 2: the false-positive volume is stored
