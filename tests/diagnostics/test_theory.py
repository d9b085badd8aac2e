"""Theory of gradient flow against closed forms, published numbers, and random networks in NumPy."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab.diagnostics import (
    LayerStatistics,
    batch_norm_chi,
    correlation_map,
    critical_point,
    gradient_band,
    gradient_spread,
    mean_field,
    phase_diagram,
    predict_factors,
    recurrent_bound,
    residual_growth,
    rms,
    spread_rate,
    variance_map,
)
from tinygrad_stab.diagnostics.gaussian import Gaussian
from tinygrad_stab.errors import ArgumentError, DtypeError, ShapeError


def shifted(x):
    return tg.maximum(x - 0.3, 0.0)


def hard_sigmoid(x):
    return tg.clip(x / 6 + 0.5, 0.0, 1.0)


def cubic(x):
    return x * x * x - 2 * x + 1


# In plain NumPy: value and slope.
def tanh(x):
    return np.tanh(x), 1 - np.tanh(x) ** 2


def relu(x):
    return np.maximum(x, 0), (x > 0) * 1.0


def sigmoid(x):
    s = 1 / (1 + np.exp(-x))
    return s, s * (1 - s)


class Net:
    """A random network in plain NumPy, its inputs, and what comes out of every layer."""

    def __init__(self, phi, weight, bias, z, depth, rng):
        self.scale = math.sqrt(weight / z.shape[-1])
        self.z, self.slopes, self.weights = [z], [], []
        for _ in range(depth):
            h, slope = phi(self.z[-1])
            w = rng.normal(size=(z.shape[-1],) * 2) * self.scale
            b = rng.normal(size=z.shape[-1]) * math.sqrt(bias)
            self.weights.append(w)
            self.slopes.append(slope)
            self.z.append(h @ w + b)

    def backward(self, delta):
        """Norms of δ from the last layer to the first."""
        norms = [np.linalg.norm(delta)]
        for w, slope in zip(self.weights[::-1], self.slopes[::-1], strict=True):
            delta = slope * (delta @ w.T)
            norms.append(np.linalg.norm(delta))
        return np.array(norms)


def normal_with_correlation(c, q, width, rng):
    """Two rows of pre-activations."""
    a, b = rng.normal(size=(2, width))
    return math.sqrt(q) * np.stack([a, c * a + math.sqrt(1 - c * c) * b])


class TestGaussian:
    """Averages against closed forms, and against sums over two million points."""

    @pytest.mark.parametrize("q", [1e-20, 1e-3, 0.1, 1.0, 7.0, 1e3])
    def test_of_hardtanh(self, q):
        m, k = Gaussian(tg.hardtanh).moments(q), 1 / math.sqrt(2 * q)
        inside = math.erf(k)
        square = q * (inside - 2 * k / math.sqrt(math.pi) * math.exp(-k * k)) + math.erfc(k)
        assert m.slope_square == pytest.approx(inside, rel=1e-14)
        assert m.square == pytest.approx(square, rel=1e-12)

    @pytest.mark.parametrize("q", [1e-25, 1e-3, 1.0, 7.0, 1e12])
    @pytest.mark.parametrize("slope", [0.0, 0.01, 0.5])
    def test_of_leaky_relu(self, q, slope):
        m = Gaussian(lambda x: tg.leaky_relu(x, slope)).moments(q)
        assert m.slope_square == pytest.approx((1 + slope**2) / 2, rel=1e-14)
        assert m.square == pytest.approx(q * (1 + slope**2) / 2, rel=1e-14)
        assert m.square_growth == pytest.approx((1 + slope**2) / 2, rel=1e-13)

    @pytest.mark.parametrize("q", [0.1, 1.0, 30.0])
    def test_finds_kinks_anywhere(self, q):
        share = math.erfc(0.3 / math.sqrt(2 * q)) / 2
        assert Gaussian(shifted).moments(q).slope_square == pytest.approx(share, rel=1e-13)
        np.testing.assert_allclose(Gaussian(hard_sigmoid).kinks, [-3, 3], rtol=1e-15)
        np.testing.assert_allclose(
            Gaussian(lambda x: tg.hardtanh(x, -2.0, 0.7)).kinks, [-2, 0.7], rtol=1e-15
        )
        assert not len(Gaussian(tg.tanh).kinks)

    @pytest.mark.parametrize("phi", [tg.tanh, tg.sigmoid, tg.gelu, tg.silu, tg.softplus, tg.selu])
    @pytest.mark.parametrize("q", [0.01, 1.0, 300.0])
    def test_of_smooth_ones(self, phi, q):
        z = np.linspace(-9, 9, 100_002)
        p = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
        value, pullback = tg.vjp(phi, math.sqrt(q) * z)
        (slope,) = pullback(np.ones_like(z))
        m = Gaussian(phi).moments(q)
        for got, f in [(m.mean, value), (m.square, value**2), (m.fourth, value**4),
                       (m.slope_square, slope**2), (m.slope_fourth, slope**4),
                       (m.joint, value**2 * slope**2)]:  # fmt: skip
            assert got == pytest.approx(p @ f, rel=1e-6 if phi is tg.selu else 1e-10, abs=1e-8)

    @pytest.mark.parametrize("phi", [tg.tanh, tg.relu, tg.hardtanh, tg.gelu, shifted])
    def test_growth_is_the_derivative_in_q(self, phi):
        g, q, h = Gaussian(phi), 1.3, 1e-4
        m, high, low = (g.moments(v) for v in (q, q + h, q - h))
        growth = (high.square - low.square) / (2 * h)
        assert m.square_growth == pytest.approx(growth, rel=1e-6)
        growth = (high.slope_square - low.slope_square) / (2 * h)
        assert m.slope_growth == pytest.approx(growth, rel=1e-6, abs=1e-10)

    @pytest.mark.parametrize("c", [-1.0, -0.9, -0.5, 0.0, 0.3, 0.9, 0.999, 1 - 1e-8, 1.0])
    def test_of_a_pair_of_relus(self, c):
        """The arc-cosine kernels of Cho & Saul 2009."""
        angle = math.acos(c)
        product = (math.sin(angle) + c * (math.pi - angle)) / (2 * math.pi)
        got = Gaussian(tg.relu).pair(3.0, c)
        assert got == pytest.approx((3 * product, (math.pi - angle) / (2 * math.pi)), abs=1e-13)

    @settings(max_examples=30)
    @given(q=st.floats(0.05, 50), c=st.floats(-0.99, 0.999))
    def test_of_a_pair_of_cubics(self, q, c):
        """Gauss–Hermite quadrature is exact for polynomials."""
        z, w = np.polynomial.hermite_e.hermegauss(20)
        w = w / w.sum()
        u, v = z[:, None], c * z[:, None] + math.sqrt(1 - c * c) * z
        root = math.sqrt(q)
        expected = (w[:, None] * w * cubic(root * u) * cubic(root * v)).sum()
        size = (w * cubic(root * z) ** 2).sum()
        assert Gaussian(cubic).pair(q, c)[0] == pytest.approx(expected, abs=1e-11 * size)

    @pytest.mark.parametrize("phi", [tg.hardtanh, shifted, hard_sigmoid, tg.tanh, tg.elu])
    @pytest.mark.parametrize("c", [0.2, 0.95])
    def test_slope_of_a_pair_is_its_derivative_in_c(self, phi, c):
        """Price's theorem: ∂E[φφ]/∂c = q·E[φ′φ′]."""
        g, q, h = Gaussian(phi), 2.0, 1e-4
        numeric = (g.pair(q, c + h)[0] - g.pair(q, c - h)[0]) / (2 * h)
        assert q * g.pair(q, c)[1] == pytest.approx(numeric, rel=1e-5)

    def test_of_equal_and_of_independent_variables(self):
        for phi in (tg.tanh, tg.hardtanh, shifted, tg.gelu):
            g = Gaussian(phi)
            m = g.moments(1.7)
            assert g.pair(1.7, 1.0) == pytest.approx((m.square, m.slope_square), rel=1e-13)
            assert g.pair(1.7, 0.0)[0] == pytest.approx(m.mean**2, rel=1e-11, abs=1e-14)

    @pytest.mark.parametrize("phi", [lambda x: 1.0, lambda x: x.sum(), lambda x: x.data])
    def test_refuses_what_is_no_activation(self, phi):
        with pytest.raises(DtypeError, match="an activation makes of a tensor one of its shape"):
            Gaussian(phi)


class TestMeanField:
    """Poole 2016, Schoenholz 2017: fixed points, and the factor √χ a layer."""

    @pytest.mark.parametrize(
        ("phi", "weight", "bias", "root", "tolerance"),
        [
            (tg.sigmoid, 1.0, 0.0, 0.23605, 5e-6),
            (tg.sigmoid, 1.0, 1.0, 0.20484, 5e-6),
            (tg.relu, 2.0, 0.0, 1.0, 1e-14),
            (tg.relu, 1.0, 0.0, 0.5**0.5, 1e-14),
            (tg.relu, 1 / 3, 0.0, 0.408, 5e-4),
            (tg.tanh, 1.3, 0.05, 0.938, 5e-4),
            (tg.tanh, 1.76, 0.05, 1.0, 5e-4),
            (tg.tanh, 2.5, 0.05, 1.065, 5e-4),
            (tg.tanh, 4.0, 0.05, 1.159, 5e-4),
        ],
    )
    def test_published_factors(self, phi, weight, bias, root, tolerance):
        assert mean_field(phi, weight, bias).chi ** 0.5 == pytest.approx(root, abs=tolerance)

    @pytest.mark.parametrize(
        ("plain", "phi", "weight", "bias"),
        [(sigmoid, tg.sigmoid, 1.0, 0.0), (sigmoid, tg.sigmoid, 1.0, 1.0),
         (relu, tg.relu, 2.0, 0.0), (relu, tg.relu, 1.0, 0.0), (tanh, tg.tanh, 1.3, 0.05),
         (tanh, tg.tanh, 1.76, 0.05), (tanh, tg.tanh, 4.0, 0.05)],
    )  # fmt: skip
    def test_factors_of_real_networks(self, plain, phi, weight, bias, rng):
        """Width 300, 12 layers, 5 seeds; within four standard errors of the spread law."""
        theory, depth, width, seeds = mean_field(phi, weight, bias), 12, 300, 5
        q = theory.q if 0 < theory.q < math.inf else 1.0
        logs = []
        for _ in range(seeds):
            net = Net(plain, weight, bias, math.sqrt(q) * rng.normal(size=(1, width)), depth, rng)
            norms = net.backward(rng.normal(size=(1, width)))
            logs.append(math.log(norms[-1] / norms[0]) / depth)
        error = math.sqrt(spread_rate(phi, weight, bias) / width / depth / seeds) / 2
        assert np.mean(logs) == pytest.approx(math.log(theory.chi) / 2, abs=4 * error)
        assert error < 0.01

    def test_fixed_point_of_xavier_sigmoid(self):
        m = mean_field(tg.sigmoid, 1.0)
        assert m.q == pytest.approx(0.26469, abs=5e-6)
        assert m.chi == pytest.approx(0.055721, abs=5e-7)
        assert m.phase == "ordered" and m.c == 1

    @settings(max_examples=40)
    @given(
        weight=st.floats(0, 30),
        bias=st.floats(0, 3),
        phi=st.sampled_from([tg.tanh, tg.sigmoid, tg.hardtanh, tg.relu]),
    )
    def test_fixed_points_are_fixed(self, weight, bias, phi):
        m = mean_field(phi, weight, bias)
        if 0 < m.q < math.inf:
            assert variance_map(phi, m.q, weight, bias) == pytest.approx(m.q, rel=1e-11)
        if phi is not tg.relu:
            assert m.q <= weight + bias  # |φ| ≤ 1
        assert correlation_map(phi, m.c, weight, bias) == pytest.approx(m.c, abs=1e-9)
        assert 0 <= m.c <= 1 and m.xi_q >= 0 and m.xi_c >= 0
        assert (m.phase == "chaotic") == (m.chi >= 1 + 1e-6)

    @pytest.mark.parametrize(("weight", "bias"), [(1.3, 0.05), (2.5, 0.05), (6.0, 0.3)])
    def test_iteration_comes_to_the_same(self, weight, bias):
        q, c = 5.0, 0.4
        for _ in range(60):
            q = variance_map(tg.tanh, q, weight, bias)
        m = mean_field(tg.tanh, weight, bias)
        assert m.q == pytest.approx(q, rel=1e-12)
        for _ in range(30):
            before, c = c, correlation_map(tg.tanh, c, weight, bias)
        tail = abs(c - before) / (1 - math.exp(-1 / m.xi_c))  # what is left of the geometric series
        assert m.c == pytest.approx(c, abs=1.2 * tail + 1e-12)

    def test_depth_scales_are_decay_rates_of_the_maps(self):
        m = mean_field(tg.tanh, 2.5, 0.05)
        q, c = m.q * (1 + 1e-4), m.c + 1e-4
        q, c = (
            variance_map(tg.tanh, q, 2.5, 0.05) - m.q,
            correlation_map(tg.tanh, c, 2.5, 0.05) - m.c,
        )
        assert q / (m.q * 1e-4) == pytest.approx(math.exp(-1 / m.xi_q), rel=1e-3)
        assert c / 1e-4 == pytest.approx(math.exp(-1 / m.xi_c), rel=1e-3)

    def test_in_the_ordered_phase_gradient_and_correlation_decay_alike(self):
        m = mean_field(tg.tanh, 1.3, 0.05)
        assert m.xi_c == pytest.approx(-1 / math.log(m.chi), rel=1e-12)

    @pytest.mark.parametrize(("weight", "bias"), [(1.3, 0.05), (4.0, 0.05)])
    def test_correlations_in_a_wide_network(self, weight, bias, rng):
        """Two inputs drift to c* by e^(−1/ξ_c) a layer: mean of 8 networks of width 600."""
        m = mean_field(tg.tanh, weight, bias)
        start, depth, seeds, measured = 0.6, 8, 8, []
        for _ in range(seeds):
            z = normal_with_correlation(start, m.q, 600, rng)
            net = Net(tanh, weight, bias, z, depth, rng)
            measured.append([np.corrcoef(z)[0, 1] if bias == 0 else
                             z[0] @ z[1] / np.sqrt((z[0] @ z[0]) * (z[1] @ z[1]))
                             for z in net.z])  # fmt: skip
        predicted = [start]
        for _ in range(depth):
            predicted.append(float(correlation_map(tg.tanh, predicted[-1], weight, bias)))
        np.testing.assert_allclose(np.mean(measured, axis=0), predicted, atol=0.03)
        gaps = np.abs(np.array(predicted) - m.c)
        assert gaps[-1] / gaps[-2] == pytest.approx(math.exp(-1 / m.xi_c), rel=0.03)
        assert gaps[-1] < gaps[0] / 2

    def test_variance_of_a_wide_network_decays_to_q(self, rng):
        m = mean_field(tg.tanh, 1.76, 0.05)
        excess = np.zeros(4)
        for _ in range(20):
            z = math.sqrt(1.5 * m.q) * rng.normal(size=(1, 500))
            excess += [(z**2).mean() - m.q for z in Net(tanh, 1.76, 0.05, z, 3, rng).z]
        q, predicted = 1.5 * m.q, []
        for _ in range(4):
            predicted.append(q - m.q)
            q = variance_map(tg.tanh, q, 1.76, 0.05)
        np.testing.assert_allclose(excess / 20, predicted, atol=0.03)

    def test_relu_has_no_scale(self):
        he = mean_field(tg.relu, 2.0)
        assert (he.phase, he.c, he.xi_q, he.xi_c) == ("critical", 1.0, math.inf, math.inf)
        assert mean_field(tg.relu, 1.0).q == 0 and mean_field(tg.relu, 1.0).phase == "ordered"
        exploding = mean_field(tg.relu, 4.0)
        assert exploding.q == math.inf and exploding.chi == pytest.approx(2.0)
        assert exploding.phase == "chaotic" and exploding.c == 1
        assert mean_field(tg.relu, 2.0, 0.1).q == math.inf
        assert mean_field(tg.relu, 1.0, 0.1).q == pytest.approx(0.2, rel=1e-12)

    def test_limits(self):
        assert mean_field(tg.tanh, 0.5).chi == pytest.approx(0.5, rel=1e-12)
        assert mean_field(tg.tanh, 1.0).phase == "critical"
        assert mean_field(tg.tanh, 0.0) == (0.0, 0.0, 1.0, 0.0, 0.0, "ordered")
        assert mean_field(tg.tanh, 0.0, 0.3)[:2] == (0.3, 0.0)
        chaos = mean_field(tg.tanh, 1e6)  # tanh is the sign: q* = σ_w², and χ = σ_w·√(2/π)·⅔
        assert chaos.q == pytest.approx(1e6, rel=2e-3)
        assert chaos.chi == pytest.approx(1e3 * math.sqrt(2 / math.pi) * 2 / 3, rel=2e-3)
        assert chaos.c == 0

    def test_any_activation(self):
        assert mean_field(tg.nn.Tanh(), 1.7, 0.1) == mean_field(tg.tanh, 1.7, 0.1)
        clipped = mean_field(tg.hardtanh, 1.5, 0.2)
        assert clipped.chi == pytest.approx(1.5 * math.erf(1 / math.sqrt(2 * clipped.q)), rel=1e-12)

    def test_recording_is_left_alone(self):
        with tg.no_grad():
            assert mean_field(tg.hardtanh, 1.5, 0.2) == mean_field(tg.hardtanh, 1.5, 0.2)
            assert len(Gaussian(tg.hardtanh).kinks) == 2
        slope = tg.tensor(0.2, requires_grad=True)
        mean_field(lambda x: tg.where(x > 0, x, slope * x), 1.0)
        assert slope.grad is None

    @pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, True, "1", None])
    def test_refuses_bad_variances(self, bad):
        for call in (
            lambda: mean_field(tg.tanh, bad),
            lambda: mean_field(tg.tanh, 1.0, bad),
            lambda: critical_point(tg.tanh, bad),
            lambda: variance_map(tg.tanh, 1.0, bad),
            lambda: correlation_map(tg.tanh, 1.0, bad),
        ):
            with pytest.raises(ArgumentError, match="is a variance, finite and at least 0"):
                call()

    def test_refuses_bad_arguments_of_the_maps(self):
        with pytest.raises(ArgumentError, match="q is finite and at least 0"):
            variance_map(tg.tanh, [1.0, -1.0], 1.0)
        with pytest.raises(ArgumentError, match=r"c is in \[−1, 1\]"):
            correlation_map(tg.tanh, 1.1, 1.0)

    def test_maps_keep_shapes(self):
        assert variance_map(tg.tanh, np.ones((2, 3)), 1.0).shape == (2, 3)
        assert correlation_map(tg.tanh, np.zeros((0, 3)), 1.0).shape == (0, 3)
        assert isinstance(variance_map(tg.tanh, 1.0, 1.0), float)


class TestCriticalLine:
    @pytest.mark.parametrize(
        ("phi", "bias", "weight", "tolerance"),
        [
            (tg.tanh, 0.05, 1.7610, 5e-5),
            (tg.tanh, 2.01e-5, 1.05, 5e-4),  # Xiao et al. 2018, their 10 000-layer network
            (tg.relu, 0.0, 2.0, 1e-12),
            (tg.relu, 0.3, 2.0, 1e-12),
            (tg.tanh, 0.0, 1.0, 1e-9),
            (lambda x: tg.leaky_relu(x, 0.5), 0.0, 1.6, 1e-12),
        ],
    )
    def test_published_points(self, phi, bias, weight, tolerance):
        assert critical_point(phi, bias).weight_variance == pytest.approx(weight, abs=tolerance)

    @settings(max_examples=30)
    @given(bias=st.floats(1e-3, 4), phi=st.sampled_from([tg.tanh, tg.hardtanh, tg.sigmoid]))
    def test_mean_field_agrees(self, bias, phi):
        point = critical_point(phi, bias)
        field = mean_field(phi, point.weight_variance, bias)
        assert point.stable and field.phase == "critical"
        assert field.chi == pytest.approx(1, abs=1e-9)
        assert field.q == pytest.approx(point.q, rel=1e-7)

    def test_holds_by_summation(self):
        """ELU: at the point found, V(q) = q and χ = 1 by sums over a fine grid in plain NumPy."""
        bias = 0.04
        weight, q, _ = critical_point(tg.elu, bias)
        z = np.linspace(-9, 9, 400_001)
        p = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
        x = math.sqrt(q) * z
        value = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
        slope = np.where(x > 0, 1, np.exp(np.minimum(x, 0)))
        assert weight * (p @ slope**2) == pytest.approx(1, abs=1e-8)
        assert weight * (p @ value**2) + bias == pytest.approx(q, rel=1e-8)

    def test_where_the_variance_drifts_off(self):
        assert not critical_point(tg.gelu, 0.02).stable

    def test_there_may_be_none(self):
        with pytest.raises(ArgumentError, match="χ must be 1 for some variance"):
            critical_point(tg.softplus, 0.5)


class TestPhaseDiagram:
    def test_is_mean_field_at_every_point(self):
        weights, biases = [1.0, 1.7, 3.0], [0.0, 0.05]
        diagram = phase_diagram(tg.tanh, weights, biases)
        for i, b in enumerate(biases):
            for j, w in enumerate(weights):
                m = mean_field(tg.tanh, w, b)
                cell = [getattr(diagram, name)[i, j] for name in ("q", "chi", "c", "xi_q", "xi_c")]
                assert tuple(cell) == m[:5]

    def test_critical_line_separates_the_phases(self):
        weights, biases = np.linspace(1, 4, 5), np.array([0.01, 0.5])
        diagram = phase_diagram(tg.hardtanh, weights, biases)
        for chi, c, b in zip(diagram.chi, diagram.c, biases, strict=True):
            ordered = weights < critical_point(tg.hardtanh, b).weight_variance
            assert ((chi < 1) == ordered).all() and ((c == 1) == ordered).all()
            assert ordered.any() and not ordered.all()

    def test_refuses_what_is_no_list(self):
        with pytest.raises(ArgumentError, match="two lists"):
            phase_diagram(tg.tanh, 1.0, [0.0])
        with pytest.raises(ArgumentError, match="a variance"):
            phase_diagram(tg.tanh, [1.0, -1.0], [0.0])


def log_norms(phi, weight, bias, q, width, depth, seeds, rng):
    """Of ln(‖δ‖²/‖δ_out‖²) down to the first layer, for many networks."""
    logs = []
    for _ in range(seeds):
        net = Net(phi, weight, bias, math.sqrt(q) * rng.normal(size=(1, width)), depth, rng)
        norms = net.backward(rng.normal(size=(1, width)))
        logs.append(2 * np.log(norms / norms[0]))
    return np.array(logs)


class TestFiniteWidth:
    def test_law_of_hanin_and_nica(self):
        assert gradient_spread([100] * 50) == pytest.approx((-1.25, 2.5))
        assert gradient_spread([50, 100, 200]).variance == pytest.approx(5 * 0.035)
        assert gradient_spread([]) == (0, 0)

    def test_he_relu_networks_scatter_so(self, rng):
        """The same β = 2.5 in reduced form, n = 40 and depth 20: mean and variance of 400."""
        logs = log_norms(relu, 2.0, 0.0, 1.0, 40, 20, 400, rng)[:, -1]
        mean, variance = gradient_spread([40] * 20)
        assert logs.mean() == pytest.approx(mean, abs=4 * math.sqrt(variance / 400))
        # Corrections of 1/width beyond β, and four standard errors √(2/400).
        assert logs.var() == pytest.approx(variance, rel=0.06 + 4 * math.sqrt(2 / 400))

    def test_band_holds_its_share(self, rng):
        width, depth = 40, 20
        logs = log_norms(relu, 2.0, 0.0, 1.0, width, depth, 400, rng)
        band = gradient_band([width] * depth, level=0.8)
        sizes = np.exp(logs[:, :0:-1] / 2)  # from the first layer on, without the output
        inside = ((sizes > band.low) & (sizes < band.high)).mean(axis=0)
        assert inside.shape == (depth,)
        np.testing.assert_allclose(inside, 0.8, atol=0.09)
        assert (np.diff(band.high / band.low) < 0).all()

    def test_rate_of_scale_free_activations(self):
        """3 E[φ′⁴]/E[φ′²]² − 1."""
        assert spread_rate(tg.relu, 2.0) == pytest.approx(5)
        assert spread_rate(lambda x: 1.0 * x, 1.0) == pytest.approx(2)
        a = 0.2
        leaky = 3 * 2 * (1 + a**4) / (1 + a**2) ** 2 - 1
        assert spread_rate(lambda x: tg.leaky_relu(x, a), 1.0) == pytest.approx(leaky)

    @pytest.mark.parametrize(
        ("plain", "phi", "weight", "bias"),
        [(tanh, tg.tanh, 1.761, 0.05), (sigmoid, tg.sigmoid, 1.0, 1.0)],
    )
    def test_rate_of_other_activations(self, plain, phi, weight, bias, rng):
        """Width 50, depth 25: 1200 networks tell tanh's rate from one that forgets q's drift."""
        m, width, depth, seeds = mean_field(phi, weight, bias), 50, 25, 1200
        logs = log_norms(plain, weight, bias, m.q, width, depth, seeds, rng)[:, -1]
        rate, error = spread_rate(phi, weight, bias), 3 * math.sqrt(2 / seeds)
        beta = gradient_spread([width] * depth, rate).variance
        assert logs.var() == pytest.approx(beta, rel=error)
        if plain is tanh:  # 3.03 = 3 E[φ′⁴]/E[φ′²]² − 1
            assert rate * (1 - error) > 3.03 * (1 + error)
        assert logs.mean() == pytest.approx(
            depth * math.log(m.chi) - beta / 2, abs=0.15 + 4 * math.sqrt(beta / seeds)
        )

    def test_refusals(self):
        with pytest.raises(ArgumentError, match="width is an integer of at least 1"):
            gradient_spread([100, 0])
        with pytest.raises(ArgumentError, match="rate is finite, at least 0"):
            gradient_spread([100], rate=-1.0)
        with pytest.raises(ArgumentError, match="level is between 0 and 1"):
            gradient_band([100], level=1.0)
        with pytest.raises(ArgumentError, match="χ = 0"):
            spread_rate(lambda x: 0.0 * x, 1.0, 1.0)
        assert gradient_band([]).low.shape == (0,)


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


class TestResidualGrowth:
    @pytest.mark.parametrize("blocks", [1, 5, 20])
    def test_closed_forms(self, blocks):
        plain = residual_growth(blocks)
        assert plain.forward[-1] == plain.backward[0] == 2**blocks
        scaled = residual_growth(blocks, scale=blocks**-0.5)
        assert scaled.forward[-1] == pytest.approx((1 + 1 / blocks) ** blocks)
        normalised = residual_growth(blocks, normalised=True)
        assert normalised.forward[-1] == pytest.approx(blocks + 1)
        assert normalised.backward[0] == pytest.approx(blocks + 1)
        assert plain.backward[-1] == normalised.backward[-1] == 1

    def test_scaled_branches_stay_below_e(self):
        assert residual_growth(100_000, scale=100_000**-0.5).forward[-1] == pytest.approx(
            math.e, rel=1e-5
        )
        assert residual_growth(2000).forward[-1] == math.inf

    @pytest.mark.parametrize("kind", ["plain", "scaled", "batch", "layer"])
    def test_random_networks(self, kind, rng):
        """Branches ReLU, then He weights: 8 blocks of width 200, batch 128, mean of 12 networks.

        Over the batch a branch's output varies by 1 − 1/π: its mean is (E relu)²·2 = 1/π.
        """
        blocks, width, batch, networks = 8, 200, 128, 12
        scale = blocks**-0.5 if kind == "scaled" else 1.0
        forward, backward = np.zeros(blocks + 1), 0.0
        for _ in range(networks):
            x = tg.tensor(rng.normal(size=(batch, width)), requires_grad=True)
            stream = [x]
            for _ in range(blocks):
                w = rng.normal(size=(width, width)) * math.sqrt(2 / width)
                h = stream[-1]
                if kind == "batch":
                    h = tg.nn.functional.batch_norm(h, training=True)
                if kind == "layer":
                    h = tg.nn.functional.layer_norm(h, width)
                stream.append(stream[-1] + scale * tg.linear(tg.relu(h), w))
            g = rng.normal(size=(batch, width))
            stream[-1].backward(g)
            forward += [rms(h.data) ** 2 / networks for h in stream]
            backward += rms(x.grad) ** 2 / rms(g) ** 2 / networks
        varying = 1 - 1 / math.pi if kind == "batch" else None
        growth = residual_growth(
            blocks, scale=scale, normalised=kind in ("batch", "layer"), branch_variance=varying
        )
        # A plain stack scatters much, as what its examples share is one random walk.
        error = 4 * math.sqrt(5 * blocks / width / networks) if kind == "plain" else 0.06
        np.testing.assert_allclose(forward, growth.forward, rtol=error)
        assert backward == pytest.approx(growth.backward[0], rel=error)

    def test_refusals(self):
        with pytest.raises(ArgumentError, match="blocks is an integer"):
            residual_growth(-1)
        with pytest.raises(ArgumentError, match="branch_chi is finite, at least 0"):
            residual_growth(1, branch_chi=-1.0)
        with pytest.raises(ArgumentError, match="branch_variance is finite, at least 0"):
            residual_growth(1, normalised=True, branch_variance=-1.0)
        with pytest.raises(ArgumentError, match="scale is a finite number"):
            residual_growth(1, scale=math.nan)


class TestBatchNorm:
    def test_of_relu_and_of_the_identity(self):
        assert batch_norm_chi(tg.relu) == pytest.approx(math.pi / (math.pi - 1), rel=1e-13)
        assert batch_norm_chi(lambda x: 3.0 * x) == pytest.approx(1, rel=1e-13)
        assert batch_norm_chi(lambda x: 0.0 * x + 1.0) == math.inf

    @pytest.mark.parametrize("phi", [tg.tanh, tg.sigmoid, tg.gelu, tg.softplus, tg.hardtanh])
    def test_always_explodes(self, phi):
        assert batch_norm_chi(phi) > 1

    @pytest.mark.parametrize("phi", [tg.relu, tg.tanh, tg.hardtanh])
    def test_of_a_random_stack(self, phi, rng):
        """A layer's factor in the middle of 12 layers of width 250, batch 200: within 2 %."""
        width, depth, sizes = 250, 12, []
        h = x = tg.tensor(rng.normal(size=(200, width)), requires_grad=True)
        for _ in range(depth):
            w = rng.normal(size=(width, width)) / math.sqrt(width)
            h = phi(tg.nn.functional.batch_norm(tg.linear(h, w), training=True))
            sizes.append(h)
        h.backward(rng.normal(size=h.shape))
        factor = (rms(sizes[1].grad) / rms(sizes[-2].grad)) ** (1 / (depth - 3))
        assert factor == pytest.approx(math.sqrt(batch_norm_chi(phi)), rel=0.02)
        assert x.grad is not None


class TestRecurrentBound:
    @pytest.mark.parametrize(("plain", "slope"), [(tanh, 1.0), (sigmoid, 0.25), (relu, 1.0)])
    def test_holds_for_every_gradient(self, plain, slope, rng):
        n, steps = 20, 15
        for radius in (0.5, 1.0, 1.5):
            w = rng.normal(size=(n, n)) * radius / math.sqrt(n)
            h, slopes = rng.normal(size=n), []
            for _ in range(steps):
                h, s = plain(w @ h + rng.normal(size=n))
                slopes.append(s)
            g = start = rng.normal(size=n)
            for k, s in enumerate(slopes[::-1], 1):
                g = w.T @ (s * g)
                bound = recurrent_bound(w, k, slope)
                assert np.linalg.norm(g) <= bound * np.linalg.norm(start) * (1 + 1e-12)

    def test_is_reached_by_a_linear_net(self, rng):
        q = np.linalg.qr(rng.normal(size=(5, 5)))[0]
        g = np.ones(5)
        for _ in range(7):
            g = 0.9 * q.T @ g
        assert np.linalg.norm(g) / 5**0.5 == pytest.approx(recurrent_bound(0.9 * q, 7))

    def test_limits(self):
        assert recurrent_bound(np.eye(2), 0, 0.0) == 1
        assert recurrent_bound(10 * np.eye(2), 1000) == math.inf
        assert recurrent_bound(np.eye(2) / 10, 1000) == 0
        assert recurrent_bound(tg.tensor([[0.5]], requires_grad=True), 2) == 0.25

    def test_refusals(self):
        with pytest.raises(ShapeError, match="square matrix"):
            recurrent_bound(np.ones((2, 3)), 1)
        with pytest.raises(ArgumentError, match="weight is finite"):
            recurrent_bound([[math.nan]], 1)
        with pytest.raises(ArgumentError, match="steps is an integer"):
            recurrent_bound([[1.0]], -1)
        with pytest.raises(ArgumentError, match="slope is finite, at least 0"):
            recurrent_bound([[1.0]], 1, math.nan)
