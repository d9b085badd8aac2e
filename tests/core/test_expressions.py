"""Random programs: shared nodes, broadcasting, several outputs, against the complex step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_close, complex_gradient

import tinygrad_stab as tg

# Each takes values of any shape that broadcasts with (2, 3), and keeps numbers of order one, so
# that the complex step is exact and a long program does not overflow.
UNARY = {
    "tanh": np.tanh,
    "sin": np.sin,
    "sigmoid": tg.sigmoid,
    "exp of sin": lambda x: np.exp(np.sin(x)),
    "mean": lambda x: np.mean(x, axis=-1, keepdims=True) if np.ndim(x) else x,
    "transposed twice": lambda x: x.T[..., None][..., 0].T,
    "reversed": lambda x: x[::-1] if np.ndim(x) else x,
    "doubled": lambda x: np.concatenate([x, x])[: len(x)] if np.ndim(x) else x,
}
BINARY = {
    "add": lambda x, y: (x + y) / 2,
    "subtract": lambda x, y: (x - y) / 2,
    "multiply": lambda x, y: np.sin(x) * np.cos(y),
    "divide": lambda x, y: x / (2 + np.sin(y)),
    "power": lambda x, y: (2 + np.sin(x)) ** np.cos(y),
    "gram": lambda x, y: np.tanh((x + np.zeros((2, 3))) @ (y + np.zeros((2, 3))).mT)[:, :1],
}
SHAPES = [(), (3,), (1,), (2, 1), (1, 3), (2, 3)]


@st.composite
def programs(draw):
    """Shapes of the inputs, steps that name a function and earlier values, and the outputs."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    steps = []
    for count in range(len(shapes), len(shapes) + draw(st.integers(1, 8))):
        earlier = st.integers(0, count - 1)
        if draw(st.booleans()):
            steps.append((draw(st.sampled_from(sorted(UNARY))), draw(earlier)))
        else:
            steps.append((draw(st.sampled_from(sorted(BINARY))), draw(earlier), draw(earlier)))
    values = len(shapes) + len(steps)
    outputs = draw(st.lists(st.integers(0, values - 1), min_size=1, max_size=3))
    return shapes, steps, [*outputs, values - 1], draw(st.integers(0, 2**32 - 1))


def run(steps, outputs, inputs):
    values = list(inputs)
    for name, *where in steps:
        function = UNARY[name] if len(where) == 1 else BINARY[name]
        values.append(function(*(values[i] for i in where)))
    return tuple(values[i] for i in outputs)


@given(programs())
def test_gradients_agree_with_the_complex_step(program):
    shapes, steps, outputs, seed = program
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=shape) for shape in shapes]

    def f(*args):
        return run(steps, outputs, args)

    values, pullback = tg.vjp(f, *inputs)
    for value, expected in zip(values, f(*inputs), strict=True):
        np.testing.assert_array_equal(value, expected)
    cotangents = [rng.normal(size=np.shape(value)) for value in values]
    for i, gradient in enumerate(pullback(*cotangents)):
        assert_close(gradient, complex_gradient(f, cotangents, inputs, i), 1e-12)


@given(programs())
def test_backward_agrees_with_vjp_and_leaves_no_nan(program):
    shapes, steps, outputs, seed = program
    rng = np.random.default_rng(seed)
    leaves = [tg.tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]

    def loss(*args):
        return sum(np.sum(np.sin(out)) for out in run(steps, outputs, args))

    loss(*leaves).backward()
    _, pullback = tg.vjp(loss, *(leaf.detach().data for leaf in leaves))
    for leaf, expected in zip(leaves, pullback(1.0), strict=True):
        actual = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad
        np.testing.assert_array_equal(actual, expected)
