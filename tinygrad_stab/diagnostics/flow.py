"""The size of a gradient."""

from typing import Any

import numpy as np


def rms(array: Any) -> float:
    """Root mean square √(mean x²), right also where the squares over- or underflow.

    Parameters
    ----------
    array : array_like
        Any shape; 0.0 if empty.

    Returns
    -------
    float
        Computed in float64. Exactly 0.0 only if every entry is; NaN or inf if an entry is.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.diagnostics.rms([3e-300, 3e-300])
    3e-300
    """
    values = np.asarray(array, np.float64)
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.mean((values / largest) ** 2)))
