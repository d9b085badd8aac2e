"""Behaviour at the edges, beyond the numbered statements and what a record says of itself."""

import warnings

import numpy as np
import pytest

import tinygrad_stab as tg


def gradient(f, *args):
    leaves = [tg.tensor(a, requires_grad=True) for a in args]
    f(*leaves).sum().backward()
    grads = [leaf.grad for leaf in leaves]
    return grads[0] if len(grads) == 1 else grads


class TestSigmoid:
    def test_is_accurate_in_both_tails(self):
        mpmath_values = {  # 1/(1 + e^−x) to 17 digits
            -740.0: 4.1999e-322, -700.0: 9.8596765437597708e-305, -30.0: 9.3576229688392989e-14,
            0.0: 0.5, 30.0: 0.99999999999990642, 800.0: 1.0, -800.0: 0.0,
        }  # fmt: skip
        for x, expected in mpmath_values.items():
            assert tg.sigmoid(np.array([x]))[0] == pytest.approx(
                expected, rel=1e-4 if x == -740 else 1e-14
            )

    def test_overflow_in_one_element_costs_no_other_its_accuracy(self):
        x = np.array([-1000.0, -700.0, 0.0, 1000.0])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_allclose(
                tg.sigmoid(x), [0, 9.8596765437597708e-305, 0.5, 1], rtol=1e-14
            )
            np.testing.assert_array_equal(gradient(tg.sigmoid, [-1000.0, 1000.0]), [0, 0])

    def test_infinities_and_nan(self):
        np.testing.assert_array_equal(
            tg.sigmoid(np.array([-np.inf, np.inf, np.nan])), [0, 1, np.nan]
        )

    def test_zero_dimensions_float32_complex(self):
        assert tg.sigmoid(np.float32(0)).dtype == np.float32
        assert tg.sigmoid(tg.tensor(0.0)).shape == ()
        z = 0.3 + 0.4j
        assert tg.sigmoid(np.array(z)) == pytest.approx(1 / (1 + np.exp(-z)))


class TestPower:
    def test_special_exponents(self):
        assert gradient(lambda x: x**-1.0, 2.0) == -0.25
        assert gradient(lambda x: x**0.5, 4.0) == 0.25

    def test_number_to_the_tensor(self):
        assert gradient(lambda y: 2**y, 3.0) == pytest.approx(8 * np.log(2))


class TestIndexing:
    @pytest.mark.parametrize(
        "index",
        [
            0, -1, np.s_[1:], np.s_[::-2], np.s_[..., 0], np.s_[None, :, 1:2], np.s_[:, [2, 2, 0]],
            np.s_[0, :, [1, 1]], np.s_[[0, 1], :, [1, 3]], np.s_[np.array([[0, 1], [1, 1]])],
            np.array([True, False]), np.s_[:, np.array([True, False, True])],
            np.zeros((2, 3, 4), bool), (), np.s_[...], np.s_[np.int64(1)], True,
        ],
        ids=str,
    )  # fmt: skip
    def test_every_kind_of_index(self, index, rng):
        x = rng.normal(size=(2, 3, 4))
        t = tg.tensor(x, requires_grad=True)
        out = t[index]
        np.testing.assert_array_equal(out.data, x[index])
        v = rng.normal(size=out.shape)
        out.backward(v)
        expected = np.zeros_like(x)
        np.add.at(expected, index, v)
        np.testing.assert_array_equal(t.grad, expected)

    def test_index_by_tensor(self):
        x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
        x[tg.tensor([2, 2])].sum().backward()
        np.testing.assert_array_equal(x.grad, [0, 0, 2])

    def test_an_index_that_changes_later_changes_nothing(self):
        x, index = tg.tensor([1.0, 2.0], requires_grad=True), np.array([0, 0])
        y = x[index].sum()
        index[:] = 1
        y.backward()
        np.testing.assert_array_equal(x.grad, [2, 0])


@pytest.mark.parametrize(
    ("x", "y"),
    [((2,), (2,)), ((), (3,)), ((2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((3,), (5, 3, 4)),
     ((2, 3), ()), ((4, 2, 3), (5, 3, 4))],
)  # fmt: skip
def test_dot_is_numpys(x, y, rng):
    a, b = rng.normal(size=x), rng.normal(size=y)
    expected = np.dot(a, b)
    np.testing.assert_allclose(tg.dot(tg.tensor(a), tg.tensor(b)).data, expected, rtol=1e-13)
    g, h = gradient(lambda x, y: np.dot(x, y), a, b)
    step = 1e-30
    np.testing.assert_allclose(g.sum(), np.dot(a + 1j * step, b).imag.sum() / step, rtol=1e-12)
    np.testing.assert_allclose(h.sum(), np.dot(a, b + 1j * step).imag.sum() / step, rtol=1e-12)
