"""Batch normalisation: explodes a plain deep network at initialisation, speeds a shallow one.

Yang et al. 2019, "A Mean Field Theory of Batch Normalization"; Ioffe & Szegedy 2015, "Batch
Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", §4.1.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..arrays import rms
from ..checks import check_integers
from ..diagnostics import batch_norm_chi
from ..nn import BatchNorm1d, Linear, Module, Sequential, Sigmoid, init
from ..ops.activations import relu
from ..optim import SGD
from ..training import accuracy
from .published import Measured, row
from .steps import descend
from .training import Config, Data, sets

# Layers next to the input that are not counted: there the examples are still less alike than deep
# inside the network.
SETTLING = 10


def normalised_factor(
    *, width: int = 300, depth: int = 40, batch_size: int = 128, seed: int = 0
) -> float:
    """By what the RMS of δ = ∂L/∂(pre-activation) changes a layer relu(BN(W h)), before training.

    Inputs and the gradient at the output are N(0, 1). It is the geometric mean over the layers but
    for the first ten. Theory says √(π/(π − 1)), whatever the variance of the weights.

    Parameters
    ----------
    width : int
        At least 1.
    depth : int
        Layers, at least 12.
    batch_size : int
        At least 2.
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
    >>> from tinygrad_stab.experiments.normalisation import normalised_factor
    >>> 1.1 < normalised_factor(width=100, depth=20) < 1.3
    True
    """
    check_integers("normalised_factor", 1, width=width)
    check_integers("normalised_factor", SETTLING + 2, depth=depth)
    check_integers("normalised_factor", 2, batch_size=batch_size)
    rng = np.random.default_rng(seed)
    h: Any = rng.normal(size=(batch_size, width))
    pre_activations = []
    for _ in range(depth):
        linear = Linear(width, width, bias=False, rng=rng)
        pre_activations.append(linear(h))
        h = relu(BatchNorm1d(width)(pre_activations[-1]))
    h.backward(rng.normal(size=h.shape))
    first, last = pre_activations[SETTLING], pre_activations[-1]
    return float((rms(first.grad) / rms(last.grad)) ** (1 / (depth - 1 - SETTLING)))


class Progress(NamedTuple):
    """Accuracy on the test set along the way.

    Attributes
    ----------
    steps : list of int
    accuracies : list of float
    """

    steps: list[int]
    accuracies: list[float]


def progress(
    normalised: bool,
    steps: int = 500,
    *,
    every: int = 100,
    hidden: tuple[int, ...] = (100, 100, 100),
    batch_size: int = 60,
    lr: float = 0.1,
    data: Data = "mnist",
    seed: int = 0,
) -> Progress:
    """Train sigmoid units on binarised digits, with or without batch normalisation.

    The network of §4.1: weights N(0, 0.1²), plain gradient descent on batches of 60. Pixels are 0
    or 1; float32.

    Parameters
    ----------
    normalised : bool
        Whether there is batch normalisation before each sigmoid.
    steps, every : int
        Accuracy is taken after each ``every`` steps; at least 1.
    hidden : tuple of int
        Units of each hidden layer, at least 1.
    batch_size : int
        At least 2.
    lr : float
    data : {"digits", "mnist"}
    seed : int

    Returns
    -------
    Progress

    Raises
    ------
    ArgumentError
        A value outside its range.
    DataNotFoundError, DataError
        MNIST is not at hand, or damaged.

    Examples
    --------
    >>> from tinygrad_stab.experiments.normalisation import progress
    >>> fast, slow = (progress(on, 100, data="digits").accuracies[-1] for on in (True, False))
    >>> fast > slow
    True
    """
    check_integers("progress", 1, steps=steps, every=every)
    check_integers("progress", 2, batch_size=batch_size)
    for units in hidden:
        check_integers("progress", 1, hidden=units)
    rng = np.random.default_rng(seed)
    train, test = sets(Config(data=data))
    x, x_test = (np.round(part.features("float32")) for part in (train, test))
    layers: list[Module] = []
    size = x.shape[1]
    for units in (*hidden, 10):
        layer = Linear(size, units, rng=rng, dtype="float32")
        init.normal_(layer.weight, std=0.1, rng=rng)
        assert layer.bias is not None
        init.zeros_(layer.bias)
        layers += [layer, BatchNorm1d(units, dtype="float32"), Sigmoid()]
        size = units
    layers = layers[:-2]  # the last are logits
    model = Sequential(*(x for x in layers if normalised or not isinstance(x, BatchNorm1d)))
    optimizer = SGD(model.parameters(), lr=lr)
    found = Progress([], [])
    losses = descend(model, optimizer, x, train.labels, steps, batch_size=batch_size, rng=rng)
    for step, _ in enumerate(losses):  # the loss of a step comes before the step
        if step and step % every == 0:
            found.steps.append(step)
            found.accuracies.append(accuracy(model, x_test, test.labels))
    found.steps.append(steps)
    found.accuracies.append(accuracy(model, x_test, test.labels))
    return found


@row(
    "batch-norm-explodes",
    section="4 · Depth, and what cures it",
    claim="40 layers relu(BN(W h)), width 300, batch 128: gradients grow by √(π/(π − 1)) a layer "
    "at initialisation",
    source="Yang 2019",
    published="1.2112",
    tolerance="1 %",
)
def _explodes(quick: bool) -> Measured:
    theory = math.sqrt(batch_norm_chi(relu))
    found = [normalised_factor(seed=seed) for seed in range(2 if quick else 5)]
    mean, spread = float(np.mean(found)), float(np.std(found, ddof=1))
    passed = abs(mean / theory - 1) <= 0.01 and abs(theory - 1.2112) < 5e-5
    return Measured(f"{mean:.4f} ± {spread:.4f}", passed, {"theory": theory, "measured": found})


@row(
    "batch-norm-speeds",
    section="4 · Depth, and what cures it",
    claim="3 × 100 sigmoid, batch 60, MNIST: test accuracy after 500 steps with and without batch "
    "normalisation",
    source="Ioffe & Szegedy 2015, §4.1, figure 1",
    published="faster and higher",
    tolerance="every seed: above 85 % with, below 40 % without",
    mnist=True,
)
def _speeds(quick: bool) -> Measured:
    seeds = range(1 if quick else 5)
    fast = [progress(True, seed=seed).accuracies for seed in seeds]
    slow = [progress(False, seed=seed).accuracies for seed in seeds]
    highest, lowest = min(run[-1] for run in fast), max(run[-1] for run in slow)
    return Measured(
        f"with {np.mean([run[-1] for run in fast]):.1%}, "
        f"without {np.mean([run[-1] for run in slow]):.1%}",
        highest > 0.85 and lowest < 0.4,
        {"normalised": fast, "plain": slow},
    )
