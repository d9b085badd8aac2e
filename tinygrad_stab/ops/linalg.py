"""Linear algebra: products, diagonals, and what is solved or decomposed."""

import string
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core.operand import implements
from ..core.primitive import primitive
from ..domain import POSITIVE_DEFINITE, REALS, case
from ..errors import DtypeError, ShapeError
from .elementwise import where
from .reduction import sum as sum_
from .shape import getitem, moveaxis, ravel


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
    method=True,
)


@implements(np.dot, method=True)
def dot(x: Any, y: Any) -> Any:
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
    if np.ndim(y) <= 2:
        return matmul(x, y)
    pairs = np.reshape(x, x.shape[:-1] + (1,) * (y.ndim - 1) + x.shape[-1:])
    return matmul(pairs, y)[..., 0, :]


# --- einsum, and what is written with it


def _labels(subscripts, operands):
    """Explicit labels of each operand and of the result, an ellipsis spelled out."""
    text = subscripts.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    free = [c for c in string.ascii_letters if c not in text]
    if len(terms) == len(operands):  # if not, NumPy says so
        spare = [
            np.ndim(x) - len(t.replace("...", "")) for t, x in zip(terms, operands, strict=True)
        ]
        longest = max((n for t, n in zip(terms, spare, strict=True) if "..." in t), default=0)
        dots = "".join(free[:longest])
        terms = [t.replace("...", dots[longest - n :]) for t, n in zip(terms, spare, strict=True)]
        if not arrow:  # the implicit result: the ellipsis, then what occurs once, in order
            counts = Counter(inputs.replace("...", "").replace(",", ""))
            output = "..." + "".join(sorted(c for c, n in counts.items() if n == 1))
        output = output.replace("...", dots)
    return terms, output


def _einsum_forward(*operands, subscripts):
    return np.einsum(subscripts, *operands)


def _einsum_rule(g, out, *operands, subscripts, index=0):
    # The gradient of one operand is an einsum of g and the other operands onto its labels. A
    # label that stands twice in it is kept on the diagonal by a unit matrix; one that stands
    # nowhere else (or at length 1) was summed away, so its gradient is the same everywhere: ones.
    terms, output = _labels(subscripts, operands)
    spare = iter(c for c in string.ascii_letters if c not in "".join(terms) + output)
    others = [(t, x) for i, (t, x) in enumerate(zip(terms, operands, strict=True)) if i != index]
    own = operands[index]
    wanted = ""
    for c, length in zip(terms[index], own.shape, strict=True):
        if c in wanted:
            copy = next(spare)
            others.append((c + copy, np.eye(length, dtype=own.dtype)))
            c = copy
        elif c not in output and all(x.shape[t.index(c)] == 1 for t, x in others if c in t):
            others.append((c, np.ones(length, own.dtype)))
        wanted += c
    whole = ",".join([output, *(t for t, _ in others)]) + "->" + wanted
    return np.einsum(whole, g, *(x for _, x in others))


_einsum = primitive(
    "einsum",
    _einsum_forward,
    _einsum_rule,
    doc="Einstein's summation; called by ``tg.einsum``.",
    cases=(
        case((2, 3), (3, 4), subscripts="ij,jk->ik"),
        case((3, 3), subscripts="ii->i"),
        case((3, 3), subscripts="ii"),
        case((2, 3), subscripts="ij->j"),
        case((2, 3), subscripts="ji"),
        case((2, 3), (4,), subscripts="ij,k"),
        case((5, 2, 3), (3, 4), subscripts="...ij,jk->...ik"),
        case((2, 5, 3), (5, 3), subscripts="...i,...i->..."),
        case((3, 3, 2), (2, 3), (3,), subscripts="iij,jk,k->ki"),
        case((2, 0), (0, 3), subscripts="ij,jk->ik"),
    ),
    broadcasts=True,
    variadic=True,
    expects="subscripts must name every axis of each array, and equal letters equal lengths. "
    "Count commas and letters",
)


@implements(np.einsum)
def einsum(subscripts: str, *operands: Any, optimize: Any = False) -> Any:
    """Einstein's summation over any valid subscripts, repeated indices and ellipsis included.

    Parameters
    ----------
    subscripts : str
        Such as "ij,jk->ik"; without "->" the result has the letters that occur once.
    *operands : Tensor or array
    optimize : ignored
        For NumPy's signature.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.einsum("ii->i", tg.tensor(np.eye(2)))
    tensor([1., 1.])
    """
    if not isinstance(subscripts, str):
        raise DtypeError(
            f"einsum: subscripts are text such as 'ij,jk->ik'; received a "
            f"{type(subscripts).__name__}. Write the lists of axes as letters"
        )
    return _einsum(*operands, subscripts=subscripts)


@implements(np.tensordot)
def tensordot(x: Any, y: Any, axes: Any = 2) -> Any:
    """Sum of products over pairs of axes: the last of x with the first of y, or those given.

    Parameters
    ----------
    x, y : Tensor or array
    axes : int, or pair of axes (int or sequence)

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.tensordot(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), np.eye(2), axes=2)
    tensor(5.)
    """
    if isinstance(axes, int | np.integer):
        axes = (range(np.ndim(x) - axes, np.ndim(x)), range(axes))
    left, right = (list(np.atleast_1d(a)) for a in axes)
    letters = iter(string.ascii_letters)
    x_labels = [next(letters) for _ in range(np.ndim(x))]
    y_labels = [next(letters) for _ in range(np.ndim(y))]
    left, right = (list(normalize_axis_tuple(a, np.ndim(z))) for a, z in ((left, x), (right, y)))
    lengths = [[np.shape(z)[i] for i in a] for a, z in ((left, x), (right, y))]
    if lengths[0] != lengths[1]:
        raise ShapeError(
            f"tensordot: axes come in pairs of equal lengths; received axes {left} of x "
            f"{np.shape(x)} and {right} of y {np.shape(y)}. Is a transpose missing?"
        )
    for a, b in zip(left, right, strict=True):
        y_labels[b] = x_labels[a]
    kept = [c for c in x_labels + y_labels if (c in x_labels) != (c in y_labels)]
    return einsum(f"{''.join(x_labels)},{''.join(y_labels)}->{''.join(kept)}", x, y)


@implements(np.inner, method=True)
def inner(x: Any, y: Any) -> Any:
    """Sum of products over the last axes of both; of scalars the product.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.inner(tg.tensor([1.0, 2.0]), np.array([3.0, 4.0]))
    tensor(11.)
    """
    if np.ndim(x) == 0 or np.ndim(y) == 0:
        return x * y
    return tensordot(x, y, axes=(-1, -1))


@implements(np.outer, method=True)
def outer(x: Any, y: Any) -> Any:
    """All products of an element of x with one of y: shape (x.size, y.size).

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.outer(tg.tensor([1.0, 2.0]), np.array([3.0, 4.0]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    return ravel(x)[:, None] * ravel(y)


# --- diagonals and triangles


@implements(np.diagonal, method=True)
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of each matrix that two axes make, as the last axis.

    >>> import tinygrad_stab as tg
    >>> tg.diagonal(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1., 4.])
    """
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = np.shape(x)[-2:]
    start = (max(-offset, 0), max(offset, 0))
    steps = np.arange(max(0, min(rows - start[0], columns - start[1])))
    return getitem(x, (..., start[0] + steps, start[1] + steps))


@implements(np.trace, method=True)
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Sum of the diagonal.

    >>> import tinygrad_stab as tg
    >>> tg.trace(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(5.)
    """
    return sum_(diagonal(x, offset, axis1, axis2), axis=-1)


def _lower(x: Any, k: int) -> np.ndarray:
    """True on and below the k-th diagonal."""
    if np.ndim(x) < 2:
        raise ShapeError(f"tril, triu: need matrices; received shape {np.shape(x)}")
    rows, columns = np.shape(x)[-2:]
    return np.tri(rows, columns, k, dtype=bool)


@implements(np.tril, method=True)
def tril(x: Any, k: int = 0) -> Any:
    """The lower triangle of each matrix, up to the k-th diagonal; 0 above.

    >>> import tinygrad_stab as tg
    >>> tg.tril(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 0.],
            [3., 4.]])
    """
    return where(_lower(x, k), x, 0.0)


@implements(np.triu, method=True)
def triu(x: Any, k: int = 0) -> Any:
    """The upper triangle of each matrix, from the k-th diagonal on; 0 below.

    >>> import tinygrad_stab as tg
    >>> tg.triu(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 2.],
            [0., 4.]])
    """
    return where(_lower(x, k - 1), 0.0, x)


# --- inverses, determinants, decompositions (M. Giles 2008, "Collected matrix derivative results
# for forward and reverse mode algorithmic differentiation", §2)

_SQUARE = "x must be a stack of square, invertible matrices. Is it singular, or not square?"
_SQUARES = (case((3, 3)), case((2, 3, 3)), case((0, 2, 2)))

inv = primitive(
    "inv",
    np.linalg.inv,
    lambda g, out, x: -(out.mT @ g @ out.mT),
    doc="""
    Inverse of each matrix; ∂L/∂x = −x⁻ᵀ g x⁻ᵀ.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.inv(np.array([[2.0, 0.0], [0.0, 4.0]]))
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """,
    domain=POSITIVE_DEFINITE,
    cases=_SQUARES,
    numpy=np.linalg.inv,
    expects=_SQUARE,
    method=True,
)


def _of_each(g):
    """One number a matrix, as something that multiplies the matrix."""
    return np.expand_dims(g, (-2, -1))


det = primitive(
    "det",
    np.linalg.det,
    lambda g, out, x: _of_each(g * out) * inv(x).mT,
    doc="""
    Determinant of each matrix; ∂L/∂x = g·det(x)·x⁻ᵀ (so the gradient needs an invertible x).

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.det(np.array([[2.0, 0.0], [0.0, 4.0]])).round(12)
    np.float64(8.0)
    """,
    domain=POSITIVE_DEFINITE,
    cases=_SQUARES,
    numpy=np.linalg.det,
    expects=_SQUARE,
    method=True,
)

_logabsdet = primitive(
    "logabsdet",
    lambda x: np.linalg.slogdet(x).logabsdet,
    lambda g, out, x: _of_each(g) * inv(x).mT,
    doc="Logarithm of the determinant's magnitude; called by ``tg.slogdet``.",
    domain=POSITIVE_DEFINITE,
    cases=_SQUARES,
    analytic=False,
    expects=_SQUARE,
)


class SlogdetResult(NamedTuple):
    """Sign of a determinant (a constant), and logarithm of its magnitude."""

    sign: Any
    logabsdet: Any


@implements(np.linalg.slogdet, method=True)
def slogdet(x: Any) -> SlogdetResult:
    """Sign and log magnitude of the determinant of each matrix; neither over- nor underflows.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.slogdet(tg.tensor(1e-200 * np.eye(4))).logabsdet
    tensor(-1842.0680744)
    """
    sign = _sign_of_det(x)
    return SlogdetResult(sign, _logabsdet(x))


_sign_of_det = primitive(
    "sign_of_det",
    lambda x: np.linalg.slogdet(x).sign,
    doc="Sign of the determinant; called by ``tg.slogdet``.",
    domain=POSITIVE_DEFINITE,
    cases=_SQUARES,
    expects=_SQUARE,
)


def _solve_vector(a, b):
    """Whether b is one vector, which NumPy solves for each matrix of a."""
    return b.ndim == 1


def _solve_b(g, out, a, b):
    if _solve_vector(a, b):
        return np.linalg.solve(a.mT, np.expand_dims(g, -1))[..., 0]
    return np.linalg.solve(a.mT, g)


def _solve_a(g, out, a, b):
    part = _solve_b(g, out, a, b)
    if _solve_vector(a, b):
        return -(np.expand_dims(part, -1) * np.expand_dims(out, -2))
    return -(part @ out.mT)


solve = primitive(
    "solve",
    np.linalg.solve,
    _solve_a,
    _solve_b,
    doc="""
    The x with a x = b, without an inverse; ∂L/∂b = a⁻ᵀ g and ∂L/∂a = −(a⁻ᵀ g) xᵀ.

    b is one vector of shape (n,), or matrices of shape (…, n, m).

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.solve(np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([2.0, 2.0]))
    array([1. , 0.5])
    """,
    domain=(POSITIVE_DEFINITE, REALS),
    cases=(
        case((3, 3), (3,)),
        case((3, 3), (3, 2)),
        case((2, 3, 3), (3, 2)),
        case((2, 3, 3), (3,)),
        case((3, 3), (2, 3, 1)),
        case((2, 2), (2, 0)),
    ),
    broadcasts=True,
    numpy=np.linalg.solve,
    expects="a must hold square, invertible matrices, and b as many rows. Is a singular?",
)


def _cholesky_rule(g, out, x):
    # S = L⁻ᵀ Φ(Lᵀ g) L⁻¹ with Φ: the lower triangle, its diagonal halved (I. Murray 2016,
    # "Differentiation of the Cholesky decomposition", equation 10); made symmetric as x is.
    inner_part = np.tril(out.mT @ g) * (1 - 0.5 * np.eye(x.shape[-1], dtype=x.dtype))
    inverse = inv(out)
    s = inverse.mT @ inner_part @ inverse
    return (s + s.mT) / 2


cholesky = primitive(
    "cholesky",
    lambda x: np.linalg.cholesky((x + x.mT) / 2),
    _cholesky_rule,
    doc="""
    The lower triangular L with L Lᵀ = x, of each positive definite matrix.

    Only the symmetric part (x + xᵀ)/2 counts, so the gradient is symmetric.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.cholesky(np.array([[4.0, 2.0], [2.0, 2.0]]))
    array([[2., 0.],
           [1., 1.]])
    """,
    domain=POSITIVE_DEFINITE,
    cases=_SQUARES[:2],
    analytic=False,
    numpy=np.linalg.cholesky,
    expects="x must be a stack of positive definite matrices. Add a little to its diagonal",
    method=True,
)
