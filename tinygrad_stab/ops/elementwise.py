"""Functions of one argument, element by element, and selection between elements."""

import math

import numpy as np

from ..core.operand import implements
from ..core.primitive import primitive
from ..domain import CONDITION, POSITIVE, REALS, Interval, Kink, case
from ..errors import ArgumentError

_LOG2, _LOG10 = math.log(2), math.log(10)
_INSIDE = Interval(-0.9, 0.9)
_ABOVE_ONE = Interval(1.2, 4.0)
_ABOVE_MINUS_ONE = Interval(-0.8, 4.0)


def _at_zero(x):
    return x


def _at_integers(x):
    return x - np.round(x)


def _tanh_rule(g, out, x):
    slope = 1 - out * out
    slope *= g  # in place on arrays: one temporary fewer
    return slope


def _sinc_rule(g, out, x):
    # (cos u − sin u/u)/u·π with u = πx; near 0, where that cancels, its power series.
    u = np.pi * x
    near = np.abs(u) < 0.3
    far = np.where(near, 1.0, u)  # so that the formula not taken has no 0/0 to differentiate
    s = u * u
    series = u * (-1 / 3 + s * (1 / 30 + s * (-1 / 840 + s * (1 / 45360 - s * (1 / 3991680)))))
    slope = np.where(near, series, (np.cos(far) - np.sin(far) / far) / far)
    return g * (math.pi * slope)


# --- exponentials and logarithms

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

exp2 = primitive(
    "exp2",
    np.exp2,
    lambda g, out, x: g * (out * _LOG2),
    doc="""
    Power of two, elementwise: 2^x, derivative 2^x·log 2.

    >>> import tinygrad_stab as tg
    >>> tg.exp2([0.0, 3.0])
    array([1., 8.])
    """,
    analytic=False,
    numpy=np.exp2,
    method=True,
)

expm1 = primitive(
    "expm1",
    np.expm1,
    lambda g, out, x: g * np.exp(x),
    doc="""
    e^x − 1, elementwise, without cancellation near 0.

    >>> import tinygrad_stab as tg
    >>> tg.expm1([0.0, 1e-10])
    array([0.e+00, 1.e-10])
    """,
    numpy=np.expm1,
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

log2 = primitive(
    "log2",
    np.log2,
    lambda g, out, x: g / (x * _LOG2),
    doc="""
    Logarithm to base 2, elementwise, for x > 0: derivative 1/(x·log 2).

    >>> import tinygrad_stab as tg
    >>> tg.log2([1.0, 8.0])
    array([0., 3.])
    """,
    domain=POSITIVE,
    numpy=np.log2,
    method=True,
)

log10 = primitive(
    "log10",
    np.log10,
    lambda g, out, x: g / (x * _LOG10),
    doc="""
    Logarithm to base 10, elementwise, for x > 0: derivative 1/(x·log 10).

    >>> import tinygrad_stab as tg
    >>> tg.log10([1.0, 1000.0])
    array([0., 3.])
    """,
    domain=POSITIVE,
    numpy=np.log10,
    method=True,
)

log1p = primitive(
    "log1p",
    np.log1p,
    lambda g, out, x: g / (1 + x),
    doc="""
    log(1 + x), elementwise, for x > −1, without cancellation near 0.

    >>> import tinygrad_stab as tg
    >>> tg.log1p([0.0, 1e-10])
    array([0.e+00, 1.e-10])
    """,
    domain=_ABOVE_MINUS_ONE,
    numpy=np.log1p,
    method=True,
)

# --- powers and roots

square = primitive(
    "square",
    np.square,
    lambda g, out, x: g * 2 * x,
    doc="""
    Square, elementwise: x².

    >>> import tinygrad_stab as tg
    >>> tg.square([2.0, -3.0])
    array([4., 9.])
    """,
    numpy=np.square,
    method=True,
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
    kinks=[Kink(_at_zero, "√′(0) = inf", (0.0,), (np.inf,))],
    numpy=np.sqrt,
    method=True,
)

rsqrt = primitive(
    "rsqrt",
    lambda x: 1 / np.sqrt(x),
    lambda g, out, x: -g * out / (2 * x),
    doc="""
    Reciprocal square root, elementwise, for x > 0: 1/√x.

    >>> import tinygrad_stab as tg
    >>> tg.rsqrt([4.0, 16.0])
    array([0.5 , 0.25])
    """,
    domain=POSITIVE,
    method=True,
)

cbrt = primitive(
    "cbrt",
    np.cbrt,
    lambda g, out, x: g / (3 * out * out),
    doc="""
    Cube root, elementwise, of either sign: derivative 1/(3·∛x²).

    >>> import tinygrad_stab as tg
    >>> tg.cbrt([8.0, -27.0])
    array([ 2., -3.])
    """,
    domain=POSITIVE,
    kinks=[Kink(_at_zero, "∛′(0) = inf", (0.0,), (np.inf,))],
    analytic=False,
    numpy=np.cbrt,
    method=True,
)

reciprocal = primitive(
    "reciprocal",
    np.reciprocal,
    lambda g, out, x: -g * out * out,
    doc="""
    1/x, elementwise; IEEE's ±inf at ±0.

    >>> import tinygrad_stab as tg
    >>> tg.reciprocal([2.0, -4.0])
    array([ 0.5 , -0.25])
    """,
    domain=POSITIVE,
    numpy=np.reciprocal,
    method=True,
)

# --- circular and hyperbolic functions

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

tan = primitive(
    "tan",
    np.tan,
    lambda g, out, x: g * (1 + out * out),
    doc="""
    Tangent of an angle in radians, elementwise: derivative 1 + tan².

    >>> import tinygrad_stab as tg
    >>> tg.tan([0.0, 1.0])
    array([0.        , 1.55740772])
    """,
    domain=_INSIDE,
    numpy=np.tan,
    method=True,
)

arcsin = primitive(
    "arcsin",
    np.arcsin,
    lambda g, out, x: g / np.sqrt((1 - x) * (1 + x)),
    doc="""
    Inverse sine, elementwise, for |x| ≤ 1; its derivative 1/√(1 − x²) is inf at ±1.

    >>> import tinygrad_stab as tg
    >>> tg.arcsin([0.0, 1.0])
    array([0.        , 1.57079633])
    """,
    domain=_INSIDE,
    numpy=np.arcsin,
    method=True,
)

arccos = primitive(
    "arccos",
    np.arccos,
    lambda g, out, x: -g / np.sqrt((1 - x) * (1 + x)),
    doc="""
    Inverse cosine, elementwise, for |x| ≤ 1; its derivative −1/√(1 − x²) is −inf at ±1.

    >>> import tinygrad_stab as tg
    >>> tg.arccos([0.0, 1.0])
    array([1.57079633, 0.        ])
    """,
    domain=_INSIDE,
    numpy=np.arccos,
    method=True,
)

arctan = primitive(
    "arctan",
    np.arctan,
    lambda g, out, x: g / (1 + x * x),
    doc="""
    Inverse tangent, elementwise: derivative 1/(1 + x²).

    >>> import tinygrad_stab as tg
    >>> tg.arctan([0.0, 1.0])
    array([0.        , 0.78539816])
    """,
    domain=_INSIDE,
    numpy=np.arctan,
    method=True,
)

sinh = primitive(
    "sinh",
    np.sinh,
    lambda g, out, x: g * np.cosh(x),
    doc="""
    Hyperbolic sine, elementwise.

    >>> import tinygrad_stab as tg
    >>> tg.sinh([0.0, 1.0])
    array([0.        , 1.17520119])
    """,
    numpy=np.sinh,
    method=True,
)

cosh = primitive(
    "cosh",
    np.cosh,
    lambda g, out, x: g * np.sinh(x),
    doc="""
    Hyperbolic cosine, elementwise.

    >>> import tinygrad_stab as tg
    >>> tg.cosh([0.0, 1.0])
    array([1.        , 1.54308063])
    """,
    numpy=np.cosh,
    method=True,
)

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

arcsinh = primitive(
    "arcsinh",
    np.arcsinh,
    lambda g, out, x: g / np.sqrt(1 + x * x),
    doc="""
    Inverse hyperbolic sine, elementwise: derivative 1/√(1 + x²).

    >>> import tinygrad_stab as tg
    >>> tg.arcsinh([0.0, 1.0])
    array([0.        , 0.88137359])
    """,
    domain=_INSIDE,
    numpy=np.arcsinh,
    method=True,
)

arccosh = primitive(
    "arccosh",
    np.arccosh,
    lambda g, out, x: g / np.sqrt((x - 1) * (x + 1)),
    doc="""
    Inverse hyperbolic cosine, elementwise, for x ≥ 1; its derivative 1/√(x² − 1) is inf at 1.

    >>> import tinygrad_stab as tg
    >>> tg.arccosh([1.0, 2.0])
    array([0.       , 1.3169579])
    """,
    domain=_ABOVE_ONE,
    numpy=np.arccosh,
    method=True,
)

arctanh = primitive(
    "arctanh",
    np.arctanh,
    lambda g, out, x: g / ((1 - x) * (1 + x)),
    doc="""
    Inverse hyperbolic tangent, elementwise, for |x| < 1: derivative 1/(1 − x²).

    >>> import tinygrad_stab as tg
    >>> tg.arctanh([0.0, 0.5])
    array([0.        , 0.54930614])
    """,
    domain=_INSIDE,
    numpy=np.arctanh,
    method=True,
)

sinc = primitive(
    "sinc",
    np.sinc,
    _sinc_rule,
    doc="""
    sin(πx)/(πx), elementwise, 1 at 0 with derivative 0 there.

    >>> import tinygrad_stab as tg
    >>> tg.sinc([0.0, 0.5])
    array([1.        , 0.63661977])
    """,
    numpy=np.sinc,
    analytic=False,  # np.sinc loses the imaginary part near 0, where sin(u)/u cancels
    method=True,
)

# --- steps: constant on each side, so the derivative is 0

sign = primitive(
    "sign",
    np.sign,
    lambda g, out, x: np.zeros(x.shape, x.dtype),
    doc="""
    −1, 0 or 1, elementwise; derivative 0.

    >>> import tinygrad_stab as tg
    >>> tg.sign([-2.0, 0.0, 3.0])
    array([-1.,  0.,  1.])
    """,
    kinks=[Kink(_at_zero, "sign′(0) = 0", (0.0,), (0.0,))],
    analytic=False,
    numpy=np.sign,
    method=True,
)

floor = primitive(
    "floor",
    np.floor,
    lambda g, out, x: np.zeros(x.shape, x.dtype),
    doc="""
    The next integer below, elementwise; derivative 0.

    >>> import tinygrad_stab as tg
    >>> tg.floor([-1.5, 2.5])
    array([-2.,  2.])
    """,
    kinks=[Kink(_at_integers, "floor′ = 0 at integers too", (2.0,), (0.0,))],
    analytic=False,
    numpy=np.floor,
    method=True,
)

ceil = primitive(
    "ceil",
    np.ceil,
    lambda g, out, x: np.zeros(x.shape, x.dtype),
    doc="""
    The next integer above, elementwise; derivative 0.

    >>> import tinygrad_stab as tg
    >>> tg.ceil([-1.5, 2.5])
    array([-1.,  3.])
    """,
    kinks=[Kink(_at_integers, "ceil′ = 0 at integers too", (2.0,), (0.0,))],
    analytic=False,
    numpy=np.ceil,
    method=True,
)

trunc = primitive(
    "trunc",
    np.trunc,
    lambda g, out, x: np.zeros(x.shape, x.dtype),
    doc="""
    The next integer towards 0, elementwise; derivative 0.

    >>> import tinygrad_stab as tg
    >>> tg.trunc([-1.5, 2.5])
    array([-1.,  2.])
    """,
    kinks=[Kink(_at_integers, "trunc′ = 0 at integers too", (2.0,), (0.0,))],
    analytic=False,
    numpy=np.trunc,
    method=True,
)

# --- absolute values, clipping, repair

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
    kinks=[Kink(_at_zero, "|x|′ = 0 at x = 0", (0.0,), (0.0,))],
    analytic=False,
    numpy=np.abs,
    operator="abs",
    method=True,
)


round = primitive(
    "round",
    lambda x, decimals=0: np.round(x, decimals),
    lambda g, out, x, decimals=0: np.zeros(x.shape, x.dtype),
    doc="""
    Rounded to the given number of decimals, halves to even, elementwise; derivative 0.

    >>> import tinygrad_stab as tg
    >>> tg.round([0.5, 1.5, 2.34])
    array([0., 2., 2.])
    """,
    kinks=[Kink(lambda x: _at_integers(x + 0.5), "round′ = 0 at halves too", (0.5,), (0.0,))],
    analytic=False,
    numpy=np.round,
    method=True,
)
implements(np.rint)(round)


def _clip_bounds(a_min, a_max, min, max):
    """The bounds under either of their names."""
    if (a_min is not None and min is not None) or (a_max is not None and max is not None):
        raise ArgumentError("clip: a bound has two names, a_min or min; received both. Pass one")
    return (a_min if min is None else min), (a_max if max is None else max)


def _clip_forward(x, a_min=None, a_max=None, min=None, max=None):
    return np.clip(x, *_clip_bounds(a_min, a_max, min, max))


def _clip_rule(g, out, x, a_min=None, a_max=None, min=None, max=None):
    low, high = _clip_bounds(a_min, a_max, min, max)
    if low is not None:
        g = np.where(x >= low, g, 0)
    return g if high is None else np.where(x <= high, g, 0)


def _clip_kinks(x, a_min=None, a_max=None, min=None, max=None):
    """Zero where x is at a bound; without bounds as if the lower one were 0."""
    low, high = _clip_bounds(a_min, a_max, min, max)
    gap = 1.0 if low is None and high is not None else x - (0.0 if low is None else low)
    return gap if high is None else gap * np.where(np.isfinite(high), x - high, 1.0)


clip = primitive(
    "clip",
    _clip_forward,
    _clip_rule,
    doc="""
    Limited to [a_min, a_max], elementwise; a bound of None does not limit. Bounds are constants.

    >>> import tinygrad_stab as tg
    >>> tg.clip([-2.0, 0.5, 3.0], -1.0, 1.0)
    array([-1. ,  0.5,  1. ])
    """,
    kinks=[
        Kink(
            _clip_kinks,
            "the gradient passes on the closed interval, bounds included",
            (0.0,),
            (1.0,),
        )
    ],
    cases=(
        case((3, 4), a_min=-1.0, a_max=1.0),
        case((3, 4), a_min=0.5),
        case((2, 3), a_min=np.array([-1, 0, 1], np.float32), a_max=2.0),
        case((), a_min=0.0, a_max=1.0),
        case((4,), max=0.5),
        case((0,), a_min=0.0),
    ),
    analytic=False,
    numpy=np.clip,
    method=True,
    broadcasts=True,
    expects="bounds must broadcast with x. Is an axis missing?",
)

nan_to_num = primitive(
    "nan_to_num",
    lambda x, copy=True, nan=0.0, posinf=None, neginf=None: np.nan_to_num(
        x, nan=nan, posinf=posinf, neginf=neginf
    ),
    lambda g, out, x, copy=True, nan=0.0, posinf=None, neginf=None: np.where(np.isfinite(x), g, 0),
    doc="""
    NaN and infinities replaced by numbers, elementwise; what was replaced gets no gradient.

    copy stands for NumPy's argument of that name; a tensor is always copied.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nan_to_num([np.nan, 1.0, np.inf], posinf=9.0)
    array([0., 1., 9.])
    """,
    analytic=False,
    numpy=np.nan_to_num,
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
    domain=(CONDITION, REALS, REALS),
    numpy=np.where,
)
