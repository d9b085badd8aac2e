"""What happens to a gradient in a deep random network, predicted before any run.

Mean-field theory (Poole et al. 2016, "Exponential expressivity in deep neural networks through
transient chaos"; Schoenholz et al. 2017, "Deep information propagation"): in a wide layer of
independent random weights the pre-activations are normal, z ~ N(0, q), so averages over units are
integrals over one normal variable.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.functional import vjp
from ..errors import ArgumentError

Activation = Callable[[Any], Any]

# Gauss–Hermite nodes for E[f(z)], z ~ N(0, 1): an even number, so that 0, where activations
# have their kinks, is not one of them.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(200)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
# Variances are kept between these: at q = 0 the sign of z would be lost, beyond 1e30 nothing new
# happens (a ReLU knows no scale, anything else is saturated).
_SMALLEST, _LARGEST = 1e-30, 1e30


def gaussian_moments(phi: Activation, q: float) -> tuple[float, float, float]:
    """E[φ], E[φ²] and E[φ′²] for z ~ N(0, q), by quadrature with 200 nodes.

    Parameters
    ----------
    phi : callable
        Elementwise, made of tensor operations: the engine gives φ′.
    q : float
        Variance of the pre-activation, at least 0.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> from tinygrad_stab.diagnostics.theory import gaussian_moments
    >>> [round(m, 6) for m in gaussian_moments(tg.relu, 2.0)[1:]]
    [1.0, 0.5]
    """
    z = np.sqrt(np.clip(q, _SMALLEST, _LARGEST)) * _NODES
    value, pullback = vjp(phi, z)
    (slope,) = pullback(np.ones_like(z))
    mean, square, slope_square = (float(_WEIGHTS @ f) for f in (value, value**2, slope**2))
    return mean, square, slope_square


def mean_field(
    phi: Activation, weight_variance: float, bias_variance: float = 0.0, steps: int = 10_000
) -> tuple[float, float]:
    """Fixed point q* of the pre-activations' variance, and χ: what a layer does to gradients.

    q ← σ_w² E[φ(√q z)²] + σ_b², and χ = σ_w² E[φ′(√q* z)²]: the mean square of a gradient
    changes by χ a layer, its RMS by √χ. Vanishing below 1, exploding above (Schoenholz et al.
    2017, equations 3 and 5).

    Parameters
    ----------
    phi : callable
        The activation.
    weight_variance : float
        σ_w² = fan_in·Var(w), at least 0.
    bias_variance : float
        σ_b², at least 0.
    steps : int
        At most so many iterations; on the critical line q* is approached only as 1/steps.

    Returns
    -------
    q, chi : float

    Raises
    ------
    ArgumentError
        A negative variance.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> q, chi = tg.diagnostics.mean_field(tg.sigmoid, 1.0)
    >>> round(q, 5), round(chi, 6), round(chi**0.5, 5)
    (0.26469, 0.055721, 0.23605)
    """
    if not (weight_variance >= 0 and bias_variance >= 0):
        raise ArgumentError(
            f"mean_field: variances are at least 0; received weight_variance={weight_variance}, "
            f"bias_variance={bias_variance}"
        )
    q = weight_variance + bias_variance
    for _ in range(steps):
        new = weight_variance * gaussian_moments(phi, q)[1] + bias_variance
        if abs(new - q) <= 1e-14 * q or not _SMALLEST < new < _LARGEST:
            q = new
            break
        q = new
    return q, weight_variance * gaussian_moments(phi, q)[2]


class LayerStatistics(NamedTuple):
    """What theory needs to know of a layer's parameters: shape, and variances as drawn."""

    fan_in: int
    fan_out: int
    weight_variance: float
    bias_variance: float


def predict_factors(
    phi: Activation, layers: Sequence[LayerStatistics], mean_square: float, residual: bool = False
) -> list[float]:
    """By what the RMS of δ = ∂L/∂(pre-activation) changes from one layer to the one below it.

    Forwards, q_l = fan_in·Var(w)·E[h²] + Var(b) with E[h²] = E[φ(√q z)²] (plus the stream, if
    residual). Backwards, g = ∂L/∂h has the mean square fan_out·Var(w)·E[δ²] of the layer above
    (plus the stream's, if residual), and E[δ²] = E[φ′(√q z)²]·E[g²].

    A skip and its branch are taken as uncorrelated. That is close for sigmoid and tanh; in plain
    residual ReLU stacks, whose activations all share a positive mean, it is not, and gradients
    grow faster than this says.

    Parameters
    ----------
    phi : callable
        The activation of all layers but the last, which is linear.
    layers : sequence of LayerStatistics
        From input to output.
    mean_square : float
        Mean square of the inputs.
    residual : bool
        Whether layers between the first and the last add their output to their input.

    Returns
    -------
    list of float
        Of layer l against layer l + 1, from the input on: one fewer than layers.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> layer = tg.diagnostics.LayerStatistics(64, 64, 1 / 64, 0.0)
    >>> factors = tg.diagnostics.predict_factors(tg.sigmoid, [layer] * 20, 0.5)
    >>> round(factors[9], 5)
    0.23605
    """
    slopes, mean, square = [], 0.0, mean_square
    for i, layer in enumerate(layers[:-1]):
        q = layer.fan_in * layer.weight_variance * square + layer.bias_variance
        value, value_square, slope_square = gaussian_moments(phi, q)
        slopes.append(slope_square)
        if residual and i > 0:
            mean, square = mean + value, square + 2 * mean * value + value_square
        else:
            mean, square = value, value_square
    factors: list[float] = []
    stream = 0.0  # E[g²] that bypasses the layer above, in units of that layer's E[δ²]
    for i in reversed(range(len(layers) - 1)):
        above = layers[i + 1]
        stream += above.fan_out * above.weight_variance
        factors.append(float(np.sqrt(slopes[i] * stream)))
        skipped = residual and i > 0 and slopes[i] > 0
        stream = 1 / slopes[i] if skipped else 0.0
    return factors[::-1]
