"""Initialisers: the variance that the paper asks for, and nothing half done."""

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, ShapeError
from tinygrad_stab.nn import init

SHAPE = (300, 200)  # fan_out, fan_in


def empty(shape=SHAPE, dtype=float):
    return tg.tensor(np.zeros(shape, dtype), requires_grad=True)


VARIANCES = [
    (init.xavier_uniform_, {}, 2 / 500),
    (init.xavier_normal_, {"gain": 2.0}, 4 * 2 / 500),
    (init.kaiming_uniform_, {}, 2 / 200),
    (init.kaiming_normal_, {"mode": "fan_out"}, 2 / 300),
    (init.kaiming_normal_, {"a": 1.0}, 1 / 200),
    (init.kaiming_normal_, {"nonlinearity": "tanh"}, 25 / 9 / 200),
    (init.lecun_uniform_, {}, 1 / 200),
    (init.lecun_normal_, {}, 1 / 200),
    (init.orthogonal_, {"gain": 2.0}, 4 / 300),
    (init.normal_, {"std": 0.5}, 0.25),
    (init.uniform_, {"low": -1.0, "high": 1.0}, 1 / 3),
]


@pytest.mark.parametrize(("initialise", "arguments", "variance"), VARIANCES)
def test_variance(initialise, arguments, variance):
    w = initialise(empty(), rng=0, **arguments)
    # The variance of n independent draws is itself right to about √(2/n) = 0.6 %.
    assert w.data.var() == pytest.approx(variance, rel=0.03)
    assert abs(w.data.mean()) < 4 * np.sqrt(variance / w.size)


@pytest.mark.parametrize(("initialise", "arguments", "variance"), VARIANCES)
def test_same_seed_same_weights_in_any_type(initialise, arguments, variance):
    a, b = (initialise(empty(), rng=seed, **arguments).data for seed in (1, 2))
    again = initialise(empty(dtype=np.float32), rng=1, **arguments)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again.data, a.astype(np.float32))
    assert not np.array_equal(a, b)


@pytest.mark.parametrize(("initialise", "arguments", "variance"), VARIANCES[:9])
def test_fewer_than_two_axes_is_an_error(initialise, arguments, variance):
    w = empty((3,))
    with pytest.raises(ShapeError, match=r"at least 2 axes.*received shape \(3,\)"):
        initialise(w, **arguments)
    np.testing.assert_array_equal(w.data, 0)


@pytest.mark.parametrize(("initialise", "arguments", "variance"), VARIANCES)
def test_no_elements_is_fine(initialise, arguments, variance):
    assert initialise(empty((0, 3)), **arguments).shape == (0, 3)


def test_convolution_fans_count_the_receptive_field():
    w = init.kaiming_normal_(empty((64, 32, 3, 3)), rng=0)
    assert w.data.var() == pytest.approx(2 / (32 * 9), rel=0.03)


@pytest.mark.parametrize("shape", [(4, 4), (4, 6), (6, 4), (4, 2, 3)])
def test_orthogonal(shape):
    w = init.orthogonal_(empty(shape), rng=0).data.reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-14)


def test_constants():
    np.testing.assert_array_equal(init.constant_(empty(), 3.0).data, 3)
    np.testing.assert_array_equal(init.ones_(empty()).data, 1)
    np.testing.assert_array_equal(init.zeros_(empty()).data, 0)


def test_gains():
    gains = {"linear": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": np.sqrt(2), "selu": 0.75}
    for name, gain in gains.items():
        assert init.calculate_gain(name) == pytest.approx(gain)
    assert init.calculate_gain("leaky_relu", 0.5) == pytest.approx(np.sqrt(2 / 1.25))
    assert init.calculate_gain("leaky_relu") == pytest.approx(np.sqrt(2 / 1.0001))
    with pytest.raises(ArgumentError, match=r"knows linear.*received 'swish'"):
        init.calculate_gain("swish")
    for absurd in (["relu"], None):
        with pytest.raises(ArgumentError, match="calculate_gain: knows"):
            init.calculate_gain(absurd)
    for absurd in ("a", np.nan):
        with pytest.raises(ArgumentError, match="calculate_gain: param is finite"):
            init.calculate_gain("leaky_relu", absurd)
    with pytest.raises(ArgumentError, match="mode is 'fan_in' or 'fan_out'"):
        init.kaiming_normal_(empty(), mode="both")


@pytest.mark.parametrize(
    "draw",
    [
        lambda w: init.normal_(w, std=-1.0),
        lambda w: init.normal_(w, "a"),
        lambda w: init.uniform_(w, 1.0, 0.0),
        lambda w: init.uniform_(w, -np.inf, np.inf),
        lambda w: init.xavier_normal_(w, gain=-1.0),
        lambda w: init.xavier_uniform_(w, gain=np.nan),
        lambda w: init.orthogonal_(w, gain="a"),
    ],
)
def test_absurd_sizes_are_refused_and_change_nothing(draw):
    w = empty()
    with pytest.raises(ArgumentError, match="finite"):
        draw(w)
    assert (w.data == 0).all()
