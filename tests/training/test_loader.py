"""Batches: what is in them, in which order, and how a loader goes on from a saved state."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, DtypeError, StateDictError
from tinygrad_stab.training import DataLoader, load, save


def epoch(loader):
    return [batch.tolist() for batch in loader]


@given(
    st.integers(1, 40), st.integers(1, 50), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1)
)
def test_an_epoch_is_a_partition_of_the_examples(n, size, shuffle, drop_last, seed):
    options = {"batch_size": size, "shuffle": shuffle, "drop_last": drop_last, "rng": seed}
    x = np.arange(n)
    if drop_last and size > n:
        with pytest.raises(ArgumentError, match="at least one batch"):
            DataLoader(x, **options)
        return
    loader = DataLoader(x, -2.0 * x[:, None], **options)
    batches = list(loader)
    assert len(batches) == len(loader) == (math.floor if drop_last else math.ceil)(n / size)
    assert all(len(a) == size for a, _ in batches[: len(loader) - (not drop_last)])
    seen = np.concatenate([a for a, _ in batches])
    np.testing.assert_array_equal(np.concatenate([b for _, b in batches])[:, 0], -2 * seen)
    if not shuffle:
        np.testing.assert_array_equal(seen, x[: len(seen)])
    assert len(set(seen)) == len(seen) == (n - n % size if drop_last else n)


def test_batches_are_views_in_order_and_copies_shuffled():
    x = np.arange(6.0)
    assert all(np.shares_memory(batch, x) for batch in DataLoader(x, batch_size=4))
    for batch in DataLoader(x, batch_size=4, shuffle=True, rng=0):
        batch[:] = -1
    np.testing.assert_array_equal(x, np.arange(6))


def test_lists_and_tensors_become_arrays_of_their_type():
    x = tg.tensor([[1.0], [2.0]], dtype=np.float32)
    ((a, b),) = DataLoader(x, [True, False], batch_size=2)
    assert (a.dtype, b.dtype) == (np.float32, np.bool_)


def test_every_epoch_has_an_order_of_its_own_that_the_seed_decides():
    one, two = (DataLoader(range(50), batch_size=7, shuffle=True, rng=3) for _ in range(2))
    epochs = [epoch(one) for _ in range(3)]
    assert epochs == [epoch(two) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]


def test_loops_at_the_same_time_do_not_disturb_each_other():
    one, two = (DataLoader(range(10), batch_size=3, shuffle=True, rng=3) for _ in range(2))
    at_once = list(zip(one, one, strict=True))
    first, second = epoch(two), epoch(two)
    assert [a.tolist() for a, _ in at_once] == first
    assert [b.tolist() for _, b in at_once] == second


@pytest.mark.parametrize("generator", [np.random.PCG64, np.random.MT19937, np.random.Philox])
@pytest.mark.parametrize("seen", [0, 2, 4], ids=["before", "amid", "after an epoch"])
def test_a_saved_state_leads_to_the_epochs_that_come_next(generator, seen, tmp_path):
    def make(seed):
        rng = np.random.Generator(generator(seed))
        return DataLoader(range(10), batch_size=3, shuffle=True, rng=rng)

    loader, other = make(1), make(2)
    epoch(loader)
    if seen:
        list(itertools.islice(loader, seen))
    save({"loader": loader}, tmp_path / "run")
    load(tmp_path / "run", into={"loader": other})
    assert other.epoch == loader.epoch == 1 + bool(seen)
    assert [epoch(other), epoch(other)] == [epoch(loader), epoch(loader)]


def test_a_state_is_a_copy():
    loader = DataLoader(range(10), shuffle=True, rng=1)
    state = loader.state_dict()
    first = epoch(loader)
    loader.load_state_dict(state)
    assert epoch(loader) == first


@pytest.mark.parametrize(
    "state",
    [
        {},
        None,
        {"epoch": 1},
        {"epoch": 1, "rng": None},
        {"epoch": "x", "rng": {}},
        *({"epoch": epoch, "rng": np.random.PCG64(0).state} for epoch in (math.inf, -1, 1.5)),
        {"epoch": 1, "rng": np.random.PCG64(0).state | {"state": {"state": 2**200, "inc": 1}}},
        {"epoch": 1, "rng": np.random.MT19937(0).state},
        {"epoch": 1, "rng": np.random.PCG64(0).state | {"state": {"state": "x", "inc": 1}}},
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(state):
    loader = DataLoader(range(10), rng=0)
    before = loader.state_dict()
    with pytest.raises(StateDictError, match="PCG64; received"):
        loader.load_state_dict(state)
    assert loader.state_dict() == before


@pytest.mark.parametrize(
    ("arrays", "options"),
    [
        ([], {}),
        ([5], {}),
        ([np.zeros((3, 2)), 64], {}),
        ([np.zeros(3), np.zeros(4)], {}),
        ([np.zeros((3, 2)), np.zeros(())], {}),
        ([[]], {}),
        *(([np.zeros(3)], {"batch_size": size}) for size in (0, -1, True, False, 2.0, "2", None)),
        ([np.zeros(3)], {"batch_size": math.nan}),
        ([np.zeros(3)], {"batch_size": 4, "drop_last": True}),
    ],
)
def test_what_gives_no_batches_is_refused(arrays, options):
    with pytest.raises(ArgumentError, match="received"):
        DataLoader(*arrays, **options)


def test_other_things_than_numbers_are_refused():
    with pytest.raises(DtypeError, match="received"):
        DataLoader(["a", "b"])
    with pytest.raises(DtypeError, match="requires grad"):
        DataLoader(tg.tensor([1.0], requires_grad=True))
