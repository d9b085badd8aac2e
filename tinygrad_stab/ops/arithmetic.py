"""Arithmetic and comparisons: what Python's operators mean on tensors.

Arguments broadcast as in NumPy; the engine sums a gradient back to its argument's shape, so no
rule here deals with that.
"""

import numpy as np

from ..core.primitive import primitive
from ..domain import POSITIVE, REALS, Interval, Kink

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
)


def _power_forward(x, y):
    # Python's ** has fast paths for y = 2, 1, 1/2, −1 that np.power lacks.
    return x**y


def _power_x(g, out, x, y):
    # Exponent y − 1, but 0 where y = 0: the derivative of a constant is 0 also at x = 0,
    # where 0·0⁻¹ would be NaN.
    return g * y * x ** (y - (y != 0))


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
)


def _tie(x, y):
    return x - y


maximum = primitive(
    "maximum",
    np.maximum,
    lambda g, out, x, y: np.where(x == y, g / 2, g * (x > y)),
    lambda g, out, x, y: np.where(x == y, g / 2, g * (x < y)),
    doc="""
    The larger of two, elementwise; NaN if one is.

    >>> import tinygrad_stab as tg
    >>> tg.maximum([1.0, 5.0], 3.0)
    array([3., 5.])
    """,
    kinks=[Kink(_tie, "a tie shares the gradient equally", (1.0, 1.0), (0.5, 0.5))],
    analytic=False,
    numpy=np.maximum,
)

minimum = primitive(
    "minimum",
    np.minimum,
    lambda g, out, x, y: np.where(x == y, g / 2, g * (x < y)),
    lambda g, out, x, y: np.where(x == y, g / 2, g * (x > y)),
    doc="""
    The smaller of two, elementwise; NaN if one is.

    >>> import tinygrad_stab as tg
    >>> tg.minimum([1.0, 5.0], 3.0)
    array([1., 3.])
    """,
    kinks=[Kink(_tie, "a tie shares the gradient equally", (1.0, 1.0), (0.5, 0.5))],
    analytic=False,
    numpy=np.minimum,
)

# Comparisons have no rules: what they return are plain arrays of bools, constants to a graph.
less = primitive("less", np.less, doc="x < y, elementwise.", numpy=np.less, operator="<")
less_equal = primitive(
    "less_equal", np.less_equal, doc="x ≤ y, elementwise.", numpy=np.less_equal, operator="<="
)
greater = primitive(
    "greater", np.greater, doc="x > y, elementwise.", numpy=np.greater, operator=">"
)
greater_equal = primitive(
    "greater_equal",
    np.greater_equal,
    doc="x ≥ y, elementwise.",
    numpy=np.greater_equal,
    operator=">=",
)
equal = primitive("equal", np.equal, doc="x = y, elementwise.", numpy=np.equal, operator="==")
not_equal = primitive(
    "not_equal", np.not_equal, doc="x ≠ y, elementwise.", numpy=np.not_equal, operator="!="
)
