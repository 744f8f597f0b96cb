"""Values that callers give, as plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_floats(values: ArrayLike) -> NDArray[np.float64]:
    """The values as float64, of any shape; what numpy masks or pandas marks as missing is NaN."""
    if isinstance(values, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(values.astype(np.float64), np.nan))
    if hasattr(values, "to_numpy") and not hasattr(values, "columns"):
        missing: NDArray[np.float64] = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return missing
    return np.asarray(values, dtype=np.float64)
