"""Gradients of a recurrent net through time, its training, and how both are told."""

import json
import math

import numpy as np
import pytest
from rich.console import Console

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments import exploding_view
from tinygrad_stab.experiments.exploding import (
    GUESS,
    Config,
    Network,
    Passage,
    Result,
    Run,
    back_through_time,
    explode,
)
from tinygrad_stab.experiments.temporal_order import sequences

ACTIVATIONS = ["tanh", "sigmoid", "relu", "linear"]
SMALL = Config(hidden_size=8, length=6, batch_size=5, steps=4)


@pytest.fixture(scope="module")
def default():
    return explode()


def run(losses, norms=None):
    return Run(losses, norms or [1.0] * len(losses), 0, Passage([1.0, 1.0], 2.0))


def made(norms, plain=None, clipped=None):
    return Result(Config(), Passage(norms, 2.0), plain, clipped)


class TestThroughTime:
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_agrees_with_a_network_by_hand(self, activation):
        """The same gradients from nothing but NumPy, for each example and step."""
        phi, slope = {
            "tanh": (np.tanh, lambda h: 1 - h**2),
            "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda h: h * (1 - h)),
            "relu": (lambda z: np.maximum(z, 0), lambda h: (h > 0) * 1.0),
            "linear": (lambda z: z, lambda h: np.ones_like(h)),
        }[activation]
        rng = np.random.default_rng(3)
        net = Network(Config(8, 6, activation), rng)
        x, labels = sequences(5, 6, rng)
        loss, grads = back_through_time(net, x, labels)
        W_in, W, W_out, b = (p.data for _, p in net.named_parameters())
        hs = [np.zeros((5, 8))]
        for step in x:
            hs.append(phi(step @ W_in.T + hs[-1] @ W.T))
        p = np.exp(hs[-1] @ W_out.T + b)
        p /= p.sum(axis=1, keepdims=True)
        assert loss == pytest.approx(-np.log(p[np.arange(5), labels]).mean(), rel=1e-12)
        g = (p - np.eye(4)[labels]) / 5 @ W_out
        for t in range(5, -1, -1):
            np.testing.assert_allclose(grads[t], g, rtol=1e-10, atol=1e-300)
            g = (g * slope(hs[t + 1])) @ W

    @pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
    def test_agrees_with_the_recurrent_layer(self, nonlinearity):
        rng = np.random.default_rng(0)
        net = Network(Config(8, 6, nonlinearity), rng)
        x, labels = sequences(5, 6, rng)
        rnn = tg.nn.RNN(6, 8, nonlinearity=nonlinearity, bias=False)
        rnn.load_state_dict(
            {"weight_ih_l0": net.input.weight.data, "weight_hh_l0": net.recurrent.weight.data}
        )
        output, last = rnn(x)
        tg.nn.functional.cross_entropy(net.output(last[0]), labels).backward()
        _, grads = back_through_time(net, x, labels)
        np.testing.assert_allclose([h.grad for h in output.args], grads, rtol=1e-12)

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @pytest.mark.parametrize("radius", [0.5, 1.2, 4.0])
    def test_no_step_exceeds_the_bound(self, activation, radius):
        for seed in range(5):
            config = Config(20, 30, activation, radius, seed=seed, steps=0)
            start = explode(config).start
            for factor in start.factors:
                assert factor <= start.bound * (1 + 1e-12)
            assert np.all(np.array(start.norms) <= np.array(start.bounds) * (1 + 1e-12))

    def test_an_orthogonal_matrix_keeps_the_norm(self):
        rng = np.random.default_rng(0)
        net = Network(Config(activation="linear"), rng)
        tg.nn.init.orthogonal_(net.recurrent.weight, rng=0)
        _, grads = back_through_time(net, *sequences(3, 50, rng))
        norms = np.linalg.norm(grads, axis=-1)
        np.testing.assert_allclose(norms, norms[-1:].repeat(50, axis=0), rtol=1e-12)

    @pytest.mark.parametrize("radius", [0.8, 1.0, 1.3])
    def test_a_linear_net_follows_the_spectral_radius(self, radius):
        """In the long run the largest eigenvalue decides, not the largest singular value."""
        start = explode(Config(50, 400, "linear", radius, steps=0)).start
        assert start.factor == pytest.approx(radius, rel=0.01)
        assert start.bound > 1.5 * radius

    def test_spectral_radius_is_as_asked(self):
        net = Network(Config(spectral_radius=0.7), np.random.default_rng(0))
        values = np.linalg.eigvals(net.recurrent.weight.data)
        assert np.abs(values).max() == pytest.approx(0.7, rel=1e-12)

    def test_long_sigmoid_underflows_to_exactly_zero_only_where_float64_does(self):
        start = explode(Config(10, 1000, "sigmoid", steps=0)).start
        assert start.norms[start.underflow - 1] == 0 < start.norms[start.underflow] < 1e-300

    def test_long_linear_overflows_only_where_float64_does(self):
        result = explode(Config(10, 1000, "linear", 2.0, steps=0))
        assert result.regime == "exploding" and max(result.start.norms) > 1e250
        result = explode(Config(10, 1100, "linear", 2.0, steps=2))
        assert result.regime == "not finite" and "numbers overflow" in result.verdict
        json.dumps(result.to_dict(), allow_nan=False)


class TestTraining:
    def test_both_runs_see_the_same(self):
        result = explode(SMALL)
        assert result.plain.losses[0] == result.clipped.losses[0]
        assert result.plain.norms[0] == result.clipped.norms[0]

    def test_a_bound_that_is_never_reached_changes_nothing(self):
        result = explode(Config(8, 6, batch_size=5, steps=4, clip_norm=1e9))
        assert result.plain == result.clipped

    def test_clipping_bounds_every_step_that_is_taken(self):
        """A tiny bound: the loss moves, to first order, by less than Σ lr·bound·‖g‖."""
        clipped = explode(Config(8, 6, batch_size=5, steps=2, clip_norm=1e-9)).clipped
        assert clipped.norms[0] > 1e-3  # what is kept is the norm before clipping
        plain = explode(Config(8, 6, batch_size=5, steps=2, lr=3e-10 / clipped.norms[0])).plain
        assert clipped.losses == pytest.approx(plain.losses, rel=1e-12)

    def test_no_steps_no_runs(self):
        result = explode(Config(8, 6, steps=0))
        assert result.plain is None and result.clipped is None
        assert "Trained" not in result.verdict and len(result.start.norms) == 6

    def test_unclipped_loss_spikes_and_clipped_learns(self, default):
        assert len(default.plain.spikes) > 10 and default.clipped.spikes == []
        assert default.clipped.losses[-1] < 0.1 < default.plain.losses[-1]

    def test_divergence_is_told_not_raised(self):
        result = explode(Config(activation="linear", steps=20))
        assert result.plain.diverged and not result.clipped.diverged
        assert len(result.plain.losses) < 20 == len(result.clipped.losses)
        assert "Trained without clipping, it diverges at step" in result.verdict
        assert math.isfinite(result.plain.norms[result.plain.steepest_step])
        json.dumps(result.to_dict(), allow_nan=False)

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @pytest.mark.parametrize("radius", [1e-300, 1e300])
    def test_absurd_sizes_are_survived(self, activation, radius):
        config = Config(1, 3, activation, radius, batch_size=1, steps=2, lr=1e300)
        json.dumps(explode(config).to_dict(), allow_nan=False)

    def test_is_reproducible(self):
        assert explode(SMALL) == explode(SMALL)


class TestNumbers:
    def test_factors_and_bounds(self):
        passage = Passage([1.0, 4.0, 2.0], 3.0)
        assert passage.factors == [0.25, 2.0]
        assert passage.factor == pytest.approx(math.sqrt(0.5))
        assert passage.bounds == [18.0, 6.0, 2.0] and passage.underflow is None

    def test_zeros_are_left_out_of_the_mean(self):
        passage = Passage([0.0, 0.0, 1.0, 4.0], 1.0)
        assert passage.factors == [None, 0.0, 0.25]
        assert passage.factor == 0.25 and passage.underflow == 2

    def test_a_spike_is_twice_a_guess_or_nan(self):
        assert run([1.0, 2.1 * GUESS, 1.9 * GUESS, math.nan]).spikes == [1, 3]

    def test_the_end_is_the_median_of_the_last(self):
        assert run([9.0] * 50 + [1.0] * 15 + [5.0] * 5).last_loss == 1.0
        assert math.isnan(run([1.0, math.inf]).last_loss)
        assert run([1.0, 1.0], [1.0, math.nan]).diverged

    def test_what_is_0_at_once_has_the_factor_0(self):
        assert Passage([0.0, 1.0], 1.0).factor == 0.0 == Passage([0.0, 0.0], 1.0).factor
        assert made([0.0, 1.0]).verdict.startswith("The gradient vanishes: × 0 a step")

    def test_regimes(self):
        assert made([10.0, 1.0]).regime == "exploding"
        assert made([0.1, 1.0]).regime == "vanishing" == made([0.0, 1.0]).regime
        assert made([9.9, 1.0]).regime == "flat"
        assert made([math.inf, 1.0]).regime == "not finite"

    def test_sentences(self):
        assert made([0.01, 0.1, 1.0]).verdict == (
            "The gradient vanishes: × 0.1 a step of time, of at most × 2 (‖W‖₂·γ); 2 steps back "
            "it is 0.01 times the last."
        )
        assert made([0.0, 0.1, 1.0]).verdict.endswith("it underflows to exactly 0 at step 1.")
        assert made([1.0, 1.0], run([1.0, 4.0, 1.0]), run([1.25])).verdict.endswith(
            "Trained without clipping, the loss spikes at 1 of 3 steps, up to 4, and ends at 1; "
            "clipped at 1, the loss never spikes and ends at 1.25. (A blind guess has 1.39, a "
            "spike more than twice that.)"
        )


class TestView:
    def text(self, table):
        console = Console(width=120)
        with console.capture() as capture:
            console.print(table)
        return capture.get().splitlines()

    def test_a_line_for_every_step_of_time_the_last_on_top(self):
        lines = self.text(exploding_view.table(made([8.0, 0.0, 1.0, 4.0])))
        assert [line.split()[0] for line in lines] == ["t", "4", "3", "2", "1"]
        assert lines[1].split()[:3] == ["4", "4.0e+00", "4.0e+00"]
        assert lines[2].split()[:4] == ["3", "1.0e+00", "8.0e+00", "0.25"]
        assert "exactly 0" in lines[3] and "factor ≤ 2 " in lines[0]
        assert lines[4].count("█") > lines[1].count("█") > lines[2].count("█") == 1

    def test_runs_side_by_side(self):
        result = made([1.0, 1.0], run([1.0, 4.0, math.nan]), run([1.0, 0.5]))
        lines = self.text(exploding_view.training_table(result))
        assert lines[1].split() == ["no", "clipping", "3", "2", "4", "diverged", "1", "0"]
        assert lines[2].split() == ["clipped", "at", "1", "2", "0", "1", "0.75", "1", "0"]
        assert lines[3].split() == ["a", "blind", "guess", "1.39"]

    @pytest.mark.parametrize(
        "result",
        [
            made([8.0, 0.0, 1.0]),
            made([math.inf, math.nan, 0.0]),
            made([1.0, 1.0], run([1.0, 4.0, math.nan]), run([1.0, 0.5])),
            made([1.0, 1.0], run([math.nan]), run([math.nan])),
            made([1e300, 5e-324], run([1e308, math.inf]), run([1e308])),
        ],
    )
    def test_pictures_of_every_ending(self, tmp_path, result):
        exploding_view.table(result)
        exploding_view.plot(result, tmp_path / "a.svg")
        assert (tmp_path / "a.svg").read_text().count('id="axes_') == (3 if result.plain else 1)

    def test_picture_of_a_run(self, tmp_path, default):
        exploding_view.plot(default, tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


class TestConfig:
    @pytest.mark.parametrize(
        "arguments",
        [{"hidden_size": 0}, {"length": 2}, {"batch_size": 0}, {"seed": -1}, {"steps": -1},
         {"lr": 0.0}, {"lr": math.nan}, {"clip_norm": -1.0}, {"clip_norm": math.inf},
         {"spectral_radius": 0.0}, {"activation": "step"}, {"lr": "1"}, {"steps": 1.5},
         {"seed": True}],
    )  # fmt: skip
    def test_out_of_range(self, arguments):
        ((name, value),) = arguments.items()
        with pytest.raises(ArgumentError, match=f"{name} is .* received {name}={value!r}"):
            Config(**arguments)
