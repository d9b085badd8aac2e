"""The temporal order problem: its sequences, and learning it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments.temporal_order import Learnt, Reader, learn, sequences


@given(length=st.integers(3, 120), number=st.integers(0, 20), seed=st.integers(0, 100))
def test_the_label_is_the_order_of_the_two_symbols_that_matter(length, number, seed):
    inputs, labels = sequences(number, length, np.random.default_rng(seed))
    assert inputs.shape == (length, number, 6) and labels.shape == (number,)
    assert np.all((inputs == 0) | (inputs == 1)) and np.all(inputs.sum(axis=-1) == 1)
    for n in range(number):
        symbols = inputs[:, n].argmax(axis=-1)
        first, second = np.flatnonzero(symbols < 2)
        assert length // 10 <= first <= length / 5 and 4 * length // 10 <= second <= length / 2
        assert labels[n] == ["AA", "AB", "BA", "BB"].index(
            "".join("AB"[s] for s in symbols[[first, second]])
        )


def test_all_four_orders_and_all_places_occur_alike():
    inputs, labels = sequences(20_000, 20, np.random.default_rng(0), np.float32)
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(np.bincount(labels) / 20_000, 0.25, atol=0.015)
    often = (inputs[..., :2].sum(axis=-1)).mean(axis=1)  # how often A or B stands at each place
    np.testing.assert_allclose(often[[2, 3, 4, 8, 9, 10]], 1 / 3, atol=0.015)
    assert often.sum() == pytest.approx(2)


@pytest.mark.parametrize("length", [-1, 0, 2])
def test_two_symbols_need_three_places(length):
    with pytest.raises(ArgumentError, match=f"length is at least 3.*received {length}"):
        sequences(1, length, np.random.default_rng(0))


def test_the_net_starts_with_the_spectral_radius_asked_for():
    net = Reader(30, 1.7, np.random.default_rng(0), np.float32)
    values = np.linalg.eigvals(dict(net.named_parameters())["rnn.weight_hh_l0"].data)
    assert np.abs(values).max() == pytest.approx(1.7, rel=1e-5)


def test_a_short_problem_is_learnt_the_same_way_every_time():
    first = learn(0, length=10, steps=300)
    assert first.solved and first.steps % 25 == 0 and first.accuracy >= 0.99
    assert learn(0, length=10, steps=300) == first


def test_an_untrained_net_guesses():
    unlearnt = learn(0, lr=0.0, steps=1)
    assert not unlearnt.solved and unlearnt.steps == 1
    assert unlearnt.accuracy == pytest.approx(0.25, abs=0.07)
    assert learn(0, steps=0) == Learnt(False, 0, 0.0)


def test_clipping_to_nothing_learns_nothing():
    assert learn(0, clip_norm=0.0, steps=2) == learn(0, lr=0.0, steps=2)


def test_refusals():
    with pytest.raises(ArgumentError, match="lr is"):
        learn(0, lr=-1.0)
    for name, value in (
        ("hidden_size", 0), ("batch_size", 0), ("steps", -1), ("spectral_radius", float("nan")),
        ("length", 2),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=name):
            learn(0, **{name: value})
    with pytest.raises(ArgumentError, match="seed"):
        learn(-1)
