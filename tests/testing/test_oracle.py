"""The oracles against derivatives that are known, where differences are hard."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab.errors import NotAnalyticError
from tinygrad_stab.testing import central_differences, complex_step
from tinygrad_stab.testing.neighbourhood import Neighbourhood, along_elements, measured_noise

KNOWN = {  # f, f′, where
    "exp": (np.exp, np.exp, [-30.0, -12.0, 0.0, 1.0, 100.0]),
    "log": (np.log, np.reciprocal, [1e-12, 1e-5, 0.1, 1.0, 1e8]),
    "sin of a thousand": (lambda x: np.sin(1e3 * x), lambda x: 1e3 * np.cos(1e3 * x), [0.3, 1e-5]),
    "a cube": (lambda x: x**3, lambda x: 3 * x**2, [-1e6, -1.0, 1e-3, 7.0]),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2, [-8.0, -0.5, 0.0, 2.0]),
    "near its end": (np.sqrt, lambda x: 0.5 / np.sqrt(x), [1e-9, 1e-3]),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x**2, [1e-4, -0.01, 3.0]),
}
POINTS = [pytest.param(f, d, x, id=f"{name} at {x}") for name, (f, d, xs) in KNOWN.items()
          for x in xs]  # fmt: skip


@pytest.mark.parametrize(("f", "derivative", "x"), POINTS)
def test_central_differences_are_right_to_within_the_error_that_they_state(f, derivative, x):
    seen = central_differences(f, [np.array([x])])
    right = derivative(np.array([x]))
    assert abs(seen.value - right) <= seen.error
    assert seen.error <= 1e-5 * abs(right)
    assert not seen.kink[0]


@pytest.mark.parametrize(("f", "derivative", "x"), POINTS)
def test_the_complex_step_is_exact_to_round_off(f, derivative, x):
    seen = complex_step(f, [np.array([x])])
    np.testing.assert_allclose(seen.value, derivative(np.array([x])), rtol=1e-14)


def test_noise_is_measured_and_not_taken_for_slope():
    def noisy(x):  # loses nine digits on the way
        return (np.sin(x) + 1e7) - 1e7

    x = np.array([0.7])
    assert measured_noise(noisy, [x])[0] > 1e-10
    seen = central_differences(noisy, [x])
    assert abs(seen.value - np.cos(x)) <= seen.error
    assert 1e-9 < seen.error < 1e-3


def test_float32_inside_is_noise_too():
    def coarse(x):
        return np.sin(x.astype(np.float32))

    x = np.array([0.7, 2.0])
    seen = central_differences(coarse, [x])
    assert np.all(abs(seen.value - np.cos(x)) <= seen.error)
    assert np.all(seen.error < 1e-2)


@pytest.mark.parametrize(
    ("f", "x", "left", "right"),
    [
        (np.abs, 0.0, -1, 1),
        (lambda x: np.maximum(x, 0), 0.0, 0, 1),
        (lambda x: np.maximum(x, 0) + 1e3, 0.0, 0, 1),
        (lambda x: np.abs(x - 2) + x**2, 2.0, 3, 5),
        (lambda x: np.where(x < 1, np.exp(x), np.e * x**2), 1.0, np.e, 2 * np.e),
    ],
)
def test_a_kink_has_two_slopes(f, x, left, right):
    seen = central_differences(f, [np.array([x])])
    assert seen.kink[0]
    np.testing.assert_allclose([seen.left[0], seen.right[0]], [left, right], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-4])
def test_near_a_kink_there_is_none(distance):
    seen = central_differences(lambda x: np.maximum(x - 1, 0), [np.array([1 - distance])])
    assert not seen.kink[0] and seen.value[0] == 0
    seen = central_differences(lambda x: np.maximum(x, 0), [np.array([distance])])
    assert not seen.kink[0]
    np.testing.assert_allclose(seen.value, 1, rtol=1e-9)


def test_at_the_end_of_a_domain_the_derivative_is_that_from_inside():
    seen = central_differences(lambda x: np.sqrt(x) ** 3 + 2 * x, [np.array([0.0])])
    assert abs(seen.value[0] - 2) <= seen.error[0] < 0.1


@pytest.mark.parametrize("f", [np.sqrt, np.cbrt, lambda x: np.sqrt(np.abs(x)), np.sign])
def test_an_infinite_slope_is_not_a_number_to_rely_on(f):
    with np.errstate(all="ignore"):
        seen = central_differences(f, [np.array([0.0])])
    assert not seen.kink[0] and not seen.error[0] < 0.1 * abs(seen.value[0])


SHAPES = st.sampled_from([(), (3,), (2, 3), (40,), (5, 8)])


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_both_oracles_agree_on_any_shape_argument_and_cotangent(shape, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=shape), rng.normal(size=shape)

    def f(x, w):
        return np.tanh(x * w), np.sum(np.exp(np.sin(x)) * w, axis=-1) if np.ndim(x) else x * w

    size = sum(np.size(out) for out in f(x, w))
    v = rng.normal(size=size)
    for argnum in (0, 1):
        exact = complex_step(f, [x, w], argnum, v)
        seen = central_differences(f, [x, w], argnum, v)
        assert np.all(np.abs(seen.value - exact.value) <= 3 * seen.error)
        some = np.arange(x.size)[::2]
        again = complex_step(f, [x, w], argnum, v, elements=some)
        np.testing.assert_array_equal(again.value, exact.value[some])


STACKED = {
    "a map": lambda x: np.tanh(x) * 2,
    "a sum over the last axis": lambda x: np.sum(x**2, axis=-1),
    "a matrix product": lambda x: x @ np.arange(40.0).reshape(20, 2),
}
ALONE = {
    "a sum over all": lambda x: np.sum(x**2),
    "a mean taken out": lambda x: x - np.mean(x),
    "a sum over the first axis": lambda x: np.cumsum(x, axis=0),
    "a shape that is fixed": lambda x: np.reshape(x, (4, 5)) ** 2,
    "one that counts its axes": lambda x: x if x.ndim == 1 else x[:, ::-1],
}


@pytest.mark.parametrize("name", STACKED | ALONE)
def test_points_are_stacked_only_where_that_changes_nothing(name):
    calls = []

    def f(x):
        calls.append(x.shape)
        return (STACKED | ALONE)[name](x)

    x = np.random.default_rng(0).normal(size=20)
    near = Neighbourhood(f, [x], 0)
    calls.clear()
    rows = near.at(along_elements(x, np.arange(20)), np.full(20, 1e-3))
    for i, row in enumerate(rows):
        moved = x.copy()
        moved[i] += 1e-3
        np.testing.assert_allclose(row, np.ravel((STACKED | ALONE)[name](moved)), rtol=1e-12)
    assert (calls[-1] == (20, 20)) == (name in STACKED)


def test_the_complex_step_knows_a_kink_from_the_record():
    x = np.array([0.0, 0.0])
    with pytest.raises(NotAnalyticError, match="no kink nearby; euclidean_norm has one here"):
        complex_step(tg.norm, [x])


def test_the_complex_step_needs_complex_numbers_to_pass():
    with pytest.raises(NotAnalyticError, match="must run on complex numbers; it raised"):
        complex_step(lambda x: np.array([float(n) for n in x]), [np.ones(3)])
