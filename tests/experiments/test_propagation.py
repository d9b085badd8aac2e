"""Gradients of random networks, against theory and against NumPy alone."""

import math

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.diagnostics import gradient_spread, mean_field
from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments.propagation import SETTLING, backward_factor, gradient_growth


@pytest.mark.parametrize(
    ("activation", "weight_variance", "bias_variance"),
    [(tg.sigmoid, 1.0, 0.0), (tg.sigmoid, 1.0, 1.0), (tg.relu, 2.0, 0.0), (tg.tanh, 4.0, 0.05)],
)
def test_factor_agrees_with_theory(activation, weight_variance, bias_variance):
    found = [
        backward_factor(activation, weight_variance, bias_variance, width=150, depth=25, seed=s)
        for s in range(4)
    ]
    chi = mean_field(activation, weight_variance, bias_variance).chi
    assert np.mean(found) == pytest.approx(math.sqrt(chi), rel=0.03)


def test_factor_is_that_of_a_network_by_hand():
    """The same draws, and nothing but NumPy."""
    rng = np.random.default_rng(7)
    depth, width, batch = SETTLING + 4, 12, 5
    h, weights, slopes = rng.normal(size=(batch, width)), [], []
    for _ in range(depth):
        weights.append(np.sqrt(1.5 / width) * rng.normal(size=(width, width)))
        z = h @ weights[-1].T + np.sqrt(0.1) * rng.normal(size=width)
        h = np.tanh(z)
        slopes.append(1 - h**2)
    last = delta = rng.normal(size=(batch, width))
    for i in range(depth - 2, SETTLING - 1, -1):
        delta = slopes[i] * (delta @ weights[i + 1])
    wanted = (np.linalg.norm(delta) / np.linalg.norm(last)) ** (1 / 3)
    found = backward_factor(tg.tanh, 1.5, 0.1, width=width, depth=depth, batch_size=batch, seed=7)
    assert found == pytest.approx(wanted, rel=1e-12)


def test_relu_scales_with_its_weights():
    """relu(c·z) = c·relu(z), so the factor is proportional to σ_w."""
    one, four = (backward_factor(tg.relu, v, width=20, depth=12, seed=3) for v in (1.0, 4.0))
    assert four == pytest.approx(2 * one, rel=1e-10)


def test_spread_follows_the_finite_width_law():
    """For another width and depth than the published ones; 3 standard errors."""
    found = gradient_growth(600, width=40, depth=15)
    theory = gradient_spread([40] * 15)
    assert found.shape == (600,)
    assert found.mean() == pytest.approx(theory.mean, abs=3 * math.sqrt(theory.variance / 600))
    assert found.var() == pytest.approx(theory.variance, rel=3 * math.sqrt(2 / 600))


def test_each_network_is_its_own_and_a_seed_gives_all_again():
    found = gradient_growth(45, width=20, depth=3, seed=1)
    assert len(set(found)) == 45
    assert (found == gradient_growth(45, width=20, depth=3, seed=1)).all()
    assert (found != gradient_growth(45, width=20, depth=3, seed=2)).all()


def test_a_dead_layer_lets_no_gradient_through():
    """Of two units both are off in a quarter of all layers: (3/4)³ = 42 % live through three."""
    found = gradient_growth(400, width=2, depth=3)
    assert np.mean(np.isfinite(found)) == pytest.approx(0.42, abs=0.1)
    assert (found[~np.isfinite(found)] == -np.inf).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"weight_variance": -1.0},
        {"weight_variance": math.nan},
        {"bias_variance": "0"},
        {"depth": SETTLING + 1},
        {"width": 0},
        {"batch_size": True},
    ],
)
def test_values_outside_their_range_are_refused(arguments):
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        backward_factor(tg.tanh, **({"weight_variance": 1.0} | arguments))


@pytest.mark.parametrize("name", ["networks", "width", "depth"])
def test_no_networks_layers_or_units_are_refused(name):
    with pytest.raises(ArgumentError, match=name):
        gradient_growth(**{name: 0})
