"""Clipping against its formulas, at every edge, and what it says it did."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, DtypeError, NonFiniteError
from tinygrad_stab.optim import (
    adaptive_clip_grad_,
    clip_grad_norm_,
    clip_grad_norm_each_,
    clip_grad_value_,
)

CLIPS = (clip_grad_norm_, clip_grad_norm_each_, clip_grad_value_, adaptive_clip_grad_)
VALUES = st.floats(-1e3, 1e3)


def parameter(data, grad=None, **kwargs):
    p = tg.tensor(data, requires_grad=True, **kwargs)
    p.grad = None if grad is None else np.array(grad, p.dtype)
    return p


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
        assert not math.isfinite(total) and total.coefficient == 1
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
        for clip in (clip_grad_norm_, clip_grad_norm_each_):
            with pytest.raises(ArgumentError, match="received"):
                clip([p], limit, order)
        assert p.grad[0] == 3


class TestClipGradNormEach:
    @given(
        arrays(np.float64, 3, elements=VALUES),
        arrays(np.float64, (2, 2), elements=VALUES),
        st.floats(0, 100),
        st.sampled_from([1.0, 2.0, math.inf]),
    )
    def test_is_norm_clipping_of_each_alone(self, a, b, limit, order):
        p, q = parameter(a, a), parameter(b, b)
        clipped = clip_grad_norm_each_([("p", p), ("q", q)], limit, order)
        for name, tensor, value in (("p", p, a), ("q", q, b)):
            alone = parameter(value, value)
            one = clip_grad_norm_([alone], limit, order)
            np.testing.assert_array_equal(tensor.grad, alone.grad)
            assert clipped.by_parameter[name] == one
            assert clipped.by_parameter[name].coefficient == one.coefficient

    def test_an_exploding_gradient_leaves_the_others(self):
        p, q, r = parameter(1.0, math.inf), parameter(1.0, 4.0), parameter(1.0, 0.5)
        with pytest.raises(NonFiniteError, match="parameter 0 holds"):
            clip_grad_norm_each_([p, q, r], 1.0, error_if_nonfinite=True)
        assert q.grad == 4
        clipped = clip_grad_norm_each_([p, q, r], 1.0)
        assert (p.grad, r.grad) == (math.inf, 0.5) and q.grad == pytest.approx(1, rel=1e-6)
        assert clipped == math.inf and math.isnan(clipped.coefficient)
        assert clipped.by_parameter["1"].coefficient == pytest.approx(0.25, rel=1e-6)


class TestClipGradValue:
    @given(arrays(np.float64, array_shapes(min_dims=0), elements=VALUES), st.floats(0, 2e3))
    def test_formula(self, g, bound):
        p = parameter(g, g)
        clip_grad_value_([p], bound)
        np.testing.assert_array_equal(p.grad, np.minimum(np.maximum(g, -bound), bound))

    def test_infinities_become_the_bound_and_nan_stays(self):
        p = parameter(np.ones(3), [math.inf, -math.inf, math.nan])
        clip_grad_value_([p], 2.0)
        np.testing.assert_array_equal(p.grad, [2, -2, math.nan])

    @pytest.mark.parametrize("bound", [1e300, math.inf])
    def test_a_bound_beyond_float32_changes_nothing(self, bound):
        p = parameter(np.ones(2), [3e38, -math.inf], dtype=np.float32)
        assert clip_grad_value_([p], bound).coefficient == 1
        np.testing.assert_array_equal(p.grad, np.array([3e38, -math.inf], np.float32))


class TestAdaptiveClipGrad:
    @given(
        arrays(np.float64, (3, 2, 2), elements=VALUES),
        arrays(np.float64, (3, 2, 2), elements=VALUES),
        st.floats(0, 2),
        st.floats(0, 1),
    )
    def test_equation_3_unit_by_unit(self, w, g, factor, eps):
        p = parameter(w, g)
        adaptive_clip_grad_([p], factor, eps)
        for unit, before, after in zip(w, g, p.grad, strict=True):
            size, bound = np.linalg.norm(before), factor * max(np.linalg.norm(unit), eps)
            expected = before * (bound / size) if size > bound else before
            np.testing.assert_allclose(after, expected, rtol=1e-9, atol=1e-150)

    @pytest.mark.parametrize("shape", [(), (4,)])
    def test_a_bias_is_one_unit(self, shape):
        p = parameter(np.full(shape, 2.0), np.full(shape, 3.0))
        adaptive_clip_grad_([p], 0.5)
        np.testing.assert_allclose(p.grad, 1.0)

    def test_weights_of_0_can_move(self):
        p = parameter([[0.0]], [[1.0]])
        adaptive_clip_grad_([p], 0.01, eps=1e-3)
        assert p.grad[0, 0] == pytest.approx(1e-5)

    @pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e30), (np.float64, 1e200)])
    def test_large_gradients_and_weights_do_not_overflow(self, dtype, size):
        p = parameter([[size, 0], [0.6, 0.8]], [[0, size], [3 * size, 4 * size]], dtype=dtype)
        adaptive_clip_grad_([p], 0.5)
        np.testing.assert_allclose(p.grad, [[0, size / 2], [0.3, 0.4]], rtol=1e-6)

    def test_units_that_are_not_finite_are_left(self):
        g = [[math.nan, 1], [math.inf, 1], [9, 9], [9, 9]]
        p = parameter([[1, 1], [1, 1], [math.nan, 1], [3, 4]], g)
        clipped = adaptive_clip_grad_([p], 0.1)
        np.testing.assert_array_equal(p.grad[:3], g[:3])
        np.testing.assert_allclose(p.grad[3], 0.5 / math.sqrt(2))
        assert math.isnan(clipped) and math.isnan(clipped.coefficient)

    @pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
    def test_empty(self, shape):
        assert adaptive_clip_grad_([parameter(np.ones(shape), np.ones(shape))]) == 0

    @pytest.mark.parametrize("settings", [{"clip_factor": -1}, {"eps": -1e-3}, {"eps": math.nan}])
    def test_values_out_of_range(self, settings):
        with pytest.raises(ArgumentError, match=f"{next(iter(settings))} is at least 0; received"):
            adaptive_clip_grad_([parameter(1.0, 1.0)], **settings)


@pytest.mark.parametrize("clip", CLIPS)
class TestEveryClip:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_coefficient_is_what_is_left_of_the_norm(self, clip, dtype, rng):
        params = [
            parameter(rng.normal(size=s), 3 * rng.normal(size=s), dtype=dtype)
            for s in ((4, 3), (), (5,))
        ]

        def norms():
            return [float(np.linalg.norm(p.grad.astype(float))) for p in params]

        before = norms()
        clipped = clip(params, 0.7)
        after = norms()
        assert clipped == pytest.approx(np.linalg.norm(before), rel=1e-6)
        left = np.linalg.norm(after) / np.linalg.norm(before)
        assert clipped.coefficient == pytest.approx(left, rel=1e-6) and left < 1
        for i, one in clipped.by_parameter.items():
            assert one == pytest.approx(before[int(i)], rel=1e-6)
            assert one.coefficient == pytest.approx(after[int(i)] / before[int(i)], rel=1e-6)
        assert len(clipped.by_parameter) == (0 if clip is clip_grad_norm_ else 3)
        assert {p.grad.dtype for p in params} == {np.dtype(dtype)}

    def test_what_is_small_stays_as_it_is(self, clip):
        p = parameter(np.full((2, 2), 100.0), [[0.1, -0.2], [0.3, 0.4]])
        before = p.grad.copy()
        assert clip([p], 1.0).coefficient == 1
        np.testing.assert_array_equal(p.grad, before)

    def test_parameters_of_one_name_are_told_apart(self, clip):
        p, q = parameter([1.0], [3.0]), parameter([1.0], [4.0])
        clipped = clip([("w", p), ("w", q)], 10.0)
        assert clipped == 5
        if clipped.by_parameter:
            assert clipped.by_parameter == {"w": 3, "1 (w)": 4}

    def test_after_a_backward_pass_no_gradient_is_clipped_with_another(self, clip):
        p, q = parameter([[3.0, 4.0]]), parameter([[3.0, 4.0]])
        (p + q).sum().backward()
        clip([p], 0.1)
        np.testing.assert_array_equal(q.grad, [[1, 1]])
        assert np.linalg.norm(p.grad) < 1

    def test_what_it_did_goes_through_a_file(self, clip):
        clipped = clip([parameter([1.0], [3.0])], 0.5)
        again = pickle.loads(pickle.dumps(clipped))
        assert (again, again.coefficient) == (clipped, clipped.coefficient)
        assert again.by_parameter == clipped.by_parameter

    @pytest.mark.parametrize("params", [None, 3, [1.0], [np.ones(2)], "w", [("w", None)]], ids=str)
    def test_what_is_no_list_of_parameters(self, clip, params):
        with pytest.raises(DtypeError, match="parameters: are leaf tensors"):
            clip(params, 1.0)
