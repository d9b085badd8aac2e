"""What theory says of particular networks: layer by layer, residual, normalised, recurrent."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..arrays import numbers
from ..checks import check_integers, check_numbers
from ..core.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from .gaussian import Activation, Gaussian


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
    gaussian = Gaussian(phi)
    slopes, mean, square = [], 0.0, mean_square
    for i, layer in enumerate(layers[:-1]):
        q = layer.fan_in * layer.weight_variance * square + layer.bias_variance
        m = gaussian.moments(q)
        slopes.append(m.slope_square)
        if residual and i > 0:
            mean, square = mean + m.mean, square + 2 * mean * m.mean + m.square
        else:
            mean, square = m.mean, m.square
    factors: list[float] = []
    stream = 0.0  # E[g²] that bypasses the layer above, in units of that layer's E[δ²]
    for i in reversed(range(len(layers) - 1)):
        above = layers[i + 1]
        stream += above.fan_out * above.weight_variance
        factors.append(float(np.sqrt(slopes[i] * stream)))
        skipped = residual and i > 0 and slopes[i] > 0
        stream = 1 / slopes[i] if skipped else 0.0
    return factors[::-1]


class ResidualGrowth(NamedTuple):
    """How signal and gradient grow along a stack of residual blocks.

    Attributes
    ----------
    forward : ndarray of shape (blocks + 1,)
        Mean square of the stream before each block, and after the last; 1 at the input.
    backward : ndarray of shape (blocks + 1,)
        Mean square of ∂L/∂stream at the same places; 1 at the output.
    """

    forward: ndarray
    backward: ndarray


def residual_growth(
    blocks: int,
    branch_square: float = 1.0,
    branch_chi: float = 1.0,
    scale: float = 1.0,
    normalised: bool = False,
    branch_variance: float | None = None,
) -> ResidualGrowth:
    """Signal and gradient along x ← x + scale·branch(x), with branches independent of the stream.

    Forwards x² grows by scale²·branch_square·x² a block, backwards g² by scale²·branch_chi·g²: with
    s = scale², over L blocks by

    - (1 + s·branch_square)^L and (1 + s·branch_chi)^L: 2^L for a He-initialised ReLU branch, but at
      most e with scale = 1/√L (Hanin & Rolnick 2018, "How to start training": residual networks
      keep their activations if the scales have a finite sum);
    - forwards 1 + L·s·branch_square if a normalisation begins the branch, for that makes its
      input's size 1: L + 1 (De & Smith 2020, "Batch normalization biases residual blocks towards
      the identity function in deep networks"). Backwards it divides by the variance v_l that it
      takes away, so the gradient grows by Π (1 + s·branch_chi/v_l), v_l = 1 + l·s·branch_variance.

    The last is L + 1 for layer normalisation. But batch normalisation takes away only what differs
    between examples, and with it the gradient grows faster than the signal: for branches of ReLU,
    then weights, 1/π of the output is common to all, branch_variance = 1 − 1/π, and the product
    grows as L^(π/(π − 1)) = L^1.47.

    Parameters
    ----------
    blocks : int
        L, at least 0.
    branch_square : float
        Mean square of a branch's output, for an input of mean square 1; at least 0.
    branch_chi : float
        By what a branch multiplies the mean square of a gradient, likewise. Both are 1 for the
        usual branches, a weight matrix and ReLU in either order with He initialisation.
    scale : float
    normalised : bool
        Whether the branch begins with batch or layer normalisation.
    branch_variance : float, optional
        What of branch_square the normalisation sees; at least 0. All, if not given.

    Returns
    -------
    ResidualGrowth

    Raises
    ------
    ArgumentError
        An argument outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> plain = tg.diagnostics.residual_growth(20)
    >>> scaled = tg.diagnostics.residual_growth(20, scale=20**-0.5)
    >>> normalised = tg.diagnostics.residual_growth(20, normalised=True)
    >>> [round(float(g.forward[-1]), 2) for g in (plain, scaled, normalised)]
    [1048576.0, 2.65, 21.0]
    """
    check_integers("residual_growth", 0, blocks=blocks)
    check_numbers(
        "residual_growth", "finite, at least 0", lambda a: a >= 0,
        branch_square=branch_square, branch_chi=branch_chi, branch_variance=branch_variance or 0,
    )  # fmt: skip
    check_numbers("residual_growth", "a finite number", lambda a: True, scale=scale)
    s, number = scale * scale, np.arange(blocks + 1.0)
    if normalised:
        seen = branch_square if branch_variance is None else branch_variance
        gains = 1 + s * branch_chi / (1 + s * seen * number[:-1])
        return ResidualGrowth(
            1 + s * branch_square * number, np.append(np.cumprod(gains[::-1])[::-1], 1.0)
        )
    with np.errstate(over="ignore"):  # 2^1024 is infinite
        return ResidualGrowth(
            (1 + s * branch_square) ** number, (1 + s * branch_chi) ** number[::-1]
        )


def batch_norm_chi(phi: Activation) -> float:
    """χ of a layer φ(BN(W h)): by what it multiplies the mean square of a gradient.

    Batch normalisation makes the pre-activations normal with variance 1 and mean 0, so h varies
    over the batch by Var φ(z), z ~ N(0, 1), and W h by σ_w² Var φ(z). Backwards, W multiplies by
    σ_w², the normalisation divides by the variance that it took away, and φ multiplies by E[φ′²]:

        χ = E[φ′(z)²]/Var φ(z) ≥ 1,

    whatever the variances of weights and biases: a plain stack of such layers explodes. It is 1
    for the identity alone (Poincaré's inequality), π/(π − 1) for ReLU. This is the limit of a large
    batch (some hundred examples) of Yang et al. 2019, "A mean field theory of batch normalization".

    Parameters
    ----------
    phi : callable
        The activation, made of tensor operations.

    Returns
    -------
    float
        inf if φ is constant where z is.

    Raises
    ------
    DtypeError
        ``phi`` returns no tensor of its argument's shape.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> round(tg.diagnostics.batch_norm_chi(tg.relu) ** 0.5, 4)
    1.2112
    """
    m = Gaussian(phi).moments(1.0)
    variance = m.square - m.mean**2
    return m.slope_square / variance if variance > 1e-12 * m.square else float("inf")


def recurrent_bound(weight: Any, steps: int, slope: float = 1.0) -> float:
    """At most by what ‖∂L/∂h‖ grows on its way back through ``steps`` steps of a recurrent net.

    In h_{t+1} = φ(W h_t + …), ∂h_{t+1}/∂h_t = diag(φ′)·W, so ‖∂L/∂h_t‖ ≤ (‖W‖₂·γ)^k·‖∂L/∂h_{t+k}‖
    with γ = max |φ′|. If the largest singular value ‖W‖₂ is below 1/γ, gradients vanish; if it is
    above they may explode, but need not (Pascanu, Mikolov & Bengio 2013, "On the difficulty of
    training recurrent neural networks", §2.1).

    Parameters
    ----------
    weight : array_like or Tensor of shape (n, n)
        W, from hidden state to hidden state.
    steps : int
        k, at least 0.
    slope : float
        γ: 1 for tanh and ReLU, ¼ for the sigmoid; at least 0.

    Returns
    -------
    float
        (‖W‖₂·γ)^k, inf if that overflows.

    Raises
    ------
    ShapeError
        ``weight`` is no square matrix.
    ArgumentError
        ``weight`` holds a NaN or an infinity, or another argument is outside its range.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.diagnostics.recurrent_bound(2 * np.eye(3), steps=10, slope=0.25)
    0.0009765625
    """
    check_integers("recurrent_bound", 0, steps=steps)
    check_numbers("recurrent_bound", "finite, at least 0", lambda s: s >= 0, slope=slope)
    matrix = numbers(weight.data if isinstance(weight, Tensor) else weight, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(
            f"recurrent_bound: weight is a square matrix, from hidden state to hidden state; "
            f"received shape {matrix.shape}. Is it the matrix of the inputs?"
        )
    if not np.isfinite(matrix).all():
        raise ArgumentError(
            "recurrent_bound: weight is finite; it holds a NaN or an infinity. Has it diverged?"
        )
    factor = float(np.linalg.norm(matrix, 2)) * slope if matrix.size else 0.0
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float64(factor) ** steps)
