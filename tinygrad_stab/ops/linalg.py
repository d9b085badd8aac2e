"""Products of matrices."""

import numpy as np

from ..core.operand import implements
from ..core.primitive import primitive
from ..domain import case


def _rows(x):
    """A vector on the left of a product stands for a matrix of one row."""
    return np.expand_dims(x, 0) if x.ndim == 1 else x


def _columns(y):
    """A vector on the right of a product stands for a matrix of one column."""
    return np.expand_dims(y, 1) if y.ndim == 1 else y


def _full(g, x, y):
    """The gradient with the axes of length 1 that a product of vectors leaves out."""
    if y.ndim == 1:
        g = np.expand_dims(g, -1)
    return np.expand_dims(g, -2) if x.ndim == 1 else g


def _matmul_x(g, out, x, y):
    return _full(g, x, y) @ _columns(y).mT


def _matmul_y(g, out, x, y):
    part = _rows(x).mT @ _full(g, x, y)
    return part[..., 0] if y.ndim == 1 else part


matmul = primitive(
    "matmul",
    np.matmul,
    _matmul_x,
    _matmul_y,
    doc="""
    Matrix product x @ y; with g = ∂L/∂out: ∂L/∂x = g yᵀ and ∂L/∂y = xᵀ g.

    Shapes (…, n, k) @ (…, k, m) → (…, n, m), leading axes broadcast; a 1-d argument is a row on
    the left, a column on the right, and its axis is left out of the result.

    >>> import tinygrad_stab as tg
    >>> tg.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0])
    array([21., 43.])
    """,
    cases=(
        case((2, 3), (3, 4)),
        case((3,), (3,)),
        case((3,), (3, 4)),
        case((2, 3), (3,)),
        case((3,), (5, 3, 4)),
        case((5, 2, 3), (3,)),
        case((5, 2, 3), (3, 4)),
        case((2, 3), (5, 3, 4)),
        case((2, 1, 2, 3), (5, 3, 4)),
        case((2, 0), (0, 3)),
        case((0, 2), (2, 3)),
    ),
    broadcasts=True,
    numpy=np.matmul,
    operator="@",
    expects="x's last axis must be as long as y's last but one (its only one, if y is 1-d), with "
    "at least one axis each. Is a transpose (.T) missing?",
)


@implements(np.dot)
def dot(x, y):
    """Sum over the last axis of x and the last but one of y (its only one, if it is 1-d).

    Parameters
    ----------
    x, y : arrays or tensors
        Of shapes (…, k) and (…, k, m) or (k,); a 0-d argument multiplies.

    Returns
    -------
    Tensor (ndarray, if both are arrays)
        For one or two axes the matrix product; for more, all pairs of x's rows and y's matrices.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.dot(np.array([[1.0, 2.0]]), np.array([3.0, 4.0]))
    array([11.])
    """
    if np.ndim(x) == 0 or np.ndim(y) == 0:
        return x * y
    if y.ndim <= 2:
        return matmul(x, y)
    pairs = np.reshape(x, x.shape[:-1] + (1,) * (y.ndim - 1) + x.shape[-1:])
    return matmul(pairs, y)[..., 0, :]
