"""Rearranging: the same numbers in another shape, order or type.

All of these are linear, so each rule is the transposed map: what spread a number sums its
gradient, what picked a number puts its gradient back.
"""

import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core.operand import Operand, implements
from ..core.primitive import primitive
from ..domain import case
from ..errors import ArgumentError, DtypeError, ShapeError


def _several(numpy_function):
    """As a method, with the shape or axes as one tuple or as several integers."""

    def method(x, *items, **params):
        return numpy_function(x, *(items if len(items) < 2 else [items]), **params)

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
    method=True,
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
    if out[index].shape != x.shape:
        raise ValueError("x does not fit")
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
        index = index._value
    if isinstance(index, list) and not index:
        return np.zeros(0, int)  # an empty list picks nothing, though its numbers are floats
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
    index = [slice(None)] * np.ndim(x)
    index[axis] = place
    return getitem(x, tuple(index))


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
def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    """Join arrays along an axis that they have.

    Parameters
    ----------
    arrays : sequence of arrays or tensors
        Of the same shape but for ``axis``.
    axis : int or None
        None: all elements of each, in one axis.

    Returns
    -------
    Tensor (ndarray, where all are arrays)

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.concatenate([[1.0], [2.0, 3.0]])
    array([1., 2., 3.])
    """
    if axis is None:
        arrays, axis = [ravel(a) for a in arrays], 0
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
def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
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


# --- compositions


@implements(np.ravel, method=True)
def ravel(x: Any) -> Any:
    """All elements in one axis, row by row.

    >>> import tinygrad_stab as tg
    >>> tg.ravel(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1., 2., 3., 4.])
    """
    return reshape(x, (np.size(x),))


@implements(np.moveaxis, method=True)
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Axes moved to other places; the others keep their order.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.moveaxis(tg.tensor(np.zeros((2, 3, 4))), 0, -1).shape
    (3, 4, 2)
    """
    return transpose(x, _moved(np.ndim(x), source, destination))


def _moved(ndim: int, source: Any, destination: Any) -> tuple[int, ...]:
    """The order of axes that moveaxis makes, found by moving the axes of an empty array."""
    return tuple(np.moveaxis(np.empty(range(ndim), bool), source, destination).shape)


@implements(np.squeeze, method=True)
def squeeze(x: Any, axis: Any = None) -> Any:
    """Without the axes of length 1, or without those given, which must have it.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.squeeze(tg.tensor(np.zeros((1, 3, 1))), axis=0).shape
    (3, 1)
    """
    shape = np.shape(x)
    axes = range(len(shape)) if axis is None else normalize_axis_tuple(axis, len(shape))
    if axis is not None and any(shape[a] != 1 for a in axes):
        raise ShapeError(
            f"squeeze: an axis to leave out has length 1; x has the shape {shape}, axis={axis}. "
            f"Use indexing or a reduction for another"
        )
    return reshape(x, tuple(n for i, n in enumerate(shape) if n != 1 or i not in axes))


@implements(np.flip, method=True)
def flip(x: Any, axis: Any = None) -> Any:
    """Elements in reverse order along the given axes (None: all).

    >>> import tinygrad_stab as tg
    >>> tg.flip(tg.tensor([1.0, 2.0, 3.0]))
    tensor([3., 2., 1.])
    """
    axes = range(np.ndim(x)) if axis is None else normalize_axis_tuple(axis, np.ndim(x))
    index: list[Any] = [slice(None)] * np.ndim(x)
    for a in axes:
        index[a] = slice(None, None, -1)
    return getitem(x, tuple(index))


roll = primitive(
    "roll",
    lambda x, shift, axis=None: np.roll(x, shift, axis),
    lambda g, out, x, shift, axis=None: np.roll(
        g, tuple(-s for s in shift) if np.ndim(shift) else -shift, axis
    ),
    doc="""
    Elements shifted along an axis (None: all, row by row); what falls off comes in again.

    >>> import tinygrad_stab as tg
    >>> tg.roll([1.0, 2.0, 3.0], 1)
    array([3., 1., 2.])
    """,
    cases=(case((3, 4), shift=1), case((3, 4), shift=(1, -2), axis=(0, 1)), case((0, 2), shift=1)),
    numpy=np.roll,
    expects="shift and axis must be an integer each, or tuples of one length. Count them",
    method=True,
)


@implements(np.tile, method=True)
def tile(x: Any, reps: Any) -> Any:
    """The whole array repeated along each axis.

    >>> import tinygrad_stab as tg
    >>> tg.tile(tg.tensor([1.0, 2.0]), 2)
    tensor([1., 2., 1., 2.])
    """
    reps = tuple(operator.index(r) for r in np.atleast_1d(reps))
    shape = (1,) * (len(reps) - np.ndim(x)) + np.shape(x)
    reps = (1,) * (len(shape) - len(reps)) + reps
    # Each axis as a pair: which copy, which element.
    pairs = reshape(x, tuple(k for n in shape for k in (1, n)))
    copies = broadcast_to(pairs, tuple(k for r, n in zip(reps, shape, strict=True) for k in (r, n)))
    return reshape(copies, tuple(r * n for r, n in zip(reps, shape, strict=True)))


@implements(np.repeat, method=True)
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Each element repeated in its place, all as often or each as it says.

    >>> import tinygrad_stab as tg
    >>> tg.repeat(tg.tensor([1.0, 2.0]), [1, 3])
    tensor([1., 2., 2., 2.])
    """
    if axis is None:
        x, axis = ravel(x), 0
    return take(x, np.repeat(np.arange(np.shape(x)[axis]), repeats), axis)


@implements(np.split, method=True)
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Parts along an axis: so many equal ones, or cut at the given indices.

    >>> import tinygrad_stab as tg
    >>> tg.split(tg.tensor([1.0, 2.0, 3.0, 4.0]), 2)
    [tensor([1., 2.]), tensor([3., 4.])]
    """
    length = np.shape(x)[axis]
    if np.ndim(indices_or_sections) == 0:
        sections = int(indices_or_sections)
        if sections < 1 or length % sections:
            raise ShapeError(
                f"split: equal parts must fit; {length} elements along axis {axis} do not make "
                f"{sections} parts. Pass the indices to cut at"
            )
        cuts = [i * (length // sections) for i in range(sections + 1)]
    else:
        cuts = [0, *indices_or_sections, length]
    return [_along(x, axis, slice(a, b)) for a, b in pairwise(cuts)]


@implements(np.pad)
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Any:
    """Elements added before and after along each axis.

    Parameters
    ----------
    x : Tensor or array
    pad_width : int, pair, or one pair an axis
        How many before and after, as NumPy's.
    mode : {"constant", "edge", "reflect", "symmetric", "wrap"}
    constant_values : float
        For "constant".

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.pad(tg.tensor([1.0, 2.0, 3.0]), 1, mode="reflect")
    tensor([2., 1., 2., 3., 2.])
    """
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise ArgumentError(
            f"pad: mode is constant, edge, reflect, symmetric or wrap; received {mode!r}"
        )
    widths = np.broadcast_to(pad_width, (np.ndim(x), 2))
    if widths.dtype.kind not in "iu" or widths.min(initial=0) < 0 or np.ndim(constant_values):
        raise ArgumentError(
            f"pad: widths are integers from 0 on, constant_values is one number; received "
            f"pad_width={pad_width}, constant_values={constant_values}"
        )
    if mode != "constant":
        for axis, width in enumerate(widths):
            places: Any = np.arange(np.shape(x)[axis])
            x = take(x, np.pad(places, width, mode=mode), axis)  # type: ignore[call-overload]
        return x
    shape = tuple(int(n + sum(w)) for n, w in zip(np.shape(x), widths, strict=True))
    inside = tuple(
        slice(int(w[0]), int(w[0]) + n) for n, w in zip(np.shape(x), widths, strict=True)
    )
    padded = scatter(x, inside, shape)
    if constant_values == 0:
        return padded
    frame = np.full(shape, constant_values, x.dtype)
    frame[inside] = 0
    return padded + frame


@implements(np.take, method=True)
def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Elements along an axis by their indices (None: of all elements, row by row).

    >>> import tinygrad_stab as tg
    >>> tg.take(tg.tensor([1.0, 2.0, 3.0]), [2, 0])
    tensor([3., 1.])
    """
    if axis is None:
        x, axis = ravel(x), 0
    (axis,) = normalize_axis_tuple(axis, np.ndim(x))
    index = np.asarray(indices)
    if index.size == 0 or index.dtype == bool:  # numbers of places here, not a mask
        index = index.astype(np.intp)
    return _along(x, axis, index)


def _grid(index: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """An index that picks, along one axis, where ``index`` says, and its own place elsewhere."""
    grid: list[Any] = list(np.indices(index.shape, sparse=True))
    grid[axis] = index
    return tuple(grid)


@implements(np.take_along_axis)
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    """For each place of ``indices``, the element that it names along an axis.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.take_along_axis(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), np.array([[1], [0]]), axis=1)
    tensor([[2.],
            [3.]])
    """
    if axis is None:
        x, axis = ravel(x), 0
    index = np.asarray(indices)
    shape = list(np.shape(x))  # along the other axes the index is repeated to x's lengths
    shape[axis] = index.shape[axis]
    return getitem(x, _grid(np.broadcast_to(index, shape), axis))


def _places(input: Any, dim: int, index: np.ndarray) -> tuple[np.ndarray, ...]:
    """The places that PyTorch's ``index`` names along an axis."""
    if index.ndim != np.ndim(input) or index.dtype.kind not in "iu" or index.min(initial=0) < 0:
        raise ShapeError(
            f"gather, scatter_add: index holds integers from 0 on and has as many axes as input; "
            f"received {index.dtype} of shape {index.shape} for input {np.shape(input)}"
        )
    return _grid(index, dim)


@implements(method=True)
def gather(input: Any, dim: int, index: Any) -> Any:
    """PyTorch's name for :func:`take_along_axis`; ``index`` may be smaller along other axes.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.gather(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, np.array([[1, 1]]))
    tensor([[2., 2.]])
    """
    return getitem(input, _places(input, dim, np.asarray(index)))


@implements(method=True)
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """``input`` with ``src`` added along an axis where ``index`` says; repeated places add up.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.scatter_add(tg.tensor([0.0, 0.0, 1.0]), 0, np.array([2, 2]), tg.tensor([3.0, 4.0]))
    tensor([0., 0., 8.])
    """
    index = np.asarray(index)
    region = getitem(src, tuple(slice(n) for n in index.shape))
    return input + scatter(region, _places(input, dim, index), np.shape(input))
