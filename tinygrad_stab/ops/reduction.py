"""Sums, means and extremes along axes."""

import builtins

import numpy as np

from ..core.primitive import primitive
from ..domain import Kink, case

_EXPECTS = "axis must name distinct axes of x. Count from 0, or from −1 backwards"
_CASES = (
    case((3, 4)),
    case((3, 4), axis=0),
    case((2, 3, 4), axis=(0, -1)),
    case((2, 3, 4), axis=1, keepdims=True),
    case(()),
)
_EMPTY = (case((0, 3)), case((0, 3), axis=1), case((2, 0), axis=-1, keepdims=True))


def _restore(g, axis, keepdims):
    """Put back the axes that a reduction took away, so that g broadcasts against its argument."""
    return g if axis is None or keepdims else np.expand_dims(g, axis)


def _sum_rule(g, out, x, axis=None, keepdims=False):
    return np.broadcast_to(_restore(g, axis, keepdims), x.shape)


sum = primitive(
    "sum",
    lambda x, axis=None, keepdims=False: np.sum(x, axis=axis, keepdims=keepdims),
    _sum_rule,
    doc="""
    Sum over the given axes (int, tuple or None for all): each element has derivative 1.

    The sum of an empty array is 0.

    >>> import tinygrad_stab as tg
    >>> tg.sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    array([4., 6.])
    """,
    cases=_CASES + _EMPTY,
    numpy=np.sum,
    method=True,
    expects=_EXPECTS,
)


def _mean_rule(g, out, x, axis=None, keepdims=False):
    count = x.size // builtins.max(out.size, 1)
    return np.broadcast_to(_restore(g, axis, keepdims) / count, x.shape)


mean = primitive(
    "mean",
    lambda x, axis=None, keepdims=False: np.mean(x, axis=axis, keepdims=keepdims),
    _mean_rule,
    doc="""
    Mean over the given axes: each of n elements has derivative 1/n.

    The mean of an empty array is NaN, with an empty gradient.

    >>> import tinygrad_stab as tg
    >>> tg.mean([[1.0, 2.0], [3.0, 4.0]], axis=0)
    array([2., 3.])
    """,
    cases=(*_CASES, case((0, 3), axis=1)),
    numpy=np.mean,
    method=True,
    expects=_EXPECTS,
)


def _extreme_rule(g, out, x, axis=None, keepdims=False):
    chosen = x == _restore(out, axis, keepdims)
    ties = np.sum(chosen, axis=axis, keepdims=True)
    return _restore(g, axis, keepdims) / ties * chosen


def _runner_up_gap(x, axis=None, keepdims=False):
    """How far apart the two candidates for an extreme are: both ends, as max and min share it."""
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis)
    kept = [i for i in range(x.ndim) if i not in [a % x.ndim for a in axes]]
    rows = np.moveaxis(x, kept, range(len(kept))).reshape([x.shape[i] for i in kept] + [-1])
    return np.diff(np.sort(rows, axis=-1), axis=-1)


_TIE = Kink(_runner_up_gap, "ties share the gradient equally", ([1.0, 1.0],), ([0.5, 0.5],))

max = primitive(
    "max",
    lambda x, axis=None, keepdims=False: np.max(x, axis=axis, keepdims=keepdims),
    _extreme_rule,
    doc="""
    Largest element along the given axes, which alone has a derivative, 1.

    Raises ShapeError for an empty array.

    >>> import tinygrad_stab as tg
    >>> tg.max([[1.0, 5.0], [3.0, 4.0]], axis=0)
    array([3., 5.])
    """,
    kinks=[_TIE],
    cases=_CASES,
    analytic=False,
    numpy=np.max,
    method=True,
    expects="x must have elements, and axis name distinct axes of it. Check x.size",
)

min = primitive(
    "min",
    lambda x, axis=None, keepdims=False: np.min(x, axis=axis, keepdims=keepdims),
    _extreme_rule,
    doc="""
    Smallest element along the given axes, which alone has a derivative, 1.

    Raises ShapeError for an empty array.

    >>> import tinygrad_stab as tg
    >>> tg.min([[1.0, 5.0], [3.0, 4.0]], axis=0)
    array([1., 4.])
    """,
    kinks=[_TIE],
    cases=_CASES,
    analytic=False,
    numpy=np.min,
    method=True,
    expects="x must have elements, and axis name distinct axes of it. Check x.size",
)
