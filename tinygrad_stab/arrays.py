"""What counts as an array of numbers, how large one is, and what JSON holds of it."""

import math
from typing import Any

import numpy as np
from numpy import ndarray

from .errors import DtypeError, ShapeError


def numbers(data: Any, dtype: Any = None) -> ndarray:
    """``data`` as an array of numbers, of the given type."""
    if isinstance(data, list | tuple) and any(hasattr(item, "requires_grad") for item in data):
        raise DtypeError(
            f"an array needs numbers; received a {type(data).__name__} of tensors, whose "
            f"gradients would be lost. Join them with tg.stack or tg.concatenate"
        )
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"an array needs rows of equal length; {error}") from error
    if array.dtype.kind not in "fiubc":
        raise DtypeError(
            f"an array needs numbers; received {type(data).__name__} of dtype {array.dtype}. "
            f"Convert it first, e.g. with np.asarray(…, float)"
        )
    if dtype is None or array.dtype == dtype:
        return array
    kind = np.dtype(dtype).kind
    if kind not in "fiubc" or (array.dtype.kind == "c" and kind != "c"):
        raise DtypeError(
            f"dtype: numbers must keep their meaning; received {array.dtype} for {np.dtype(dtype)}."
            f" Take .real or .imag first"
        )
    return array.astype(dtype)


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


def norm(array: Any) -> float:
    """√(Σ x²), right also where the squares over- or underflow."""
    return rms(array) * math.sqrt(np.size(array))


def plain(value: Any) -> Any:
    """A value as JSON holds it: no tuples, no arrays, and None for what is not finite.

    >>> plain({"x": np.array([1.0, np.inf]), "n": (1, 2)})
    {'x': [1.0, None], 'n': [1, 2]}
    """
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
