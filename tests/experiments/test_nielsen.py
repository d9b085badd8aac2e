"""Nielsen's published runs."""

import numpy as np
import pytest

from tinygrad_stab.experiments.nielsen import (
    TEST_CURVE,
    TRAINING_CURVE,
    accuracy_by_depth,
    network,
    overfitting,
    speeds,
)


def test_overfitting_curve_of_chapter_3_integer_for_integer(mnist):
    measured = list(overfitting(*mnist, epochs=6))
    assert tuple(epoch.test for epoch in measured) == TEST_CURVE[:6]
    assert tuple(epoch.training for epoch in measured) == TRAINING_CURVE


def test_speeds_agree_with_backpropagation_by_hand(mnist):
    train = mnist[0]
    model = network([30, 30], np.random.default_rng(3))
    x = train.inputs[:50].reshape(50, -1) / 256
    activations = [x]
    for layer in model[::2]:
        z = activations[-1] @ layer.weight.data.T + layer.bias.data
        activations.append(1 / (1 + np.exp(-z)))
    delta = activations[-1] - np.eye(10)[train.labels[:50]]
    found = []
    for above, a in zip(model[4::-2], activations[2:0:-1], strict=False):
        delta = delta @ above.weight.data * a * (1 - a)
        found.append(np.linalg.norm(delta.mean(axis=0)))
    assert speeds(train, 2, seed=3, examples=50) == pytest.approx(found[::-1], rel=1e-12)


def test_a_shallow_net_learns_in_an_epoch(mnist):
    (accuracy,) = accuracy_by_depth(mnist[0], 1, epochs=1, examples=10_000)
    assert accuracy > 0.8
