"""SGD against its recurrences written out, and clipping at every edge."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, DtypeError, NonFiniteError
from tinygrad_stab.optim import SGD, clip_grad_norm_


def parameter(data, grad=None, **kwargs):
    p = tg.tensor(data, requires_grad=True, **kwargs)
    p.grad = None if grad is None else np.array(grad, p.dtype)
    return p


class TestSGD:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"momentum": 0.9},
            {"momentum": 0.9, "dampening": 0.5},
            {"momentum": 0.9, "nesterov": True},
            {"momentum": 0.5, "weight_decay": 0.1},
            {"weight_decay": 0.1},
        ],
    )
    def test_recurrence(self, settings, rng):
        w0, grads = rng.normal(size=3), rng.normal(size=(10, 3))
        p = parameter(w0)
        optimizer = SGD([p], lr=0.1, **settings)
        mu, decay = settings.get("momentum", 0), settings.get("weight_decay", 0)
        w, v = w0.copy(), None
        for g in grads:
            p.grad = g.copy()
            optimizer.step()
            np.testing.assert_array_equal(p.grad, g, err_msg="the gradient is left alone")
            g = g + decay * w
            v = g if v is None else mu * v + (1 - settings.get("dampening", 0)) * g
            w = w - 0.1 * (g + mu * v if settings.get("nesterov") else v if mu else g)
        np.testing.assert_allclose(p.data, w, rtol=0, atol=1e-14)

    def test_minimises_a_quadratic_at_the_rate_of_theory(self):
        # On ½ x² each step multiplies x by 1 − lr.
        p = parameter(1.0)
        optimizer = SGD([p], lr=0.1)
        for _ in range(100):
            optimizer.zero_grad()
            (p * p * 0.5).backward()
            optimizer.step()
        assert p.item() == pytest.approx(0.9**100, rel=1e-12)

    def test_parameters_without_gradient_stay(self):
        p, q = parameter(1.0), parameter(1.0, grad=1.0)
        SGD([p, q], lr=0.5, weight_decay=0.1).step()
        assert p.item() == 1 and q.item() == pytest.approx(1 - 0.5 * 1.1)

    def test_float32_stays_float32(self):
        p = parameter([1.0], grad=[1.0], dtype=np.float32)
        SGD([p], lr=0.1, momentum=0.9).step()
        assert p.dtype == np.float32

    @pytest.mark.parametrize(
        "settings",
        [
            {"lr": -1.0},
            {"lr": math.nan},
            {"lr": math.inf},
            {"momentum": -0.1},
            {"weight_decay": -1.0},
            {"dampening": math.nan},
            {"nesterov": True},
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
        ],
    )
    def test_values_out_of_range(self, settings):
        with pytest.raises(ArgumentError, match="received"):
            SGD([parameter(1.0)], **settings)

    def test_parameters_must_be_leaves_each_once(self):
        p = parameter(1.0)
        with pytest.raises(ArgumentError, match="received none"):
            SGD([])
        with pytest.raises(ArgumentError, match="passed twice"):
            SGD([p, p])
        with pytest.raises(DtypeError, match="entry 1 is the result of multiply"):
            SGD([p, p * 2])
        with pytest.raises(DtypeError, match="entry 0 is a ndarray"):
            SGD([np.ones(2)])

    def test_takes_named_parameters(self):
        net = tg.nn.Linear(2, 1)
        assert SGD(net.named_parameters()).params == list(net.parameters())


class TestClipGradNorm:
    @given(
        arrays(np.float64, st.integers(0, 5), elements=st.floats(-1e3, 1e3)),
        arrays(np.float64, (2, 2), elements=st.floats(-1e3, 1e3)),
        st.floats(0, 100),
        st.sampled_from([1.0, 2.0, 3.0, math.inf]),
    )
    def test_formula(self, a, b, limit, order):
        params = [parameter(a, a), parameter(b, b), parameter(0.0)]
        flat = np.concatenate([a, b.ravel()])
        expected = float(np.linalg.norm(flat, order))
        total = clip_grad_norm_(params, limit, order)
        assert total == pytest.approx(expected, rel=1e-12)
        coefficient = min(1.0, limit / (expected + 1e-6))
        np.testing.assert_allclose(params[0].grad, a * coefficient, rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(params[1].grad, b * coefficient, rtol=1e-9, atol=1e-300)
        assert params[2].grad is None

    @pytest.mark.parametrize(
        ("dtype", "size"),
        [(np.float32, 1e30), (np.float32, 1e38), (np.float64, 1e200), (np.float64, 1e-200)],
    )
    def test_squares_neither_overflow_nor_underflow(self, dtype, size):
        p = parameter(
            [0.0, 0.0], [3 * size, 4 * size] if size < 1e38 else [size, size], dtype=dtype
        )
        before = p.grad.astype(float)
        total = clip_grad_norm_([p], 1.0)
        assert total == pytest.approx(np.hypot(*before), rel=1e-6)
        if size > 1:
            assert np.hypot(*p.grad.astype(float)) == pytest.approx(1.0, rel=1e-5)
            np.testing.assert_allclose(p.grad[1] / p.grad[0], before[1] / before[0], rtol=1e-5)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("order", [1.0, 2.0, math.inf])
    def test_not_finite(self, bad, order):
        p, q = parameter([1.0, 2.0], [5.0, 6.0]), parameter([1.0, 2.0], [1.0, bad], name="bias")
        total = clip_grad_norm_([p, q], 1.0, order)
        assert not math.isfinite(total)
        with pytest.raises(NonFiniteError, match=r"parameter 1 \(bias\) holds a NaN"):
            clip_grad_norm_([p, q], 1.0, order, error_if_nonfinite=True)
        with pytest.raises(NonFiniteError, match=r"parameter net\.bias holds"):
            clip_grad_norm_([("net.w", p), ("net.bias", q)], 1.0, order, error_if_nonfinite=True)
        np.testing.assert_array_equal(p.grad, [5.0, 6.0])
        np.testing.assert_array_equal(q.grad, [1.0, bad])

    def test_a_norm_beyond_float64_leaves_gradients_too(self):
        p = parameter([1.0] * 4, [1.5e308] * 4)
        assert clip_grad_norm_([p], 1.0) == math.inf
        with pytest.raises(NonFiniteError, match="their norm is too large"):
            clip_grad_norm_([p], 1.0, error_if_nonfinite=True)

    def test_nothing_to_clip(self):
        assert clip_grad_norm_([], 1.0) == 0
        assert clip_grad_norm_([parameter(1.0)], 1.0) == 0
        p = parameter([1.0], [0.0])
        assert clip_grad_norm_(p, 1.0) == 0
        np.testing.assert_array_equal(p.grad, [0.0])

    def test_small_gradients_and_generators_and_repetitions(self):
        p = parameter([0.0, 0.0], [0.3, 0.4])
        assert clip_grad_norm_((q for q in [p]), 1.0) == pytest.approx(0.5)
        np.testing.assert_array_equal(p.grad, [0.3, 0.4])
        p.grad = np.array([3.0, 4.0])
        assert clip_grad_norm_([p, p], 1.0) == pytest.approx(5.0)
        np.testing.assert_allclose(p.grad, [0.6, 0.8], rtol=1e-5)

    @pytest.mark.parametrize(
        ("limit", "order"), [(-1.0, 2.0), (math.nan, 2.0), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan)]
    )
    def test_values_out_of_range(self, limit, order):
        p = parameter([3.0], [3.0])
        with pytest.raises(ArgumentError, match="received"):
            clip_grad_norm_([p], limit, order)
        assert p.grad[0] == 3
