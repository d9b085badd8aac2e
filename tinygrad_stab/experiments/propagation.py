"""How a random network of finite width changes a gradient, beside what mean-field theory says.

After Poole et al. 2016, "Exponential expressivity in deep neural networks through transient chaos",
Schoenholz et al. 2017, "Deep information propagation", and Hanin & Nica 2018, "Products of many
large random matrices and gradients in deep neural networks".
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..arrays import rms
from ..checks import check_integers, check_numbers
from ..core.tensor import tensor
from ..diagnostics import critical_point, gradient_spread, mean_field, spread_rate
from ..ops.activations import relu, sigmoid
from ..ops.elementwise import tanh
from ..ops.fused import linear
from .published import Measured, row

# Layers next to the input that are not counted: there the variance is still on its way to q*.
SETTLING = 5
# So many random networks are held in memory at once.
_TOGETHER = 20


def backward_factor(
    activation: Callable[[Any], Any],
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    width: int = 300,
    depth: int = 40,
    batch_size: int = 16,
    seed: int = 0,
) -> float:
    """By what the RMS of δ = ∂L/∂(pre-activation) changes a layer, in one random network.

    W ~ N(0, σ_w²/width), b ~ N(0, σ_b²), inputs and the gradient at the output ~ N(0, 1). It is the
    geometric mean over the layers but for the first five. Theory says √χ.

    Parameters
    ----------
    activation : callable
    weight_variance, bias_variance : float
        σ_w² and σ_b², at least 0.
    width, batch_size : int
        At least 1.
    depth : int
        Layers, at least 7.
    seed : int

    Returns
    -------
    float

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> from tinygrad_stab.experiments.propagation import backward_factor
    >>> 0.22 < backward_factor(tg.sigmoid, 1.0, depth=20, width=100) < 0.25
    True
    """
    check_integers("backward_factor", 1, width=width, batch_size=batch_size)
    check_integers("backward_factor", SETTLING + 2, depth=depth)
    check_numbers(
        "backward_factor", "a variance, finite and at least 0", lambda v: v >= 0,
        weight_variance=weight_variance, bias_variance=bias_variance,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    # The weights are plain arrays: nobody asks for their gradients.
    h: Any = tensor(rng.normal(size=(batch_size, width)), requires_grad=True)
    pre_activations = []
    for _ in range(depth):
        weights = math.sqrt(weight_variance / width) * rng.standard_normal((width, width))
        biases = math.sqrt(bias_variance) * rng.standard_normal(width)
        pre_activations.append(linear(h, weights, biases))
        h = activation(pre_activations[-1])
    last = pre_activations[-1]
    last.backward(rng.normal(size=last.shape))
    first = pre_activations[SETTLING]
    return float((rms(first.grad) / rms(last.grad)) ** (1 / (depth - 1 - SETTLING)))


def gradient_growth(
    networks: int = 400, *, width: int = 100, depth: int = 50, seed: int = 0
) -> np.ndarray:
    """ln(‖∂L/∂x‖²/‖∂L/∂y‖²) of He-initialised ReLU networks y(x) without biases, each its own.

    Parameters
    ----------
    networks, width, depth : int
        At least 1.
    seed : int

    Returns
    -------
    ndarray of shape (networks,)
        For normal inputs x, one a network, and normal ∂L/∂y; −inf where a layer is all dead.

    Raises
    ------
    ArgumentError
        A value below 1.

    Examples
    --------
    >>> from tinygrad_stab.experiments.propagation import gradient_growth
    >>> gradient_growth(3, width=10, depth=2).shape
    (3,)
    """
    check_integers("gradient_growth", 1, networks=networks, width=width, depth=depth)
    rng = np.random.default_rng(seed)
    found: list[float] = []
    while len(found) < networks:
        # One row vector and one matrix a network, all multiplied at once.
        some = min(_TOGETHER, networks - len(found))
        x = tensor(rng.standard_normal((some, 1, width), np.float32), requires_grad=True)
        y: Any = x
        for _ in range(depth):
            weights = rng.standard_normal((some, width, width), np.float32)
            weights *= np.float32(math.sqrt(2 / width))
            y = relu(y @ weights)
        above = rng.standard_normal(y.shape, np.float32)
        y.backward(above, retain="leaves")
        assert x.grad is not None
        squares = np.sum(x.grad**2, axis=(1, 2)) / np.sum(above**2, axis=(1, 2))
        with np.errstate(divide="ignore"):
            found += np.log(squares).tolist()
    return np.array(found)


class _Line(NamedTuple):
    """A network of the table: √χ as written in the literature's numbers, to `digits` places."""

    activation: Callable[[Any], Any]
    weight_variance: float
    bias_variance: float
    root_chi: float
    digits: int
    words: str


_LINES = {
    "sigmoid-xavier": _Line(sigmoid, 1.0, 0.0, 0.23605, 5, "sigmoid, Xavier"),
    "sigmoid-nielsen": _Line(sigmoid, 1.0, 1.0, 0.20484, 5, "sigmoid, Nielsen's"),
    "relu-he": _Line(relu, 2.0, 0.0, 1.0, 4, "ReLU, He"),
    "relu-xavier": _Line(relu, 1.0, 0.0, 0.7071, 4, "ReLU, Xavier"),
    "relu-uniform": _Line(relu, 1 / 3, 0.0, 0.408, 3, "ReLU, U(±1/√n)"),
    "tanh-1.3": _Line(tanh, 1.3, 0.05, 0.938, 3, "tanh, ordered"),
    "tanh-1.76": _Line(tanh, 1.76, 0.05, 1.0, 3, "tanh, critical"),
    "tanh-2.5": _Line(tanh, 2.5, 0.05, 1.065, 3, "tanh, chaotic"),
    "tanh-4": _Line(tanh, 4.0, 0.05, 1.159, 3, "tanh, more chaotic"),
}
_WIDTH, _DEPTH, _SEEDS = 300, 40, 5


def _tolerance(line: _Line) -> float:
    """Three standard errors of ln √χ, from the scatter of single examples at this width."""
    layers = _DEPTH - 1 - SETTLING
    rate = spread_rate(line.activation, line.weight_variance, line.bias_variance)
    variance = gradient_spread([_WIDTH] * layers, rate).variance  # of ln ‖δ‖² over all the layers
    return 3 * math.sqrt(variance / _SEEDS) / (2 * layers)


def _measure(line: _Line, quick: bool) -> Measured:
    theory = math.sqrt(mean_field(line.activation, line.weight_variance, line.bias_variance).chi)
    found = [
        backward_factor(
            line.activation, line.weight_variance, line.bias_variance,
            width=_WIDTH, depth=_DEPTH, seed=seed,
        )
        for seed in range(_SEEDS)
    ]  # fmt: skip
    mean, spread, tolerance = float(np.mean(found)), float(np.std(found, ddof=1)), _tolerance(line)
    passed = abs(math.log(mean / theory)) <= tolerance
    passed = passed and round(theory, line.digits) == line.root_chi
    return Measured(
        f"{mean:.4f} ± {spread:.4f}",
        passed,
        {"theory": theory, "measured": found, "relative_tolerance": tolerance},
    )


for _name, _line in _LINES.items():
    row(
        f"chi-{_name}",
        section="3 · Mean-field theory",
        claim=f"{_line.words}: δ changes by √χ a layer (σ_w² = {_line.weight_variance:.3g}, "
        f"σ_b² = {_line.bias_variance:g}; width {_WIDTH}, {_SEEDS} seeds)",
        source="Poole 2016, Schoenholz 2017",
        published=f"√χ = {_line.root_chi:.{_line.digits}f}",
        tolerance="3 standard errors, by the finite-width law: 1 to 2 %",
    )(partial(_measure, _line))


@row(
    "chi-critical",
    section="3 · Mean-field theory",
    claim="tanh with σ_b² = 0.05 is critical at σ_w² = 1.7610: √χ is 1 there, less 10 % below, "
    "more 10 % above",
    source="Schoenholz 2017",
    published="1.7610",
    tolerance="1e-4 for theory; the measured factors straddle 1",
)
def _critical(quick: bool) -> Measured:
    point = critical_point(tanh, 0.05).weight_variance
    at = {
        share: float(
            np.mean([backward_factor(tanh, share * point, 0.05, seed=s) for s in range(3)])
        )
        for share in (0.9, 1.0, 1.1)
    }
    passed = abs(point - 1.7610) < 1e-4 and at[0.9] < 1 < at[1.1]
    return Measured(
        f"{point:.4f}; factors {at[0.9]:.3f}, {at[1.0]:.3f}, {at[1.1]:.3f}",
        passed,
        {"critical_weight_variance": point, "factors": at},
    )


@row(
    "finite-width-spread",
    section="3 · Mean-field theory",
    claim="ln ‖gradient‖² of He-initialised ReLU networks is about N(−β/2, β), β = 5·depth/width "
    "(width 100, depth 50)",
    source="Hanin & Nica 2018",
    published="mean −1.25, variance 2.50",
    tolerance="3 standard errors (400 networks: ±0.24 and ±0.53; quick, 100: ±0.47 and ±1.06)",
)
def _spread(quick: bool) -> Measured:
    networks = 100 if quick else 400
    found = gradient_growth(networks)
    mean, variance = float(np.mean(found)), float(np.var(found, ddof=1))
    theory = gradient_spread([100] * 50)
    passed = abs(mean - theory.mean) <= 3 * math.sqrt(theory.variance / networks) and abs(
        variance - theory.variance
    ) <= 3 * theory.variance * math.sqrt(2 / networks)
    return Measured(
        f"mean {mean:.2f}, variance {variance:.2f}".replace("-", "−"),
        passed,
        {"mean": mean, "variance": variance, "networks": networks},
    )
