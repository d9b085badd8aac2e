"""What stands between layers: activations, element by element."""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ..core.primitive import primitive
from ..domain import Kink
from ..errors import ArgumentError
from .elementwise import clip
from .special import erfc


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
    try:
        return _logistic(x)  # 1/(1 + e^−x) in one buffer: accurate in both tails, until ...
    except (FloatingPointError, TypeError):
        # ... e^−x overflows, where only e^x/(1 + e^x) still tells sigmoid(−740) from 0 (or x is
        # of integers, whose buffer could not hold the result).
        positive = x.real > 0
        with np.errstate(under="ignore"):
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


def _softplus_forward(x):
    # max(x, 0) + log(1 + e^−|x|)
    x = np.asarray(x)
    positive = x.real > 0
    return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))


softplus = primitive(
    "softplus",
    _softplus_forward,
    lambda g, out, x: g * sigmoid(x),
    doc="""
    Smooth rectifier, elementwise: log(1 + e^x), derivative σ(x); no overflow for any x.

    >>> import tinygrad_stab as tg
    >>> tg.softplus([-1000.0, 0.0, 1000.0])
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """,
    method=True,
)


def log_sigmoid(x: Any) -> Any:
    """Log σ(x) = −softplus(−x), elementwise; right where σ(x) underflows.

    >>> import tinygrad_stab as tg
    >>> tg.log_sigmoid(tg.tensor([-1000.0, 0.0]))
    tensor([-1.00000000e+03, -6.93147181e-01])
    """
    return -softplus(-x)


relu = primitive(
    "relu",
    lambda x: np.maximum(x, 0),
    lambda g, out, x: g * (x > 0),  # twice as fast as np.where
    doc="""
    Rectifier, elementwise: max(x, 0), derivative 1 above 0 and 0 below (times an infinite ∂L/∂out,
    IEEE's 0·inf = NaN; ``maximum(x, 0.0)`` selects instead).

    >>> import tinygrad_stab as tg
    >>> tg.relu([-2.0, 3.0])
    array([0., 3.])
    """,
    kinks=[Kink(lambda x: x, "relu′(0) = 0", (0.0,), (0.0,))],
    analytic=False,
    method=True,
)


def _leak(g, x, slope):
    return np.where(x > 0, g, slope * g)


leaky_relu = primitive(
    "leaky_relu",
    lambda x, negative_slope=0.01: _leak(x, x, negative_slope),
    lambda g, out, x, negative_slope=0.01: _leak(g, x, negative_slope),
    doc="""
    Rectifier with a small slope below 0, elementwise (Maas et al. 2013).

    >>> import tinygrad_stab as tg
    >>> tg.leaky_relu([-2.0, 3.0])
    array([-0.02,  3.  ])
    """,
    kinks=[Kink(lambda x, **_: x, "leaky_relu′(0) = negative_slope", (0.0,), (0.01,))],
    analytic=False,
)

elu = primitive(
    "elu",
    lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    lambda g, out, x, alpha=1.0: g * np.where(x > 0, 1, out + alpha),
    doc="""
    x above 0, α·(e^x − 1) below, elementwise (Clevert et al. 2016, equation 15).

    >>> import tinygrad_stab as tg
    >>> tg.elu([-1.0, 3.0])
    array([-0.63212056,  3.        ])
    """,
    kinks=[Kink(lambda x, **_: x, "elu′(0) = α", (0.0,), (1.0,))],
    analytic=False,
)


def selu(x: Any) -> Any:
    """Self-normalising unit, elementwise: λ·elu(x, α) (Klambauer et al. 2017, equation 2).

    λ and α are such that mean 0 and variance 1 are a fixed point.

    >>> import tinygrad_stab as tg
    >>> tg.selu(tg.tensor([-1.0, 1.0]))
    tensor([-1.11133074,  1.05070099])
    """
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def gelu(x: Any, approximate: str = "none") -> Any:
    """x·Φ(x), elementwise, with Φ the normal distribution function (Hendrycks & Gimpel 2016).

    Parameters
    ----------
    x : Tensor or array
    approximate : {"none", "tanh"}
        "tanh" is ½x·(1 + tanh(√(2/π)·(x + 0.044715x³))).

    >>> import tinygrad_stab as tg
    >>> tg.gelu(tg.tensor([-1.0, 1.0]))
    tensor([-0.15865525,  0.84134475])
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f'gelu: approximate is "none" or "tanh"; received {approximate!r}')
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))
    return 0.5 * x * erfc(x * -math.sqrt(0.5))


def silu(x: Any) -> Any:
    """x·σ(x), elementwise, also called swish (Ramachandran et al. 2017).

    >>> import tinygrad_stab as tg
    >>> tg.silu(tg.tensor([0.0, 1.0]))
    tensor([0.        , 0.73105858])
    """
    return x * sigmoid(x)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """Clipped to [min_val, max_val], elementwise; the gradient passes at the bounds, as in clip.

    >>> import tinygrad_stab as tg
    >>> tg.hardtanh(tg.tensor([-2.0, 0.5]))
    tensor([-1. ,  0.5])
    """
    return clip(x, min_val, max_val)
