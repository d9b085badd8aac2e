"""Sizes that neither overflow nor underflow."""

import numpy as np
import pytest

from tinygrad_stab.diagnostics import rms


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
