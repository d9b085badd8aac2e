"""Behaviour of the gradient check at the edges: one test a statement, under its number (K…)."""

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.errors import (
    ArgumentError,
    GradientCheckError,
    NotAnalyticError,
    PrecisionWarning,
    VacuousCheckError,
)
from tinygrad_stab.testing import check_gradients, complex_step

RNG = np.random.default_rng(7)
X, Y, W = RNG.normal(size=(3, 4)), RNG.normal(size=4), RNG.normal(size=(4, 4))


def with_gradient(forward, *rules, **options):
    """A function with rules of one's own, that is no record of the registry afterwards."""
    made = tg.primitive("users_checked", forward, *rules, replace=True, **options)
    del tg.REGISTRY["users_checked"]
    return made


def element(g, index, factor):
    g = np.array(g)
    g[index] *= factor
    return g


def refused(f, *inputs, match="is wrong at", **options):
    with pytest.raises(GradientCheckError, match=match) as caught:
        check_gradients(f, *inputs, **options)
    return str(caught.value)


MISTAKES = {
    "sign flip": (with_gradient(np.tanh, lambda g, out, x: -g * (1 - out**2)), [X], "wrong sign"),
    "missing factor 2": (with_gradient(lambda x: x**2, lambda g, out, x: g * x), [X], "factor 2"),
    "transposed": (
        with_gradient(
            np.matmul,
            lambda g, out, x, w: g @ w.mT,
            lambda g, out, x, w: (x.mT @ g).mT,
            cases=[tg.domain.case((3, 4), (4, 4))],
        ),
        [X, W],
        "transposed",
    ),
    "mean instead of sum over broadcast": (
        with_gradient(
            np.add,
            lambda g, out, x, y: g,
            lambda g, out, x, y: np.mean(g, axis=0) if np.ndim(g) > np.ndim(y) else g,
        ),
        [X, Y],
        "a factor 3 is missing",
    ),
    "one element × 1.5": (
        with_gradient(np.exp, lambda g, out, x: element(g * out, (1, 2), 1.5)),
        [X],
        "only element (1, 2) differs",
    ),
    "wrong second argument": (
        with_gradient(np.multiply, lambda g, out, x, y: g * y, lambda g, out, x, y: g * y),
        [X, Y],
        "worst at y[",
    ),
    "zero": (with_gradient(np.exp, lambda g, out, x: 0 * g), [X], "zero everywhere"),
    "NaN": (with_gradient(np.exp, lambda g, out, x: np.nan * g), [X], "nan"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_k01_usual_mistakes_are_refused(mistake):
    f, inputs, word = MISTAKES[mistake]
    assert word in refused(f, *inputs)


def test_k01_a_rule_that_ignores_the_seed_is_refused():
    f = with_gradient(np.exp, lambda g, out, x: out)
    refused(f, X, match="is not zero for g = 0")


@pytest.mark.parametrize("everywhere", [True, False])
def test_k02_a_relative_error_of_one_in_ten_thousand_is_refused(everywhere):
    def rule(g, out, x):
        right = g * (1 - out**2)
        return right * (1 + 1e-4) if everywhere else element(right, (2, 1), 1 + 1e-4)

    words = refused(with_gradient(np.tanh, rule), X)
    assert "analytic / numeric  1.0001" in words


def test_k03_a_gradient_of_the_wrong_shape_is_refused():
    f = with_gradient(np.exp, lambda g, out, x: (g * out)[None])
    refused(f, X, match=r"the rule for x must give a gradient of the argument's shape \(3, 4\)")
    words = refused((lambda x: np.sum(x**2), lambda x: 2 * x[None]), X, match="has the shape of")
    assert "is (1, 3, 4), the input (3, 4)" in words


def test_k04_a_float32_gradient_of_a_float64_input_is_refused():
    # The engine makes a rule's result fit, and what that cost is seen in the numbers.
    refused(with_gradient(np.sin, lambda g, out, x: (g * np.cos(x)).astype(np.float32)), X)
    pair = (lambda x: np.sum(x**2), lambda x: (2 * x).astype(np.float32))
    refused(pair, X, match="that of f by x is float32, the input float64")


@pytest.mark.parametrize("inputs", [[], [np.arange(3)], [tg.tensor(X)], [3, "axis"]])
def test_k05_nothing_to_differentiate_is_refused(inputs):
    with pytest.raises(VacuousCheckError, match="something must be differentiable"):
        check_gradients(lambda *x: tg.exp(tg.tensor(X)), *inputs)


@pytest.mark.parametrize(
    "f", [lambda x: x.detach(), lambda x: x.data * 2.0, lambda x: tg.no_grad()(tg.exp)(x)]
)
def test_k06_an_output_that_is_cut_from_the_graph_is_refused(f):
    with pytest.raises(GradientCheckError, match="is cut from the graph"):
        check_gradients(f, X)


def test_k06_an_output_of_which_a_part_is_cut_is_refused():
    refused(lambda x: x * x.detach(), X)


def test_k07_float32_gets_a_tolerance_of_its_own_with_a_warning():
    with pytest.warns(PrecisionWarning, match=r"x is float32: checked in float64"):
        assert check_gradients(tg.exp, X.astype(np.float32)).passed
    bad = with_gradient(np.exp, lambda g, out, x: g * out * (1 + 1e-4))
    refused(bad, X.astype(np.float32))


def test_k08_a_gradient_that_is_not_the_same_again_is_refused():
    calls = iter(range(1000))
    refused(
        with_gradient(np.exp, lambda g, out, x: g * out * (1 + 1e-9 * next(calls))),
        X,
        match="is not the same when it is computed again",
    )


def test_k08_a_function_that_is_not_the_same_again_is_refused():
    rng = np.random.default_rng(0)
    refused(lambda x: x * rng.normal(), X, match="must give the same value again")


def test_k09_a_zero_seed_must_give_a_zero_gradient():
    refused(with_gradient(np.exp, lambda g, out, x: g * out + 1e-3), X, match="zero for g = 0")
    square = with_gradient(np.exp, lambda g, out, x: np.abs(g) ** 2 * out)
    refused(square, X, match="is not −2 times itself")


def test_k10_inputs_and_parameters_stay_bit_for_bit_also_after_an_exception():
    model = tg.nn.Linear(4, 2, rng=0)
    inputs = [X.copy(), tg.tensor(Y, requires_grad=True)]
    before = [X.copy(), Y.copy(), *(p.data.copy() for p in model.parameters())]

    def f(x, y):
        return model(x * y)

    def falls_over(x, y):
        if np.max(np.abs((x - X).data if isinstance(x, tg.Tensor) else 0)) > 0:
            raise RuntimeError("in the middle of it")
        return f(x, y)

    check_gradients(f, *inputs, parameters=model.parameters())
    with pytest.raises(RuntimeError, match="in the middle"):
        check_gradients(falls_over, *inputs, parameters=model.parameters(), oracle="differences")
    after = [inputs[0], inputs[1].data, *(p.data for p in model.parameters())]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert inputs[1].grad is None and all(p.grad is None for p in model.parameters())


def test_k10_functions_that_write_to_their_inputs_are_refused():
    def writes(x):
        x *= 2
        return np.sum(x)

    def right(x):
        return 2 * np.ones_like(x)

    def writing_gradient(x):
        x[:] = 2
        return x

    refused((writes, right), X.copy(), match="f leaves its inputs as they are; writes wrote to x")
    refused((lambda x: 2 * np.sum(x), writing_gradient), X.copy(), match="wrote to x")


def test_k11_overlapping_memory_is_refused():
    with pytest.raises(ArgumentError, match=r"every element needs memory of its own.*stride 0"):
        check_gradients(tg.exp, np.broadcast_to(Y, (3, 4)))
    assert check_gradients(tg.exp, np.broadcast_to(Y, (3, 4)).copy()).passed


NOT_ANALYTIC = {
    "abs": np.abs,
    "max": lambda x: np.max(x, axis=0),
    "maximum": lambda x: np.maximum(x, 0.3),
    "comparison": lambda x: np.where(x > 0, x, 2 * x),
    "behind the guard's back": lambda x: x * np.abs(x.value if hasattr(x, "value") else x),
    "complex numbers do not enter": lambda x: np.array([[float(v) for v in row] for row in x]),
}


def gradient_of_any_shape(g, x):
    return np.broadcast_to(g, x.shape).copy()


@pytest.mark.parametrize("name", NOT_ANALYTIC)
def test_k12_complex_step_refuses_what_is_not_analytic(name):
    with pytest.raises(NotAnalyticError, match="complex step"):
        complex_step(NOT_ANALYTIC[name], [X])
    with pytest.raises(NotAnalyticError):
        check_gradients((NOT_ANALYTIC[name], gradient_of_any_shape), X, oracle="complex")
