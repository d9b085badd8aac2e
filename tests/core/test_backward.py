"""The reverse sweep: every gradient, once, in any order, without recursion or cycles."""

import tracemalloc

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, GraphError, ShapeError


def leaf(data, **kwargs):
    return tg.tensor(data, requires_grad=True, **kwargs)


def chain(n):
    x = leaf(1.0)
    y = x
    for _ in range(n // 2):
        y = y * 0.9999
        y = y + 0.0001
    return x, y


def test_every_intermediate_has_its_gradient():
    x = leaf([1.0, 2.0])
    y = x * x
    z = tg.exp(y)
    loss = z.sum()
    loss.backward()
    np.testing.assert_array_equal(loss.grad, 1.0)
    np.testing.assert_array_equal(z.grad, [1.0, 1.0])
    np.testing.assert_array_equal(y.grad, np.exp([1.0, 4.0]))
    np.testing.assert_array_equal(x.grad, 2 * x.data * y.grad)
    assert all(type(t.grad) is np.ndarray for t in (loss, z, y, x))


def test_retaining_leaves_only():
    x = leaf([1.0, 2.0])
    y = x * x
    loss = y.sum()
    loss.backward()
    loss.backward(retain="leaves")
    assert y.grad is None and loss.grad is None
    np.testing.assert_array_equal(x.grad, [4.0, 8.0])
    with pytest.raises(ArgumentError, match='retain is "all" or "leaves"'):
        loss.backward(retain="some")


def test_backward_twice_adds_the_same_to_leaves_and_nothing_to_intermediates():
    x = leaf(3.0)
    y = x * x
    z = y * y
    z.backward()
    first = {t: t.grad.copy() for t in (x, y, z)}
    z.backward()
    np.testing.assert_array_equal(x.grad, 2 * first[x])
    np.testing.assert_array_equal(y.grad, first[y])
    np.testing.assert_array_equal(z.grad, first[z])


def test_two_graphs_over_one_leaf_accumulate():
    x = leaf(1.0)
    (2 * x).backward()
    (3 * x).backward()
    assert x.grad == 5
    x.grad = None
    (3 * x).backward()
    assert x.grad == 3


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda x: x * x, 6),
        (lambda x: x + x, 2),
        (lambda x: (x * x) + (x * x) * (x * x), 2 * 3 + 4 * 27),
        (lambda x: x * tg.tensor(5.0) - x, 4),
        (lambda x: x.detach() * x, 3),
        (lambda x: (x + 1) + 5 * x + (x + 1), 7),
    ],
)
def test_shared_subgraphs(f, expected):
    x = leaf(3.0)
    f(x).backward()
    assert x.grad == expected


def test_siblings_do_not_share_a_buffer():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    for z in ((x + y) + 5 * x, 5 * x + (x + y), (x + y) + x + x):
        x.grad = y.grad = None
        z.sum().backward()
        np.testing.assert_array_equal(y.grad, [1, 1])
    z = x.sum() + x.sum() + (x * x).sum()
    x.grad = None
    z.backward()
    np.testing.assert_array_equal(x.grad, 2 + 2 * x.data)


def test_leaf_gradients_are_their_own_memory():
    seed = np.ones(2)
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    z = x + y
    z.backward(seed)
    held = [seed, z.grad, x.grad, y.grad]
    assert not np.shares_memory(x.grad, y.grad)
    for grad in (x.grad, y.grad):
        assert sum(np.shares_memory(grad, other) for other in held) == 1
        grad += 1  # writable
    c = np.array([1.0, 2.0, 3.0, 4.0])
    m = leaf(np.zeros((2, 2)))
    (m.T * c.reshape(2, 2)).sum().backward()
    assert not np.shares_memory(m.grad, c)


def test_a_rule_that_returns_its_argument_does_not_leak_it():
    record = tg.primitive(
        "users_returns_argument", lambda x, y: x * y, lambda g, out, x, y: y, lambda *a: a[2],
        replace=True,
    )  # fmt: skip
    y = np.array([2.0, 3.0])
    x = leaf([1.0, 1.0])
    record(x, y).sum().backward()
    x.grad += 1
    np.testing.assert_array_equal(y, [2.0, 3.0])
    del tg.REGISTRY["users_returns_argument"]


class TestRefused:
    def test_non_scalar_needs_a_gradient(self):
        with pytest.raises(GraphError, match=r"must be a scalar; received shape \(2,\)"):
            (leaf([1.0, 2.0]) * 2).backward()

    @pytest.mark.parametrize("seed", [1.0, np.ones(1), np.ones((1, 2)), np.ones(3)])
    def test_gradient_of_another_shape_even_if_it_would_broadcast(self, seed):
        x = leaf([1.0, 2.0])
        with pytest.raises(ShapeError, match=r"has the shape of the output, \(2,\)"):
            (x * 2).backward(seed)
        assert x.grad is None

    def test_nothing_requires_grad(self):
        with pytest.raises(GraphError, match="something must require grad"):
            (tg.tensor(1.0) * 2).backward()

    def test_an_error_in_the_middle_changes_nothing(self):
        x, w = leaf([1.0, 2.0]), leaf([1.0, 2.0])
        h = x * w
        loss = tg.exp(h).sum()
        loss.backward()
        before = {t: t.grad.copy() for t in (x, w, h, loss)}
        w.data += 1
        with pytest.raises(GraphError, match="written to"):
            loss.backward()
        for t, grad in before.items():
            np.testing.assert_array_equal(t.grad, grad)


def test_what_needs_no_gradient_costs_nothing():
    calls = []
    record = tg.primitive(
        "users_counting",
        lambda x, y: x + y,
        lambda g, out, x, y: g,
        lambda g, out, x, y: calls.append("y") or g,
        replace=True,
    )
    record(leaf(1.0), tg.tensor(2.0)).backward()
    record(leaf(1.0), 2.0).backward()
    assert calls == []
    del tg.REGISTRY["users_counting"]


def test_frozen_leaf_gets_no_gradient():
    x, w = leaf(2.0), leaf(3.0)
    w.requires_grad = False
    (x * w).backward()
    assert w.grad is None and x.grad == 3


def test_ieee_values_are_shown_without_warnings():
    x = leaf([0.0, 1.0])
    with np.errstate(divide="ignore"):
        y = (1 / x).sum()
    y.backward(np.array(np.inf))
    np.testing.assert_array_equal(x.grad, [-np.inf, -np.inf])
    z = leaf(0.0)
    tg.sqrt(z * z).backward()
    assert np.isnan(z.grad), "inf · 0 is shown as it is"


class TestSize:
    def test_memory_is_linear(self):
        def peak(n):
            tracemalloc.start()
            _, y = chain(n)
            y.backward()
            size = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return size / n

        # Hash tables grow in steps, hence not exactly.
        assert peak(40_000) < 1.5 * peak(4_000) < 1_000


class TestMode:
    def test_no_grad_records_nothing(self):
        x = leaf(1.0)
        with tg.no_grad():
            y = x * 2
            with tg.enable_grad():
                assert (x * 2).requires_grad
            assert not (x * 2).requires_grad
        assert not y.requires_grad and y.op is None and y.args == ()
        assert (x * 2).requires_grad


def test_graph_lists_leaves_then_results_in_the_order_they_were_made():
    x, w, c = leaf(1.0, name="x"), leaf(2.0, name="w"), tg.tensor(1.0)
    y = x * w + c
    assert [t.path for t in tg.graph(y)] == ["x", "w", "multiply", "add"]
    assert tg.graph(c) == []
