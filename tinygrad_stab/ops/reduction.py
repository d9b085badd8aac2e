"""Sums, means, extremes, products and order along axes."""

import builtins
import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core.operand import implements
from ..core.primitive import primitive
from ..domain import Kink, case
from ..errors import UnsupportedError
from .arithmetic import nonzero
from .elementwise import abs

_EXPECTS = "axis must name distinct axes of x. Count from 0, or from −1 backwards"
_CASES = (
    case((3, 4)),
    case((3, 4), axis=0),
    case((2, 3, 4), axis=(0, -1)),
    case((2, 3, 4), axis=1, keepdims=True),
    case(()),
)
_EMPTY = (case((0, 3)), case((0, 3), axis=1), case((2, 0), axis=-1, keepdims=True))


def _restore(g, x, axis, keepdims):
    """Put back the axes that a reduction took from x, so that g broadcasts against x."""
    return g if axis is None or keepdims or x.ndim == 0 else np.expand_dims(g, axis)


def _sum_rule(g, out, x, axis=None, keepdims=False):
    return np.broadcast_to(_restore(g, x, axis, keepdims), x.shape)


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
    return np.broadcast_to(_restore(g, x, axis, keepdims) / count, x.shape)


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
    chosen = x == _restore(out, x, axis, keepdims)
    ties = np.sum(chosen, axis=axis, keepdims=True)
    return np.where(chosen, _restore(g, x, axis, keepdims) / ties, 0)


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


# --- spread and size


def _count(x, axis, ddof):
    """Number of elements that a reduction joins, less ddof."""
    axes = range(np.ndim(x)) if axis is None else np.atleast_1d(axis)
    return builtins.max(math.prod(np.shape(x)[a] for a in axes) - ddof, 0)


@implements(np.var, method=True)
def var(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Variance over the given axes: Σ (x − mean)²/(n − ddof).

    ddof is 0 by default, as in NumPy. With n ≤ ddof it is inf, or NaN if the elements are equal.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.var(tg.tensor([1.0, 2.0, 3.0]), ddof=1)
    tensor(1.)
    """
    d = x - np.mean(x, axis=axis, keepdims=True)
    n = _count(x, axis, ddof)
    with np.errstate(invalid="ignore"):  # 0·inf = NaN is the answer for too few elements
        return np.sum(d * d, axis=axis, keepdims=keepdims) * (1 / n if n else math.inf)


def _std_rule(g, out, x, axis=None, ddof=0, keepdims=False):
    d = x - np.mean(x, axis=axis, keepdims=True)
    n = _count(x, axis, ddof)
    spread = nonzero(_restore(out, x, axis, keepdims))  # where it is 0, d is too
    return _restore(g, x, axis, keepdims) * (d / spread) * (1 / n if n else math.inf)


std = primitive(
    "std",
    lambda x, axis=None, ddof=0, keepdims=False: np.sqrt(
        np.asarray(var(x, axis=axis, ddof=ddof, keepdims=keepdims))
    ),
    _std_rule,
    doc="""
    Standard deviation over the given axes, the root of `var`.

    >>> import tinygrad_stab as tg
    >>> tg.std(tg.tensor([1.0, 2.0, 3.0]), ddof=1)
    tensor(1.)
    """,
    kinks=[
        Kink(
            lambda x, axis=None, ddof=0, keepdims=False: np.std(x, axis=axis),
            "0 for constant elements",
            ([2.0, 2.0],),
            ([0.0, 0.0],),
        )
    ],
    cases=(case((3, 4)), case((3, 4), axis=0, ddof=1), case((2, 3, 4), axis=(0, 2), keepdims=True)),
    numpy=np.std,
    method=True,
    expects=_EXPECTS,
)


def _exponentials(x, axis):
    """e^(x − max) and max, which is 0 where all of x is −inf."""
    top = np.max(x, axis=axis, keepdims=True) if x.size else np.zeros((), x.dtype)
    top = np.where(np.isfinite(top), top, 0)
    return np.exp(x - top), top


def _logsumexp_forward(x, axis=None, keepdims=False):
    # The real part decides what is subtracted; for the complex step it is a constant.
    _, top = _exponentials(x.real, axis)
    with np.errstate(divide="ignore"):  # log 0 = −inf is the answer, not an accident
        total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else np.sum(total, axis=axis)  # drops the axes, of length 1


def _logsumexp_rule(g, out, x, axis=None, keepdims=False):
    e, _ = _exponentials(x, axis)
    total = np.sum(e, axis=axis, keepdims=True)
    return _restore(g, x, axis, keepdims) * (e / nonzero(total))


logsumexp = primitive(
    "logsumexp",
    _logsumexp_forward,
    _logsumexp_rule,
    doc="""
    log Σ e^x over the given axes, without overflow; its gradient is the softmax.

    >>> import tinygrad_stab as tg
    >>> tg.logsumexp(tg.tensor([1000.0, 1000.0]))
    tensor(1000.69314718)
    """,
    cases=_CASES,
    method=True,
    expects=_EXPECTS,
)

euclidean_norm = primitive(
    "euclidean_norm",
    lambda x, axis=None, keepdims=False: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
    lambda g, out, x, axis=None, keepdims=False: (
        _restore(g, x, axis, keepdims) * (x / nonzero(_restore(out, x, axis, keepdims)))
    ),
    doc="""
    √Σ x² over the given axes: the length of a vector, Frobenius' norm of a matrix.

    >>> import tinygrad_stab as tg
    >>> tg.euclidean_norm(tg.tensor([3.0, 4.0]))
    tensor(5.)
    """,
    kinks=[
        Kink(
            lambda x, axis=None, keepdims=False: np.sqrt(np.sum(x * x, axis=axis)),
            "0 at the zero vector",
            ([0.0, 0.0],),
            ([0.0, 0.0],),
        )
    ],
    cases=_CASES,
    expects=_EXPECTS,
)


def _root(x: Any, p: float) -> Any:
    """x^p for x ≥ 0, with gradient 0 at 0, where it may not exist."""
    return np.where(x == 0, 0, nonzero(x) ** p)


@implements(np.linalg.norm, method=True)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Norm of vectors or matrices.

    Parameters
    ----------
    x : Tensor or array
    ord : None, 1, 2, inf, another positive number, or "fro"
        Of vectors: (Σ |x|^ord)^(1/ord), by default 2. Of matrices (two axes, or a 2-d x and no
        axis): "fro" (as None), 1 (largest column sum) or inf (largest row sum).
    axis : int, pair of int, or None
        None with ord=None: all elements as one vector.
    keepdims : bool

    Raises
    ------
    UnsupportedError
        A matrix norm that needs singular values (2, −2, "nuc").

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.norm(tg.tensor([[3.0, -4.0]]), ord=1, axis=1)
    tensor([7.])
    """
    if ord is None or (ord == "fro" and (axis is None or np.size(axis) == 2)):
        return euclidean_norm(x, axis=axis, keepdims=keepdims)
    if axis is None:
        axis = tuple(range(np.ndim(x)))
    axes = normalize_axis_tuple(axis, np.ndim(x))
    if len(axes) == 1:
        axis = int(axes[0])
        if ord == 2:
            return euclidean_norm(x, axis=axis, keepdims=keepdims)
        if ord == np.inf:
            return max(abs(x), axis=axis, keepdims=keepdims)
        if ord == 1:
            return sum(abs(x), axis=axis, keepdims=keepdims)
        if isinstance(ord, int | float | np.number) and ord > 0:
            total = sum(_root(abs(x), float(ord)), axis=axis, keepdims=keepdims)
            return _root(total, 1 / float(ord))
    elif len(axes) == 2 and ord in (1, np.inf):
        rows, columns = (int(a) for a in axes)
        summed, largest = (rows, columns) if ord == 1 else (columns, rows)
        result = max(sum(abs(x), axis=summed, keepdims=True), axis=largest, keepdims=True)
        return result if keepdims else np.squeeze(result, axis=axes)
    raise UnsupportedError(
        f"norm: has rules for vectors (ord > 0) and for matrices with ord 'fro', 1, inf; received "
        f"ord={ord!r} over {len(axes)} axes. Name one axis for vectors, or use 'fro'"
    )


# --- products, running sums and products, order


def _as_rows(x, axis):
    """The reduced axes as one last axis: shape (kept axes …, n)."""
    axes = [a % x.ndim for a in (range(x.ndim) if axis is None else np.atleast_1d(axis))]
    kept = [i for i in range(x.ndim) if i not in axes]
    rows = np.transpose(x, (*kept, *axes))
    return np.reshape(rows, (*(x.shape[i] for i in kept), -1))


def _from_rows(rows, x, axis):
    """Undo `_as_rows`."""
    axes = [a % x.ndim for a in (range(x.ndim) if axis is None else np.atleast_1d(axis))]
    order = [i for i in range(x.ndim) if i not in axes] + axes
    return np.transpose(np.reshape(rows, [x.shape[i] for i in order]), np.argsort(order))


def _others(x, axis):
    """The product of all other elements, for each: right also where some are 0."""
    if x.size == 0 or x.ndim == 0:
        return np.ones(x.shape, x.dtype)
    rows = _as_rows(x, axis)
    one = np.ones((*rows.shape[:-1], 1), rows.dtype)
    before = np.cumprod(np.concatenate([one, rows[..., :-1]], axis=-1), axis=-1)
    after = np.cumprod(np.concatenate([one, rows[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
    return _from_rows(before * after, x, axis)


prod = primitive(
    "prod",
    lambda x, axis=None, keepdims=False: np.prod(x, axis=axis, keepdims=keepdims),
    lambda g, out, x, axis=None, keepdims=False: _restore(g, x, axis, keepdims) * _others(x, axis),
    doc="""
    Product over the given axes; the derivative in each element is the product of the others.

    The product of an empty array is 1.

    >>> import tinygrad_stab as tg
    >>> x = tg.tensor([0.0, 2.0, 3.0], requires_grad=True)
    >>> tg.prod(x).backward()
    >>> x.grad
    array([6., 0., 0.])
    """,
    cases=(case((3, 2)), case((2, 3), axis=1), case((2, 3, 2), axis=(0, -1), keepdims=True),
           case(()), case((0, 3)), case((0, 3), axis=1)),
    numpy=np.prod,
    method=True,
    expects=_EXPECTS,
)  # fmt: skip


def _cumsum_rule(g, out, x, axis=None):
    if axis is None:
        return np.reshape(np.cumsum(g[::-1], axis=0)[::-1], x.shape)
    return np.reshape(np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis), x.shape)


cumsum = primitive(
    "cumsum",
    lambda x, axis=None: np.cumsum(x, axis=axis),
    _cumsum_rule,
    doc="""
    Running sum along an axis (None: of all elements, row by row).

    >>> import tinygrad_stab as tg
    >>> tg.cumsum([1.0, 2.0, 3.0])
    array([1., 3., 6.])
    """,
    cases=(case((4,)), case((3, 4), axis=0), case((2, 3)), case((2, 0), axis=-1)),
    numpy=np.cumsum,
    method=True,
    expects=_EXPECTS,
)


def _cumprod_rule(g, out, x, axis=None):
    # ∂L/∂x_i = (Π_{k<i} x_k)·s_i with s_i = g_i + x_{i+1}·s_{i+1}: no division, so zeros are fine.
    rows = np.moveaxis(np.reshape(x, g.shape), 0 if axis is None else axis, -1)
    g = np.moveaxis(g, 0 if axis is None else axis, -1)
    n = rows.shape[-1]
    if n == 0:
        return np.ones(x.shape, x.dtype)
    one = np.ones((*rows.shape[:-1], 1), rows.dtype)
    before = np.cumprod(np.concatenate([one, rows[..., :-1]], axis=-1), axis=-1)
    tail = [g[..., n - 1]]
    for i in range(n - 2, -1, -1):
        tail.append(g[..., i] + rows[..., i + 1] * tail[-1])
    part = before * np.stack(tail[::-1], axis=-1)
    return np.reshape(np.moveaxis(part, -1, 0 if axis is None else axis), x.shape)


cumprod = primitive(
    "cumprod",
    lambda x, axis=None: np.cumprod(x, axis=axis),
    _cumprod_rule,
    doc="""
    Running product along an axis (None: of all elements, row by row).

    >>> import tinygrad_stab as tg
    >>> tg.cumprod([1.0, 2.0, 3.0])
    array([1., 2., 6.])
    """,
    cases=(case((3,)), case((3, 2), axis=0), case((2, 2)), case((2, 0), axis=-1)),
    numpy=np.cumprod,
    method=True,
    expects=_EXPECTS,
)


def _sort_rule(g, out, x, axis=-1):
    where_each_went = np.argsort(np.argsort(x, axis=axis, kind="stable"), axis=axis)
    if axis is None:
        return np.reshape(np.take_along_axis(g, where_each_went, axis=0), x.shape)
    return np.take_along_axis(g, where_each_went, axis=axis)


sort = primitive(
    "sort",
    lambda x, axis=-1: np.sort(x, axis=axis, kind="stable"),
    _sort_rule,
    doc="""
    Elements in ascending order along an axis (None: of all elements).

    >>> import tinygrad_stab as tg
    >>> tg.sort([3.0, 1.0, 2.0])
    array([1., 2., 3.])
    """,
    kinks=[
        Kink(
            lambda x, axis=-1: np.diff(np.sort(x, axis=axis), axis=-1 if axis is None else axis),
            "tied elements keep their order",
            ([1.0, 1.0],),
            ([1.0, 1.0],),
        )
    ],
    cases=(case((4,)), case((3, 4), axis=0), case((2, 3), axis=None), case((0, 3))),
    analytic=False,
    numpy=np.sort,
    expects=_EXPECTS,
)
