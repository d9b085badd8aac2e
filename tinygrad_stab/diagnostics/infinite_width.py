"""What happens to signals and gradients in an infinitely wide random network.

Mean-field theory (Poole et al. 2016, "Exponential expressivity in deep neural networks through
transient chaos"; Schoenholz et al. 2017, "Deep information propagation"): in a wide layer of
independent random weights, Var(w) = σ_w²/fan_in and Var(b) = σ_b², the pre-activations are normal,
z ~ N(0, q), so averages over units are integrals over one normal variable, and averages for two
inputs at once are integrals over two. Two numbers then say all: the variance q of one input's
pre-activations, and the correlation c of two inputs'.
"""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy import ndarray

from ..arrays import numbers
from ..checks import check_numbers
from ..errors import ArgumentError
from .gaussian import Activation, Gaussian

Phase = Literal["ordered", "critical", "chaotic"]

# χ counts as 1 this close to it: over 1000 layers the gradient's RMS changes by 0.05 %.
CRITICAL = 1e-6


class MeanField(NamedTuple):
    """Where a deep random network ends, and how fast it gets there.

    Attributes
    ----------
    q : float
        Fixed point q* of the variance; inf if it grows without bound.
    chi : float
        χ = σ_w² E[φ′(√q* z)²]: the mean square of a gradient changes by χ a layer, its RMS by √χ.
    c : float
        The stable fixed point c* of the correlation of two inputs, in [0, 1].
    xi_q, xi_c : float
        In how many layers a deviation from q* and c* shrinks to 1/e. inf if it does not, or not
        exponentially.
    phase : {"ordered", "critical", "chaotic"}
        By χ: below 1 gradients vanish and all inputs end up alike; above 1 gradients explode and
        similar inputs part; at 1 neither.
    """

    q: float
    chi: float
    c: float
    xi_q: float
    xi_c: float
    phase: Phase


class CriticalPoint(NamedTuple):
    """A weight variance with which gradients neither vanish nor explode.

    Attributes
    ----------
    weight_variance : float
        σ_w².
    q : float
        Variance of the pre-activations there.
    stable : bool
        Whether the variance stays at q by itself: ∂V/∂q ≤ 1. Where it does not (GELU and SiLU with
        small biases), it drifts off to 0 or to infinity, and χ with it.
    """

    weight_variance: float
    q: float
    stable: bool


class PhaseDiagram(NamedTuple):
    """Mean-field theory on a grid: one row a bias variance, one column a weight variance.

    Attributes
    ----------
    weight_variances, bias_variances : ndarray of shape (columns,) and (rows,)
    q, chi, c, xi_q, xi_c : ndarray of shape (rows, columns)
        As in `MeanField`; the critical line is the contour chi = 1.
    """

    weight_variances: ndarray
    bias_variances: ndarray
    q: ndarray
    chi: ndarray
    c: ndarray
    xi_q: ndarray
    xi_c: ndarray


def variance_map(
    phi: Activation, q: Any, weight_variance: float, bias_variance: float = 0.0
) -> Any:
    """Variance one layer on: V(q) = σ_w² E[φ(√q z)²] + σ_b² (Poole et al. 2016, equation 3).

    Parameters
    ----------
    phi : callable
        The activation, made of tensor operations.
    q : array_like
        Variances, at least 0.
    weight_variance, bias_variance : float
        σ_w² = fan_in·Var(w) and σ_b², at least 0.

    Returns
    -------
    float or ndarray of q's shape

    Raises
    ------
    ArgumentError
        A negative variance, or one that is no finite number.
    DtypeError
        ``phi`` returns no tensor of its argument's shape.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.diagnostics.variance_map(tg.relu, [1.0, 3.0], weight_variance=2.0).round(9)
    array([1., 3.])
    """
    _check_variances("variance_map", weight_variance, bias_variance)
    q = numbers(q)
    if not np.all((q >= 0) & np.isfinite(q)):
        raise ArgumentError(f"variance_map: q is finite and at least 0; received {q!r:.60}")
    gaussian = Gaussian(phi)
    squares = np.array([gaussian.moments(float(x)).square for x in q.ravel()])
    return (weight_variance * squares + bias_variance).reshape(q.shape)[()]


def correlation_map(
    phi: Activation, c: Any, weight_variance: float, bias_variance: float = 0.0
) -> Any:
    """Correlation one layer on, of two inputs whose variance has settled at q*.

    C(c) = (σ_w² E[φ(u)φ(v)] + σ_b²)/q*, with u and v normal, of variance q* and correlation c
    (Poole et al. 2016, equation 5). Where q* is 0 or infinite, V(q) takes its place, in the limit.

    Parameters
    ----------
    phi : callable
        The activation, made of tensor operations.
    c : array_like
        Correlations, in [−1, 1].
    weight_variance, bias_variance : float
        σ_w² = fan_in·Var(w) and σ_b², at least 0.

    Returns
    -------
    float or ndarray of c's shape

    Raises
    ------
    ArgumentError
        A negative variance, one that is no finite number, or c outside its range.
    DtypeError
        ``phi`` returns no tensor of its argument's shape.

    Examples
    --------
    For ReLU it is (√(1 − c²) + c·(π − arccos c))/π (Cho & Saul 2009, equation 6), at any scale:

    >>> import tinygrad_stab as tg
    >>> tg.diagnostics.correlation_map(tg.relu, [0.0, 1.0], weight_variance=2.0).round(6)
    array([0.31831, 1.     ])
    """
    _check_variances("correlation_map", weight_variance, bias_variance)
    c = numbers(c)
    if not np.all(np.abs(c) <= 1):
        raise ArgumentError(f"correlation_map: c is in [−1, 1]; received {c!r:.60}")
    gaussian = Gaussian(phi)
    q = _fixed_variance(gaussian, weight_variance, bias_variance)
    mapped = [_correlate(gaussian, q, float(x), weight_variance, bias_variance)[0] for x in c.flat]
    return np.array(mapped).reshape(c.shape)[()]


def mean_field(phi: Activation, weight_variance: float, bias_variance: float = 0.0) -> MeanField:
    """Fixed points of variance and correlation, their depth scales, and the phase.

    q* solves q = σ_w² E[φ(√q z)²] + σ_b², and χ = σ_w² E[φ′(√q* z)²] (Schoenholz et al. 2017,
    equations 3 and 5). c* solves c = C(c), see `correlation_map`. The slopes of the two maps there
    give ξ = −1/ln(slope): ξ_q from V′(q*) = χ + σ_w² E[φ″φ], ξ_c from C′(c*) = σ_w² E[φ′(u)φ′(v)]
    (equations 7 and 9).

    Parameters
    ----------
    phi : callable
        The activation, made of tensor operations: `tg.tanh`, a `Module`, a function of your own.
    weight_variance : float
        σ_w² = fan_in·Var(w), at least 0.
    bias_variance : float
        σ_b², at least 0.

    Returns
    -------
    MeanField

    Raises
    ------
    ArgumentError
        A negative variance, or one that is no finite number.
    DtypeError
        ``phi`` returns no tensor of its argument's shape.

    Notes
    -----
    Of several fixed points it gives the one near which the variance comes to rest that started
    from σ_w² + σ_b², that of an input with mean square 1. Where every q is one (ReLU with σ_w² = 2
    and no bias) it stays there. Where q* is 0 or infinite, c and xi_c are those of the normalised
    signal; a signal that is linear in the limit, as tanh of a vanishing one, keeps any
    correlation, and c is given as 1.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> m = tg.diagnostics.mean_field(tg.sigmoid, weight_variance=1.0)
    >>> round(m.q, 5), round(m.chi, 6), round(m.chi**0.5, 5), m.phase
    (0.26469, 0.055721, 0.23605, 'ordered')
    >>> m = tg.diagnostics.mean_field(tg.tanh, weight_variance=4.0, bias_variance=0.05)
    >>> round(m.chi**0.5, 3), round(m.c, 3), round(m.xi_c, 2), m.phase
    (1.159, 0.165, 6.98, 'chaotic')
    """
    _check_variances("mean_field", weight_variance, bias_variance)
    return _solve(Gaussian(phi), weight_variance, bias_variance)


def critical_point(phi: Activation, bias_variance: float = 0.0) -> CriticalPoint:
    """The weight variance that makes χ = 1 for a bias variance: a point of the critical line.

    Every variance q belongs to one critical point, σ_w² = 1/E[φ′(√q z)²] and
    σ_b² = q − E[φ(√q z)²]/E[φ′(√q z)²]; so only the q of the given σ_b² has to be found.

    Parameters
    ----------
    phi : callable
        The activation, made of tensor operations.
    bias_variance : float
        σ_b², at least 0.

    Returns
    -------
    CriticalPoint
        That with the smallest q from 1e-12 to 1e12. ReLU has σ_w² = 2 for any bias variance, but
        with biases the variance grows for ever, and q is merely large.

    Raises
    ------
    ArgumentError
        A negative variance; or there is no critical point, as for softplus.
    DtypeError
        ``phi`` returns no tensor of its argument's shape.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> [round(tg.diagnostics.critical_point(tg.tanh, b).weight_variance, 4) for b in (0, 0.05)]
    [1.0, 1.761]
    """
    _check_variances("critical_point", 0.0, bias_variance)
    gaussian = Gaussian(phi)

    def excess(q: float) -> float:
        """By how much the critical σ_b² of q exceeds the given one, times E[φ′²], over q."""
        m = gaussian.moments(q)
        value = ((q - bias_variance) * m.slope_square - m.square) / q
        return 0.0 if abs(value) < 1e-10 * m.slope_square else value

    grid = np.geomspace(1e-12, 1e12, 121)
    found = [excess(float(q)) for q in grid]
    for i, here in enumerate(found):
        if here == 0 and gaussian.moments(grid[i]).slope_square > 0:
            low = high = float(grid[i])
            break
        if i and here * found[i - 1] < 0:
            low, high = float(grid[i - 1]), float(grid[i])
            break
    else:
        raise ArgumentError(
            f"critical_point: χ must be 1 for some variance; with bias_variance={bias_variance} "
            f"this activation has none from 1e-12 to 1e12. Try another bias variance"
        )
    while high > low * (1 + 1e-14):
        middle = math.sqrt(low * high)
        if excess(middle) * excess(low) > 0:
            low = middle
        else:
            high = middle
    m = gaussian.moments(high)
    stable = m.square_growth <= m.slope_square * (1 + 1e-9)
    return CriticalPoint(1 / m.slope_square, high, stable)


def phase_diagram(phi: Activation, weight_variances: Any, bias_variances: Any) -> PhaseDiagram:
    """Mean-field theory for every pair of variances: arrays to draw.

    A cell of the chaotic phase takes some 20 ms, any other less than 1 ms.

    Parameters
    ----------
    phi : callable
        The activation, made of tensor operations.
    weight_variances, bias_variances : array_like of shape (columns,) and (rows,)
        σ_w² and σ_b², at least 0.

    Returns
    -------
    PhaseDiagram

    Raises
    ------
    ArgumentError
        A negative variance, one that is no finite number, or an argument that is no list.
    DtypeError
        ``phi`` returns no tensor of its argument's shape.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> diagram = tg.diagnostics.phase_diagram(tg.tanh, [1.3, 1.76, 2.5], [0.01, 0.05])
    >>> diagram.chi.round(2)
    array([[0.98, 1.06, 1.16],
           [0.88, 1.  , 1.13]])
    """
    columns, rows = numbers(weight_variances), numbers(bias_variances)
    if columns.ndim != 1 or rows.ndim != 1:
        raise ArgumentError(
            f"phase_diagram: variances come as two lists; received shapes {columns.shape} and "
            f"{rows.shape}. For a single pair there is mean_field"
        )
    for w in columns:
        _check_variances("phase_diagram", w, 0.0)
    for b in rows:
        _check_variances("phase_diagram", 0.0, b)
    gaussian = Gaussian(phi)
    cells = [_solve(gaussian, float(w), float(b))[:5] for b in rows for w in columns]
    fields = np.array(cells).reshape(len(rows), len(columns), 5)
    return PhaseDiagram(columns, rows, *np.moveaxis(fields, -1, 0))


def _check_variances(what: str, weight_variance: float, bias_variance: float) -> None:
    check_numbers(
        what, "a variance, finite and at least 0", lambda v: v >= 0,
        weight_variance=weight_variance, bias_variance=bias_variance,
    )  # fmt: skip


def _solve(gaussian: Gaussian, weight_variance: float, bias_variance: float) -> MeanField:
    q = _fixed_variance(gaussian, weight_variance, bias_variance)
    m = gaussian.moments(q)
    chi = weight_variance * m.slope_square
    c, c_slope = _fixed_correlation(gaussian, q, weight_variance, bias_variance)
    phase: Phase = "ordered" if chi < 1 else "chaotic"
    if abs(chi - 1) < CRITICAL:
        phase = "critical"
    xi_q = _depth_scale(weight_variance * m.square_growth)
    return MeanField(q, chi, c, xi_q, _depth_scale(c_slope), phase)


def _fixed_variance(gaussian: Gaussian, weight_variance: float, bias_variance: float) -> float:
    """Solve q = V(q): by Newton's method where V is a contraction, else by following its drift."""
    q = start = weight_variance + bias_variance
    for _ in range(1000):
        m = gaussian.moments(q)
        new = weight_variance * m.square + bias_variance
        slope = weight_variance * m.square_growth
        if not 1e-30 < new < 1e30:  # nothing new beyond: see `Moments.q`
            return 0.0 if new < 1 else math.inf
        if abs(new - q) <= 1e-12 * q:
            # A steady drift (He-ReLU with biases: V = q + σ_b²) only looks like rest at a large q.
            return math.inf if q > start and slope > 1 - 1e-9 else q
        newton = q + (new - q) / (1 - slope) if slope < 1 else 0.0
        if newton > 0:
            q = newton
        elif slope < 1:
            q = new
        else:  # at least as fast as V, which may take for ever near a tangent
            q = max(new, 2 * q) if new > q else min(new, q / 2)
    return q


def _correlate(
    gaussian: Gaussian, q: float, c: float, weight_variance: float, bias_variance: float
) -> tuple[float, float]:
    """C(c) and C′(c)."""
    m = gaussian.moments(q)
    total = weight_variance * m.square + bias_variance
    if total == 0:  # no signal at all: two inputs are equal
        return 1.0, 0.0
    product, slopes = gaussian.pair(m.q, c)
    # The slope is σ_w² E[φ′φ′] where q is a fixed point, that is, total = q.
    return (
        weight_variance * product + bias_variance
    ) / total, weight_variance * m.q * slopes / total


def _fixed_correlation(
    gaussian: Gaussian, q: float, weight_variance: float, bias_variance: float
) -> tuple[float, float]:
    """The stable c = C(c) in [0, 1], and C′ there.

    C is a power series without negative terms (Daniely et al. 2016, lemma 11), so it is convex, and
    C(1) = 1. If C′(1) ≤ 1 it lies above the diagonal, and c* = 1. Else Newton's method from 0
    climbs to the one crossing below 1 and never passes it.
    """
    _, slope = _correlate(gaussian, q, 1.0, weight_variance, bias_variance)
    if slope <= 1 + 1e-9:
        return 1.0, slope
    c = 0.0
    for _ in range(100):
        value, slope = _correlate(gaussian, q, c, weight_variance, bias_variance)
        if slope >= 1 or value - c <= 1e-13:
            break
        c = min(c + (value - c) / (1 - slope), 1.0)
    return c, slope


def _depth_scale(slope: float) -> float:
    """ξ with slopeᵏ = e^(−k/ξ)."""
    if abs(slope) >= 1 - 1e-9:
        return math.inf
    return -1 / math.log(abs(slope)) if slope else 0.0
