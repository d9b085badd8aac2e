"""Compositions: the value is NumPy's, the gradient that of differences."""

import numpy as np
import pytest
from oracle import assert_close, numeric_gradient

import tinygrad_stab as tg

A = np.random.default_rng(3).normal(size=(3, 4))
B = np.random.default_rng(4).normal(size=(4, 3))
CUBE = np.random.default_rng(5).normal(size=(2, 3, 4))

CALLS = {
    "var": lambda x: np.var(x, axis=0, ddof=1),
    "var of all": lambda x: np.var(x),
    "std keepdims": lambda x: np.std(x, axis=1, keepdims=True),
    "norm": lambda x: np.linalg.norm(x),
    "norm fro": lambda x: np.linalg.norm(x, "fro"),
    "norm rows": lambda x: np.linalg.norm(x, axis=1),
    "norm 1 of rows": lambda x: np.linalg.norm(x, 1, axis=1, keepdims=True),
    "norm inf of columns": lambda x: np.linalg.norm(x, np.inf, axis=0),
    "norm 3": lambda x: np.linalg.norm(x, 3, axis=0),
    "matrix norm 1": lambda x: np.linalg.norm(x, 1),
    "matrix norm inf": lambda x: np.linalg.norm(x, np.inf, axis=(1, 0)),
    "ravel": lambda x: np.ravel(x),
    "moveaxis": lambda x: np.moveaxis(x, 0, -1),
    "squeeze": lambda x: np.squeeze(x[None, :, :, None]),
    "squeeze an axis": lambda x: np.squeeze(x[None, :, :, None], axis=-1),
    "flip": lambda x: np.flip(x),
    "flip an axis": lambda x: np.flip(x, 1),
    "roll": lambda x: np.roll(x, (1, -1), axis=(0, 1)),
    "tile": lambda x: np.tile(x, (2, 1, 3)),
    "repeat": lambda x: np.repeat(x, 2),
    "repeat each": lambda x: np.repeat(x, [1, 0, 2], axis=0),
    "split": lambda x: np.split(x, [1, 3], axis=1)[1],
    "pad constant": lambda x: np.pad(x, ((1, 0), (2, 1)), constant_values=3.0),
    "pad edge": lambda x: np.pad(x, 2, mode="edge"),
    "pad reflect": lambda x: np.pad(x, ((1, 2), (0, 3)), mode="reflect"),
    "take": lambda x: np.take(x, [3, 3, 0]),
    "take along": lambda x: np.take(x, np.array([[0, 2], [1, 1]]), axis=1),
    "take_along_axis": lambda x: np.take_along_axis(x, np.array([[0, 2, 0, 1]]), axis=0),
    "inner": lambda x: np.inner(x, B.T),
    "outer": lambda x: np.outer(x, B[0]),
    "tensordot": lambda x: np.tensordot(x, B, axes=([0, 1], [1, 0])),
    "tensordot 1": lambda x: np.tensordot(x, B, axes=1),
    "trace": lambda x: np.trace(x, offset=1),
    "diagonal": lambda x: np.diagonal(x, offset=-1),
    "diagonal of a stack": lambda x: np.diagonal(x[None] * CUBE, 1, 2, 0),
    "tril": lambda x: np.tril(x, -1),
    "triu": lambda x: np.triu(x, 1),
    "einsum implicit": lambda x: np.einsum("ij,jk", x, B),
    "einsum ellipsis": lambda x: np.einsum("...j,j->...", x, B[:, 0]),
    "clip": lambda x: np.clip(x, -0.5, [0.1, 0.2, 0.3, 0.4]),
    "float_power": lambda x: np.float_power(np.abs(x), 1.5),
    "remainder": lambda x: x % 0.7,
    "nan_to_num": lambda x: np.nan_to_num(np.where(np.arange(4) == 1, np.nan, x)),
    "cumprod of all": lambda x: np.cumprod(x),
    "logaddexp": lambda x: np.logaddexp(x, B.T),
}


@pytest.mark.parametrize("name", CALLS)
def test_call(name, rng):
    f = CALLS[name]
    expected = f(A)
    x = tg.tensor(A, requires_grad=True)
    out = f(x)
    assert isinstance(out, tg.Tensor)
    np.testing.assert_allclose(out.data, expected, rtol=1e-12, atol=1e-14)
    v = rng.normal(size=out.shape)
    out.backward(v)
    assert_close(x.grad, numeric_gradient(f, [v], [A], 0), 1e-8)


def test_answers_without_gradient_are_plain_arrays():
    x = tg.tensor(A, requires_grad=True)
    for f in (np.argmax, np.argmin, np.argsort, np.any, np.isnan, np.zeros_like, np.signbit):
        result = f(x)
        assert not isinstance(result, tg.Tensor)
        np.testing.assert_array_equal(result, f(A))
    assert x.argmax() == A.argmax() and np.allclose(x, A) and not np.array_equal(x, B)


def test_gather_and_scatter_add_are_pytorchs(rng):
    index = np.array([[0, 2, 0], [1, 1, 3]])
    x = tg.tensor(A, requires_grad=True)
    out = tg.gather(x, 1, index)
    np.testing.assert_array_equal(
        out.data, [[A[0, 0], A[0, 2], A[0, 0]], [A[1, 1], A[1, 1], A[1, 3]]]
    )
    out.sum().backward()
    np.testing.assert_array_equal(x.grad, [[2, 0, 1, 0], [0, 2, 0, 1], [0, 0, 0, 0]])
    src = tg.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    total = tg.scatter_add(x, 1, index, src)
    expected = A.copy()
    np.add.at(expected, (np.arange(2)[:, None], index), src.data)
    np.testing.assert_allclose(total.data, expected)
    total.backward(A)
    np.testing.assert_array_equal(src.grad, np.take_along_axis(A[:2], index, axis=1))


def test_erf_against_high_precision():
    # erf(x) to 20 digits (40-digit arithmetic)
    table = {
        1e-300: 1.1283791670955126e-300, 0.1: 0.11246291601828489220, 0.5: 0.52049987781304653768,
        0.9999: 0.842659278048759500, 1.0: 0.84270079294971486934, 1.5: 0.96610514647531072707,
        2.5: 0.99959304798255504106, 4.0: 0.99999998458274209972, 6.5: 1.0,
    }  # fmt: skip
    for x, expected in table.items():
        assert tg.erf(x) == pytest.approx(expected, rel=1e-14)
        assert tg.erf(-x) == -tg.erf(x)
    tails = {2.0: 4.677734981047265838e-3, 5.0: 1.5374597944280348502e-12,
             10.0: 2.088487583762544757e-45, 26.0: 5.663192408856142846e-296}  # fmt: skip
    for x, expected in tails.items():
        assert tg.erfc(x) == pytest.approx(expected, rel=1e-13)
    assert tg.erf(np.inf) == 1 and tg.erf(-np.inf) == -1 and np.isnan(tg.erf(np.nan))
    assert tg.erf(np.float32(0.5)).dtype == np.float32
