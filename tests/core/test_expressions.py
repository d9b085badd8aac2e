"""Random programs: shared nodes, broadcasting, several outputs, against the complex step."""

import numpy as np
from hypothesis import given, settings
from oracle import assert_close, complex_gradient

import tinygrad_stab as tg
from tinygrad_stab.testing.strategies import expressions

PROGRAMS = expressions() | expressions(outputs=3)


def outputs_of(f, *args):
    outputs = f(*args)
    return outputs if isinstance(outputs, tuple) else (outputs,)


@settings(max_examples=70)
@given(PROGRAMS)
def test_gradients_agree_with_the_complex_step(f):
    rng = np.random.default_rng(0)
    values, pullback = tg.vjp(lambda *args: outputs_of(f, *args), *f.inputs)
    for value, expected in zip(values, outputs_of(f, *f.inputs), strict=True):
        np.testing.assert_array_equal(value, expected)
    cotangents = [rng.normal(size=np.shape(value)) for value in values]
    for i, gradient in enumerate(pullback(*cotangents)):
        assert_close(gradient, complex_gradient(f, cotangents, f.inputs, i), 1e-12)


@settings(max_examples=40)
@given(PROGRAMS)
def test_backward_agrees_with_vjp_and_leaves_no_nan(f):
    leaves = [tg.tensor(x, requires_grad=True) for x in f.inputs]

    def loss(*args):
        return sum(np.sum(np.sin(out)) for out in outputs_of(f, *args))

    loss(*leaves).backward()
    _, pullback = tg.vjp(loss, *f.inputs)
    for leaf, expected in zip(leaves, pullback(1.0), strict=True):
        actual = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad
        assert np.all(np.isfinite(actual))
        np.testing.assert_array_equal(actual, expected)
