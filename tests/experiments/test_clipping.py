"""Counts of steps, against plain loops and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments.clipping import descend, quadratic_steps, quartic_steps

KAPPA = 100.0
BETA = (math.sqrt(KAPPA) - 1) / (math.sqrt(KAPPA) + 1)


def by_hand(x, lr, clip_norm=math.inf):
    """Steps on x⁴ with nothing but floats."""
    steps = 0
    while abs(4 * x**3) > 1e-3:
        g = 4 * x**3
        x -= lr * min(1.0, clip_norm / (abs(g) + 1e-6)) * g
        steps += 1
    return steps


def flow(start, end, lr):
    """Steps of gradient flow on x⁴: dx/dt = −4x³, so 1/x² grows by 8·lr a step."""
    return (1 / end**2 - 1 / start**2) / (8 * lr)


class TestQuartic:
    @settings(max_examples=20)
    @given(start=st.floats(1, 50), clip_norm=st.floats(1, 8))
    def test_agrees_with_a_loop_by_hand(self, start, clip_norm):
        assert quartic_steps(start, 0.1, clip_norm) == by_hand(start, 0.1, clip_norm)

    def test_gradient_descent_slows_by_the_square_of_the_start(self):
        end = (1e-3 / 4) ** (1 / 3)
        for start, published in ((3.0, 3395), (5.0, None)):
            lr = 1 / (12 * start**2)
            steps = quartic_steps(start, lr)
            assert published in (None, steps) and steps == by_hand(start, lr)
            assert steps == pytest.approx(flow(start, end, lr), rel=0.002)

    def test_clipped_walks_and_then_flows(self):
        """Steps of lr·clip_norm down to where the gradient is clip_norm, then gradient flow."""
        end, bend = (1e-3 / 4) ** (1 / 3), (5 / 4) ** (1 / 3)
        for start, published in ((3.0, 314), (100.0, 508)):
            steps = quartic_steps(start, 0.1, clip_norm=5.0)
            assert steps == published == by_hand(start, 0.1, 5.0)
            assert steps == pytest.approx((start - bend) / 0.5 + flow(bend, end, 0.1), rel=0.02)

    def test_a_limit_that_comes_first(self):
        assert quartic_steps(3.0, 1 / 108, limit=3395) == 3395
        assert quartic_steps(3.0, 1 / 108, limit=3394) is None


class TestQuadratic:
    def test_gradient_descent_is_at_its_bound(self):
        """At lr = 2/(L + μ) both ends shrink by (κ − 1)/(κ + 1) a step."""
        expected = math.ceil(math.log(1e-6) / math.log((KAPPA - 1) / (KAPPA + 1)))
        assert quadratic_steps([1.0, KAPPA], 2 / (1 + KAPPA)) == expected == 691

    @pytest.mark.parametrize(
        ("lr", "momentum", "nesterov", "root", "firsts"),
        [
            (4 / 11**2, BETA**2, False, BETA, (1 - 4 / 121, 1 - 400 / 121)),
            (1 / KAPPA, BETA, True, 1 - 1 / math.sqrt(KAPPA), (1 - (1 + BETA) / KAPPA, 0.0)),
        ],
    )
    def test_momentum_is_its_closed_form(self, lr, momentum, nesterov, root, firsts):
        """The characteristic polynomial has a double root r at the ends: x_k = (1 + c·k)·r^k.

        At the steep end it is −r for Polyak; Nesterov's steep end is soon at 0.
        """
        k = np.arange(1000)
        slow = np.abs(1 + (firsts[0] / root - 1) * k) * root**k
        steep = np.abs(1 + (-firsts[1] / root - 1) * k) * root**k
        worst = slow if nesterov else np.maximum(slow, steep)
        expected = int(np.max(np.flatnonzero(worst > 1e-6))) + 1
        assert quadratic_steps([1.0, KAPPA], lr, momentum, nesterov) == expected
        assert abs(expected - (158 if nesterov else 95)) <= 1

    @given(st.lists(st.floats(1.0, 100.0), max_size=5))
    @settings(max_examples=10)
    def test_only_the_ends_of_the_spectrum_count(self, between):
        assert quadratic_steps([1.0, *between, 100.0], 2 / 101) == 691

    def test_the_largest_step_size(self):
        assert quadratic_steps([1.0, 100.0], 1.99 / 100) == math.ceil(
            math.log(1e-6) / math.log(0.99)
        )
        assert quadratic_steps([1.0, 100.0], 2.01 / 100) is None

    @pytest.mark.parametrize("curvatures", [[], [0.0, 1.0], [-1.0], [math.nan], [math.inf]])
    def test_curvatures_are_positive(self, curvatures):
        with pytest.raises(ArgumentError, match="curvatures are above 0"):
            quadratic_steps(curvatures, 0.1)


@pytest.mark.parametrize("start", [math.nan, math.inf, "3"])
def test_a_start_is_a_finite_number(start):
    with pytest.raises(ArgumentError, match="start"):
        quartic_steps(start, 0.1)


def test_a_tolerance_is_above_0():
    for steps in (
        lambda t: quartic_steps(1.0, 0.1, tolerance=t),
        lambda t: quadratic_steps([1.0], 0.1, tolerance=t),
    ):
        with pytest.raises(ArgumentError, match="tolerance"):
            steps(0.0)


def test_descend_counts_no_step_where_none_is_needed():
    x = tg.tensor(0.0, requires_grad=True)
    assert descend(lambda x: x * x, x, tg.optim.SGD([x], 0.1), lambda x: True) == 0
    assert descend(lambda x: x * x, x, tg.optim.SGD([x], 0.1), lambda x: False, limit=0) is None
