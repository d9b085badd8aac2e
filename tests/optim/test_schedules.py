"""Schedules: each against plain Python of another form; previewed, saved, composed, refused."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, DtypeError, StateDictError
from tinygrad_stab.optim import (
    SGD,
    Adam,
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
    WarmupCosineLR,
    WarmupLR,
)

BASE = 0.5
STEPS = 30


def optimizer(lr=BASE, kind=SGD, **options):
    """One with two groups, the second with an lr of 0.05."""
    p, q = (tg.tensor(1.0, requires_grad=True) for _ in range(2))
    return kind([{"params": [p]}, {"params": [q], "lr": 0.05}], lr=lr, **options)


def lrs(opt):
    return [group["lr"] for group in opt.param_groups]


def run(schedule, steps):
    """Learning rates of both groups at each of the steps of a training loop."""
    seen = []
    for _ in range(steps):
        seen.append(lrs(schedule.optimizer))
        schedule.optimizer.step()
        schedule.step()
    return np.array(seen)


def squared_cosine(t, length):
    """1 → 0 in `length` steps, by another identity: (1 + cos 2x)/2 = cos²x."""
    return math.cos(math.pi * t / length / 2) ** 2


# How each is made, and its factor of the base at step t.
FACTORS = {
    "lambda": (lambda o: LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: 1 / (1 + t)),
    "step": (
        lambda o: StepLR(o, 3, gamma=0.5),
        lambda t: math.prod(0.5 for i in range(1, t + 1) if i % 3 == 0),
    ),
    "multi step": (
        lambda o: MultiStepLR(o, [0, 4, 4, 9], gamma=0.5),
        lambda t: math.prod(0.5 for m in (0, 4, 4, 9) if t >= m),
    ),
    "constant": (lambda o: ConstantLR(o, 0.25, 4), lambda t: 0.25 if t in range(4) else 1),
    "linear": (
        lambda o: LinearLR(o, 0.1, 0.8, total_iters=7),
        lambda t: np.interp(t, [0, 7], [0.1, 0.8]),
    ),
    "exponential": (lambda o: ExponentialLR(o, 0.9), lambda t: math.exp(t * math.log(0.9))),
    "exponential, rising": (lambda o: ExponentialLR(o, 1.1), lambda t: math.prod([1.1] * t)),
    "cosine": (lambda o: CosineAnnealingLR(o, 8), lambda t: squared_cosine(t, 8)),
    "warm-up": (lambda o: WarmupLR(o, 5), lambda t: min(5, t + 1) / 5),
    "warm-up from zero": (lambda o: WarmupLR(o, 5, from_zero=True), lambda t: min(5, t) / 5),
    "warm-up of one step": (lambda o: WarmupLR(o, 1), lambda t: 1),
    "warm-up, cosine": (
        lambda o: WarmupCosineLR(o, 4, 12),
        lambda t: (t + 1) / 4 if t < 4 else squared_cosine(min(t, 12) - 4, 8),
    ),
    "warm-up from zero, cosine": (
        lambda o: WarmupCosineLR(o, 4, 12, from_zero=True),
        lambda t: t / 4 if t < 4 else squared_cosine(min(t, 12) - 4, 8),
    ),
    "no warm-up, cosine": (
        lambda o: WarmupCosineLR(o, 0, 12),
        lambda t: squared_cosine(min(t, 12), 12),
    ),
    "sequential": (
        lambda o: SequentialLR(o, [WarmupLR(o, 4), StepLR(o, 3), ExponentialLR(o, 0.9)], [4, 9]),
        lambda t: (t + 1) / 4 if t < 4 else 0.1 ** ((t - 4) // 3) if t < 9 else 0.9 ** (t - 9),
    ),
    "chained": (
        lambda o: ChainedScheduler([WarmupLR(o, 4), ExponentialLR(o, 0.9), StepLR(o, 5)]),
        lambda t: min(4, t + 1) / 4 * 0.9**t * 0.1 ** (t // 5),
    ),
    "chained sequence": (
        lambda o: ChainedScheduler(
            [SequentialLR(o, [WarmupLR(o, 4), StepLR(o, 3)], [4]), ExponentialLR(o, 0.9)]
        ),
        lambda t: ((t + 1) / 4 if t < 4 else 0.1 ** ((t - 4) // 3)) * 0.9**t,
    ),
    "sequence of chains": (
        lambda o: SequentialLR(
            o, [WarmupLR(o, 4), ChainedScheduler([ExponentialLR(o, 0.9), StepLR(o, 3)])], [6]
        ),
        lambda t: min(4, t + 1) / 4 if t < 6 else 0.9 ** (t - 6) * 0.1 ** ((t - 6) // 3),
    ),
}
MAKERS = {name: make for name, (make, _) in FACTORS.items()} | {
    "cosine with a floor": lambda o: CosineAnnealingLR(o, 8, eta_min=0.01),
    "warm-up, cosine with a floor": lambda o: WarmupCosineLR(o, 4, 12, eta_min=0.01),
    "one cycle": lambda o: OneCycleLR(o, [1.0, 0.4], total_steps=STEPS),
    "one cycle, three phases": lambda o: OneCycleLR(
        o, 1.0, total_steps=STEPS, three_phase=True, anneal_strategy="linear"
    ),
    "warm-up, one cycle": lambda o: SequentialLR(
        o, [WarmupLR(o, 4), OneCycleLR(o, 1.0, total_steps=STEPS)], [4]
    ),
}


@pytest.mark.parametrize("name", FACTORS)
def test_every_group_has_its_base_times_the_factor(name):
    make, factor = FACTORS[name]
    expected = [[BASE * factor(t), 0.05 * factor(t)] for t in range(STEPS)]
    np.testing.assert_allclose(run(make(optimizer()), STEPS), expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("name", MAKERS)
def test_preview_is_what_happens_and_touches_nothing(name):
    schedule = MAKERS[name](optimizer())
    before = copy.deepcopy([schedule.state_dict(), schedule.optimizer.state_dict()])
    preview = schedule.preview(STEPS)
    assert before == [schedule.state_dict(), schedule.optimizer.state_dict()]
    assert preview.shape == (STEPS,)
    assert preview.dtype == np.float64
    np.testing.assert_array_equal(preview, run(schedule, STEPS)[:, 0])
    np.testing.assert_array_equal(preview, schedule.preview(STEPS))  # not from where it stands
    assert schedule.preview(0).shape == (0,)


@pytest.mark.parametrize("name", MAKERS)
@given(before=st.integers(0, 15), after=st.integers(1, 14))
def test_a_saved_schedule_continues_identically(name, before, after):
    one, other = MAKERS[name](optimizer()), MAKERS[name](optimizer(lr=0.125))
    run(one, before)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert other.last_epoch == before
    assert other.get_last_lr() == one.get_last_lr() == lrs(other.optimizer)
    np.testing.assert_array_equal(run(other, after), run(one, after))
    assert one.optimizer.state_dict() == other.optimizer.state_dict()  # the momentum, too


@given(
    losses=st.lists(st.floats(0.5, 2) | st.just(math.nan), min_size=1, max_size=40),
    cut=st.integers(0, 40),
    options=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["min", "max"]),
            "patience": st.integers(0, 3),
            "cooldown": st.integers(0, 3),
            "threshold_mode": st.sampled_from(["rel", "abs"]),
            "min_lr": st.sampled_from([0.0, [0.1, 0.01]]),
        }
    ),
)
def test_a_saved_plateau_continues_identically(losses, cut, options):
    one = ReduceLROnPlateau(optimizer(), factor=0.5, **options)
    other = ReduceLROnPlateau(optimizer(lr=0.125), factor=0.5, **options)
    for loss in losses[:cut]:
        one.step(loss)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for loss in losses[cut:]:
        one.step(loss)
        other.step(loss)
    assert one.state_dict() == other.state_dict()
    assert lrs(one.optimizer) == lrs(other.optimizer) == one.get_last_lr()


@given(
    warm=st.integers(1, 10),
    rest=st.integers(1, 20),
    eta_min=st.floats(0, 0.4),
    from_zero=st.booleans(),
)
def test_warm_up_then_cosine_is_the_sequence_of_the_two_up_to_the_end(
    warm, rest, eta_min, from_zero
):
    one = WarmupCosineLR(optimizer(), warm, warm + rest, eta_min, from_zero)
    o = optimizer()
    two = SequentialLR(
        o, [WarmupLR(o, warm, from_zero), CosineAnnealingLR(o, rest, eta_min)], [warm]
    )
    steps = warm + rest + 1
    np.testing.assert_allclose(one.preview(steps), two.preview(steps), rtol=1e-12, atol=1e-16)
    assert (one.preview(steps + 20)[steps:] == eta_min).all()
    assert from_zero or (one.preview(warm + rest) > 0).all()  # no step is wasted


@given(order=st.permutations(["linear", "step", "cosine", "warm-up, cosine", "exponential"]))
def test_factors_may_be_chained_in_any_order(order):
    o = optimizer()
    chained = ChainedScheduler([FACTORS[name][0](o) for name in order])
    product = np.prod([FACTORS[name][0](optimizer(1.0)).preview(20) for name in order], axis=0)
    np.testing.assert_allclose(chained.preview(20), BASE * product, rtol=1e-12, atol=1e-16)


def test_a_chain_hands_on_the_base():
    o = optimizer()
    chained = ChainedScheduler([ConstantLR(o, 0.5, 3), CosineAnnealingLR(o, 4, eta_min=0.05)])
    bases = [0.25] * 3 + [0.5] * 5
    expected = [0.05 + (b - 0.05) * squared_cosine(t, 4) for t, b in enumerate(bases)]
    np.testing.assert_allclose(chained.preview(8), expected, rtol=1e-12)


def test_cosine_ends_at_its_floor():
    values = CosineAnnealingLR(optimizer(), 8, eta_min=0.01).preview(9)
    expected = [0.01 + 0.49 * squared_cosine(t, 8) for t in range(9)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert values[8] == 0.01


class TestOneCycle:
    @pytest.mark.parametrize(
        ("options", "knots", "rates", "momenta"),
        [
            ({}, [0, 5, 19], [0.04, 1, 4e-6], [0.95, 0.85, 0.95]),
            (
                {"three_phase": True, "pct_start": 0.4, "div_factor": 10, "final_div_factor": 100},
                [0, 7, 14, 19],
                [0.1, 1, 0.1, 0.001],
                [0.95, 0.85, 0.95, 0.95],
            ),
            ({"pct_start": 0}, [-1, 19], [1, 4e-6], [0.85, 0.95]),
            ({"pct_start": 0.05}, [0, 19], [1, 4e-6], [0.85, 0.95]),
            ({"pct_start": 1}, [0, 19], [0.04, 1], [0.95, 0.85]),
        ],
    )
    def test_linear_is_interpolation_between_the_phases(self, options, knots, rates, momenta):
        o = optimizer(momentum=0.9)
        schedule = OneCycleLR(o, 1.0, 20, anneal_strategy="linear", **options)
        steps = np.arange(20)
        expected = np.interp(steps, knots, rates)
        np.testing.assert_allclose(schedule.preview(20), expected, rtol=1e-12, atol=1e-16)
        found = [schedule.momentum_at(t) for t in range(20)]
        np.testing.assert_allclose(found, np.interp(steps, knots, momenta), rtol=1e-12)

    def test_cosine_has_the_same_ends_and_middles_and_is_flat_there(self):
        values = OneCycleLR(optimizer(), 1.0, 21, pct_start=11 / 21).preview(21)
        np.testing.assert_allclose(values[[0, 5, 10, 15, 20]], [0.04, 0.52, 1, 0.500002, 4e-6])
        slopes = np.abs(np.diff(values))
        assert slopes[[0, 9, 10, 19]].max() < slopes[[4, 5, 14, 15]].min() / 3

    def test_betas_are_cycled_where_there_is_no_momentum(self):
        adam = optimizer(kind=Adam, betas=(0.9, 0.99))
        schedule = OneCycleLR(adam, 1.0, 20, max_momentum=[0.95, 0.9])
        assert [g["betas"] for g in adam.param_groups] == [(0.95, 0.99), (0.9, 0.99)]
        run(schedule, 5)
        assert [g["betas"] for g in adam.param_groups] == [(0.85, 0.99), (0.85, 0.99)]

    def test_momentum_is_left_alone_if_asked(self):
        o = optimizer(momentum=0.5)
        run(OneCycleLR(o, 1.0, 10, cycle_momentum=False), 10)
        assert [g["momentum"] for g in o.param_groups] == [0.5, 0.5]

    def test_steps_may_be_given_as_epochs(self):
        one, other = (OneCycleLR(optimizer(), 1.0, **k) for k in (
            {"total_steps": 20}, {"epochs": 5, "steps_per_epoch": 4}
        ))  # fmt: skip
        np.testing.assert_array_equal(one.preview(20), other.preview(20))

    @pytest.mark.parametrize("strategy", ["cos", "linear"])
    def test_a_loop_of_total_steps_ends_at_the_last_value_and_one_more_step_raises(self, strategy):
        o = optimizer(momentum=0.9)
        schedule = OneCycleLR(o, 1.0, total_steps=10, anneal_strategy=strategy)
        values = run(schedule, 10)
        assert lrs(o) == pytest.approx(list(values[-1]))
        before = copy.deepcopy([schedule.state_dict(), o.state_dict()])
        with pytest.raises(ArgumentError, match=r"10 steps; received step=11.*larger total_steps"):
            schedule.step()
        assert before == [schedule.state_dict(), o.state_dict()]
        with pytest.raises(ArgumentError, match="10 steps"):
            schedule.preview(12)

    def test_momentum_moves_only_when_it_is_its_turn(self):
        o = optimizer(momentum=0.9)
        schedule = SequentialLR(
            o, [OneCycleLR(o, 1.0, 10), ConstantLR(o, 0.5, 1), OneCycleLR(o, 1.0, 10)], [3, 6]
        )
        seen = []
        for _ in range(9):
            seen.append(o.param_groups[0]["momentum"])
            o.step()
            schedule.step()
        assert seen[0] == seen[6] == 0.95
        assert seen[2] == seen[3] == seen[5] == pytest.approx(0.85)

    def test_the_last_part_of_a_chain_that_has_a_momentum_sets_it(self):
        o = optimizer(momentum=0.9)
        cycles = [OneCycleLR(o, 1.0, 10, max_momentum=m) for m in (0.9, 0.99)]
        run(ChainedScheduler([*cycles, ConstantLR(o)]), 9)
        assert o.param_groups[0]["momentum"] == 0.99


class TestPlateau:
    def after(self, losses, **options):
        schedule = ReduceLROnPlateau(optimizer(), factor=0.5, **options)
        seen = []
        for loss in losses:
            schedule.step(loss)
            seen.append(round(lrs(schedule.optimizer)[0] / BASE, 6))
        return seen

    def test_patience_counts_values_in_a_row(self):
        assert self.after([3, 3, 3, 3, 3, 3], patience=1) == [1, 1, 0.5, 0.5, 0.25, 0.25]
        assert self.after([3, 3, 2, 2, 1, 1], patience=1) == [1] * 6

    def test_cooldown_values_are_not_counted(self):
        seen = self.after([3] * 7, patience=0, cooldown=2)
        assert seen == [1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]

    def test_threshold(self):
        assert self.after([3, 2.9], patience=0, threshold=0.1) == [1, 0.5]
        assert self.after([3, 2.6], patience=0, threshold=0.1) == [1, 1]
        assert self.after([3, 2.8], patience=0, threshold=0.1, threshold_mode="abs") == [1, 1]
        assert self.after([3, 3.2], patience=0, threshold=0.1, mode="max") == [1, 0.5]
        assert self.after([-3, -2], patience=0, mode="max", threshold_mode="abs") == [1, 1]

    def test_nan_never_improves(self):
        assert self.after([math.nan, math.nan, 1.0], patience=0) == [0.5, 0.25, 0.25]

    def test_lower_bounds(self):
        assert self.after([1] * 5, patience=0, min_lr=[0.2, 0])[-1] == 0.4
        assert self.after([1] * 5, patience=0, eps=0.2)[-1] == 0.5

    def test_a_change_by_hand_stays(self):
        o = optimizer()
        schedule = ReduceLROnPlateau(o, factor=0.5, patience=0)
        schedule.step(1.0)
        o.param_groups[0]["lr"] = 8.0
        schedule.step(1.0)
        assert schedule.get_last_lr() == [4.0, 0.025]

    @pytest.mark.parametrize(
        "value", [tg.tensor(2.0), tg.tensor([2.0]), np.array(2.0), np.float32(2), 2]
    )
    def test_one_number_in_any_form(self, value):
        schedule = ReduceLROnPlateau(optimizer())
        schedule.step(value)
        assert schedule.best == 2.0
        assert type(schedule.best) is float

    @pytest.mark.parametrize("value", ["1.0", None, True, 1j, [1.0], np.ones(2), 10**400])
    def test_what_is_no_number_is_refused(self, value):
        schedule = ReduceLROnPlateau(optimizer())
        before = schedule.state_dict()
        with pytest.raises(ArgumentError, match="metrics is one real number"):
            schedule.step(value)
        assert schedule.state_dict() == before


class TestState:
    @pytest.mark.parametrize("name", MAKERS)
    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"last_epoch": None}, "last_epoch is None"),
            ({"last_epoch": -1}, "last_epoch is -1"),
            ({"last_epoch": 1.5}, "last_epoch is 1.5"),
            ({"last_epoch": True}, "last_epoch is True"),
            ({"base_lrs": [0.1]}, "base_lrs is"),
            ({"base_lrs": [0.1, math.nan]}, "base_lrs is"),
            ({"base_lrs": [0.1, -1]}, "base_lrs is"),
            ({"base_lrs": 0.1}, "base_lrs is 0.1"),
            ({"gamma": 1}, "gamma is unexpected"),
        ],
    )
    def test_an_unfit_state_is_refused_whole(self, name, change, complaint):
        schedule = MAKERS[name](optimizer())
        run(schedule, 3)
        before = copy.deepcopy([schedule.state_dict(), schedule.optimizer.state_dict()])
        state = {"last_epoch": 2, "base_lrs": [1.0, 1.0]} | change
        with pytest.raises(StateDictError, match=complaint):
            schedule.load_state_dict(state)
        assert before == [schedule.state_dict(), schedule.optimizer.state_dict()]

    def test_missing_entries_are_named(self):
        with pytest.raises(StateDictError, match=r"last_epoch is missing; base_lrs is missing"):
            StepLR(optimizer(), 3).load_state_dict({})
        with pytest.raises(StateDictError, match="it is a list"):
            StepLR(optimizer(), 3).load_state_dict([])

    @pytest.mark.parametrize(
        "change",
        [{"best": math.nan}, {"best": "low"}, {"num_bad_epochs": -1}, {"last_lr": [1.0, "a"]}],
    )
    def test_an_unfit_state_of_a_plateau_is_refused_whole(self, change):
        schedule = ReduceLROnPlateau(optimizer())
        before = schedule.state_dict()
        with pytest.raises(StateDictError, match=next(iter(change))):
            schedule.load_state_dict(before | change)
        assert schedule.state_dict() == before

    def test_a_state_beyond_the_end_of_one_cycle_is_refused(self):
        schedule = OneCycleLR(optimizer(), 1.0, total_steps=10)
        before = copy.deepcopy([schedule.state_dict(), schedule.optimizer.state_dict()])
        with pytest.raises(ArgumentError, match="10 steps"):
            schedule.load_state_dict({"last_epoch": 11, "base_lrs": [1.0, 1.0]})
        assert before == [schedule.state_dict(), schedule.optimizer.state_dict()]

    def test_what_is_handed_out_is_a_copy(self):
        schedule = StepLR(optimizer(), 3)
        schedule.state_dict()["base_lrs"][0] = 9.0
        schedule.get_last_lr()[0] = 9.0
        assert schedule.get_last_lr() == schedule.base_lrs == [BASE, 0.05]

    def test_last_epoch_resumes_from_the_initial_rates(self):
        o = optimizer()
        run(ExponentialLR(o, 0.5), 4)
        again = ExponentialLR(o, 0.5, last_epoch=3)
        assert again.last_epoch == 4
        assert again.get_last_lr() == [BASE / 16, 0.05 / 16]
        with pytest.raises(ArgumentError, match=r"initial_lr.*group=0.*load_state_dict"):
            ExponentialLR(optimizer(), 0.5, last_epoch=3)

    def test_an_optimizer_loaded_before_or_after_ends_the_same(self):
        saved = StepLR(optimizer(), 2)
        run(saved, 5)
        ends = []
        for first in (True, False):
            fresh = StepLR(optimizer(lr=3.0), 2)
            if first:
                fresh.optimizer.load_state_dict(saved.optimizer.state_dict())
            fresh.load_state_dict(saved.state_dict())
            if not first:
                fresh.optimizer.load_state_dict(saved.optimizer.state_dict())
            ends.append(run(fresh, 5))
        np.testing.assert_array_equal(*ends)
        np.testing.assert_array_equal(ends[0], run(saved, 5))


def test_initial_lr_is_kept_as_in_pytorch():
    o = optimizer()
    LinearLR(o)
    assert [g["initial_lr"] for g in o.param_groups] == [BASE, 0.05]
    assert LinearLR(o).base_lrs == [BASE, 0.05]  # not the rate that the first one set
    assert lrs(o) == pytest.approx([BASE / 3, 0.05 / 3])
    OneCycleLR(o, 1.0, 10)
    assert [g["initial_lr"] for g in o.param_groups] == [0.04, 0.04]


def test_a_change_by_hand_lasts_until_the_next_step():
    o = optimizer()
    schedule = ExponentialLR(o, 0.5)
    o.param_groups[0]["lr"] = 7.0
    o.step()
    schedule.step()
    assert lrs(o) == [BASE / 2, 0.025]


def test_the_rate_is_what_the_optimizer_moves_by():
    p = tg.tensor(0.0, requires_grad=True)
    schedule = StepLR(SGD([p], lr=1.0), 1, gamma=0.5)
    for _ in range(4):
        p.grad = -1.0
        schedule.optimizer.step()
        schedule.step()
    assert p.item() == 1 + 1 / 2 + 1 / 4 + 1 / 8


def test_a_schedule_of_ones_own_needs_a_formula_only():
    class Inverse(LRScheduler):
        def lr_at(self, base_lr, step, group=0):
            return base_lr / (1 + step)

    np.testing.assert_allclose(run(Inverse(optimizer()), 4)[:, 1], 0.05 / np.arange(1, 5))
    with pytest.raises(TypeError, match="must define lr_at"):
        LRScheduler(optimizer())


def test_a_group_that_came_later_is_refused():
    o = optimizer()
    schedule, plateau = StepLR(o, 1), ReduceLROnPlateau(o)
    o.add_param_group({"params": [tg.tensor(1.0, requires_grad=True)]})
    o.step()
    with pytest.raises(ArgumentError, match=r"base_lrs=2, groups=3. Make the schedule after"):
        schedule.step()
    with pytest.raises(ArgumentError, match=r"min_lrs=2, groups=3"):
        plateau.step(1.0)
    assert schedule.last_epoch == plateau.last_epoch == 0


@pytest.mark.parametrize("factor", [math.nan, -1.0, math.inf, None, "1", True])
def test_a_function_that_returns_no_rate_is_refused(factor):
    o = optimizer()
    schedule = LambdaLR(o, lambda t: factor if t == 2 else 1.0)
    run(schedule, 1)
    before = o.state_dict()
    with pytest.raises(ArgumentError, match=r"LambdaLR: .*(step 2|\(2\))"):
        schedule.step()
    assert (schedule.last_epoch, o.state_dict()) == (1, before)


def test_a_rate_that_overflows_is_refused():
    with pytest.raises(ArgumentError, match="step 1024 is finite"):
        ExponentialLR(optimizer(), 2.0).preview(2000)


NO_WHOLE = [0, -1, 1.0, True, "1", None, math.nan]
NO_GAMMA = [-0.1, math.nan, math.inf, True, "1", None, 1j, 10**400, np.ones(2)]
NO_SHARE = [-0.1, 1.1, math.nan, True, "1", None]


@pytest.mark.parametrize(
    ("make", "values", "name"),
    [
        (lambda o, v: StepLR(o, v), NO_WHOLE, "step_size"),
        (lambda o, v: StepLR(o, 1, v), NO_GAMMA, "gamma"),
        (lambda o, v: StepLR(o, 1, last_epoch=v), [-2, 0.5, True, None, "1"], "last_epoch"),
        (
            lambda o, v: MultiStepLR(o, v),
            [[2, 1], [-1], [1.0], [True], 3, "12", None],
            "milestones",
        ),
        (lambda o, v: MultiStepLR(o, [1], v), NO_GAMMA, "gamma"),
        (lambda o, v: ExponentialLR(o, v), NO_GAMMA, "gamma"),
        (lambda o, v: ConstantLR(o, v), NO_SHARE, "factor"),
        (lambda o, v: ConstantLR(o, 1, v), NO_WHOLE, "total_iters"),
        (lambda o, v: LinearLR(o, v), [0, *NO_SHARE], "start_factor"),
        (lambda o, v: LinearLR(o, 1, v), NO_SHARE, "end_factor"),
        (lambda o, v: LinearLR(o, 1, 1, v), NO_WHOLE, "total_iters"),
        (lambda o, v: CosineAnnealingLR(o, v), NO_WHOLE, "T_max"),
        (lambda o, v: CosineAnnealingLR(o, 1, v), NO_GAMMA, "eta_min"),
        (lambda o, v: WarmupLR(o, v), NO_WHOLE, "warmup_steps"),
        (lambda o, v: WarmupLR(o, 1, v), [1, 0, None, "no"], "from_zero"),
        (lambda o, v: WarmupCosineLR(o, v, 5), NO_WHOLE[1:], "warmup_steps"),
        (lambda o, v: WarmupCosineLR(o, 3, v), [3, 4.0, *NO_WHOLE], "total_steps"),
        (lambda o, v: WarmupCosineLR(o, 3, 5, v), NO_GAMMA, "eta_min"),
        (lambda o, v: WarmupCosineLR(o, 3, 5, 0, v), [1, None], "from_zero"),
        (lambda o, v: LambdaLR(o, v), [None, 0.5, [abs], [abs] * 3, [abs, 1]], "lr_lambda"),
        (lambda o, v: OneCycleLR(o, v, 9), [*NO_GAMMA, [1.0], [1.0, -1.0]], "max_lr"),
        (lambda o, v: OneCycleLR(o, 1, v), NO_WHOLE, "total_steps"),
        (lambda o, v: OneCycleLR(o, 1, epochs=v, steps_per_epoch=2), NO_WHOLE, "epochs"),
        (lambda o, v: OneCycleLR(o, 1, 9, pct_start=v), NO_SHARE, "pct_start"),
        (lambda o, v: OneCycleLR(o, 1, 9, pct_start=v, three_phase=True), [0.6], "pct_start"),
        (lambda o, v: OneCycleLR(o, 1, 9, anneal_strategy=v), ["no", 1, None], "anneal_strategy"),
        (lambda o, v: OneCycleLR(o, 1, 9, cycle_momentum=v), [1, None], "cycle_momentum"),
        (lambda o, v: OneCycleLR(o, 1, 9, three_phase=v), [1, None], "three_phase"),
        (lambda o, v: OneCycleLR(o, 1, 9, div_factor=v), [0, *NO_GAMMA], "div_factor"),
        (lambda o, v: OneCycleLR(o, 1, 9, final_div_factor=v), [0, *NO_GAMMA], "final_div_factor"),
        (lambda o, v: OneCycleLR(o, 1, 9, base_momentum=v), [1, [0.5], *NO_GAMMA], "base_momentum"),
        (lambda o, v: OneCycleLR(o, 1, 9, max_momentum=v), [1, [0.5], *NO_GAMMA], "max_momentum"),
        (lambda o, v: ReduceLROnPlateau(o, v), ["most", None, 1, np.ones(2)], "mode"),
        (lambda o, v: ReduceLROnPlateau(o, factor=v), [1, *NO_SHARE], "factor"),
        (lambda o, v: ReduceLROnPlateau(o, patience=v), NO_WHOLE[1:], "patience"),
        (lambda o, v: ReduceLROnPlateau(o, cooldown=v), NO_WHOLE[1:], "cooldown"),
        (lambda o, v: ReduceLROnPlateau(o, threshold=v), [1.0, *NO_GAMMA], "threshold"),
        (lambda o, v: ReduceLROnPlateau(o, threshold_mode=v), ["no", None], "threshold_mode"),
        (lambda o, v: ReduceLROnPlateau(o, min_lr=v), [[0.1], *NO_GAMMA], "min_lr"),
        (lambda o, v: ReduceLROnPlateau(o, eps=v), NO_GAMMA, "eps"),
        (lambda o, v: StepLR(o, 1).preview(v), NO_WHOLE[1:], "steps"),
    ],
)
def test_arguments_outside_their_range_are_refused_and_change_nothing(make, values, name):
    o = optimizer()
    ExponentialLR(o, 0.5)
    before = o.state_dict()
    for value in values:
        with pytest.raises(ArgumentError, match=rf"^\w+: .*{name}.*received "):
            make(o, value)
        assert o.state_dict() == before


@pytest.mark.parametrize("kind", [StepLR, OneCycleLR, LambdaLR, ReduceLROnPlateau])
@pytest.mark.parametrize("value", [None, 0.1, StepLR(optimizer(), 1)])
def test_what_is_no_optimizer_is_refused(kind, value):
    arguments = {StepLR: [1], OneCycleLR: [1, 9], LambdaLR: [abs], ReduceLROnPlateau: []}
    with pytest.raises(DtypeError, match="optimizer is an Optimizer; received a"):
        kind(value, *arguments[kind])


def test_one_cycle_needs_a_length_and_a_momentum():
    with pytest.raises(ArgumentError, match="or both epochs and steps_per_epoch"):
        OneCycleLR(optimizer(), 1.0, epochs=3)
    still = optimizer(kind=tg.optim.Adagrad)
    with pytest.raises(ArgumentError, match=r"optimizer='Adagrad'.*cycle_momentum=False"):
        OneCycleLR(still, 1.0, 9)
    OneCycleLR(still, 1.0, 9, cycle_momentum=False)


@pytest.mark.parametrize(
    ("parts", "milestones", "complaint"),
    [
        (lambda o: [], [], "at least one"),
        (lambda o: None, [], "with a formula"),
        (lambda o: [ReduceLROnPlateau(o)], [], "Step a ReduceLROnPlateau by itself"),
        (lambda o: [StepLR(o, 1), StepLR(optimizer(), 1)], [3], r"one optimiser.*index=1"),
        (lambda o: [StepLR(o, 1)] * 2, [], r"one milestone fewer.*milestones=0, schedulers=2"),
        (lambda o: [StepLR(o, 1)] * 2, [1, 2], "one milestone fewer"),
        (lambda o: [StepLR(o, 1)] * 3, [5, 2], "ascending"),
        (lambda o: [StepLR(o, 1)] * 2, [2.5], "integers"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts, milestones, complaint):
    o = optimizer()
    with pytest.raises(ArgumentError, match=complaint):
        SequentialLR(o, parts(o), milestones)
    if "milestone" not in complaint and "schedulers=" not in complaint and not milestones:
        with pytest.raises(ArgumentError, match=complaint):
            ChainedScheduler(parts(o))


def test_a_chain_is_of_one_optimizer():
    o = optimizer()
    for arguments in ([[StepLR(o, 1), StepLR(optimizer(), 1)]], [[StepLR(o, 1)], optimizer()]):
        with pytest.raises(ArgumentError, match="one optimiser"):
            ChainedScheduler(*arguments)
