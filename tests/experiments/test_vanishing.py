"""The vanishing experiment: what it measures, what it predicts, what it says."""

import itertools
import json
import math
from typing import get_args

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError
from tinygrad_stab.experiments.network import Block, Initialisation, Stack
from tinygrad_stab.experiments.vanishing import STILL, Config, Layer, Result, vanish


@pytest.fixture(scope="module")
def default():
    return vanish()


def made(deltas, still=()):
    """A result with the given sizes of δ, in which some layers (from 1) do not learn."""
    layers = [
        Layer(f"layers.{i - 1}.linear", d, STILL * (0.5 if i in still else 2), 1.0,
              d / deltas[i] if i < len(deltas) and deltas[i] else None, None, 1.0)
        for i, d in enumerate(deltas, 1)
    ]  # fmt: skip
    return Result(Config(depth=len(deltas)), 1.0, layers)


class TestMeasurement:
    def test_gradient_falls_at_every_layer(self, default):
        sizes = [layer.delta_rms for layer in default.layers]
        assert len(sizes) == 50
        assert sum(a < b for a, b in itertools.pairwise(sizes)) >= 40

    @pytest.mark.parametrize("seed", range(5))
    def test_factor_agrees_with_theory(self, seed):
        result = vanish(Config(seed=seed))
        assert result.factor == pytest.approx(result.predicted_factor, rel=0.1)
        weights = [layer.weight_rms for layer in result.layers[1:-1]]
        chi = tg.diagnostics.mean_field(tg.sigmoid, 64 * float(np.mean(np.square(weights)))).chi
        assert result.factor == pytest.approx(math.sqrt(chi), rel=0.1)

    @pytest.mark.parametrize("seed", range(5))
    def test_he_keeps_relu_flat(self, seed):
        result = vanish(Config(activation="relu", init="he", seed=seed))
        assert result.regime == "flat" and "keeps its size" in result.verdict
        assert not result.still

    def test_agrees_with_a_stack_by_hand(self):
        """The same numbers from nothing but NumPy."""
        config = Config(depth=4, width=8, activation="tanh", batch_size=16, seed=3)
        result = vanish(config)
        rng = np.random.default_rng(3)
        data = tg.datasets.digits()
        batch = rng.choice(1797, 16, replace=False)
        x, labels = data.features()[batch], data.labels[batch]
        model = Stack(64, [8] * 3, 10, rng, activation="tanh", init="xavier")
        hs = [x]
        for block in model.layers:
            z = hs[-1] @ block.linear.weight.data.T + block.linear.bias.data
            hs.append(np.tanh(z) if block.activation else z)
        p = np.exp(hs[-1]) / np.exp(hs[-1]).sum(axis=1, keepdims=True)
        delta = (p - np.eye(10)[labels]) / 16
        for i in reversed(range(4)):
            layer = result.layers[i]
            assert layer.delta_rms == pytest.approx(np.sqrt((delta**2).mean()), rel=1e-12)
            grad = delta.T @ hs[i]
            assert layer.weight_grad_rms == pytest.approx(np.sqrt((grad**2).mean()), rel=1e-12)
            assert layer.activation_rms == pytest.approx(
                np.sqrt((hs[i + 1] ** 2).mean()), rel=1e-12
            )
            delta = delta @ model.layers[i].linear.weight.data * (1 - hs[i] ** 2)

    def test_float32_underflows_to_exactly_zero(self):
        result = vanish(Config(depth=100, dtype="float32"))
        assert result.regime == "vanishing" and 0 < result.underflow < 60
        assert result.layers[result.underflow - 1].delta_rms == 0
        assert result.layers[result.underflow].delta_rms > 0
        assert f"exactly 0 at layer {result.underflow}" in result.verdict

    def test_overflow_is_told_not_raised(self):
        result = vanish(Config(activation="relu", init="normal", depth=300, dtype="float32"))
        assert result.regime == "not finite" and "overflows" in result.verdict
        json.dumps(result.to_dict(), allow_nan=False)

    def test_exploding(self):
        result = vanish(Config(activation="relu", init="normal", depth=20))
        assert result.regime == "exploding" and "grows 5." in result.verdict
        assert result.factor == pytest.approx(result.predicted_factor, rel=0.1)

    def test_residual_does_not_vanish(self):
        result = vanish(Config(residual=True))
        assert result.regime == "flat" and result.factor == pytest.approx(
            result.predicted_factor, rel=0.05
        )

    @pytest.mark.parametrize("data", ["digits", "spirals"])
    @pytest.mark.parametrize("init", get_args(Initialisation))
    @pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
    def test_every_choice_runs(self, data, init, activation):
        result = vanish(Config(3, 5, activation, init, data=data, batch_size=7))
        assert len(result.layers) == 3 and math.isfinite(result.loss)

    def test_mnist(self, mnist):
        assert vanish(Config(depth=5, data="mnist")).regime == "vanishing"

    def test_is_reproducible(self, default):
        assert vanish() == default

    def test_one_wide_layer_and_one_unit(self):
        assert len(vanish(Config(depth=2, width=1, batch_size=1)).layers) == 2

    def test_a_block_adds_its_input_if_it_skips(self):
        linear = tg.nn.Linear(2, 2, rng=0)
        x = np.ones((1, 2))
        np.testing.assert_allclose(
            Block(linear, tg.nn.Tanh(), True)(x).data, x + np.tanh(linear(x).data)
        )


class TestVerdict:
    def test_regimes(self):
        assert made([1e-9, 1e-6, 1e-3, 1.0]).regime == "vanishing"
        assert made([1.0, 1.0, 1.0]).regime == "flat"
        assert made([8.0, 4.0, 2.0, 1.0]).regime == "exploding"
        assert made([math.inf, 1.0]).regime == "not finite"
        assert made([0.0, 1.0, 1.0]).regime == "vanishing"

    @pytest.mark.parametrize(
        ("still", "words"),
        [
            ((), "every layer learns."),
            ((1,), "layer 1 does not learn."),
            ((1, 2), "layers 1–2 do not learn."),
            ((1, 3), "2 of 4 layers do not learn."),
            ((1, 2, 3, 4), "no layer learns."),
        ],
    )
    def test_which_layers_learn(self, still, words):
        assert made([0.1, 0.2, 0.5, 1.0], still).verdict.endswith(words)

    def test_sentence(self, default):
        assert default.verdict == (
            "The gradient shrinks 4.3× a layer; 49 layers down it is 8e-32 of the output's; "
            "layers 1–41 do not learn."
        )


class TestConfig:
    @pytest.mark.parametrize(
        "arguments",
        [{"depth": 1}, {"width": 0}, {"batch_size": 0}, {"seed": -1}, {"activation": "step"},
         {"init": "best"}, {"data": "cifar"}, {"dtype": "int8"}],
    )  # fmt: skip
    def test_out_of_range(self, arguments):
        ((name, value),) = arguments.items()
        with pytest.raises(ArgumentError, match=f"{name} is .* received {value!r}"):
            Config(**arguments)

    def test_batch_larger_than_the_data(self):
        with pytest.raises(ArgumentError, match="at most the number of examples, 1797 for digits"):
            vanish(Config(batch_size=1798))
