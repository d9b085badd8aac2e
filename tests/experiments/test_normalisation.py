"""What batch normalisation does to a deep net's gradients, and to a shallow one's learning."""

import math

import numpy as np
import pytest

from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments.normalisation import SETTLING, normalised_factor, progress
from tinygrad_stab.nn import Linear


def test_gradients_grow_as_theory_says():
    found = [normalised_factor(width=200, depth=30, batch_size=100, seed=s) for s in range(3)]
    assert np.mean(found) == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=0.015)


def test_factor_is_that_of_a_network_by_hand():
    """The same weights; ∂L/∂z of batch normalisation from its Jacobian, unit by unit."""
    rng = np.random.default_rng(2)
    depth, width, n = SETTLING + 3, 4, 6
    h = rng.normal(size=(n, width))
    weights, normed, scales = [], [], []
    for _ in range(depth):
        weights.append(Linear(width, width, bias=False, rng=rng).weight.data)
        z = h @ weights[-1].T
        scales.append(np.sqrt(z.var(axis=0) + 1e-5))
        normed.append((z - z.mean(axis=0)) / scales[-1])
        h = np.maximum(normed[-1], 0)
    g, deltas = rng.normal(size=(n, width)), []
    for i in reversed(range(depth)):
        g = g * (normed[i] > 0)
        delta = np.empty_like(g)
        for unit in range(width):
            y = normed[i][:, unit]
            jacobian = (np.eye(n) - 1 / n - np.outer(y, y) / n) / scales[i][unit]
            delta[:, unit] = jacobian.T @ g[:, unit]
        deltas.append(delta)
        g = delta @ weights[i]
    ratio = np.linalg.norm(deltas[depth - 1 - SETTLING]) / np.linalg.norm(deltas[0])
    found = normalised_factor(width=width, depth=depth, batch_size=n, seed=2)
    assert found == pytest.approx(ratio ** (1 / 2), rel=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_normalisation_speeds_learning(seed):
    options = {"steps": 150, "every": 50, "data": "digits", "seed": seed}
    fast, slow = (progress(on, **options) for on in (True, False))
    assert fast.steps == slow.steps == [50, 100, 150]
    assert fast.accuracies[-1] > 0.7 and slow.accuracies[-1] < 0.4


def test_accuracy_is_taken_after_the_last_step_too():
    found = progress(True, 7, every=5, hidden=(5,), data="digits")
    assert found.steps == [5, 7] and len(found.accuracies) == 2


def test_accuracies_on_the_way_are_those_of_shorter_runs():
    long, short = (progress(True, n, every=10, hidden=(9,), data="digits") for n in (20, 10))
    assert long.accuracies[0] == short.accuracies[0]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (normalised_factor, {"width": 0}),
        (normalised_factor, {"depth": SETTLING + 1}),
        (normalised_factor, {"batch_size": 1}),
        (progress, {"steps": 0, "normalised": True}),
        (progress, {"every": 0, "normalised": True}),
        (progress, {"batch_size": 1, "normalised": True}),
        (progress, {"hidden": (0, 3), "normalised": True}),
        (progress, {"lr": math.inf, "normalised": True, "data": "digits"}),
        (progress, {"data": "letters", "normalised": True}),
    ],
)
def test_values_outside_their_range_are_refused(function, arguments):
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        function(**arguments)
