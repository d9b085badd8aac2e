"""Functions of one argument, element by element."""

from functools import lru_cache

import numpy as np

from ..core.primitive import primitive
from ..domain import POSITIVE, Interval, Kink

exp = primitive(
    "exp",
    np.exp,
    lambda g, out, x: g * out,
    doc="""
    Exponential, elementwise: e^x, its own derivative.

    >>> import tinygrad_stab as tg
    >>> tg.exp([0.0, 1.0])
    array([1.        , 2.71828183])
    """,
    numpy=np.exp,
    method=True,
)

log = primitive(
    "log",
    np.log,
    lambda g, out, x: g / x,
    doc="""
    Natural logarithm, elementwise, for x > 0: derivative 1/x. IEEE elsewhere: log 0 = −inf with
    gradient inf, and NaN below.

    >>> import tinygrad_stab as tg
    >>> tg.log([1.0, 2.0])
    array([0.        , 0.69314718])
    """,
    domain=POSITIVE,
    numpy=np.log,
    method=True,
)


def _tanh_rule(g, out, x):
    slope = 1 - out * out
    slope *= g  # in place on arrays: one temporary fewer
    return slope


tanh = primitive(
    "tanh",
    np.tanh,
    _tanh_rule,
    doc="""
    Hyperbolic tangent, elementwise: values in (−1, 1), derivative 1 − tanh² ≤ 1.

    >>> import tinygrad_stab as tg
    >>> tg.tanh([0.0, 1.0])
    array([0.        , 0.76159416])
    """,
    numpy=np.tanh,
    method=True,
)


@lru_cache
def _one(dtype):
    return np.ones((), dtype)  # NumPy takes an array faster than it converts Python's 1


@np.errstate(over="raise")  # as a decorator it costs half of what `with` does
def _logistic(x):
    one = _one(x.dtype)
    out = np.empty_like(x)
    np.negative(x, out)
    np.exp(out, out)
    np.add(one, out, out)
    return np.divide(one, out, out)


def _sigmoid_forward(x):
    x = np.asarray(x)
    try:
        return _logistic(x)  # 1/(1 + e^−x) in one buffer: accurate in both tails, until ...
    except FloatingPointError:
        # ... e^−x overflows, where only e^x/(1 + e^x) still tells sigmoid(−740) from 0.
        positive = x.real > 0
        small = np.exp(np.where(positive, -x, x))
        return np.where(positive, 1, small) / (1 + small)


def _sigmoid_rule(g, out, x):
    slope = _one(out.dtype) - out
    slope *= out  # in place on arrays: two temporaries fewer
    slope *= g
    return slope


sigmoid = primitive(
    "sigmoid",
    _sigmoid_forward,
    _sigmoid_rule,
    doc="""
    Logistic function, elementwise: σ(x) = 1/(1 + e^−x), values in (0, 1).

    Its derivative σ·(1 − σ) is at most ¼, at 0. Accurate to rounding in both tails, without a
    warning: σ(−740) is 4.2e-322.

    >>> import tinygrad_stab as tg
    >>> tg.sigmoid([-700.0, 0.0, 40.0])
    array([9.85967654e-305, 5.00000000e-001, 1.00000000e+000])
    """,
    method=True,
)

relu = primitive(
    "relu",
    lambda x: np.maximum(x, 0),
    lambda g, out, x: g * (x > 0),
    doc="""
    Rectifier, elementwise: max(x, 0), derivative 1 above 0 and 0 below.

    >>> import tinygrad_stab as tg
    >>> tg.relu([-2.0, 3.0])
    array([0., 3.])
    """,
    kinks=[Kink(lambda x: x, "relu′(0) = 0", (0.0,), (0.0,))],
    analytic=False,
    method=True,
)

abs = primitive(
    "abs",
    np.abs,
    lambda g, out, x: g * np.sign(x),
    doc="""
    Absolute value, elementwise: |x|, derivative the sign of x.

    >>> import tinygrad_stab as tg
    >>> tg.abs([-2.0, 3.0])
    array([2., 3.])
    """,
    kinks=[Kink(lambda x: x, "|x|′ = 0 at x = 0", (0.0,), (0.0,))],
    analytic=False,
    numpy=np.abs,
    operator="abs",
    method=True,
)

sign = primitive(
    "sign",
    np.sign,
    lambda g, out, x: g * 0,
    doc="""
    −1, 0 or 1, elementwise; constant on each side, so its derivative is 0.

    >>> import tinygrad_stab as tg
    >>> tg.sign([-2.0, 0.0, 3.0])
    array([-1.,  0.,  1.])
    """,
    kinks=[Kink(lambda x: x, "sign′(0) = 0", (0.0,), (0.0,))],
    analytic=False,
    numpy=np.sign,
)

sqrt = primitive(
    "sqrt",
    np.sqrt,
    lambda g, out, x: g / (2 * out),
    doc="""
    Square root, elementwise, for x ≥ 0: derivative 1/(2√x).

    >>> import tinygrad_stab as tg
    >>> tg.sqrt([4.0, 9.0])
    array([2., 3.])
    """,
    domain=POSITIVE,
    kinks=[Kink(lambda x: x, "√′(0) = inf", (0.0,), (np.inf,))],
    numpy=np.sqrt,
    method=True,
)

sin = primitive(
    "sin",
    np.sin,
    lambda g, out, x: g * np.cos(x),
    doc="""
    Sine of an angle in radians, elementwise.

    >>> import tinygrad_stab as tg
    >>> tg.sin([0.0, 1.0])
    array([0.        , 0.84147098])
    """,
    numpy=np.sin,
    method=True,
)

cos = primitive(
    "cos",
    np.cos,
    lambda g, out, x: -g * np.sin(x),
    doc="""
    Cosine of an angle in radians, elementwise.

    >>> import tinygrad_stab as tg
    >>> tg.cos([0.0, 1.0])
    array([1.        , 0.54030231])
    """,
    numpy=np.cos,
    method=True,
)


def _where_x(g, out, condition, x, y):
    return np.where(condition, g, 0)


def _where_y(g, out, condition, x, y):
    return np.where(condition, 0, g)


where = primitive(
    "where",
    np.where,
    None,
    _where_x,
    _where_y,
    doc="""
    x where the condition holds, else y, elementwise.

    The gradient of the branch not taken is exactly 0, even where its value is NaN. But a rule
    *inside* that branch still runs: ``where(x > 0, sqrt(x), 0)`` differentiates to 0·inf = NaN at
    x < 0. Guard the inner argument too: ``where(x > 0, sqrt(where(x > 0, x, 1)), 0)``.

    >>> import tinygrad_stab as tg
    >>> tg.where([True, False], [1.0, 2.0], 0.0)
    array([1., 0.])
    """,
    domain=(Interval(0.0, 1.0), Interval(-3.0, 3.0), Interval(-3.0, 3.0)),
    numpy=np.where,
)
