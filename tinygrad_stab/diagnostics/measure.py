"""What is measured of a layer in one pass: sizes of gradients, slopes of activations."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..arrays import norm, plain
from ..core.tensor import Tensor

# Norms are of all elements; the rest of up to so many, from all over: more would cost too much
# beside the step that is watched.
SAMPLE, RUN = 1024, 32
# Slopes of an activation are of as many examples as hold so many elements.
SLOPES = 1 << 12

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Size(NamedTuple):
    """How large the elements of an array are.

    Attributes
    ----------
    norm, rms : float
        √Σx² and √(Σx²/n), of all elements.
    mean, max : float
        Of |x|. These and what follows are of up to 1024 elements, from all over.
    quantiles : tuple of float
        Of |x|, at 5, 25, 50, 75 and 95 %.
    zeros, subnormals : float
        Share of elements that are exactly 0, and that are so small that they have lost digits.
    """

    norm: float
    rms: float
    mean: float
    max: float
    quantiles: tuple[float, ...]
    zeros: float
    subnormals: float


class LayerFlow(NamedTuple):
    """What a layer with weights received in one backward pass.

    Attributes
    ----------
    delta : Size
        Of ∂L/∂(pre-activation), the layer's output.
    weight_grad : Size
        Of ∂L/∂W, before clipping; W is all of the layer's parameters with two axes or more.
    weight_rms : float
    clipped : float or None
        The norm of ∂L/∂W as the optimiser used it; None where no optimiser is watched.
    update : float or None
        ‖ΔW‖/‖W‖ of the optimiser's step.
    """

    delta: Size
    weight_grad: Size
    weight_rms: float
    clipped: float | None = None
    update: float | None = None


class ActivationFlow(NamedTuple):
    """What an activation made of its input in one pass.

    Attributes
    ----------
    mean, std : float
        Of its output.
    saturated : float
        Share of the elements at which |φ′| is below the threshold.
    dead : float
        Share of the units with φ′ = 0 for every example.
    """

    mean: float
    std: float
    saturated: float
    dead: float


class Record(NamedTuple):
    """One backward pass.

    Attributes
    ----------
    step : int
        Number of the pass, from 0.
    loss : float
    layers : dict of str to LayerFlow
        From input to output, by the module's path; a module that is called again gets a number.
    activations : dict of str to ActivationFlow
        By path and operation, such as ``1.relu``.
    """

    step: int
    loss: float
    layers: dict[str, LayerFlow]
    activations: dict[str, ActivationFlow]

    def to_dict(self) -> dict[str, Any]:
        """Numbers by name, for JSON: what is not finite becomes None."""
        return plain(self)

    def metrics(self) -> dict[str, float]:
        """The main numbers under one flat name each, such as ``delta_rms/layers.0``."""
        flat = {"loss": self.loss}
        for name, layer in self.layers.items():
            flat[f"delta_rms/{name}"] = layer.delta.rms
            flat[f"weight_grad_norm/{name}"] = layer.weight_grad.norm
            if layer.update is not None:
                flat[f"update/{name}"] = layer.update
        for name, activation in self.activations.items():
            flat[f"saturated/{name}"] = activation.saturated
            flat[f"dead/{name}"] = activation.dead
        return flat


def sample(array: ndarray) -> ndarray:
    """Up to `SAMPLE` elements as a vector: all, or runs of neighbours from all over."""
    flat = array.reshape(-1)
    return flat if flat.size <= SAMPLE else flat[_places(flat.size)]


@lru_cache(maxsize=256)
def _places(size: int) -> ndarray:
    """Which elements are looked at, of so many: always the same.

    In runs, for to fetch single elements from all over the memory takes ten times as long; at
    random, for evenly spaced runs would meet the same few columns in every row.
    """
    starts = np.random.default_rng(0).integers(size - RUN + 1, size=SAMPLE // RUN)
    return (np.sort(starts)[:, None] + np.arange(RUN)).reshape(-1)


def joint_norm(arrays: Sequence[ndarray]) -> float:
    """√Σx² over all elements of several arrays."""
    squares = 0.0
    for array in arrays:
        flat = array.reshape(-1)
        squares += float(np.dot(flat, flat))
    if 1e-30 < squares < 1e30:  # far from where float32 over- or underflows
        return math.sqrt(squares)
    return norm([norm(array) for array in arrays])


def sizes_of(groups: Sequence[Sequence[ndarray]]) -> list[Size]:
    """Of each group of arrays, taken together."""
    seen = [np.concatenate([sample(array) for array in arrays]) for arrays in groups]
    sizes: list[Any] = [None] * len(groups)
    for length in {len(vector) for vector in seen}:  # those of one length are measured at once
        places = [i for i, vector in enumerate(seen) if len(vector) == length]
        rows = np.abs(np.array([seen[i] for i in places]))
        rows.sort(axis=1)
        means = rows.mean(axis=1)
        zeros = np.mean(rows == 0, axis=1)
        small = np.mean(rows < np.finfo(rows.dtype).tiny, axis=1)
        quantiles = rows[:, [round(q * (length - 1)) for q in QUANTILES]]
        for k, i in enumerate(places):
            total = joint_norm(groups[i])
            count = sum(array.size for array in groups[i])
            sizes[i] = Size(
                total,
                total / math.sqrt(count),
                float(means[k]),
                float(rows[k, -1]),
                tuple(quantiles[k].tolist()),
                float(zeros[k]),
                float(small[k] - zeros[k]),
            )
    return sizes


def activation_of(node: Tensor, threshold: float) -> ActivationFlow:
    """Of the result of an elementwise operation on examples along the first axis."""
    op: Any = node.op
    x, out = np.asarray(node.values[0]), node._value
    few = max(1, SLOPES * len(out) // max(out.size, 1))  # examples whose slopes are looked at
    step = max(1, -(-len(out) // few))
    x, out = x[::step], out[::step]
    slope = np.abs(op.rules[0](np.ones_like(out), out, x, **node.params))
    seen = sample(node._value)
    # Of an image (N, C, H, W) a unit is a channel; of (N, …, features) a feature.
    axes = (0, *range(2, out.ndim)) if out.ndim == 4 else tuple(range(out.ndim - 1))
    largest = slope.max(axis=axes)
    mean = float(np.add.reduce(seen)) / len(seen)
    return ActivationFlow(
        mean,
        math.sqrt(float(np.dot(seen - mean, seen - mean)) / len(seen)),
        np.count_nonzero(slope < threshold) / slope.size,
        1 - np.count_nonzero(largest) / largest.size,
    )
