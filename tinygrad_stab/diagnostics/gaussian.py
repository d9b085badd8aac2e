"""Averages of an activation and its derivative over normal variables, by quadrature.

Everything in mean-field theory is such an average. Gauss–Hermite quadrature would be the first
thought; but between its nodes it misses kinks (with 200 nodes, E[φ′²] of hardtanh is off by up to
some per cent) and saturation (tanh at a large variance is a step). So the line is cut where φ has
kinks, and ever finer towards 0, and each piece gets eight Gauss–Legendre nodes.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..core.backward import graph
from ..core.functional import vjp
from ..core.mode import enable_grad, no_grad
from ..core.tensor import Tensor
from ..errors import DtypeError, describe

Activation = Callable[[Any], Any]

# Variances are kept between these: at q = 0 the sign of z would be lost, beyond 1e30 nothing new
# happens (a ReLU knows no scale, anything else is saturated).
_SMALLEST, _LARGEST = 1e-30, 1e30
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)  # on [−1, 1]
_REACH = 9.0  # |z| > 9 has a probability of 2e-19
_CUTS = np.arange(-_REACH, _REACH + 1)  # on a piece of length 1 the normal density is a polynomial
# Where to look for kinks, not on the round numbers where they lie: a factor 1.07 apart.
_PROBES = np.pi * np.geomspace(1e-6, 1e6, 400)
_PROBES = np.concatenate([-_PROBES[::-1], _PROBES])


class Moments(NamedTuple):
    """Averages over z ~ N(0, q), with slopes φ′ at z.

    Attributes
    ----------
    q : float
        The variance, within 1e-30 and 1e30.
    mean, square, fourth : float
        E[φ], E[φ²], E[φ⁴].
    slope_square, slope_fourth : float
        E[φ′²], E[φ′⁴].
    joint : float
        E[φ²φ′²].
    square_growth, slope_growth : float
        ∂E[φ²]/∂q and ∂E[φ′²]/∂q, as E[f(z)·(z²/q − 1)]/(2q): no second derivative of φ, which
        has none at a kink.
    """

    q: float
    mean: float
    square: float
    fourth: float
    slope_square: float
    slope_fourth: float
    joint: float
    square_growth: float
    slope_growth: float


class Gaussian:
    """An activation, ready to be averaged over normal variables.

    Relative errors are near 1e-15 for piecewise linear activations (ReLU and its kin, hardtanh),
    below 1e-10 for those that vary on a scale of order 1 around 0 and at most polynomially far out
    (tanh, sigmoid, GELU), at any variance. Kinks are found in the records of the operations that
    φ consists of, up to |x| = 3e6; one made by hand with `where` is met only at 0.

    Parameters
    ----------
    phi : callable
        Elementwise, made of tensor operations: the engine gives φ′.

    Raises
    ------
    DtypeError
        ``phi`` returns no tensor of its argument's shape.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> from tinygrad_stab.diagnostics.gaussian import Gaussian
    >>> relu = Gaussian(tg.relu)
    >>> m = relu.moments(2.0)
    >>> round(m.square, 6), round(m.slope_square, 6)
    (1.0, 0.5)
    >>> round(relu.pair(2.0, 0.5)[1], 6)  # both units active: ½ − arccos(0.5)/2π
    0.333333
    """

    def __init__(self, phi: Activation) -> None:
        self.phi = phi
        self.kinks = _kinks(phi)

    def moments(self, q: float) -> Moments:
        """For z of variance q, at least 0."""
        q = min(max(q, _SMALLEST), _LARGEST)
        z, weights = _rule(np.concatenate([_CUTS, self._cuts(math.sqrt(q)) / math.sqrt(q)]))
        value, slope = self._evaluate(math.sqrt(q) * z)
        growth = (z**2 - 1) / (2 * q)
        averages = [
            float(np.sum(weights * f))
            for f in (
                value,
                value**2,
                value**4,
                slope**2,
                slope**4,
                (value * slope) ** 2,
                value**2 * growth,
                slope**2 * growth,
            )
        ]
        return Moments(q, *averages)

    def pair(self, q: float, c: float) -> tuple[float, float]:
        """E[φ(u)φ(v)] and E[φ′(u)φ′(v)] for u and v of variance q and correlation c in [−1, 1].

        With u, v = √q·(a·s ± b·r), a = √((1+c)/2), b = √((1−c)/2), s and r independent: for every
        r the kinks lie at known s, and the average over s is even in r and smooth, but where a
        kink of φ(u) meets one of φ(v).
        """
        q = min(max(q, _SMALLEST), _LARGEST)
        root, b = math.sqrt(q), math.sqrt((1 - c) / 2)
        a = max(math.sqrt((1 + c) / 2), 1e-8)  # 0 would leave no line of s to cut
        cuts = self._cuts(root) / root
        meets = np.subtract.outer(self.kinks, self.kinks).ravel() / root
        if b > 0:
            r, outer = _rule(np.concatenate([_CUTS, np.append(cuts, meets / 2) / b]), low=0.0)
        else:  # u and v are one
            r, outer = np.zeros(1), np.full(1, 0.5)
        few = outer > 1e-18  # the rest lies on pieces of length 0, or too far out to count
        r, outer = r[few, None], outer[few, None]
        places = [np.broadcast_to(_CUTS, (len(r), len(_CUTS)))]
        places += [(cuts - b * r) / a, (cuts + b * r) / a]
        s, inner = _rule(np.concatenate(places, axis=1))
        value, slope = self._evaluate(root * np.stack([a * s + b * r, a * s - b * r]))
        weights = 2 * outer * inner
        return float(np.sum(weights * value[0] * value[1])), float(
            np.sum(weights * slope[0] * slope[1])
        )

    def _evaluate(self, x: ndarray) -> tuple[ndarray, ndarray]:
        """φ and φ′."""
        with no_grad(), np.errstate(all="ignore"):  # far out e^x may overflow, to a right value
            value, pullback = vjp(self.phi, x)
            (slope,) = pullback(np.ones_like(x))
        return np.asarray(value), np.asarray(slope)

    def _cuts(self, root: float) -> ndarray:
        """Where to cut the line of x up to 9·root: at kinks, and at 0, ±¼, ±½, ±1, ±2, …"""
        powers = 2.0 ** np.arange(-2, max(math.ceil(math.log2(_REACH * root)), -1))
        return np.concatenate([-powers, [0.0], powers, self.kinks])


def _rule(cuts: ndarray, low: float = -_REACH) -> tuple[ndarray, ndarray]:
    """Nodes and weights for a standard normal variable, on the pieces between the cuts.

    Cuts lie along the last axis, in any order; what is beyond `_REACH` falls on pieces of length 0.
    """
    cuts = np.sort(np.clip(cuts, low, _REACH), axis=-1)
    middle, half = (cuts[..., 1:] + cuts[..., :-1]) / 2, (cuts[..., 1:] - cuts[..., :-1]) / 2
    nodes = middle[..., None] + half[..., None] * _NODES
    weights = half[..., None] * _WEIGHTS * np.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    shape = (*cuts.shape[:-1], -1)
    return nodes.reshape(shape), weights.reshape(shape)


def _kinks(phi: Activation) -> ndarray:
    """Where the records of φ's operations say that it has kinks, by bisection of sign changes."""
    sides = _sides(phi, _PROBES)
    rows, columns = np.nonzero(sides[:, 1:] != sides[:, :-1])
    low, high = _PROBES[columns], _PROBES[columns + 1]
    if not len(rows):
        return np.empty(0)
    for _ in range(60):  # to the last bit
        middle = (low + high) / 2
        same = _sides(phi, middle)[rows, np.arange(len(rows))] == sides[rows, columns]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.unique(high[np.abs(high) > 1e-9])  # 0 is cut at anyway


def _sides(phi: Activation, x: ndarray) -> ndarray:
    """On which side of each kink of each operation in φ: one row a kink, one column a point."""
    with enable_grad(), np.errstate(all="ignore"):
        out = phi(Tensor(x, requires_grad=True))
        if not isinstance(out, Tensor) or out.shape != x.shape:
            raise DtypeError(
                f"phi: an activation makes of a tensor one of its shape, element by element; "
                f"received {describe(out)} for shape {x.shape}. Build it from tinygrad_stab's "
                f"operations, without converting to arrays or reducing"
            )
        rows = [
            np.broadcast_to(kink.where(*node.values, **node.params) > 0, x.shape)
            for node in graph(out)
            if node.op is not None
            for kink in node.op.kinks
        ]
    return np.array(rows).reshape(len(rows), len(x))
