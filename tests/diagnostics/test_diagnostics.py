"""Sizes that neither overflow nor underflow, and theory against published and measured numbers."""

from itertools import pairwise

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.diagnostics import LayerStatistics, mean_field, predict_factors, rms
from tinygrad_stab.diagnostics.theory import gaussian_moments
from tinygrad_stab.errors import ArgumentError


class TestRms:
    def test_value(self, rng):
        x = rng.normal(size=(3, 4))
        assert rms(x) == pytest.approx(np.sqrt((x**2).mean()), rel=1e-14)
        assert rms([]) == 0 == rms(np.zeros(3))

    @pytest.mark.parametrize("size", [1e-320, 1e-200, 1e200, 1e307])
    def test_squares_do_not_matter(self, size):
        assert rms([size, -size, size]) == pytest.approx(size, rel=1e-12)

    def test_float32_is_measured_in_float64(self):
        assert rms(np.full(4, 1e-30, np.float32)) == pytest.approx(1e-30, rel=1e-6)

    def test_what_is_not_finite_shows(self):
        assert np.isnan(rms([1.0, np.nan])) and rms([1.0, -np.inf]) == np.inf


class TestMeanField:
    """Poole 2016, Schoenholz 2017: fixed points and the factor √χ a layer."""

    @pytest.mark.parametrize(
        ("phi", "weight", "bias", "root", "tolerance"),
        [
            (tg.sigmoid, 1.0, 0.0, 0.23605, 1e-5),
            (tg.sigmoid, 1.0, 1.0, 0.20484, 1e-5),
            (tg.relu, 2.0, 0.0, 1.0, 1e-9),
            (tg.relu, 1.0, 0.0, 0.7071, 1e-4),
            (tg.relu, 1 / 3, 0.0, 0.408, 5e-4),
            (tg.tanh, 1.3, 0.05, 0.938, 5e-4),
            (tg.tanh, 1.7610, 0.05, 1.0, 5e-4),
            (tg.tanh, 2.5, 0.05, 1.065, 5e-4),
            (tg.tanh, 4.0, 0.05, 1.159, 5e-4),
        ],
    )
    def test_published_factors(self, phi, weight, bias, root, tolerance):
        assert mean_field(phi, weight, bias)[1] ** 0.5 == pytest.approx(root, abs=tolerance)

    def test_fixed_point_of_xavier_sigmoid(self):
        q, chi = mean_field(tg.sigmoid, 1.0)
        assert q == pytest.approx(0.26469, abs=1e-5) and chi == pytest.approx(0.055721, abs=1e-6)

    def test_quadrature_agrees_with_sampling(self, rng):
        z = np.sqrt(1.7) * rng.normal(size=1_000_000)
        t = np.tanh(z)
        expected = [t.mean(), (t**2).mean(), ((1 - t**2) ** 2).mean()]
        np.testing.assert_allclose(gaussian_moments(tg.tanh, 1.7), expected, atol=2e-3)

    def test_extreme_variances(self):
        assert mean_field(tg.relu, 4.0)[1] == pytest.approx(2.0)
        assert mean_field(tg.tanh, 0.5)[1] == pytest.approx(0.5, rel=1e-6)
        with pytest.raises(ArgumentError, match="variances are at least 0"):
            mean_field(tg.tanh, -1.0)


class TestPredictFactors:
    @pytest.mark.parametrize(
        ("phi", "variance", "residual"),
        [(tg.sigmoid, 1.0, False), (tg.tanh, 1.5, False), (tg.relu, 2.0, False),
         (tg.tanh, 1.0, True), (tg.sigmoid, 1.0, True)],
    )  # fmt: skip
    def test_agree_with_a_wide_random_net(self, phi, variance, residual, rng):
        width, depth = 400, 10
        weights = [
            rng.normal(size=(width, width)) * np.sqrt(variance / width) for _ in range(depth)
        ]
        h = tg.tensor(rng.normal(size=(20, width)), requires_grad=True)
        pre = []
        mean_square = rms(h.data) ** 2
        for i, w in enumerate(weights):
            z = tg.linear(h, w)
            pre.append(z)
            if i < depth - 1:
                h = h + phi(z) if residual and i else phi(z)
        pre[-1].backward(rng.normal(size=(20, width)))
        sizes = [rms(z.grad) for z in pre]
        layers = [LayerStatistics(width, width, float(w.var()), 0.0) for w in weights]
        predicted = predict_factors(phi, layers, mean_square, residual)
        measured = [a / b for a, b in pairwise(sizes)]
        assert len(predicted) == depth - 1
        np.testing.assert_allclose(measured, predicted, rtol=0.08)

    def test_no_size_overflows(self):
        layer = LayerStatistics(64, 64, 1.0, 0.0)
        factors = predict_factors(tg.relu, [layer] * 500, 1.0)
        np.testing.assert_allclose(factors, np.sqrt(32), rtol=1e-9)
