"""Training by steps."""

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.experiments.steps import descend

X = np.random.default_rng(0).normal(size=(40, 5))
LABELS = np.arange(40) % 3


def losses(steps, lr=0.1, **options):
    model = tg.nn.Linear(5, 3, rng=1)
    sgd = tg.optim.SGD(model.parameters(), lr=lr)
    rng = np.random.default_rng(2)
    return model, descend(model, sgd, X, LABELS, steps, batch_size=8, rng=rng, **options)


@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_steps_are_gradient_descent_by_hand(clip_norm):
    model, made = losses(5, clip_norm=clip_norm)
    w, b = model.weight.data.copy(), model.bias.data.copy()
    rng = np.random.default_rng(2)
    for loss in made:
        batch = rng.integers(40, size=8)
        z = X[batch] @ w.T + b
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        assert loss == pytest.approx(-np.log(p[np.arange(8), LABELS[batch]]).mean(), rel=1e-12)
        delta = (p - np.eye(3)[LABELS[batch]]) / 8
        gw, gb = delta.T @ X[batch], delta.sum(axis=0)
        norm = np.sqrt((gw**2).sum() + (gb**2).sum())
        share = 1.0 if clip_norm is None else min(1.0, clip_norm / (norm + 1e-6))
        w -= 0.1 * share * gw
        b -= 0.1 * share * gb
    assert np.allclose(model.weight.data, w, rtol=1e-12)


def test_a_step_is_taken_only_when_the_next_loss_is_asked_for():
    model, made = losses(3)
    before = model.weight.data.copy()
    next(made)
    assert (model.weight.data == before).all()
    next(made)
    assert (model.weight.data != before).any()


def test_the_first_loss_that_is_not_finite_is_the_last():
    spoilt = np.where(np.arange(40)[:, None] < 4, np.nan, X)
    model = tg.nn.Linear(5, 3, rng=1)
    sgd = tg.optim.SGD(model.parameters(), lr=0.1)
    rng = np.random.default_rng(2)
    found = list(descend(model, sgd, spoilt, LABELS, 100, batch_size=1, rng=rng))
    assert 1 < len(found) < 100
    assert np.isnan(found[-1]) and np.isfinite(found[:-1]).all()
    assert np.isfinite(model.weight.data).all()
