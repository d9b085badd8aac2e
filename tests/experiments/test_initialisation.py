"""What the first weights do to gradients, and to learning."""

import math

import numpy as np
import pytest

from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments.initialisation import back_propagate, learn
from tinygrad_stab.experiments.network import Stack
from tinygrad_stab.experiments.training import Config, sets

SMALL = {"width": 300, "batch_size": 100, "data": "digits"}


@pytest.mark.parametrize("seed", range(3))
def test_standard_initialisation_loses_two_thirds_of_the_variance_a_layer(seed):
    found = back_propagate("standard", seed=seed, **SMALL)
    assert len(found.variance_ratios) == 4
    assert found.variance_ratios[-1] == pytest.approx(1 / 3, abs=0.05)
    # The factor for weights of variance 1/(3n) is √(1/3) a layer at most, tanh′ being ≤ 1.
    assert found.delta_spread > 0.9 * 3**2
    assert found.weight_gradient_spread < 1.3


@pytest.mark.parametrize("seed", range(3))
def test_normalised_initialisation_keeps_more_of_the_variance_in_every_layer(seed):
    standard, normalised = (
        back_propagate(scheme, seed=seed, **SMALL) for scheme in ("standard", "normalised")
    )
    ratios = zip(standard.variance_ratios, normalised.variance_ratios, strict=True)
    assert all(2 * kept < better for kept, better in ratios)
    assert normalised.delta_spread < standard.delta_spread / 2


def test_numbers_are_those_of_a_network_by_hand():
    """Weights from the same draws; the rest is NumPy alone."""
    found = back_propagate("normalised", hidden=3, width=7, batch_size=11, data="digits", seed=4)
    rng = np.random.default_rng(4)
    train, _ = sets(Config(data="digits"))
    pixels = train.inputs.reshape(len(train.inputs), -1) / 16
    batch = rng.integers(len(pixels), size=11)
    model = Stack(64, [7] * 3, 10, rng, activation="tanh", init="xavier")
    w = [block.linear.weight.data for block in model.layers]
    hs = [(pixels[batch] - pixels.mean()) / pixels.std()]
    for matrix in w[:-1]:
        hs.append(np.tanh(hs[-1] @ matrix.T))
    p = np.exp(hs[-1] @ w[-1].T)
    delta = (p / p.sum(axis=1, keepdims=True) - np.eye(10)[train.labels[batch]]) / 11
    deltas, gradients = [], []
    for i in (2, 1, 0):
        delta = (delta @ w[i + 1]) * (1 - hs[i + 1] ** 2)
        deltas.append(delta)
        gradients.append(np.sqrt(np.mean((delta.T @ hs[i]) ** 2)))
    ratios = [deltas[2 - i].var() / deltas[1 - i].var() for i in range(2)]
    sizes = [np.sqrt(np.mean(d**2)) for d in deltas]
    assert found.variance_ratios == pytest.approx(ratios, rel=1e-10)
    assert found.delta_spread == pytest.approx(max(sizes) / min(sizes), rel=1e-10)
    assert found.weight_gradient_spread == pytest.approx(max(gradients) / min(gradients), rel=1e-10)


def test_he_learns_at_a_depth_at_which_xavier_does_not():
    options = {"width": 48, "batch_size": 32, "data": "digits"}
    he, xavier = (learn(scheme, 40, 150, **options) for scheme in ("he", "xavier"))
    assert he.accuracy > 0.3 > 0.2 > xavier.accuracy
    assert np.mean(xavier.losses[-20:]) == pytest.approx(math.log(10), rel=0.02)
    assert len(he.losses) == 150 and he.losses[-1] < he.losses[0]


def test_both_learn_where_the_net_is_shallow():
    options = {"width": 32, "data": "digits"}
    assert all(learn(scheme, 3, 300, **options).accuracy > 0.8 for scheme in ("he", "xavier"))


def test_a_seed_gives_the_run_again_bit_for_bit():
    first, again, other = (
        learn("he", 4, 5, width=8, data="digits", seed=seed) for seed in (1, 1, 2)
    )
    assert first == again and first.losses != other.losses


@pytest.mark.parametrize(
    ("function", "arguments", "match"),
    [
        (back_propagate, {"scheme": "he"}, "scheme"),
        (back_propagate, {"scheme": "standard", "hidden": 1}, "hidden"),
        (back_propagate, {"scheme": "standard", "width": 0}, "width"),
        (back_propagate, {"scheme": "standard", "data": "spirals"}, "data"),
        (learn, {"scheme": "standard"}, "scheme"),
        (learn, {"scheme": "he", "depth": 1}, "depth"),
        (learn, {"scheme": "he", "steps": 0}, "steps"),
        (learn, {"scheme": "he", "lr": math.nan}, "lr"),
        (learn, {"scheme": "he", "lr": -1.0}, "lr"),
        (learn, {"scheme": "he", "data": "letters"}, "data"),
    ],
)
def test_values_outside_their_range_are_refused(function, arguments, match):
    with pytest.raises(ArgumentError, match=match):
        function(**arguments)
