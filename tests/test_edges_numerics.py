"""Behaviour at the edges: one test a statement, under its number (N…)."""

import warnings

import numpy as np
import pytest

import tinygrad_stab as tg

F = tg.nn.functional

inf, nan = np.inf, np.nan
equal = np.testing.assert_array_equal
close = np.testing.assert_allclose


def leaf(data, dtype=None):
    return tg.tensor(data, requires_grad=True, dtype=dtype)


def pull(f, *args, seed=None):
    """Value of f and the gradient in each argument (one alone, if there is one)."""
    leaves = [leaf(np.asarray(a, float)) for a in args]
    out = f(*leaves)
    out.backward(np.ones(out.shape) if seed is None else seed)
    grads = [x.grad for x in leaves]
    return out.data, grads[0] if len(grads) == 1 else grads


def check(f, x, value, gradient, seed=None):
    out, grad = pull(f, x, seed=seed)
    close(out, value, rtol=1e-14, atol=0)
    close(grad, gradient, rtol=1e-14, atol=0)


def n01():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(tg.sigmoid, [1000.0, -1000.0], [1, 0], [0, 0])


def n02():
    check(tg.log_sigmoid, [-1000.0, 1000.0], [-1000, 0], [1, 0])


def n03():
    check(tg.softplus, [1000.0, -1000.0], [1000, 0], [1, 0])


def n04():
    out, grad = pull(tg.softmax, [1000.0, 0.0, -1000.0])
    equal(out, [1, 0, 0])
    assert np.isfinite(grad).all()


def n05():
    check(tg.log_softmax, [1000.0, 0.0], [0, -1000], [-1, 1], seed=[0.0, 1.0])


def n06():
    check(tg.logsumexp, [1000.0, 1000.0], 1000 + np.log(2), [0.5, 0.5])


def n07():
    out, grad = pull(tg.logsumexp, [-inf, -inf])
    assert out == -inf and not np.isnan(grad).any()
    assert np.logaddexp(leaf(-inf), -inf).item() == -inf


def n08():
    check(tg.log_softmax, [0.0, -inf], [0, -inf], [0, 0], seed=[1.0, 0.0])


def n09():
    check(tg.softmax, [0.0, -inf], [1, 0], [0, 0])


def n10():
    check(np.sqrt, 0.0, 0, inf)


def n11():
    check(np.linalg.norm, [0.0, 0.0], 0, [0, 0])
    check(lambda x: np.linalg.norm(x, ord=2, axis=0), [0.0, 0.0], 0, [0, 0])


def n12():
    check(abs, 0.0, 0, 0)


def n13():
    check(tg.relu, 0.0, 0, 0)


def n14():
    _, grad = pull(tg.max, [1.0, 2.0, 2.0, 2.0])
    close(grad, [0, 1 / 3, 1 / 3, 1 / 3])
    assert grad.sum() == pytest.approx(1)


def n15():
    _, (x, y) = pull(np.maximum, 2.0, 2.0)
    assert x == y == 0.5


def n16():
    check(lambda x: x**0, 0.0, 1, 0)
    check(lambda x: x**0.0, 0.0, 1, 0)


def n17():
    check(lambda x: x**2, 0.0, 0, 0)
    check(lambda x: x**1, 0.0, 0, 1)


def n18():
    check(lambda y: 0.0**y, [0.0, 1.0, 2.0], [1, 0, 0], [0, 0, 0])


def n19():
    _, (base, exponent) = pull(lambda x, y: x**y, -2.0, 3.0)
    assert base == 12 and np.isnan(exponent)


def n20():
    _, (x, y) = pull(lambda x, y: np.where(True, x, y), 1.0, nan)
    assert x == 1 and y == 0


def n21():
    condition = np.array([[True, False, True], [False, True, False]])
    _, (x, y) = pull(lambda x, y: np.where(condition, x, y), 1.0, np.ones(3))
    assert x.shape == () and y.shape == (3,)


def n22():
    with np.errstate(divide="ignore"):
        check(lambda x: 1 / x, 0.0, inf, -inf)


def n23():
    check(np.prod, [0.0, 2.0, 3.0], 0, [6, 0, 0])


def n24():
    check(np.prod, [0.0, 0.0, 3.0], 0, [0, 0, 0])


def n25():
    check(np.cumprod, [2.0, 0.0, 3.0], [2, 0, 0], [1, 8, 0])


def n26():
    check(np.std, [2.0, 2.0, 2.0], 0, [0, 0, 0])


def n27():
    x = [1.0, 2.0, 4.0]
    assert tg.var(leaf(x)).item() == pytest.approx(np.var(x))
    assert tg.std(leaf(x)).item() == pytest.approx(np.std(x))


def n28():
    check(lambda x: np.var(x, ddof=1), [3.0], nan, [nan])


def n29():
    check(lambda x: np.clip(x, 0.0, 1.0), [-1.0, 0.0, 0.5, 1.0, 2.0],
          [0, 0, 0.5, 1, 1], [0, 1, 1, 1, 0])  # fmt: skip


def n30():
    for f in (np.sign, np.floor, np.ceil, np.round):
        equal(pull(f, [0.3, -1.7])[1], [0, 0])


def n31():
    with np.errstate(all="ignore"):
        out, grad = pull(np.log, [0.0, -1.0])
    equal(out, [-inf, nan])
    assert grad[0] == inf


def n32():
    x, t = np.array([1000.0, -1000.0]), np.array([0.0, 0.0])
    check(
        lambda z: F.binary_cross_entropy_with_logits(z, t, reduction="none"), x, [1000, 0], [1, 0]
    )


def n33():
    check(lambda z: F.cross_entropy(z, np.array(1)), [1000.0, 0.0], 1000, [1, -1])


def n34():
    with pytest.raises(IndexError, match="numbered 0 to 1"):
        F.cross_entropy(leaf([[1.0, 2.0]]), np.array([2]))


def n35():
    with pytest.raises(IndexError, match="numbered 0 to 1"):
        F.cross_entropy(leaf([[1.0, 2.0]]), np.array([-1]))
    assert F.cross_entropy(leaf([[1.0, 2.0], [0.0, 0.0]]), np.array([-100, 0])).item() == (
        pytest.approx(np.log(2))
    )


def n36():
    check(lambda x: x[[0, 0, 1]], [1.0, 2.0, 3.0], [1, 1, 2], [2, 1, 0])


def n37():
    _, grad = pull(lambda w: F.embedding([[0, 2], [2, 2]], w), np.ones((3, 2)))
    equal(grad, [[1, 1], [0, 0], [3, 3]])


def n38():
    with pytest.raises(ValueError, match="must have elements"):
        tg.max(leaf(np.zeros(0)))


def n39():
    out, grad = pull(np.sum, np.zeros(0))
    assert out == 0 and grad.shape == (0,)


def n40():
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's own: mean of empty slice
        out, grad = pull(np.mean, np.zeros(0))
    assert np.isnan(out) and grad.shape == (0,)


def n41():
    assert tg.prod(leaf(np.zeros(0))).item() == 1


def n42():
    out, grad = pull(np.exp, 0.0)
    assert type(out) is np.ndarray and out.shape == ()
    assert type(grad) is np.ndarray and grad.shape == ()


def n43():
    out, (x, y) = pull(lambda x, y: x + y, [1.0], np.zeros(0))
    assert out.shape == (0,) and y.shape == (0,)
    equal(x, [0.0])


def n44():
    out, (x, y) = pull(lambda x, y: x @ y, np.zeros((2, 0)), np.zeros((0, 3)))
    equal(out, np.zeros((2, 3)))
    assert x.shape == (2, 0) and y.shape == (0, 3)


def n45():
    with pytest.raises(ValueError, match="at least one axis"):
        leaf(1.0) @ leaf([1.0])


def n46():
    x = leaf(1e-10)
    assert np.log1p(x).item() == pytest.approx(1e-10 - 5e-21, rel=1e-12)
    assert np.expm1(x).item() == pytest.approx(1e-10 + 5e-21, rel=1e-12)


def n47():
    assert pull(np.tanh, 1000.0)[1] == 0 and pull(np.tanh, 0.0)[1] == 1


def n48():
    check(np.sinc, 0.0, 1, 0)


def n49():
    _, (y, x) = pull(np.arctan2, 0.0, 0.0)
    assert y == 0 and x == 0


def n50():
    _, (x, y) = pull(np.hypot, 0.0, 0.0)
    assert x == 0 and y == 0


def n51():
    out, grad = pull(lambda x: F.layer_norm(x, 3), [[2.0, 2.0, 2.0]])
    equal(out, np.zeros((1, 3)))
    assert np.isfinite(grad).all()


def n52():
    with pytest.raises(ValueError, match="more than one value"):
        F.batch_norm(leaf(np.ones((1, 3))), training=True)


def n53():
    for f in (tg.softmax, tg.log_softmax):
        _, grad = pull(f, [[1.0, nan], [1.0, 2.0]], seed=np.array([[1.0, 2.0], [3.0, 4.0]]))
        assert np.isnan(grad[0]).all() and np.isfinite(grad[1]).all()


def _float32(f):
    x = leaf([1.0, 2.0], np.float32)
    out = f(x)
    out.sum().backward()
    assert out.dtype == x.grad.dtype == np.float32


def n54():
    _float32(lambda x: x * 2.5)


def n55():
    _float32(lambda x: x**2)
    _float32(lambda x: x / 3)


def n56():
    for f in (np.mean, np.var, np.std):
        _float32(f)


def n57():
    check(lambda x: x * x, 3.0, 9, 6)
    check(lambda x: x + x, 3.0, 6, 2)


def n58():
    def diamond(x):
        y = x**2
        return y + y * y

    check(diamond, 2.0, 20, 2 * 2 + 4 * 8)


def n59():
    check(lambda x: np.concatenate([x, x]), [1.0, 2.0], [1, 2, 1, 2], [4, 6], seed=[1.0, 2, 3, 4])


def n60():
    check(lambda x: np.einsum("ii->i", x), np.eye(2), [1, 1], [[1, 0], [0, 2]], seed=[1.0, 2.0])


def n61():
    for axis in (-1, (0, -1), (-2, 0)):
        x = leaf(np.ones((2, 3, 4)))
        np.sum(x, axis=axis, keepdims=True).sum().backward()
        assert x.grad.shape == (2, 3, 4)


def n62():
    with pytest.raises(ValueError, match="distinct axes"):
        np.sum(leaf(np.ones((2, 2))), axis=(0, 0))


def n63():
    with pytest.raises((ValueError, IndexError), match="axis"):
        np.sum(leaf(np.ones(2)), axis=1)


def n64():
    with pytest.raises(ValueError, match="must broadcast"):
        leaf(np.ones(2)) + leaf(np.ones(3))


def n65():
    assert tg.gelu(leaf(1.0)).item() == pytest.approx(0.8413447460685429, rel=1e-15)


def n66():
    """At |d| = δ value and gradient are continuous: ½δ² and δ for huber, ½β and 1 for smooth l1."""
    for d, sign in ((2.0, 1), (-2.0, -1)):
        out, grad = pull(lambda x: F.huber_loss(x, np.zeros(()), delta=2.0), d)
        assert out == 2 and grad == 2 * sign
        out, grad = pull(lambda x: F.smooth_l1_loss(x, np.zeros(()), beta=2.0), d)
        assert out == 1 and grad == sign


def n67():
    logits, weight = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([1.0, 3.0])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = np.array([0, 1])
    expected = -(1 * log_p[0, 0] + 3 * log_p[1, 1]) / 4
    assert F.cross_entropy(leaf(logits), target, weight=weight).item() == pytest.approx(expected)
    assert F.nll_loss(leaf(log_p), target, weight=weight).item() == pytest.approx(expected)


def n68():
    check(lambda x: F.dropout(x, p=1.0, rng=0), [1.0, 2.0], [0, 0], [0, 0])


def n69():
    x = leaf([1.0, 2.0])
    assert F.dropout(x, p=0.5, training=False) is x


def n70():
    for p in (-0.1, 1.1, nan):
        with pytest.raises(ValueError, match="p is a probability"):
            F.dropout(leaf([1.0]), p=p)


def n71():
    x = np.arange(24.0).reshape(2, 3, 4)
    out, grad = pull(lambda t: t[0, :, [1, 1]], x)
    equal(out, x[0, :, [1, 1]])
    assert out.shape == (2, 3)
    expected = np.zeros((2, 3, 4))
    expected[0, :, 1] = 2
    equal(grad, expected)


def n72():
    out, grad = pull(lambda x: x[np.array([False, False])], [1.0, 2.0])
    assert out.shape == (0,)
    equal(grad, [0, 0])


def n73():
    check(lambda x: 2 - x, 3.0, -1, -1)
    check(lambda x: 2 / x, 4.0, 0.5, -2 / 16)
    check(lambda x: 2**x, 3.0, 8, 8 * np.log(2))


def n74():
    for f in (lambda x, y: (x + y) + 5 * x, lambda x, y: 5 * x + (x + y)):
        _, (x, y) = pull(f, [1.0, 2.0], [3.0, 4.0])
        equal(x, [6, 6])
        equal(y, [1, 1])


def n75():
    check(lambda x: x.sum() + x.sum() + (x * x).sum(), [1.0, 2.0], 11, [4, 6])


def n76():
    c = np.array([[1.0, 2.0], [3.0, 4.0]])
    _, grad = pull(lambda x: np.sum(x.T * c), np.ones((2, 2)))
    equal(grad, c.T)
    assert not np.shares_memory(grad, c)


def n77():
    assert np.isnan(pull(lambda x: np.sqrt(x * x), 0.0)[1])
    assert "where" in tg.where.__doc__ and "0·inf = NaN" in tg.where.__doc__


def n78():
    with np.errstate(invalid="ignore"):
        assert np.isnan(pull(lambda x: np.where(x > 0, np.sqrt(x), 0), -1.0)[1])
    assert pull(lambda x: np.where(x > 0, np.sqrt(np.where(x > 0, x, 1)), 0), -1.0)[1] == 0


STATEMENTS = {k.upper(): f for k, f in list(globals().items()) if k[0] == "n" and k[1:].isdigit()}


@pytest.mark.parametrize("number", STATEMENTS)
def test_statement(number):
    STATEMENTS[number]()


def test_every_statement_has_its_test():
    assert list(STATEMENTS) == [f"N{i:02}" for i in range(1, 79)]
