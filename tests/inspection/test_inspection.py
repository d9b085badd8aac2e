"""Names and formulas."""

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.inspection import formula, formulas, intermediates


def test_every_intermediate_by_name():
    rng = np.random.default_rng(0)
    net = tg.nn.Sequential(
        tg.nn.Linear(3, 3, rng=rng),
        tg.nn.Residual(tg.nn.Sequential(tg.nn.Linear(3, 3, rng=rng), tg.nn.Tanh())),
    )
    loss = tg.nn.MSELoss()(net(np.ones((2, 3))), np.zeros((2, 3)))
    loss.backward()
    named = intermediates(loss, net)
    assert list(named) == [
        "0.weight", "0.bias", "1.inner.0.weight", "1.inner.0.bias",
        "0.linear", "1.inner.0.linear", "1.inner.1.tanh", "1.add",
        "subtract", "multiply", "mean",
    ]  # fmt: skip
    assert named["0.weight"] is net[0].weight
    for tensor in named.values():
        assert tensor.grad.shape == tensor.shape


def test_a_name_that_occurs_again_gets_a_number():
    x = tg.tensor(1.0, requires_grad=True, name="x")
    assert list(intermediates(tg.tanh(tg.tanh(x)) * 2)) == ["x", "tanh", "tanh#2", "multiply"]


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (lambda a, b, c: (a + b) * c, "(a + b)·c"),
        (lambda a, b, c: a + b * c, "a + b·c"),
        (lambda a, b, c: a - (b - c), "a − (b − c)"),
        (lambda a, b, c: a - b - c, "a − b − c"),
        (lambda a, b, c: a / (b * c), "a / (b·c)"),
        (lambda a, b, c: (a**b) ** c, "(a^b)^c"),
        (lambda a, b, c: a ** (b**c), "a^b^c"),
        (lambda a, b, c: a * b / c, "a·b / c"),
        (lambda a, b, c: (a / b) * c, "(a / b)·c"),
        (lambda a, b, c: a / b / c, "a / b / c"),
        (lambda a, b, c: (-2.0) ** a * -3.0, "(-2.0)^a·(-3.0)"),
        (lambda a, b, c: a % b + c, "a mod b + c"),
        (lambda a, b, c: -a * b, "−a·b"),
        (lambda a, b, c: -(a + b), "−(a + b)"),
        (lambda a, b, c: (-a) ** 2, "(−a)^2"),
        (lambda a, b, c: abs(a - b), "|a − b|"),
        (lambda a, b, c: a * (b > c), "a·(b > c)"),
        (lambda a, b, c: 1 - np.tanh(a), "1 − tanh(a)"),
        (lambda a, b, c: np.where(a >= b, c, 0), "where(a ≥ b, c, 0)"),
    ],
)
def test_as_few_parentheses_as_precedence_allows(f, text):
    a, b, c = (tg.Symbol(n, v) for n, v in (("a", 2.0), ("b", 3.0), ("c", 4.0)))
    result = f(a, b, c)
    assert formula(result) == text
    assert result.value == f(2.0, 3.0, 4.0), "the value goes along"


def test_matrices_and_indices():
    a, b = tg.Symbol("A", np.ones((2, 3))), tg.Symbol("B", np.ones((3, 4)))
    assert formula(a @ (b @ b.T)) == "A @ (B @ Bᵀ)"
    assert formula(a @ b @ b.T) == "A @ B @ Bᵀ"
    assert formula(2.0 * (a @ b)) == "2.0·(A @ B)"
    assert formula((2.0 * a) @ b) == "(2.0·A) @ B"
    assert formula((a @ b).T[1:, ..., None, 0]) == "(A @ B)ᵀ[1:, …, None, 0]"
    assert formula(np.sum(a, axis=0)) == "sum(A, axis=0)"
    assert formula(a * np.arange(3.0)) == "A·[0., 1., 2.]"
    assert formula(a * np.zeros((2, 3)) + np.full((3, 3), 7)[:1]) == "A·0 + [[7, 7, 7]]"


def test_formulas_are_those_of_the_engine():
    assert formulas(tg.matmul) == {"x": "∂L/∂out @ yᵀ", "y": "xᵀ @ ∂L/∂out"}
    assert formulas(tg.sigmoid) == {"x": "(1 − out)·out·∂L/∂out"}
    assert formulas(tg.linear)["bias"] == "ones(5,) @ ∂L/∂out"
    assert formulas(tg.divide)["y"] == "−∂L/∂out·out / y"
