"""Programs in plain NumPy run unchanged on arrays and on tensors, and differentiate."""

import numpy as np
import pytest
from oracle import assert_close, numeric_gradient

import tinygrad_stab as tg


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def mixture_log_likelihood(means, log_scales, logits):
    """Of a mixture of normals, by log-sum-exp written out."""
    data = np.array([-1.2, 0.3, 0.4, 2.5, 3.1])
    z = (data[:, None] - means) / np.exp(log_scales)
    log_weights = logits - np.log(np.sum(np.exp(logits)))
    terms = log_weights - log_scales - 0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    top = np.max(terms, axis=1, keepdims=True)
    return np.sum(np.squeeze(top, axis=1) + np.log(np.sum(np.exp(terms - top), axis=1)))


def kalman_step(mean, covariance, noise):
    """Negative log-likelihood of one observation, and what it does to the state."""
    step = np.array([[1.0, 0.1], [0.0, 1.0]])
    look = np.array([[1.0, 0.0]])
    seen = np.array([0.7])
    mean = step @ mean
    covariance = step @ covariance @ step.T + 0.01 * np.eye(2)
    surprise = seen - look @ mean
    spread = look @ covariance @ look.T + np.exp(noise) * np.eye(1)
    gain = np.linalg.solve(spread, look @ covariance).T
    mean = mean + gain @ surprise
    covariance = covariance - gain @ look @ covariance
    sign, log_det = np.linalg.slogdet(spread)
    score = 0.5 * (surprise @ np.linalg.solve(spread, surprise) + log_det)
    return sign * score + np.sum(mean**2) + np.trace(covariance)


def gaussian_process(log_length, log_signal, log_noise):
    """Negative log marginal likelihood, by Cholesky."""
    x = np.linspace(0.0, 3.0, 6)
    y = np.sin(x) + 0.1 * np.cos(7 * x)
    squares = (x[:, None] - x[None, :]) ** 2
    kernel = np.exp(2 * log_signal) * np.exp(-0.5 * squares * np.exp(-2 * log_length))
    lower = np.linalg.cholesky(kernel + np.exp(2 * log_noise) * np.eye(len(x)))
    whitened = np.linalg.solve(lower, y)
    log_det = 2 * np.sum(np.log(np.diagonal(lower)))
    return 0.5 * (np.dot(whitened, whitened) + log_det + len(x) * np.log(2 * np.pi))


def attention(queries, keys, values):
    """Softmax attention with einsum, a mask and a layer norm."""
    scores = np.einsum("bqd,bkd->bqk", queries, keys) / np.sqrt(queries.shape[-1])
    scores = np.where(np.tri(scores.shape[1], scores.shape[2], dtype=bool), scores, -1e9)
    weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    weights = weights / np.sum(weights, axis=-1, keepdims=True)
    out = np.einsum("bqk,bkd->bqd", weights, values)
    out = (out - np.mean(out, axis=-1, keepdims=True)) / np.std(out, axis=-1, keepdims=True)
    return np.sum(np.sin(out))


def odds_and_ends(x, y):
    """Many functions that a NumPy user reaches for, in one expression."""
    a = np.concatenate([np.cumsum(x), np.flip(np.sort(y))])
    b = np.roll(np.tile(a, 2), 3)[: a.shape[0]] + np.pad(x, (0, len(y)), mode="edge")
    c = np.outer(np.hypot(a, b), np.arctan2(b, 2 + a * a))
    d = np.tensordot(c, np.triu(c), axes=([1], [0])) + np.repeat(a, a.shape[0]).reshape(c.shape)
    first, second = np.split(np.take_along_axis(d, np.argsort(d, axis=0), axis=0), 2)
    return np.prod(np.tanh(first)) + np.var(second, ddof=1) + np.linalg.norm(np.moveaxis(d, 0, 1))


rng = np.random.default_rng(7)
PROGRAMS = {
    "rosenbrock": (rosenbrock, [np.array([-1.2, 1.0, 0.5, 0.8])]),
    "mixture": (
        mixture_log_likelihood,
        [np.array([-1.0, 2.0]), np.array([0.1, -0.2]), np.array([0.3, 0.0])],
    ),
    "kalman": (kalman_step, [np.array([0.2, -0.1]), np.array([[1.0, 0.2], [0.2, 0.5]]), -1.0]),
    "gaussian process": (gaussian_process, [0.1, 0.2, -1.0]),
    "attention": (attention, [rng.normal(size=(2, 4, 3)) for _ in range(3)]),
    "odds and ends": (odds_and_ends, [rng.uniform(0.5, 1.5, 3), rng.uniform(2.0, 3.0, 3)]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    program, args = PROGRAMS[name]
    args = [np.asarray(a) for a in args]
    value = program(*args)
    assert not isinstance(value, tg.Tensor)
    leaves = [tg.tensor(a, requires_grad=True) for a in args]
    out = program(*leaves)
    assert isinstance(out, tg.Tensor)
    np.testing.assert_allclose(out.data, value, rtol=1e-12)
    out.backward()
    for i, leaf in enumerate(leaves):
        assert_close(leaf.grad, numeric_gradient(program, [1.0], args, i), 1e-7)


def test_newton_by_hessian_finds_rosenbrocks_minimum():
    x = np.array([-1.2, 1.0])
    for _ in range(20):
        x = x - np.linalg.solve(tg.hessian(rosenbrock)(x), tg.grad(rosenbrock)(x))
    np.testing.assert_allclose(x, [1.0, 1.0], atol=1e-12)
