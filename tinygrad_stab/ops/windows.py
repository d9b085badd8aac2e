"""Sliding windows over images: what convolution and pooling are made of."""

import numpy as np

from ..core.primitive import primitive
from ..domain import case
from ..errors import ShapeError


def _places(length, size, stride, dilation):
    """How many windows fit along an axis."""
    return (length - dilation * (size - 1) - 1) // stride + 1


def _each_offset(shape, size, stride, dilation):
    """For each element of a window, where in the image the windows have it: an index."""
    counts = [_places(*args) for args in zip(shape[-2:], size, stride, dilation, strict=True)]
    for i, j in np.ndindex(*size):
        top, left = i * dilation[0], j * dilation[1]
        rows = slice(top, top + stride[0] * (counts[0] - 1) + 1, stride[0])
        columns = slice(left, left + stride[1] * (counts[1] - 1) + 1, stride[1])
        yield (i, j), (..., rows, columns)


def _unfold_forward(x, size, stride=(1, 1), dilation=(1, 1)):
    reach = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
    if x.ndim < 2 or any(r > n for r, n in zip(reach, x.shape[-2:], strict=True)):
        raise ShapeError(
            f"unfold: a window must fit into the image; windows of {tuple(size)} with dilation "
            f"{tuple(dilation)} reach over {tuple(reach)}, x has shape {x.shape}. Add padding, or "
            f"use a smaller kernel"
        )
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(-2, -1))
    return windows[..., :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _unfold_rule(g, out, x, size, stride=(1, 1), dilation=(1, 1)):
    return fold(g, x.shape, size, stride, dilation)


def _fold_forward(x, shape, size, stride=(1, 1), dilation=(1, 1)):
    out = np.zeros_like(x[..., 0, 0], shape=shape)
    for (i, j), place in _each_offset(shape, size, stride, dilation):
        out[place] += x[..., i, j]
    return out


unfold = primitive(
    "unfold",
    _unfold_forward,
    _unfold_rule,
    doc="""
    All windows of a size in images: shape (…, H, W) → (…, rows, columns, size[0], size[1]).

    size, stride and dilation are pairs (along H, along W). The values are a view, not a copy. An
    image's pixel gets the gradients of all windows that it is in.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.unfold(np.arange(6.0).reshape(2, 3), (2, 2)).shape
    (1, 2, 2, 2)
    """,
    cases=(
        case((2, 4, 5), size=(2, 3)),
        case((5, 5), size=(2, 2), stride=(2, 1), dilation=(1, 2)),
        case((0, 3, 3), size=(2, 2)),
    ),
)

fold = primitive(
    "fold",
    _fold_forward,
    lambda g, out, x, shape, size, stride=(1, 1), dilation=(1, 1): unfold(
        g, size, stride, dilation
    ),
    doc="""
    Windows added up in their places in images of the given shape: the transposed map of unfold.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.fold(np.ones((1, 2, 2, 2)), (2, 3), (2, 2))
    array([[1., 2., 1.],
           [1., 2., 1.]])
    """,
    cases=(
        case((2, 3, 3, 2, 3), shape=(2, 4, 5), size=(2, 3)),
        case((2, 3, 2, 2), shape=(5, 5), size=(2, 2), stride=(2, 1), dilation=(1, 2)),
    ),
    expects="x must have the shape of unfold of the result. Compare the two",
)
