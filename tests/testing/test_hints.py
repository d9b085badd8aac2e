"""Each usual mistake under its name, and no name for what is none of them."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinygrad_stab.testing.hints import differences, hint, largest

RIGHT = np.random.default_rng(0).standard_normal((3, 4))
ENTRIES = st.floats(-1e3, 1e3, allow_subnormal=False)


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("received", "expected", "words"),
    [
        (RIGHT, RIGHT, ""),
        (0 * RIGHT, RIGHT, "zero everywhere"),
        (RIGHT, 0 * RIGHT, "not zero, as it should be everywhere"),
        (-RIGHT, RIGHT, "wrong sign"),
        (2 * RIGHT, RIGHT, "a factor 2 too much"),
        (RIGHT / 2, RIGHT, "a factor 2 is missing"),
        (-2 * RIGHT, RIGHT, "wrong sign, and a factor 2 too much"),
        (RIGHT / 12, RIGHT, "a factor 12 is missing (mean instead of sum over 12?)"),
        (3 * RIGHT, RIGHT, "a factor 3 too much (sum instead of mean over 3?)"),
        (RIGHT[:, :2] / 2, RIGHT[:, :2], "a factor 2 is missing (mean instead of sum over 2?)"),
        (1.23456 * RIGHT, RIGHT, "a factor 1.235 too much"),
        (RIGHT / 1.23456, RIGHT, "a factor 1.235 is missing"),
        (1.00003 * RIGHT, RIGHT, "a factor 1 + 3e-05 too much"),
        (1e7 * RIGHT, RIGHT, "a factor 1e+07 too much"),
        (RIGHT[:, :3].T, RIGHT[:, :3], "transposed"),
        (RIGHT.T, RIGHT, "transposed"),
        (RIGHT.reshape(3, 2, 2).mT, RIGHT.reshape(3, 2, 2), "transposed"),
        (RIGHT.reshape(3, 2, 2).T, RIGHT.reshape(3, 2, 2), "transposed"),
        (RIGHT[::-1], RIGHT, "reversed along axis 0"),
        (RIGHT[:, ::-1], RIGHT, "reversed along axis 1"),
        (changed(RIGHT, (2, 3), 7.0), RIGHT, "only element (2, 3) differs"),
        (changed(RIGHT[0], 1, np.nan), RIGHT[0], "only element (1) differs"),
        (RIGHT[0][None], RIGHT[0], "right numbers in the shape (1, 4) instead of (4,)"),
        (RIGHT, RIGHT.sum(axis=0), "not summed over axis 0 of length 3"),
        (RIGHT, RIGHT.sum(axis=1, keepdims=True), "not summed over axis 1 of length 4"),
        (RIGHT, RIGHT.sum(), "not summed over axes (0, 1) of lengths (3, 4)"),
        (RIGHT.sum(axis=0), RIGHT, "summed over axis 0 of length 3, though it should not be"),
        (RIGHT.mean(axis=1), RIGHT, "averaged over axis 1 of length 4, though it should not be"),
    ],
)
def test_each_mistake_has_its_name(received, expected, words):
    assert hint(received, expected) == words


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (RIGHT**2, RIGHT),
        (changed(changed(RIGHT, (0, 0), 7.0), (1, 1), 7.0), RIGHT),
        (changed(2 * RIGHT, (1, 1), RIGHT[1, 1]), RIGHT),  # a factor of all but one
        (changed(-RIGHT, (1, 1), -RIGHT[1, 1] * (1 + 1e-4)), RIGHT),
        (np.ones((2, 3)), np.ones((5, 7))),
        (RIGHT.reshape(4, 3), RIGHT.T + 1),
        (RIGHT, RIGHT.sum(axis=0) + 1),
        (np.full(4, np.nan), RIGHT[0]),
        (np.full(4, np.inf), RIGHT[0]),
        (np.array(1.0), np.array(np.nan)),
        (np.full((3, 3), 1e308), np.full(3, 1.0)),  # the sum overflows
        (np.array(5e-324), np.array(1e308)),  # so does the ratio
        (np.zeros((0, 3)), np.zeros(3)),
        (1j * RIGHT, RIGHT),
    ],
)
def test_what_is_none_of_them_has_none(received, expected):
    assert hint(received, expected) == ""


def test_infinities_and_nan_agree_with_their_like_only():
    right = np.array([1.0, -2.0, np.inf, np.nan])
    assert hint(right, right) == ""
    assert hint(-right, right) == "wrong sign"
    assert hint(3 * right, right) == "a factor 3 too much"
    assert hint(changed(right, 2, -np.inf), right) == "only element (2) differs"
    assert differences(right, changed(right, 3, 0.0)).tolist() == [0, 0, 0, np.inf]
    assert largest(right) == 2 and largest(np.zeros(0)) == 0


def test_tolerance_is_relative_to_the_largest_expected_entry():
    noise = np.array([0.0, 0.5e-3, -0.5e-3])
    for scale in (1e-200, 1.0, 1e200):
        right = scale * np.array([1.0, 1.0, 1e-9])
        assert hint(right + scale * noise, right, 1e-3) == ""
        assert hint(right + scale * noise, right, 1e-4) == ""  # wrong, but not by a known mistake
        assert (
            hint(-2 * right + scale * noise, right, 1e-3) == "wrong sign, and a factor 2 too much"
        )
        # A tiny factor does not hide a gradient of another direction.
        assert hint(scale * 1e-5 * np.array([1.0, -1.0, 3.0]), right, 1e-3) == ""


def test_lists_and_integers_are_taken():
    assert hint([[2, 4]], [[1, 2]]) == "a factor 2 too much (sum instead of mean over 2?)"


@given(
    arrays(np.float64, array_shapes(max_dims=3, max_side=4), elements=ENTRIES),
    st.floats(-1e3, 1e3).filter(lambda c: abs(c) > 1e-3 and abs(abs(c) - 1) > 1e-3),
)
def test_any_factor_is_named(right, factor):
    assume(np.any(np.abs(right) > 1e-3))
    words = hint(factor * right, right)
    assert words.startswith("wrong sign, and ") == (factor < 0)
    ratio = abs(factor)
    number = float(words.split("a factor ")[1].split()[0])
    assert number == pytest.approx(ratio if "too much" in words else 1 / ratio, rel=1e-3)


@given(st.data(), arrays(np.float64, array_shapes(max_dims=3, max_side=4), elements=ENTRIES))
def test_a_hint_is_a_claim_that_holds(data, right):
    """Undoing what is claimed gives the right gradient."""
    received = data.draw(
        st.one_of(
            arrays(np.float64, right.shape, elements=ENTRIES),
            st.sampled_from([right.T, right[::-1], -right, right * 2, right.sum(axis=0)]),
        )
    )
    words, allowed = hint(received, right), 2e-6 * largest(right)
    if words == "transposed":
        undone = [t for t in (received.T, received.mT) if t.shape == right.shape]
        assert any(np.all(differences(t, right) <= allowed) for t in undone)
    elif words.startswith("reversed along axis"):
        assert np.all(differences(np.flip(received, int(words[-1])), right) <= allowed)
    elif words == "wrong sign":
        assert np.all(differences(-received, right) <= allowed)
    elif words.startswith("only element"):
        assert np.sum(differences(received, right) > allowed / 2) == 1
    elif words == "zero everywhere":
        assert not received.any() and right.any()
    elif words == "" and received.shape == right.shape:
        assert np.all(differences(received, right) <= allowed) or not np.array_equal(
            received, -right
        )


@given(
    st.data(),
    arrays(
        np.float64,
        array_shapes(max_dims=2, max_side=3),
        elements=st.floats(allow_nan=True, allow_infinity=True),
    ),
)
def test_no_number_makes_it_fail(data, right):
    anything = arrays(np.float64, array_shapes(max_dims=3, max_side=3), elements=st.floats())
    assert isinstance(hint(data.draw(anything), right), str)
    assert hint(right, right) == ""
