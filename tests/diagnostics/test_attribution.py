"""Who made the gradient small: accounts that add up, and are those of the formulas."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab.diagnostics import attribute, watch
from tinygrad_stab.diagnostics.attribution import KINDS
from tinygrad_stab.errors import DtypeError, GraphError
from tinygrad_stab.experiments.network import Stack
from tinygrad_stab.nn.functional import cross_entropy

X = np.random.default_rng(0).normal(size=(16, 8))
Y = np.arange(16) % 3


def stack(depth=5, **options):
    return Stack(8, [8] * (depth - 1), 3, np.random.default_rng(1), **options)


def adds_up(model, x=X, y=Y):
    """Rows add up to the decay that the recorder measures, columns to that of the whole net."""
    with watch(model) as flow:
        loss = cross_entropy(model(x), y)
        loss.backward()
    found = attribute(loss, model)
    norms = flow.series("delta", "norm")[0]
    assert [layer.name for layer in found.layers] == flow.layers
    np.testing.assert_allclose([layer.size for layer in found.layers], np.log10(norms), atol=1e-9)
    for layer in found.layers:
        assert sum(getattr(layer, kind) for kind in KINDS) == pytest.approx(layer.change, abs=1e-9)
    for lower, upper in zip(found.layers, found.layers[1:], strict=False):
        assert lower.change == pytest.approx(lower.size - upper.size, abs=1e-12)
    assert sum(found.total.values()) == pytest.approx(
        found.layers[0].size - found.layers[-1].size, abs=1e-9
    )
    return found


class TestAddsUp:
    @pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "gelu", "silu"])
    @pytest.mark.parametrize("norm", ["none", "batch", "layer"])
    @pytest.mark.parametrize("residual", [False, True])
    def test_stacks(self, activation, norm, residual):
        adds_up(stack(activation=activation, norm=norm, residual=residual))

    @pytest.mark.parametrize("order", ["norm-relu-linear", "linear-norm-relu", "relu-linear"])
    def test_residual_blocks(self, order):
        blocks = [tg.nn.ResidualBlock(8, order=order, rng=i) for i in range(3)]
        adds_up(tg.nn.Sequential(*blocks, tg.nn.Linear(8, 3, rng=9)))

    def test_a_convolutional_net(self):
        model = tg.nn.Sequential(
            tg.nn.Conv2d(1, 3, 3, rng=0), tg.nn.BatchNorm2d(3), tg.nn.Tanh(), tg.nn.MaxPool2d(2),
            tg.nn.Flatten(), tg.nn.Linear(27, 3, rng=1),
        )  # fmt: skip
        x = np.random.default_rng(0).normal(size=(16, 1, 8, 8))
        found = adds_up(model, x)
        row = found.layers[0]
        assert row.normalisation != 0 and row.weights != 0 and row.activation < 0

    @given(
        st.lists(st.sampled_from(["linear", "tanh", "relu", "norm", "skip"]), max_size=8),
        st.integers(0, 99),
    )
    def test_random_nets(self, parts, seed):
        rng = np.random.default_rng(seed)
        made = [tg.nn.Linear(8, 8, rng=rng)]
        for part in parts:
            made.append(
                {
                    "linear": lambda: tg.nn.Linear(8, 8, rng=rng),
                    "tanh": tg.nn.Tanh,
                    "relu": lambda: tg.nn.LeakyReLU(0.1),
                    "norm": lambda: tg.nn.LayerNorm(8),
                    "skip": lambda: tg.nn.Residual(
                        tg.nn.Sequential(tg.nn.Linear(8, 8, rng=rng), tg.nn.Tanh())
                    ),
                }[part]()
            )
        adds_up(tg.nn.Sequential(*made, tg.nn.Linear(8, 3, rng=rng)))

    def test_a_layer_that_is_called_twice(self):
        class Twice(tg.nn.Module):
            def __init__(self):
                self.inner, self.out = tg.nn.Linear(8, 8, rng=0), tg.nn.Linear(8, 3, rng=1)

            def forward(self, x):
                return self.out(tg.tanh(self.inner(tg.tanh(self.inner(x)))))

        assert [layer.name for layer in adds_up(Twice()).layers] == ["inner", "inner#2", "out"]

    def test_a_net_without_modules(self):
        class Net(tg.nn.Module):
            def __init__(self):
                rng = np.random.default_rng(0)
                self.w1 = tg.tensor(rng.normal(size=(8, 8)), requires_grad=True)
                self.w2 = tg.tensor(rng.normal(size=(8, 3)), requires_grad=True)

            def forward(self, x):
                return tg.tanh(x @ self.w1) @ self.w2

        adds_up(Net())


class TestAccounts:
    def test_are_those_of_the_formula(self):
        """δ₁ = φ′(z)⊙(δ₂ W₂): first the weights, then the slope, each by its own norm."""
        model = tg.nn.Sequential(
            tg.nn.Linear(8, 8, rng=0), tg.nn.Sigmoid(), tg.nn.Linear(8, 3, rng=1)
        )
        loss = cross_entropy(model(X), Y)
        z = X @ model[0].weight.data.T + model[0].bias.data
        h = 1 / (1 + np.exp(-z))
        out = h @ model[2].weight.data.T + model[2].bias.data
        p = np.exp(out) / np.exp(out).sum(axis=1, keepdims=True)
        delta = (p - np.eye(3)[Y]) / len(Y)
        back = delta @ model[2].weight.data
        row, last = attribute(loss, model).layers
        size = np.linalg.norm
        assert last.other == pytest.approx(math.log10(size(delta)), abs=1e-12)
        assert row.weights == pytest.approx(math.log10(size(back) / size(delta)), abs=1e-12)
        slope = math.log10(size(back * h * (1 - h)) / size(back))
        assert row.activation == pytest.approx(slope, abs=1e-12)
        assert (row.skip, row.normalisation, row.other) == (0, 0, 0)

    def test_sigmoid_loses_log10_4_a_layer_by_its_slope(self):
        found = adds_up(stack(20, activation="sigmoid", init="xavier"))
        assert found.total["activation"] / 19 == pytest.approx(-0.63, abs=0.05)
        assert abs(found.total["weights"]) < 1.5

    def test_what_xavier_weights_lack_with_relu_stands_under_activation(self):
        found = adds_up(Stack(8, [64] * 19, 3, np.random.default_rng(0), init="xavier"))
        assert found.total["activation"] / 19 == pytest.approx(-0.15, abs=0.06)

    def test_a_skip_keeps_what_the_branch_would_lose(self):
        found = adds_up(stack(12, activation="sigmoid", init="xavier", residual=True))
        assert found.total["skip"] > -1
        plain = adds_up(stack(12, activation="sigmoid", init="xavier"))
        assert found.layers[0].size > plain.layers[0].size + 3

    def test_a_gradient_of_exactly_0_is_charged_to_who_made_it_0(self):
        model = tg.nn.Sequential(
            tg.nn.Linear(8, 8, rng=0), tg.nn.Tanh(), tg.nn.Linear(8, 8, rng=1), tg.nn.ReLU(),
            tg.nn.Linear(8, 3, rng=2),
        )  # fmt: skip
        model[2].bias.data[:] = -100
        found = attribute(cross_entropy(model(X), Y), model)
        below, dead, _ = found.layers
        assert dead.activation == -math.inf and math.isfinite(dead.weights)
        assert below.size == -math.inf and math.isnan(below.change)
        assert "-inf" in str(found) and "–" in str(found)
        json.dumps(found.to_dict(), allow_nan=False)

    def test_numbers_that_are_not_finite_are_no_error(self):
        model = stack()
        model.layers[1].linear.weight.data[0, 0] = np.nan
        with np.errstate(all="ignore"):
            found = attribute(cross_entropy(model(X), Y), model)
        assert math.isnan(found.layers[0].size)


class TestReport:
    def test_has_a_row_a_layer_from_the_output_down(self):
        model = stack(4, activation="sigmoid")
        lines = str(adds_up(model)).splitlines()
        assert [line.split()[0] for line in lines[1:-1]] == [
            f"layers.{i}.linear" for i in (3, 2, 1, 0)
        ]
        assert "skip" not in lines[0] and "activation" in lines[0]
        assert lines[-1].startswith("last to first")

    def test_touches_no_gradient(self):
        model = stack()
        attribute(cross_entropy(model(X), Y), model)
        assert all(p.grad is None for p in model.parameters())

    def test_one_layer(self):
        model = tg.nn.Linear(8, 3, rng=0)
        assert len(str(attribute(cross_entropy(model(X), Y), model)).splitlines()) == 2

    def test_goes_into_json(self):
        found = adds_up(stack())
        again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert again["layers"][0]["name"] == "layers.0.linear"
        assert again["total"] == found.total


class TestErrors:
    def test_the_order_is_loss_model(self):
        model = stack()
        with pytest.raises(DtypeError, match="The order is loss, model"):
            attribute(model, cross_entropy(model(X), Y))

    def test_the_loss_is_of_this_model(self):
        with pytest.raises(GraphError, match="none of Stack is"):
            attribute(cross_entropy(stack()(X), Y), stack())

    def test_the_loss_is_a_scalar(self):
        model = stack()
        with pytest.raises(GraphError, match="must be a scalar"):
            attribute(model(X), model)

    def test_the_loss_has_a_graph(self):
        with pytest.raises(GraphError, match="needs a tensor with a graph"):
            attribute(tg.tensor(1.0), stack())
