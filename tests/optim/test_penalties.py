"""Penalties against plain NumPy, and where they are weight decay and where they are not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, DtypeError
from tinygrad_stab.optim import SGD, Adam, AdamW, decay_groups, l1_penalty, l2_penalty

VALUES = st.floats(-1e3, 1e3).filter(lambda v: v == 0 or abs(v) > 1e-100)


def leaf(data, **kwargs):
    return tg.tensor(data, requires_grad=True, **kwargs)


@given(arrays(np.float64, (2, 3), elements=VALUES), arrays(np.float64, 4, elements=VALUES),
       st.floats(0, 10).filter(lambda v: v == 0 or v > 1e-100))  # fmt: skip
def test_values_and_gradients_are_the_formulas(w, b, coefficient):
    weight, bias = leaf(w), leaf(b)
    penalty = l1_penalty([weight, bias], coefficient)
    penalty.backward()
    assert penalty.item() == pytest.approx(coefficient * (np.abs(w).sum() + np.abs(b).sum()))
    np.testing.assert_array_equal(weight.grad, coefficient * np.sign(w))
    weight.grad = bias.grad = None
    penalty = l2_penalty([weight, bias], coefficient)
    penalty.backward()
    assert penalty.item() == pytest.approx(coefficient / 2 * ((w**2).sum() + (b**2).sum()))
    np.testing.assert_allclose(weight.grad, coefficient * w, rtol=1e-15)
    np.testing.assert_allclose(bias.grad, coefficient * b, rtol=1e-15)


@pytest.mark.parametrize("penalty", [l1_penalty, l2_penalty])
class TestEveryPenalty:
    def test_biases_can_be_left_out(self, penalty):
        net = tg.nn.Linear(3, 2, rng=0)
        net.bias.data[:] = 5.0
        for params in (net.named_parameters(), net.parameters()):
            only = penalty(params, 0.1, biases=False)
            assert only.item() == penalty([net.weight], 0.1).item()
        only.backward()
        assert net.bias.grad is None
        assert penalty(net.parameters(), 0.1).item() > only.item()

    def test_a_parameter_listed_twice_counts_once(self, penalty):
        w = leaf([1.0, 2.0])
        assert penalty([w, w], 0.1).item() == penalty(w, 0.1).item()

    def test_of_nothing_is_0(self, penalty):
        assert penalty([], 0.1).item() == penalty([leaf(1.0)], 0.1, biases=False).item() == 0

    def test_float32_stays_float32(self, penalty):
        w = leaf([1.0, 2.0], dtype=np.float32)
        total = penalty([w, leaf([1.0], dtype=np.float32)], np.float64(0.1))
        total.backward()
        assert total.dtype == w.grad.dtype == np.float32

    @pytest.mark.parametrize("bad", [-1, math.nan, math.inf, True, "1", None, [1.0]])
    def test_values_out_of_range(self, penalty, bad):
        with pytest.raises(ArgumentError, match="coefficient is finite, at least 0"):
            penalty([leaf(1.0)], bad)
        with pytest.raises(ArgumentError, match="weight_decay is finite, at least 0"):
            decay_groups([leaf(1.0)], bad)

    def test_what_is_no_parameter(self, penalty):
        with pytest.raises(DtypeError, match="the result of multiply"):
            penalty([leaf(1.0) * 2], 1.0)


class TestDecayGroups:
    def test_biases_and_scales_do_not_decay(self):
        net = tg.nn.Sequential(tg.nn.Linear(3, 2, rng=0), tg.nn.Tanh(), tg.nn.Linear(2, 1, rng=0))
        optimizer = AdamW(decay_groups(net, 0.3), lr=0.5)
        weights, others = optimizer.param_groups
        assert weights["param_names"] == ["0.weight", "2.weight"]
        assert others["param_names"] == ["0.bias", "2.bias"]
        before = {name: p.data.copy() for name, p in net.named_parameters()}
        for p in net.parameters():
            p.grad = np.zeros(p.shape)
        optimizer.step()
        for name, p in net.named_parameters():
            factor = 1 - 0.5 * 0.3 if name.endswith("weight") else 1
            np.testing.assert_allclose(p.data, factor * before[name], rtol=1e-15)

    def test_a_group_that_would_be_empty_is_left_out(self):
        (group,) = decay_groups(iter([leaf([1.0])]), 0.1)
        assert group["weight_decay"] == 0
        assert decay_groups([], 0.1) == []


def descend(make, penalise, steps=20):
    """The end of training on gradients of very different sizes."""
    w = leaf([1.0, 1.0, 1.0])
    optimizer = make([w])
    scales = np.array([100.0, 0.01, 0.0])
    for i in range(steps):
        optimizer.zero_grad()
        loss = (w * scales * (-1) ** i).sum()
        (loss + penalise([w])).backward()
        optimizer.step()
    return w.data


def nothing(params):
    return 0.0


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_for_sgd_the_l2_penalty_is_weight_decay(settings):
    penalised = descend(lambda p: SGD(p, lr=0.1, **settings), lambda p: l2_penalty(p, 0.5))
    decayed = descend(lambda p: SGD(p, lr=0.1, weight_decay=0.5, **settings), nothing)
    np.testing.assert_allclose(penalised, decayed, rtol=1e-13)


def test_for_plain_sgd_decay_shrinks_the_weight_by_a_factor():
    # Proposition 1 of Loshchilov & Hutter: p ← (1 − lr·λ)·p − lr·g.
    decayed = descend(lambda p: SGD(p, lr=0.1, weight_decay=0.5), nothing)
    w, scales = np.ones(3), np.array([100.0, 0.01, 0.0])
    for i in range(20):
        w = (1 - 0.1 * 0.5) * w - 0.1 * scales * (-1) ** i
    np.testing.assert_allclose(decayed, w, rtol=1e-12)


def test_for_adam_the_l2_penalty_is_its_weight_decay_but_not_that_of_adamw():
    penalised = descend(lambda p: Adam(p, lr=0.1), lambda p: l2_penalty(p, 0.5))
    coupled = descend(lambda p: Adam(p, lr=0.1, weight_decay=0.5), nothing)
    decoupled = descend(lambda p: AdamW(p, lr=0.1, weight_decay=0.5), nothing)
    np.testing.assert_allclose(penalised, coupled, rtol=1e-10)
    assert np.min(np.abs(coupled - decoupled)) > 0.01


def test_adam_holds_weights_back_by_the_size_of_their_gradients_and_adamw_does_not():
    def shrunk(kind, scale, decay):
        """By how much decay alone changes where ten steps of alternating gradients lead."""
        ends = []
        for value in (0.0, decay):
            w = leaf(1.0)
            optimizer = kind([w], lr=0.01, weight_decay=value)
            for i in range(10):
                w.grad = scale * (-1) ** i
                optimizer.step()
            ends.append(w.item())
        return ends[0] - ends[1]

    small, large = (shrunk(Adam, scale, 0.1) for scale in (0.01, 100.0))
    assert abs(large) < 0.01 * abs(small)
    small, large = (shrunk(AdamW, scale, 0.1) for scale in (0.01, 100.0))
    assert small == pytest.approx(large, rel=1e-3) and large > 5e-3


@pytest.mark.parametrize("decay", [1e-3, 1.0])
def test_without_a_gradient_adam_moves_by_lr_whatever_the_decay(decay):
    w = leaf(1.0)
    w.grad = 0.0
    Adam([w], lr=0.1, weight_decay=decay).step()
    assert w.item() == pytest.approx(0.9, abs=1e-5)
