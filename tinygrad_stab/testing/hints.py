"""How a wrong gradient differs from the right one, found by trying the usual mistakes.

Each try is one claim about all entries at once. A hint is given only if its claim explains every
entry, so that it may be believed; where none does, nothing is said.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from numpy import ndarray

_MOST_AXES = 8  # beyond, there are too many sets of axes to try a sum over each


def hint(received: Any, expected: Any, tolerance: float = 1e-6) -> str:
    """What, in a few words, makes a wrong gradient of the right one.

    Parameters
    ----------
    received, expected : array_like
        The gradient to explain, and the right one; real, of any shapes.
    tolerance : float
        How far entries may be off, relative to the largest finite entry of what they are compared
        with.

    Returns
    -------
    str
        One of: zero everywhere, or not zero where it should be; a wrong sign; a factor (with its
        value, and whether it is the length of an axis, or all of them: a mean instead of a sum);
        transposed; reversed along an axis; one element only; right numbers in another shape; not
        summed over some axes, or summed (averaged) though it should not be. Empty if received is
        right or if no mistake explains every entry. A NaN agrees with a NaN only, an infinity
        with the same infinity.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_stab.testing.hints import hint
    >>> right = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> hint(-right, right)
    'wrong sign'
    >>> hint(right / 4, right)
    'a factor 4 is missing (mean instead of sum over 4?)'
    >>> hint(right.T, right)
    'transposed'
    >>> hint(np.ones((32, 3)), np.full(3, 32.0))
    'not summed over axis 0 of length 32'
    >>> hint([[1.0, 2.0], [3.0, 4.0]], right)
    'only element (1, 1) differs'
    """
    if np.iscomplexobj(received) or np.iscomplexobj(expected):
        return ""
    with np.errstate(all="ignore"):  # infinities and NaN are compared, not warned of
        received, expected = np.asarray(received, np.float64), np.asarray(expected, np.float64)
        if received.shape != expected.shape:
            return _about_shape(received, expected, tolerance)
        if _fits(received, expected, tolerance):
            return ""
        if not received.any():
            return "zero everywhere"
        if not expected.any():
            return "not zero, as it should be everywhere"
        return (
            _about_factor(received, expected, tolerance)
            or _about_order(received, expected, tolerance)
            or _about_elements(received, expected, tolerance)
        )


def largest(array: ndarray) -> float:
    """The largest magnitude among the finite entries; 0.0 if there is none.

    >>> import numpy as np
    >>> from tinygrad_stab.testing.hints import largest
    >>> largest(np.array([1.0, -3.0, np.inf, np.nan]))
    3.0
    """
    return float(np.max(np.abs(array), initial=0.0, where=np.isfinite(array)))


def differences(received: ndarray, expected: ndarray) -> ndarray:
    """|received − expected| of two arrays of one shape, never NaN.

    Where both are NaN, or the same infinity, it is 0; where only one is, it is infinite.

    >>> import numpy as np
    >>> from tinygrad_stab.testing.hints import differences
    >>> differences(np.array([1.0, np.inf, np.nan, np.nan]), np.array([3.0, np.inf, np.nan, 0.0]))
    array([ 2.,  0.,  0., inf])
    """
    with np.errstate(all="ignore"):
        off = np.abs(received - expected)
    same = (received == expected) | (np.isnan(received) & np.isnan(expected))
    return np.where(same, 0.0, np.where(np.isnan(off), np.inf, off))


def _fits(received: ndarray, expected: ndarray, tolerance: float) -> bool:
    return bool(np.all(differences(received, expected) <= tolerance * largest(expected)))


def _about_factor(received: ndarray, expected: ndarray, tolerance: float) -> str:
    """A sign, a factor, or both."""
    # The largest entry gives the ratio most exactly; then every other entry must have it too.
    top = np.argmax(np.where(np.isfinite(expected), np.abs(expected), -1.0))
    ratio = received.flat[top] / expected.flat[top]
    factor = float(max(abs(ratio), 1 / abs(ratio)))
    if not np.isfinite(factor) or not _fits(received / ratio, expected, tolerance):
        return ""
    sign = "wrong sign" if ratio < 0 else ""
    slack = 2 * tolerance  # of both: the entries, and the ratio read off one of them
    if factor - 1 <= slack:
        return sign
    much = abs(ratio) > 1
    words = f"a factor {_number(factor, slack)} {'too much' if much else 'is missing'}"
    for n in sorted({*expected.shape, expected.size} - {1}):
        if abs(factor / n - 1) <= slack:
            words += f" ({'sum instead of mean' if much else 'mean instead of sum'} over {n}?)"
    return f"{sign}, and {words}" if sign else words


def _number(factor: float, slack: float) -> str:
    """A factor above 1 to four digits, exactly if it is whole, and never as 1."""
    if factor < 1.001:
        return f"1 + {factor - 1:.2g}"
    whole = round(factor) if factor < 1e6 else 0
    return str(whole) if whole > 1 and abs(factor / whole - 1) <= slack else f"{factor:.4g}"


def _about_order(received: ndarray, expected: ndarray, tolerance: float) -> str:
    """The right entries in another order."""
    for turned in _transposes(received):
        if turned.shape == expected.shape and _fits(turned, expected, tolerance):
            return "transposed"
    for axis in range(received.ndim):
        if _fits(np.flip(received, axis), expected, tolerance):
            return f"reversed along axis {axis}"
    return ""


def _transposes(array: ndarray) -> list[ndarray]:
    return [array.mT, array.T] if array.ndim > 1 else []


def _about_elements(received: ndarray, expected: ndarray, tolerance: float) -> str:
    """One wrong entry among right ones."""
    wrong = np.argwhere(differences(received, expected) > tolerance * largest(expected))
    if len(wrong) == 1 and expected.size > 1:
        return f"only element ({', '.join(map(str, wrong[0]))}) differs"
    return ""


def _about_shape(received: ndarray, expected: ndarray, tolerance: float) -> str:
    """Why a gradient has not the shape of its tensor."""
    if not received.size or not expected.size:
        return ""  # of no entries anything is true
    for turned in _transposes(received):
        if turned.shape == expected.shape and _fits(turned, expected, tolerance):
            return "transposed"
    if received.size == expected.size:
        if _fits(received.reshape(expected.shape), expected, tolerance):
            return f"right numbers in the shape {received.shape} instead of {expected.shape}"
        return ""
    for axes in _reductions(received.shape, expected.shape):
        total = np.sum(received, axis=axes).reshape(expected.shape)
        if _fits(total, expected, tolerance):
            return f"not summed over {_axes(axes, received.shape)}"
    for axes in _reductions(expected.shape, received.shape):
        for reduce, done in ((np.sum, "summed"), (np.mean, "averaged")):
            reduced = reduce(expected, axis=axes).reshape(received.shape)
            if _fits(received, reduced, tolerance):
                return f"{done} over {_axes(axes, expected.shape)}, though it should not be"
    return ""


def _reductions(shape: tuple[int, ...], goal: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Sets of axes, fewest first, over which a sum turns one shape into the other."""
    for count in range(1, len(shape) + 1 if len(shape) <= _MOST_AXES else 1):
        for axes in combinations(range(len(shape)), count):
            left = tuple(n for i, n in enumerate(shape) if i not in axes)
            kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
            if goal in (left, kept):
                yield axes


def _axes(axes: tuple[int, ...], shape: tuple[int, ...]) -> str:
    lengths = tuple(shape[i] for i in axes)
    if len(axes) == 1:
        return f"axis {axes[0]} of length {lengths[0]}"
    return f"axes {axes} of lengths {lengths}"
