"""Arithmetic and comparisons: what Python's operators mean on tensors.

Arguments broadcast as in NumPy; the engine sums a gradient back to its argument's shape, so no
rule here deals with that.
"""

from typing import Any

import numpy as np

from ..core.operand import Operand, implements
from ..core.primitive import primitive
from ..domain import POSITIVE, REALS, Interval, Kink
from .activations import sigmoid

add = primitive(
    "add",
    np.add,
    lambda g, out, x, y: g,
    lambda g, out, x, y: g,
    doc="""
    Sum, elementwise: x + y.

    >>> import tinygrad_stab as tg
    >>> tg.add([1.0, 2.0], 10.0)
    array([11., 12.])
    """,
    numpy=np.add,
    operator="+",
    method=True,
)

subtract = primitive(
    "subtract",
    np.subtract,
    lambda g, out, x, y: g,
    lambda g, out, x, y: -g,
    doc="""
    Difference, elementwise: x − y.

    >>> import tinygrad_stab as tg
    >>> tg.subtract([1.0, 2.0], 10.0)
    array([-9., -8.])
    """,
    numpy=np.subtract,
    operator="-",
    method=True,
)

multiply = primitive(
    "multiply",
    np.multiply,
    lambda g, out, x, y: g * y,
    lambda g, out, x, y: g * x,
    doc="""
    Product, elementwise: x·y.

    >>> import tinygrad_stab as tg
    >>> tg.multiply([1.0, 2.0], 10.0)
    array([10., 20.])
    """,
    numpy=np.multiply,
    operator="*",
    method=True,
)

divide = primitive(
    "divide",
    np.divide,
    lambda g, out, x, y: g / y,
    lambda g, out, x, y: -g * out / y,
    doc="""
    Quotient, elementwise: x / y. Division by zero gives IEEE's ±inf or NaN, as np.divide.

    >>> import tinygrad_stab as tg
    >>> tg.divide([1.0, 2.0], 4.0)
    array([0.25, 0.5 ])
    """,
    domain=(REALS, POSITIVE),
    numpy=np.divide,
    operator="/",
    method=True,
)

negative = primitive(
    "negative",
    np.negative,
    lambda g, out, x: -g,
    doc="""
    Opposite, elementwise: −x.

    >>> import tinygrad_stab as tg
    >>> tg.negative([1.0, -2.0])
    array([-1.,  2.])
    """,
    numpy=np.negative,
    operator="neg",
    method=True,
)

positive = primitive(
    "positive",
    np.positive,
    lambda g, out, x: g,
    doc="""
    The value unchanged, as a node of its own: +x.

    >>> import tinygrad_stab as tg
    >>> tg.positive([3.0])
    array([3.])
    """,
    numpy=np.positive,
    operator="pos",
    method=True,
)


def _power_forward(x, y):
    # Python's ** has fast paths for y = 2, 1, 1/2, −1 that np.power lacks.
    return x**y


def _power_x(g, out, x, y):
    # The derivative of the constant x^0 is 0 also at x = 0, where 0·0⁻¹ would be NaN.
    if not (isinstance(y, int | float) and y):
        x = np.where((x == 0) * (y == 0), 1, x)
    return g * y * x ** (y - 1)


def _power_y(g, out, x, y):
    # 0^y is 0 for every y > 0, so it does not change with y; 0·log 0 would be NaN.
    return g * out * np.log(np.where((x == 0) * (y >= 0), 1, x))


power = primitive(
    "power",
    _power_forward,
    _power_x,
    _power_y,
    doc="""
    Power, elementwise: x^y, with ∂/∂x = y·x^(y−1) and ∂/∂y = x^y·log x.

    A negative base has a derivative in the base for integral y; in the exponent it is NaN.

    >>> import tinygrad_stab as tg
    >>> tg.power([2.0, 3.0], 2.0)
    array([4., 9.])
    """,
    domain=(POSITIVE, Interval(-2.0, 3.0)),
    kinks=[
        Kink(lambda x, y: x, "∂(x^0)/∂x = 0 at x = 0, and ∂(0^y)/∂y = 0", (0.0, 0.0), (0.0, 0.0))
    ],
    numpy=np.power,
    operator="**",
    method=True,
)


def _tie(x, y):
    return x - y


def _to_winner(g, x, y, wins):
    """The gradient of an argument that gives the value where it wins, half of it at a tie."""
    return np.where(x == y, g / 2, np.where(wins, g, 0))


maximum = primitive(
    "maximum",
    np.maximum,
    lambda g, out, x, y: _to_winner(g, x, y, x > y),
    lambda g, out, x, y: _to_winner(g, x, y, x < y),
    doc="""
    The larger of two, elementwise; NaN if one is.

    >>> import tinygrad_stab as tg
    >>> tg.maximum([1.0, 5.0], 3.0)
    array([3., 5.])
    """,
    kinks=[Kink(_tie, "a tie shares the gradient equally", (1.0, 1.0), (0.5, 0.5))],
    analytic=False,
    numpy=np.maximum,
    method=True,
)

minimum = primitive(
    "minimum",
    np.minimum,
    lambda g, out, x, y: _to_winner(g, x, y, x < y),
    lambda g, out, x, y: _to_winner(g, x, y, x > y),
    doc="""
    The smaller of two, elementwise; NaN if one is.

    >>> import tinygrad_stab as tg
    >>> tg.minimum([1.0, 5.0], 3.0)
    array([1., 3.])
    """,
    kinks=[Kink(_tie, "a tie shares the gradient equally", (1.0, 1.0), (0.5, 0.5))],
    analytic=False,
    numpy=np.minimum,
    method=True,
)


def _or_missing(chosen, other):
    """Chosen, or with a NaN beside it."""
    return np.logical_or(chosen, np.isnan(other))


fmax = primitive(
    "fmax",
    np.fmax,
    lambda g, out, x, y: _to_winner(g, x, y, _or_missing(x > y, y)),
    lambda g, out, x, y: _to_winner(g, x, y, _or_missing(x < y, x)),
    doc="""
    The larger of two, elementwise; where one is NaN, the other.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.fmax([1.0, np.nan], 0.0)
    array([1., 0.])
    """,
    kinks=[Kink(_tie, "a tie shares the gradient equally", (1.0, 1.0), (0.5, 0.5))],
    analytic=False,
    numpy=np.fmax,
    method=True,
)

fmin = primitive(
    "fmin",
    np.fmin,
    lambda g, out, x, y: _to_winner(g, x, y, _or_missing(x < y, y)),
    lambda g, out, x, y: _to_winner(g, x, y, _or_missing(x > y, x)),
    doc="""
    The smaller of two, elementwise; where one is NaN, the other.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.fmin([1.0, np.nan], 0.0)
    array([0., 0.])
    """,
    kinks=[Kink(_tie, "a tie shares the gradient equally", (1.0, 1.0), (0.5, 0.5))],
    analytic=False,
    numpy=np.fmin,
    method=True,
)


@implements(np.float_power, method=True)
def float_power(x: Any, y: Any) -> Any:
    """Power in float64 at least, elementwise: x^y.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.float_power(tg.tensor([2.0], dtype=np.float32), 3)
    tensor([8.])
    """
    wide = np.result_type(x, y, np.float64)
    if not isinstance(x, Operand):
        return power(np.asarray(x, wide), y)
    return power(x if x.dtype == wide else x.astype(wide), y)


remainder = primitive(
    "remainder",
    np.remainder,
    lambda g, out, x, y: g,
    lambda g, out, x, y: -g * np.floor(x / y),
    doc="""
    x − y·⌊x/y⌋, elementwise, with the sign of y: what ``%`` gives.

    >>> import tinygrad_stab as tg
    >>> tg.remainder([5.0, -1.0], 3.0)
    array([2., 2.])
    """,
    domain=(REALS, POSITIVE),
    kinks=[
        Kink(
            lambda x, y: x / y - np.round(x / y),
            "at a jump the derivatives are those to the right: 1 and −⌊x/y⌋",
            (4.0, 2.0),
            (1.0, -2.0),
        )
    ],
    analytic=False,
    numpy=np.remainder,
    operator="%",
    method=True,
)

copysign = primitive(
    "copysign",
    np.copysign,
    lambda g, out, x, y: g * (np.sign(x) * np.copysign(1, y)),
    lambda g, out, x, y: g * 0,
    doc="""
    |x| with the sign of y, elementwise; constant in y on each side of 0.

    >>> import tinygrad_stab as tg
    >>> tg.copysign([1.0, -2.0], -0.0)
    array([-1., -2.])
    """,
    kinks=[Kink(lambda x, y: x * y, "0 at x = 0, and in y everywhere", (0.0, 0.0), (0.0, 0.0))],
    analytic=False,
    numpy=np.copysign,
    method=True,
)


def nonzero(r):
    """A distance, or 1 where it is 0, so that 0/0 becomes 0."""
    return np.where(r == 0, 1, r)


def _arctan2_y(g, out, y, x):
    r = nonzero(np.hypot(x, y))
    return g * (x / r / r)


def _arctan2_x(g, out, y, x):
    r = nonzero(np.hypot(x, y))
    return -g * (y / r / r)


arctan2 = primitive(
    "arctan2",
    np.arctan2,
    _arctan2_y,
    _arctan2_x,
    doc="""
    Angle of the point (x, y) in (−π, π], elementwise; arguments in the order y, x, as NumPy.

    >>> import tinygrad_stab as tg
    >>> tg.arctan2([0.0, 1.0], [1.0, 0.0])
    array([0.        , 1.57079633])
    """,
    domain=(REALS, POSITIVE),
    kinks=[Kink(lambda y, x: np.hypot(x, y), "0 at the origin", (0.0, 0.0), (0.0, 0.0))],
    analytic=False,
    numpy=np.arctan2,
    method=True,
)

hypot = primitive(
    "hypot",
    np.hypot,
    lambda g, out, x, y: g * (x / nonzero(out)),
    lambda g, out, x, y: g * (y / nonzero(out)),
    doc="""
    √(x² + y²), elementwise, without overflow.

    >>> import tinygrad_stab as tg
    >>> tg.hypot([3.0, 3e200], [4.0, 4e200])
    array([5.e+000, 5.e+200])
    """,
    domain=(REALS, POSITIVE),
    kinks=[Kink(lambda x, y: np.hypot(x, y), "0 at the origin, as norm", (0.0, 0.0), (0.0, 0.0))],
    analytic=False,
    numpy=np.hypot,
    method=True,
)


def _lead(x, y):
    """X − y, and 0 where both are the same infinity."""
    return np.where(np.logical_and(x == y, np.isinf(x)), 0, x - y)


logaddexp = primitive(
    "logaddexp",
    np.logaddexp,
    lambda g, out, x, y: g * sigmoid(_lead(x, y)),
    lambda g, out, x, y: g * sigmoid(_lead(y, x)),
    doc="""
    log(e^x + e^y), elementwise, without overflow; each derivative is that term's share, σ(x − y).

    >>> import tinygrad_stab as tg
    >>> tg.logaddexp([0.0, 1000.0], [0.0, 1000.0])
    array([6.93147181e-01, 1.00069315e+03])
    """,
    analytic=False,
    numpy=np.logaddexp,
    method=True,
)

# Comparisons and tests have no rules: they return plain arrays of bools, constants to a graph.
less = primitive(
    "less", np.less, doc="x < y, elementwise.", numpy=np.less, operator="<", method=True
)
less_equal = primitive(
    "less_equal",
    np.less_equal,
    doc="x ≤ y, elementwise.",
    numpy=np.less_equal,
    operator="<=",
    method=True,
)
greater = primitive(
    "greater",
    np.greater,
    doc="x > y, elementwise.",
    numpy=np.greater,
    operator=">",
    method=True,
)
greater_equal = primitive(
    "greater_equal",
    np.greater_equal,
    doc="x ≥ y, elementwise.",
    numpy=np.greater_equal,
    operator=">=",
    method=True,
)
equal = primitive(
    "equal", np.equal, doc="x = y, elementwise.", numpy=np.equal, operator="==", method=True
)
not_equal = primitive(
    "not_equal",
    np.not_equal,
    doc="x ≠ y, elementwise.",
    numpy=np.not_equal,
    operator="!=",
    method=True,
)
logical_and = primitive(
    "logical_and",
    np.logical_and,
    doc="x and y, elementwise.",
    numpy=np.logical_and,
    method=True,
)
logical_or = primitive(
    "logical_or", np.logical_or, doc="x or y, elementwise.", numpy=np.logical_or, method=True
)
isnan = primitive(
    "isnan", np.isnan, doc="Whether x is NaN, elementwise.", numpy=np.isnan, method=True
)
isfinite = primitive(
    "isfinite",
    np.isfinite,
    doc="Neither NaN nor ±inf, elementwise.",
    numpy=np.isfinite,
    method=True,
)
isinf = primitive(
    "isinf", np.isinf, doc="Whether x is ±inf, elementwise.", numpy=np.isinf, method=True
)
