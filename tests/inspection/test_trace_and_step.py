"""The trace and the stepper show what `backward()` computes, step by step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, GraphError, ShapeError
from tinygrad_stab.inspection import Backprop, local_derivative, trace

F = tg.nn.functional


def small_net(seed=0):
    """Two layers with a weight that is used twice, and a skip: several consumers."""
    rng = np.random.default_rng(seed)
    net = tg.nn.Sequential(
        tg.nn.Linear(3, 4, rng=rng), tg.nn.Tanh(),
        tg.nn.Residual(tg.nn.Sequential(tg.nn.Linear(4, 4, rng=rng), tg.nn.ReLU())),
        tg.nn.Linear(4, 2, rng=rng),
    )  # fmt: skip
    loss = F.cross_entropy(net(rng.normal(size=(5, 3))), np.array([0, 1, 1, 0, 1]))
    return net, loss + 0.01 * tg.sum(net[0].weight ** 2)


@given(st.integers(0, 2**32 - 1))
def test_stepping_to_the_end_gives_every_gradient_bit_for_bit(seed):
    net, loss = small_net(seed)
    bp = Backprop(loss, net)
    for view in bp:
        np.testing.assert_array_equal(view.upstream, bp.grad(view.node.id))
    assert all(t.grad is None for t in net.parameters())  # nothing was touched
    loss.backward()
    for name, tensor in tg.inspection.intermediates(loss, net).items():
        np.testing.assert_array_equal(bp.grad(name), tensor.grad)
        np.testing.assert_array_equal(bp.trace.find(name).grad, tensor.grad)


def test_running_sums_end_in_the_gradient_and_terms_add_up():
    net, loss = small_net()
    t = trace(loss, net)
    received = {}
    for step in t.steps:
        for term in step.terms:
            received.setdefault(term.parent, []).append(term)
    shared = t.find("0.weight").id
    assert len(received[shared]) == 2
    for parent, terms in received.items():
        np.testing.assert_array_equal(terms[-1].total, t.nodes[parent].grad)
        np.testing.assert_allclose(sum(x.contribution for x in terms), terms[-1].total, rtol=1e-14)


def test_forward_and_back_and_to_a_name():
    net, loss = small_net()
    bp = Backprop(loss, net)
    assert bp.back() is None and bp.grad("0.weight") is None
    first = bp.step()
    assert (first.number, first.node.op) == (1, "add") and bp.position == 1
    assert bp.back().number == 1 and bp.position == 0
    assert bp.run_to("0.linear")
    np.testing.assert_array_equal(bp.grad("0.linear"), bp.trace.find("0.linear").grad)
    assert bp.grad("0.bias") is None  # which comes with the next step
    assert not bp.run_to("3.linear")  # that is further back
    assert bp.run_to(net[0].bias) and bp.grad("0.bias") is not None
    while bp.step():
        pass
    assert bp.position == len(bp) and bp.step() is None
    bp.reset()
    assert bp.position == 0 and repr(bp).endswith(f"0 of {len(bp)} steps>")


def test_half_of_a_sum_is_shown_as_half_of_it():
    x = tg.tensor(3.0, requires_grad=True, name="x")
    bp = Backprop(tg.exp(x) + x * 2.0)
    bp.step()
    bp.step()
    half = float(bp.grad("x"))
    bp.step()
    assert (half, float(bp.grad("x"))) == (2.0, 2.0 + np.exp(3.0))


@pytest.mark.parametrize(
    ("where", "stops"),
    [
        ("relu", ["2.inner.1.relu"]),
        ("2.inner", ["2.inner.1.relu", "2.inner.0.linear"]),
        ("1.tanh", ["1.tanh"]),
        (lambda view: view.norm < 0.05, None),
    ],
)
def test_breakpoints(where, stops):
    net, loss = small_net()
    bp = Backprop(loss, net)
    bp.break_at(where)
    seen = []
    while (view := bp.run()) is not None:
        seen.append(view)
    if stops is None:
        assert seen and all(view.norm < 0.05 for view in seen)
    else:
        assert [view.node.name for view in seen] == stops


def test_a_breakpoint_at_a_tensor():
    x = tg.tensor(3.0, requires_grad=True)
    y = x * x
    bp = Backprop(tg.exp(y))
    bp.break_at(y)
    assert bp.run().node.tensor is y and bp.run() is None


def test_what_cannot_be_found_is_said():
    net, loss = small_net()
    bp = Backprop(loss, net)
    with pytest.raises(GraphError, match=r"received '0.weigth'. Is 0.weight .*meant"):
        bp.run_to("0.weigth")
    with pytest.raises(ArgumentError, match="break_at: needs a name, a module path"):
        bp.break_at("conv2d")
    with pytest.raises(GraphError, match="needs a tensor with a graph"):
        trace(net[0].weight.data)
    with pytest.raises(GraphError, match="must be a scalar"):
        trace(net[0].weight * 2)
    with pytest.raises(ShapeError, match="has the shape of the output"):
        trace(net[0].weight * 2, gradient=np.ones(3))
    with pytest.raises(GraphError, match="is a leaf"):
        local_derivative(net[0].weight, 0)


def test_local_derivatives_are_jacobians():
    rng = np.random.default_rng(0)
    x = tg.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    w = tg.tensor(rng.normal(size=(4, 3)), requires_grad=True)
    out = tg.linear(x, w)
    by_x, by_w = local_derivative(out, 0), local_derivative(out, 1)
    assert by_x.structure == "jacobian" and by_x.shape == (8, 6)
    np.testing.assert_allclose(by_x.value, np.kron(np.eye(2), w.data))
    expected = tg.jacobian(lambda w: tg.linear(x.data, w))(w.data).reshape(8, 12)
    np.testing.assert_allclose(by_w.value, expected, atol=1e-15)
    slope = local_derivative(tg.tanh(x), 0)
    assert slope.structure == "elementwise"
    np.testing.assert_allclose(slope.value, 1 - np.tanh(x.data) ** 2)
    whole = local_derivative(tg.tanh(x), 0, whole=True)
    np.testing.assert_allclose(whole.value, np.diag(slope.value.ravel()))
    assert whole.norm == pytest.approx(slope.norm)


def test_a_large_jacobian_is_described():
    x = tg.tensor(np.random.default_rng(0).normal(size=(64, 64)), requires_grad=True)
    w = tg.tensor(np.random.default_rng(1).normal(size=(64, 64)), requires_grad=True)
    local = local_derivative(tg.linear(x, w), 0)
    assert local.structure == "described" and local.value is None
    assert local.norm == pytest.approx(8 * np.linalg.norm(w.data), rel=0.05)
    assert str(local).startswith("4096 × 4096 Jacobian, norm ≈ ")


def test_broadcasting_is_undone_in_the_jacobian():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    out = x * np.ones((3, 1))
    assert local_derivative(out, 0, whole=True).value.shape == (6, 2)
    np.testing.assert_array_equal(
        local_derivative(out, 0, whole=True).value, np.tile(np.eye(2), (3, 1))
    )


def test_source_lines_are_kept_on_request_only():
    x = tg.tensor(2.0, requires_grad=True)
    plain = x * x
    assert tg.inspection.source(plain) is None
    with tg.inspection.record():
        kept = tg.exp(x) * 3.0  # the line in question
        deep = tg.nn.Sequential(tg.nn.Linear(1, 1, rng=0), tg.nn.Tanh())(np.ones((1, 1)))
    line = tg.inspection.source(kept)
    assert line.file == __file__ and line.code.startswith("kept = tg.exp(x)")
    assert line.function == "test_source_lines_are_kept_on_request_only"
    assert tg.inspection.source(deep).code.startswith("deep =")
    assert "test_trace_and_step.py:" in str(Backprop(kept).step())
    assert tg.inspection.source(x * x) is None


def test_a_step_reads_like_a_sentence():
    net, loss = small_net()
    bp = Backprop(loss, net)
    bp.run_to("1.tanh")
    text = str(bp.step())
    for part in (
        "1.tanh = tanh(…)", "upstream ∂L/∂1.tanh: (5, 4), RMS", "→ 0.linear, its x",
        "local derivative: elementwise, (5, 4), RMS", "contribution: (5, 4), RMS",
    ):  # fmt: skip
        assert part in text, text


def test_a_trace_keeps_its_values_when_a_leaf_is_written_to():
    w = tg.tensor([1.0, 2.0], requires_grad=True, name="w")
    bp = Backprop(tg.sum(w * w))
    w.add_(np.array([100.0, 100.0]))
    np.testing.assert_array_equal(bp.trace.find("w").value, [1.0, 2.0])
    view = bp.step()
    view = bp.step()
    with pytest.raises(GraphError, match=r"w .* was written to after"):
        view.local(view.terms[0])


def test_a_rule_that_runs_on_arrays_only_has_no_formula_but_a_step():
    def rule(g, out, x):
        result = np.zeros(np.shape(x))
        result[...] = g * 2 * x
        return result

    odd = tg.primitive("users_odd", np.square, rule, replace=True)
    del tg.REGISTRY["users_odd"]
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    bp = Backprop(tg.sum(odd(x)))
    bp.step()
    assert "∂L/∂x = users_odd′(∂L/∂users_odd)" in str(bp.step())


def test_tiny_gradients_have_a_norm():
    x = tg.tensor(np.full(20, 1e-200), requires_grad=True, name="x")
    view = Backprop(tg.sum(x * 1e-200), gradient=1.0).step()
    assert view.norm == 1.0
    view = Backprop(tg.sum(x * 1.0) * 1e-250).step()
    bp = Backprop(tg.sum(x * 1.0) * 1e-250)
    bp.step()
    assert bp.step().norm == pytest.approx(1e-250, rel=1e-12)


def test_a_breakpoint_of_another_graph_is_refused():
    x = tg.tensor(1.0, requires_grad=True)
    with pytest.raises(ArgumentError, match="break_at"):
        Backprop(tg.exp(x)).break_at(tg.exp(x))
