"""grad, vjp, jvp, jacobian, hessian: against closed forms and the complex step, to any order."""

import numpy as np
import pytest
from oracle import assert_close, complex_gradient

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, ShapeError


def test_derivatives_of_any_order():
    f = np.tanh
    x, t = 0.7, np.tanh(0.7)
    orders = [t, 1 - t**2, -2 * t * (1 - t**2), (1 - t**2) * (6 * t**2 - 2),
              (1 - t**2) * (16 * t - 24 * t**3)]  # fmt: skip
    for expected in orders:
        value = f(x)
        assert value == pytest.approx(expected, rel=1e-13)
        f = tg.grad(f)


def test_nesting_keeps_the_variables_apart():
    # d/dx (x · d/dy (x·y)) = d/dx x² = 2x, and no confusion of the two derivatives
    f = lambda x: x * tg.grad(lambda y: x * y)(1.0)  # noqa: E731
    assert tg.grad(f)(3.0) == 6
    assert tg.grad(lambda x: tg.grad(lambda y: y * x)(x))(3.0) == 1


def test_plain_arrays_in_and_out():
    value, gradient = tg.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    assert type(value) is np.ndarray and type(gradient) is np.ndarray
    value += 1  # both writable
    gradient += 1


def test_result_that_depends_on_a_parameter_is_a_tensor():
    w = tg.tensor(3.0, requires_grad=True)
    slope = tg.grad(lambda x: w * x**2)(2.0)
    assert isinstance(slope, tg.Tensor)
    slope.backward()
    assert w.grad == 4
    with tg.no_grad():
        assert type(tg.grad(lambda x: w * x**2)(2.0)) is np.ndarray


def test_argnums():
    f = lambda x, y, *, k: np.sum(k * x * y**2)  # noqa: E731
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    np.testing.assert_array_equal(tg.grad(f)(x, y, k=2), 2 * y**2)
    np.testing.assert_array_equal(tg.grad(f, argnums=-1)(x, y, k=2), 4 * x * y)
    gx, gy = tg.grad(f, argnums=(0, 1))(x, y, k=2)
    np.testing.assert_array_equal([gx, gy], [2 * y**2, 4 * x * y])
    with pytest.raises(ArgumentError, match="received 5, with 2 given"):
        tg.grad(f, argnums=5)(x, y, k=2)


def test_independent_output_has_gradient_zero():
    np.testing.assert_array_equal(tg.grad(lambda x: 3.0)(np.ones(2)), [0, 0])
    np.testing.assert_array_equal(tg.grad(lambda x: tg.tensor(3.0))(np.ones(2)), [0, 0])


def test_integers_are_taken_as_floats():
    np.testing.assert_array_equal(tg.grad(lambda x: (x * x).sum())([1, 2]), [2.0, 4.0])


def test_the_input_is_left_alone():
    x = np.array([1.0, 2.0])
    out, pullback = tg.vjp(lambda x: x * x, x)
    out += 100
    x[:] = 100
    (gradient,) = pullback(np.ones(2))
    np.testing.assert_array_equal(gradient, [2.0, 4.0])
    t = tg.tensor([1.0, 2.0], requires_grad=True)
    tg.grad(lambda x: (x * x).sum())(t)
    assert t.grad is None


def test_vjp_of_several_outputs(rng):
    f = lambda x, y: (np.sin(x) * y, np.sum(x * x))  # noqa: E731
    x, y, v = rng.normal(size=3), rng.normal(size=3), rng.normal(size=3)
    outs, pullback = tg.vjp(f, x, y)
    assert len(outs) == 2
    for i, gradient in enumerate(pullback(v, 2.0)):
        assert_close(gradient, complex_gradient(f, [v, 2.0], [x, y], i), 1e-14)


def test_the_same_output_twice_adds_its_cotangents():
    def f(x):
        y = x * x
        return y, y

    assert tg.vjp(f, 3.0)[1](1.0, 10.0)[0] == 66


@pytest.mark.parametrize(
    "cotangents", [(np.ones(3),), (np.ones(1),), (1.0,), (), (np.ones(2),) * 2]
)
def test_cotangents_must_fit(cotangents):
    _, pullback = tg.vjp(lambda x: x * 2, np.ones(2))
    with pytest.raises(ShapeError, match="vjp: one cotangent an output"):
        pullback(*cotangents)


def test_grad_needs_a_scalar():
    with pytest.raises(ShapeError, match=r"must return a scalar; received shape \(2,\)"):
        tg.grad(lambda x: x * 2)(np.ones(2))


def test_jvp_agrees_with_the_complex_step(rng):
    f = lambda x, y: np.tanh(x @ y) * np.sum(x)  # noqa: E731
    x, y = rng.normal(size=(2, 3)), rng.normal(size=(3, 2))
    dx, dy = rng.normal(size=(2, 3)), rng.normal(size=(3, 2))
    out, moved = tg.jvp(f, (x, y), (dx, dy))
    assert type(moved) is np.ndarray
    np.testing.assert_allclose(out, f(x, y), rtol=1e-15)
    expected = f(x + 1e-30j * dx, y + 1e-30j * dy).imag / 1e-30
    np.testing.assert_allclose(moved, expected, rtol=1e-13)
    with pytest.raises(ShapeError, match="jvp: one tangent a primal"):
        tg.jvp(f, (x, y), (dx,))


def test_jvp_can_be_differentiated():
    # d/dx of (d/dy x·y²)|_{y=x}·1 = d/dx 2x² = 4x
    assert tg.grad(lambda x: tg.jvp(lambda y: x * y * y, (x,), (1.0,))[1])(3.0) == 12


def test_jacobian_and_hessian_agree_with_the_complex_step(rng):
    f = lambda x: np.stack([np.sum(np.sin(x)) * x[0, 0], np.sum(x * x * x)])  # noqa: E731
    x = rng.normal(size=(2, 2))
    whole = tg.jacobian(f)(x)
    assert whole.shape == (2, 2, 2)
    for i in range(2):
        assert_close(whole[i], complex_gradient(f, [np.eye(2)[i]], [x], 0), 1e-13)
    g = lambda x: np.sum(np.exp(x) * x.T)  # noqa: E731
    bent = tg.hessian(g)(x)
    for place in np.ndindex(2, 2):
        unit = np.zeros((2, 2))
        unit[place] = 1
        assert_close(bent[place], complex_gradient(_gradient_of_g, [unit], [x], 0), 1e-13)
    np.testing.assert_allclose(bent, np.transpose(bent, (2, 3, 0, 1)), atol=1e-14)


def _gradient_of_g(x):
    """∂/∂x Σ e^x·xᵀ, by hand."""
    return np.exp(x) * x.T + np.exp(x).T


def test_jacobian_of_several_arguments_and_of_nothing():
    f = lambda x, y: x * y  # noqa: E731
    jx, jy = tg.jacobian(f, argnums=(0, 1))(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    np.testing.assert_array_equal(jx, np.diag([3.0, 4.0]))
    np.testing.assert_array_equal(jy, np.diag([1.0, 2.0]))
    assert tg.jacobian(lambda x: x[:0])(np.ones(3)).shape == (0, 3)


def test_hessian_of_cross_entropy_is_the_covariance_of_the_prediction():
    logits = np.array([1.0, 2.0, 3.0])
    p = np.exp(logits) / np.exp(logits).sum()
    bent = tg.hessian(lambda z: tg.softmax_cross_entropy(z, np.array(1)))(logits)
    np.testing.assert_allclose(bent, np.diag(p) - np.outer(p, p), atol=1e-15)


def test_mixed_precision_survives_two_passes():
    f = lambda x: np.sum(x * x * np.array([1.0, 2.0]))  # noqa: E731 - float32 · float64
    x = np.array([1.0, 2.0], np.float32)
    g = tg.grad(lambda x: np.sum(tg.grad(f)(x) ** 2))(x)
    assert g.dtype == np.float32
    np.testing.assert_array_equal(g, [8.0, 64.0])
