"""Residual nets: the signal's size, training, paths."""

import itertools
import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_stab.diagnostics import residual_growth
from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments.residual import (
    best_loss,
    block,
    final_loss,
    path_share,
    variance_growth,
)
from tinygrad_stab.nn import Linear


@pytest.mark.parametrize("kind", ["plain", "normalised", "scaled", "bare"])
def test_blocks_compute_what_they_say(kind):
    made = block(kind, 6, 4, np.random.default_rng(0))
    w = next(m for m in made.modules() if isinstance(m, Linear)).weight.data
    x = np.random.default_rng(1).normal(size=(9, 6))

    def norm(z):
        return (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)

    wanted = {
        "plain": lambda: np.maximum(norm(x @ w.T), 0),
        "normalised": lambda: x + np.maximum(norm(x), 0) @ w.T,
        "scaled": lambda: x + np.maximum(x, 0) @ w.T / 2,
        "bare": lambda: x + np.maximum(x, 0) @ w.T,
    }[kind]()
    assert np.allclose(made(x).data, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("bare", {}, 0.4),
        ("normalised", {"normalised": True}, 0.1),
        ("scaled", {"scale": 0.25}, 0.1),
    ],
)
def test_variance_grows_as_theory_says(kind, options, tolerance):
    found = [variance_growth(kind, 16, seed=seed) for seed in range(4)]
    assert np.mean(found) == pytest.approx(
        residual_growth(16, **options).forward[-1], rel=tolerance
    )


def test_a_block_adds_its_share_to_the_variance():
    """One block: 2, 2 and 1 + 1/1."""
    for kind in ("bare", "normalised", "scaled"):
        found = np.mean([variance_growth(kind, 1, seed=seed) for seed in range(5)])
        assert found == pytest.approx(2, rel=0.05)


def test_depth_hurts_the_plain_net_and_not_the_residual_one():
    options = {"steps": 100, "width": 32, "batch_size": 32, "data": "digits"}
    plain, residual = (
        best_loss([final_loss(kind, 40, lr, **options) for lr in (0.1, 0.3)])
        for kind in ("plain", "normalised")
    )
    assert plain > 1.5 and residual < 0.5


def test_bare_skips_end_in_nan_and_scaled_ones_do_not():
    options = {"steps": 16, "width": 32, "data": "digits"}
    assert math.isnan(final_loss("bare", 30, 0.1, **options))
    assert final_loss("scaled", 30, 0.1, **options) < 3


def test_a_seed_gives_the_loss_again_bit_for_bit():
    options = {"steps": 5, "width": 8, "data": "digits"}
    first, again, other = (
        final_loss("normalised", 2, 0.1, seed=seed, **options) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_best_loss_is_the_least_that_is_a_number():
    assert best_loss([math.nan, 2.0, 1.0, math.nan]) == 1.0
    assert math.isnan(best_loss([math.nan])) and math.isnan(best_loss([]))


@given(st.integers(0, 8), st.integers(0, 9), st.integers(0, 9))
def test_share_of_paths_is_what_counting_them_gives(blocks, shortest, longest):
    lengths = [sum(path) for path in itertools.product((0, 1), repeat=blocks)]
    within = sum(shortest <= length <= longest for length in lengths)
    assert path_share(blocks, shortest, longest) == Fraction(within, len(lengths))


@pytest.mark.parametrize(
    ("function", "arguments", "match"),
    [
        (variance_growth, ("square",), "kind"),
        (variance_growth, ("bare", 0), "blocks"),
        (variance_growth, ("bare", 2.5), "blocks"),
        (partial(final_loss, data="digits"), ("square", 2, 0.1), "kind"),
        (final_loss, ("plain", 0, 0.1), "blocks"),
        (final_loss, ("plain", 2, 0.0), "lr"),
        (final_loss, ("plain", 2, math.nan), "lr"),
        (final_loss, ("plain", 2, 0.1, 0), "steps"),
        (path_share, (-1, 0, 1), "blocks"),
        (path_share, (3, "0", 1), "shortest"),
        (path_share, (3, 0, True), "longest"),
    ],
)
def test_values_outside_their_range_are_refused(function, arguments, match):
    with pytest.raises(ArgumentError, match=match):
        function(*arguments)


@pytest.mark.parametrize(
    "function", [variance_growth, lambda kind, **o: final_loss(kind, 1, 0.1, **o)]
)
def test_one_example_has_no_variance(function):
    with pytest.raises(ArgumentError, match="batch_size"):
        function("plain", batch_size=1)
