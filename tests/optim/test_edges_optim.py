"""Edge cases of optimisers and clipping, one test a case; the numbers are those of the list."""

import math
import pickle

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError
from tinygrad_stab.optim import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    RMSprop,
    adaptive_clip_grad_,
    clip_grad_norm_,
    clip_grad_norm_each_,
    clip_grad_value_,
)

KINDS = (SGD, Adagrad, RMSprop, Adam, AdamW)
CLIPS = (clip_grad_norm_, clip_grad_norm_each_, clip_grad_value_, adaptive_clip_grad_)


def parameter(data, grad=None, **kwargs):
    p = tg.tensor(data, requires_grad=True, **kwargs)
    p.grad = grad
    return p


def stepped(kind, data, grads, **options):
    p = parameter(data)
    optimizer = kind([p], **options)
    for g in grads:
        p.grad = g
        optimizer.step()
    return p.data


def test_t01_adams_first_step_is_lr_times_the_sign():
    g = np.array([3, -0.001, 0])
    moved = stepped(Adam, np.zeros(3), [g], lr=0.1)
    np.testing.assert_allclose(moved, -0.1 * g / (np.abs(g) + 1e-8), rtol=1e-12)
    np.testing.assert_allclose(moved, [-0.1, 0.099999, 0], rtol=1e-8)


def test_t02_momentum_is_not_scaled():
    assert stepped(SGD, 0.0, [1.0, 1.0], lr=0.1, momentum=0.9) == pytest.approx(-0.1 * (1 + 1.9))


def test_t03_nesterov_looks_ahead_and_needs_momentum():
    moved = stepped(SGD, 0.0, [1.0], lr=0.1, momentum=0.9, nesterov=True)
    assert moved == pytest.approx(-0.1 * (1 + 0.9 * 1))
    for options in ({}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match="nesterov needs"):
            SGD([parameter(1.0)], nesterov=True, **options)


def test_t04_rmsprop_adds_eps_outside_the_root():
    moved = stepped(RMSprop, 0.0, [-0.001], lr=0.1, alpha=0.9, eps=1e-8)
    assert moved == pytest.approx(0.1 * 0.001 / (math.sqrt(0.1 * 1e-6) + 1e-8), rel=1e-12)
    assert moved == pytest.approx(0.31622777 * (1 - 3.16e-5), rel=1e-6)


def test_t05_adam_couples_decay_and_adamw_does_not():
    assert stepped(Adam, 1.0, [0.0], lr=0.1, weight_decay=0.1) == pytest.approx(0.9, abs=1e-7)
    assert stepped(AdamW, 1.0, [0.0], lr=0.1, weight_decay=0.1) == pytest.approx(0.99, abs=1e-15)


def test_t06_adamw_decays_by_a_hundredth():
    assert AdamW([parameter(1.0)]).param_groups[0]["weight_decay"] == 0.01


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", [Adagrad, RMSprop, Adam])
def test_t07_zero_gradients_move_nothing(kind, dtype):
    p = parameter([1.0, -2.0], dtype=dtype)
    optimizer = kind([p])
    for _ in range(2000):
        p.grad = [0.0, 0.0]
        optimizer.step()
    np.testing.assert_array_equal(p.data, [1, -2])


@pytest.mark.parametrize("kind", KINDS)
def test_t08_a_parameter_listed_twice_is_refused(kind):
    p = parameter(1.0)
    for params in ([p, p], [{"params": [p]}, {"params": [p]}]):
        with pytest.raises(ValueError, match="each parameter once"):
            kind(params)


@pytest.mark.parametrize(
    "options",
    [{"lr": -1.0}, {"lr": math.nan}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"eps": -1e-9},
     {"weight_decay": -0.1}],
    ids=str,
)  # fmt: skip
def test_t09_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"Adam: {next(iter(options))} is"):
        Adam([parameter(1.0)], **options)


@pytest.mark.parametrize("kind", KINDS)
def test_t10_no_parameters_and_results_are_refused(kind):
    with pytest.raises(ValueError, match="received none"):
        kind([])
    with pytest.raises(DtypeError, match="the result of multiply"):
        kind([parameter(1.0) * 2])


def test_t11_a_parameter_without_gradient_keeps_its_state_and_count():
    p, q = parameter(1.0), parameter(1.0)
    optimizer = Adam([p, q], lr=0.1)
    for i in range(3):
        p.grad, q.grad = 1.0, None if i == 1 else 1.0
        held = q.item(), dict(optimizer.state.get(q, {}))
        optimizer.step()
        if i == 1:
            assert (q.item(), optimizer.state[q]) == held
    assert (optimizer.state[p]["step"], optimizer.state[q]["step"]) == (3, 2)


def test_t12_a_gradient_of_another_shape_or_kind_is_refused_when_assigned():
    p = parameter([1.0, 2.0])
    with pytest.raises(ShapeError):
        p.grad = np.ones(3)
    with pytest.raises(DtypeError):
        p.grad = np.array([1j, 1j])
    assert p.grad is None


@pytest.mark.parametrize("clip", CLIPS)
def test_t20_zero_gradients_stay_zero(clip):
    p = parameter([1.0, 1.0], [0.0, 0.0])
    for bound in (1.0, 0.0):
        clipped = clip([p], bound)
        assert clipped == 0 and clipped.coefficient == 1
        np.testing.assert_array_equal(p.grad, [0, 0])


@pytest.mark.parametrize("clip", CLIPS)
def test_t21_missing_gradients_are_passed_over(clip):
    assert clip([], 1.0) == clip([parameter(1.0)], 1.0) == 0
    assert clip([parameter([1.0]), parameter([1.0], [0.5])], 1.0) == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_norm_each_])
def test_t22_gradients_that_are_not_finite_are_left(clip, bad):
    p = parameter([1.0, 1.0], [7.0, bad])
    with pytest.raises(NonFiniteError):
        clip([p], 1.0, error_if_nonfinite=True)
    assert not math.isfinite(clip([p], 1.0))
    np.testing.assert_array_equal(p.grad, [7.0, bad])


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_norm_each_])
def test_t23_large_float32_gradients_are_scaled(clip):
    p = parameter([1.0, 1.0], [3e30, 4e30], dtype=np.float32)
    assert clip([p], 1.0) == pytest.approx(5e30)
    np.testing.assert_allclose(p.grad, [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_norm_each_])
def test_t24_large_float64_gradients_are_scaled(clip):
    p = parameter([1.0, 1.0], [3e200, 4e200])
    assert clip([p], 1.0) == pytest.approx(5e200)
    np.testing.assert_allclose(p.grad, [0.6, 0.8], rtol=1e-12)


def test_t25_infinity_is_the_largest_entry_and_orders_are_above_0():
    p = parameter([1.0, 1.0], [3.0, -4.0])
    assert clip_grad_norm_([p], 10.0, math.inf) == 4
    for order in (0, -1, math.nan):
        with pytest.raises(ValueError, match="norm_type is above 0"):
            clip_grad_norm_([p], 1.0, order)


@pytest.mark.parametrize("bound", [-1.0, math.nan, True, "1", None, [1.0]])
@pytest.mark.parametrize("clip", CLIPS)
def test_t26_bounds_are_at_least_0(clip, bound):
    p = parameter([1.0], [3.0])
    with pytest.raises(ArgumentError, match="is at least 0; received"):
        clip([p], bound)
    assert p.grad[0] == 3


def test_t27_a_parameter_passed_twice_is_scaled_once():
    for clip in (clip_grad_norm_, clip_grad_norm_each_):
        p = parameter([0.0], [3.0])
        assert clip([p, p], 1.0) == 3
        assert p.grad[0] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("clip", CLIPS)
def test_t28_a_generator_is_read_once(clip):
    p = parameter([0.0], [3.0])
    assert clip((q for q in [p]), 1.0) == 3
    assert p.grad[0] < 1 + 1e-12


def test_t29_value_clipping_takes_an_empty_list():
    clipped = clip_grad_value_([], 1.0)
    assert (clipped, clipped.coefficient, clipped.by_parameter) == (0, 1, {})


@pytest.mark.parametrize(
    "make",
    [
        lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
        lambda p: Adagrad(p, lr_decay=0.1),
        lambda p: RMSprop(p, momentum=0.9, centered=True),
        lambda p: Adam(p, amsgrad=True),
        lambda p: AdamW([{"params": p[:1], "lr": 0.5}, {"params": p[1:]}]),
    ],
    ids=["sgd", "adagrad", "rmsprop", "adam", "adamw"],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_t33_a_saved_state_continues_bit_for_bit(make, dtype, tmp_path, rng):
    def params(values):
        return [tg.tensor(v, requires_grad=True, dtype=dtype) for v in values]

    def run(optimizer, tensors, steps):
        for i in steps:
            draws = np.random.default_rng(i)
            for p in tensors:
                p.grad = draws.normal(size=p.shape)
            tensors[-1].grad = None if i % 3 else tensors[-1].grad
            optimizer.step()

    first = params([rng.normal(size=(3, 2)), rng.normal(size=4), 1.0])
    optimizer = make(first)
    run(optimizer, first, range(7))
    file = tmp_path / "state"
    file.write_bytes(pickle.dumps((optimizer.state_dict(), [p.data for p in first])))
    state, values = pickle.loads(file.read_bytes())
    second = params(values)
    resumed = make(second)
    resumed.load_state_dict(state)
    run(optimizer, first, range(7, 20))
    run(resumed, second, range(7, 20))
    for p, q in zip(first, second, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
