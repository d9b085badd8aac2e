"""Rearranging: the same numbers in another shape, order or type.

All of these are linear, so each rule is the transposed map: what spread a number sums its
gradient, what picked a number puts its gradient back.
"""

import numpy as np

from ..core.operand import Operand, implements
from ..core.primitive import primitive
from ..domain import case
from ..errors import DtypeError


def _several(numpy_function):
    """As a method, with the shape or axes as one tuple or as several integers."""

    def method(x, *items, **params):
        return numpy_function(x, *items, **params) if len(items) < 2 else numpy_function(x, items)

    return method


def _getitem_rule(g, out, x, index):
    return scatter(g, index, x.shape)


reshape = primitive(
    "reshape",
    lambda x, shape: np.reshape(x, shape),
    lambda g, out, x, shape: np.reshape(g, x.shape),
    doc="""
    The same elements, row by row, in another shape; one length may be −1.

    >>> import tinygrad_stab as tg
    >>> tg.reshape([1.0, 2.0, 3.0, 4.0], (2, -1))
    array([[1., 2.],
           [3., 4.]])
    """,
    cases=(
        case((3, 4), shape=(2, -1)),
        case((), shape=(1, 1)),
        case((0, 3), shape=(3, 0)),
        case((6,), shape=6),
    ),
    numpy=np.reshape,
    method=_several(np.reshape),
    expects="the new shape must hold as many elements as x. Use −1 for the length that follows",
)


def _transpose_rule(g, out, x, axes=None):
    return np.transpose(g, None if axes is None else np.argsort(np.asarray(axes) % x.ndim))


transpose = primitive(
    "transpose",
    lambda x, axes=None: np.transpose(x, axes),
    _transpose_rule,
    doc="""
    Axes in another order; by default reversed.

    >>> import tinygrad_stab as tg
    >>> tg.transpose([[1.0, 2.0], [3.0, 4.0]])
    array([[1., 3.],
           [2., 4.]])
    """,
    cases=(
        case((3, 4)),
        case((2, 3, 4), axes=(1, -1, 0)),
        case(()),
        case((0, 2)),
    ),
    numpy=np.transpose,
    method=_several(np.transpose),
    expects="axes must be a permutation of x's axes. Name every axis once",
)

swapaxes = primitive(
    "swapaxes",
    lambda x, axis1, axis2: np.swapaxes(x, axis1, axis2),
    lambda g, out, x, axis1, axis2: np.swapaxes(g, axis1, axis2),
    doc="""
    Two axes exchanged.

    >>> import tinygrad_stab as tg
    >>> tg.swapaxes([[1.0, 2.0], [3.0, 4.0]], 0, 1)
    array([[1., 3.],
           [2., 4.]])
    """,
    cases=(case((3, 4), axis1=-1, axis2=-2), case((2, 0, 3), axis1=0, axis2=2)),
    numpy=np.swapaxes,
    method=True,
    expects="axis1 and axis2 must be axes of x. A 1-d array has no transpose: add an axis first",
)

broadcast_to = primitive(
    "broadcast_to",
    lambda x, shape: np.broadcast_to(x, shape),
    lambda g, out, x, shape: g,  # the engine sums over the repeated axes
    doc="""
    Repeated along new axes and along axes of length 1, without a copy.

    >>> import tinygrad_stab as tg
    >>> tg.broadcast_to([1.0, 2.0], (2, 2))
    array([[1., 2.],
           [1., 2.]])
    """,
    cases=(
        case((4,), shape=(3, 4)),
        case((2, 1, 4), shape=(2, 3, 4)),
        case((), shape=(2, 2)),
        case((1, 3), shape=(0, 3)),
    ),
    broadcasts=True,
    numpy=np.broadcast_to,
    expects="x's shape must broadcast to the new one. Align them at the last axis",
)

expand_dims = primitive(
    "expand_dims",
    lambda x, axis: np.expand_dims(x, axis),
    lambda g, out, x, axis: np.reshape(g, x.shape),
    doc="""
    A new axis of length 1 at each of the given places of the result.

    >>> import tinygrad_stab as tg
    >>> tg.expand_dims([1.0, 2.0], 1)
    array([[1.],
           [2.]])
    """,
    cases=(case((3, 4), axis=1), case((3, 4), axis=(0, -1)), case((), axis=0), case((0,), axis=0)),
    numpy=np.expand_dims,
    expects="axis must name distinct axes of the result. Count from 0, or from −1 backwards",
)


def _scatter_forward(x, index, shape):
    out = np.zeros(shape, x.dtype)
    if _is_basic(index):
        out[index] = x
    else:
        np.add.at(out, index, x)
    return out


def _frozen(index):
    """An index that stays as it is: its arrays copied, its tensors as arrays."""
    if isinstance(index, tuple):
        return tuple(map(_frozen, index))
    if isinstance(index, Operand):
        index = index._data
    return np.array(index) if isinstance(index, np.ndarray | list) else index


def _is_basic(index):
    """Whether every place is chosen at most once: slices, integers, new axes, masks."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or isinstance(part, slice | int | np.integer)
        for part in parts
    )


_INDEX_CASES = (
    ((3, 4), np.s_[1]),
    ((3, 4), np.s_[::-2, None, ..., 1:]),
    ((3, 4), np.s_[[0, 0, 2]]),
    ((2, 3, 4), np.s_[0, :, [1, 1]]),
    ((2, 3), np.s_[np.array([[True, False, True], [False, False, False]])]),
    ((), np.s_[...]),
    ((0, 3), np.s_[:, 1]),
)

getitem = primitive(
    "getitem",
    lambda x, index: x[index],
    _getitem_rule,
    doc="""
    Elements by any index that NumPy takes: ``x[1:, None, ..., [0, 0]]``, masks included.

    An element that is picked twice gets both gradients.

    >>> import tinygrad_stab as tg
    >>> x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x[[0, 0, 1]].sum().backward()
    >>> x.grad
    array([2., 1., 0.])
    """,
    cases=tuple(case(shape, index=index) for shape, index in _INDEX_CASES),
    expects="the index must fit x. Compare it with x.shape",
)


def _subscript(x, index):
    return x.apply(getitem, (x,), {"index": _frozen(index)})


Operand.__getitem__ = _subscript  # brackets are an operator too

scatter = primitive(
    "scatter",
    _scatter_forward,
    lambda g, out, x, index, shape: getitem(g, index),
    doc="""
    Zeros of the given shape, with x added at an index: the transposed map of indexing.

    >>> import tinygrad_stab as tg
    >>> tg.scatter([1.0, 2.0, 4.0], [0, 0, 2], (3,))
    array([3., 0., 4.])
    """,
    cases=tuple(
        case(np.empty(shape)[index].shape, index=index, shape=shape)
        for shape, index in _INDEX_CASES
    ),
    expects="x must have the shape of zeros(shape)[index]. Compare the two",
)


def _concatenate_rule(g, out, *arrays, axis=0, index=0):
    before = sum(a.shape[axis] for a in arrays[:index])
    return _along(g, axis, slice(before, before + arrays[index].shape[axis]))


def _along(x, axis, place):
    """x[..., place, ...] with the place at one axis."""
    index = [slice(None)] * x.ndim
    index[axis] = place
    return x[tuple(index)]


_concatenate = primitive(
    "concatenate",
    lambda *arrays, axis=0: np.concatenate(arrays, axis=axis),
    _concatenate_rule,
    doc="Arrays joined along an axis that they have; called by ``tg.concatenate``.",
    cases=(
        case((2, 3), (4, 3)),
        case((2, 3), (2, 0), (2, 1), axis=-1),
        case((3,)),
    ),
    variadic=True,
    expects="arrays must agree in all axes but the one that they are joined along. "
    "Use stack for a new axis",
)


@implements(np.concatenate)
def concatenate(arrays, axis=0):
    """Join arrays along an axis that they have.

    Parameters
    ----------
    arrays : sequence of arrays or tensors
        Of the same shape but for ``axis``.
    axis : int

    Returns
    -------
    Tensor (ndarray, where all are arrays)

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.concatenate([[1.0], [2.0, 3.0]])
    array([1., 2., 3.])
    """
    return _concatenate(*arrays, axis=axis)


_stack = primitive(
    "stack",
    lambda *arrays, axis=0: np.stack(arrays, axis=axis),
    lambda g, out, *arrays, axis=0, index=0: _along(g, axis, index),
    doc="Arrays of one shape joined along a new axis; called by ``tg.stack``.",
    cases=(case((2, 3), (2, 3), axis=-1), case((), (), ()), case((0, 2), axis=1)),
    variadic=True,
    expects="arrays must all have the same shape. Use concatenate along an axis that differs",
)


@implements(np.stack)
def stack(arrays, axis=0):
    """Join arrays of one shape along a new axis.

    Parameters
    ----------
    arrays : sequence of arrays or tensors
    axis : int
        Where the new axis stands in the result.

    Returns
    -------
    Tensor (ndarray, where all are arrays)

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.stack([1.0, 2.0])
    array([1., 2.])
    """
    return _stack(*arrays, axis=axis)


def _astype_forward(x, dtype):
    if np.dtype(dtype).kind not in "fc":
        raise DtypeError(
            f"astype: the result must still be able to carry a gradient; received dtype={dtype}. "
            f"For a constant use .data.astype(...)"
        )
    return x.astype(dtype)


astype = primitive(
    "astype",
    _astype_forward,
    lambda g, out, x, dtype: g.astype(x.dtype),
    doc="""
    The values as another floating-point type; the gradient comes back as the argument's.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.tensor([1.0, 2.0]).astype(np.float32).dtype
    dtype('float32')
    """,
    cases=(case((3, 4), dtype=np.float64),),
    analytic=False,  # a cast of complex to real would drop the imaginary part
    method=True,
)
