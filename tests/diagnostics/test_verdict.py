"""The verdict: no false alarm on healthy nets, every sickness found, each over 20 seeds."""

import json
import math

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.diagnostics import Thresholds, diagnose
from tinygrad_stab.diagnostics.flow import watch
from tinygrad_stab.errors import ArgumentError, DtypeError
from tinygrad_stab.experiments.network import LeNet5, Stack
from tinygrad_stab.nn.functional import cross_entropy

DIGITS = tg.datasets.digits()
X, Y = DIGITS.features(np.float32), DIGITS.labels
SEEDS = range(20)


def pick(rng, x, y, n=64):
    batch = rng.choice(len(y), n, replace=False)
    return x[batch], y[batch]


def digits(rng):
    return pick(rng, X, Y)


def images(rng):
    """Digits of 8×8 pixels, three times as large and padded, in rows of 784."""
    x, y = pick(rng, X, Y, 16)
    large = np.kron(x.reshape(-1, 8, 8), np.ones((3, 3), x.dtype))
    return np.pad(large, ((0, 0), (2, 2), (2, 2))).reshape(len(x), -1), y


def spirals(rng):
    data = tg.datasets.spirals(100, rng=rng)
    return pick(rng, data.features(np.float32), data.labels)


def rows(rng):
    """The rows of a digit as a sequence, (time, batch, 8)."""
    x, y = pick(rng, X, Y, 32)
    return x.reshape(-1, 8, 8).swapaxes(0, 1), y


def stack(depth, batch=digits, width=64, **options):
    """What makes a stack for a seed, and its data."""

    def make(rng):
        inputs, classes = (2, 3) if batch is spirals else (64, 10)
        hidden = [width] * (depth - 1)
        return Stack(inputs, hidden, classes, rng, dtype="float32", **options), batch

    return make


class Image(tg.nn.Module):
    """Rows of 64 numbers as images."""

    def forward(self, x):
        return np.reshape(x, (-1, 1, 8, 8))


def batch_normed_cnn(rng):
    def block(channels, out):
        conv = tg.nn.Conv2d(channels, out, 3, padding=1, rng=rng, dtype=np.float32)
        return [conv, tg.nn.BatchNorm2d(out, dtype=np.float32), tg.nn.ReLU()]

    return tg.nn.Sequential(
        Image(), *block(1, 8), tg.nn.MaxPool2d(2), *block(8, 16), *block(16, 16),
        tg.nn.Flatten(), tg.nn.Linear(256, 10, rng=rng, dtype=np.float32),
    ), digits  # fmt: skip


def residual_batch_norm(blocks=10, **options):
    def make(rng):
        made = [
            tg.nn.ResidualBlock(64, rng=rng, dtype=np.float32, **options) for _ in range(blocks)
        ]
        return tg.nn.Sequential(*made, tg.nn.Linear(64, 10, rng=rng, dtype=np.float32)), digits

    return make


class Rows(tg.nn.Module):
    """An LSTM over the rows of a digit."""

    def __init__(self, rng, cell=tg.nn.LSTM):
        self.lstm = cell(8, 32, rng=rng, dtype=np.float32)
        self.head = tg.nn.Linear(32, 10, rng=rng, dtype=np.float32)

    def forward(self, x):
        return self.head(self.lstm(x)[0][-1])


def glorot(rng):
    model = Stack(64, [300] * 4, 10, rng, activation="tanh", init="pytorch", dtype="float32")
    for layer in model.layers:
        n = layer.linear.in_features
        layer.linear.weight.data = rng.uniform(-1, 1, layer.linear.weight.shape) / np.sqrt(n)
        layer.linear.bias.data[:] = 0
    return model, digits


HEALTHY = {
    "small MLP, tanh": (stack(2, width=32, activation="tanh", init="xavier"), 0.3),
    "small MLP, sigmoid": (stack(3, width=32, activation="sigmoid", init="xavier"), 0.3),
    "spirals MLP, ReLU": (stack(3, spirals, width=32), 0.1),
    "He ReLU, 10": (stack(10), 0.02),
    "He ReLU, 30": (stack(30), 0.01),
    "He ReLU, 50": (stack(50), 0.005),
    "He ReLU, 50, narrow": (stack(50, width=32), 0.0),
    "He leaky ReLU, 20": (stack(20, activation="leaky-relu"), 0.02),
    "LeCun SELU, 20": (stack(20, activation="selu", init="lecun"), 0.01),
    "GELU, He, 6": (stack(6, activation="gelu", init="he"), 0.03),
    "Xavier tanh, 10": (stack(10, activation="tanh", init="xavier"), 0.03),
    "Xavier tanh, 30": (stack(30, activation="tanh", init="xavier"), 0.03),
    "orthogonal tanh, 30": (stack(30, activation="tanh", init="orthogonal"), 0.03),
    "Glorot's 5 layers": (glorot, 0.1),
    "residual, 1/√L": (stack(22, residual=True, scale=20**-0.5), 0.02),
    "residual, batch norm": (residual_batch_norm(layers=1), 0.03),
    "residual, zero init": (residual_batch_norm(6, zero_init_last=True), 0.03),
    "batch-normed stack": (stack(8, norm="batch"), 0.05),
    "layer-normed stack": (stack(8, norm="layer"), 0.05),
    "batch-normed CNN": (batch_normed_cnn, 0.05),
    "LeNet-5": (lambda rng: (LeNet5(rng, "float32"), images), 0.03),
    "LSTM": (lambda rng: (Rows(rng), rows), 0.3),
    "GRU": (lambda rng: (Rows(rng, tg.nn.GRU), rows), 0.3),
}


def trained(make, lr, seed, steps=3, retouch=None, **options):
    """A flow of some steps of training; ``retouch(model, optimizer)`` makes it sick."""
    rng = np.random.default_rng(seed)
    model, batch = make(rng)
    sgd = tg.optim.SGD(model.parameters(), lr=lr or 0.01)
    if retouch is not None:
        retouch(model, sgd)
    with np.errstate(all="ignore"), watch(model, sgd, **options) as flow:
        for _ in range(steps):
            x, y = batch(rng)
            sgd.zero_grad()
            cross_entropy(model(x), y).backward(retain="leaves")
            if lr:
                sgd.step()
    return flow


def linear(rng):
    layers = [tg.nn.Linear(64, 64, rng=rng, dtype=np.float32) for _ in range(12)]
    for layer in layers:
        layer.weight.data = rng.normal(0, 3 / 8, (64, 64))
    return tg.nn.Sequential(*layers), digits


def weights_times(factor):
    def retouch(model, optimizer):
        for _, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.data *= factor

    return retouch


def biases_of(value):
    def retouch(model, optimizer):
        for layer in model.layers[:-1]:
            layer.linear.bias.data[:] = value

    return retouch


def frozen(model, optimizer):
    model.layers[1].linear.weight.requires_grad = False


def left_out(model, optimizer):
    """One layer in a group of its own, with lr = 0."""
    weights = list(model.layers[1].parameters())
    group = optimizer.param_groups[0]
    group["params"] = [p for p in group["params"] if all(p is not w for w in weights)]
    optimizer.add_param_group({"params": weights, "lr": 0.0})


def detached(model, optimizer):
    inner = model.layers[1].forward
    model.layers[1].forward = lambda x: inner(x).detach()


def spoilt(value):
    def retouch(model, optimizer):
        model.layers[1].linear.weight.data[0, 0] = value

    return retouch


SICK = {
    "vanishing: sigmoid, 8": (stack(8, activation="sigmoid", init="xavier"), 0.1, None),
    "vanishing: sigmoid, 50": (stack(50, activation="sigmoid", init="xavier"), 0.1, None),
    "vanishing: Xavier ReLU, 30": (stack(30, init="xavier"), 0.01, None),
    "vanishing: tanh, weights × .5": (
        stack(15, activation="tanh", init="xavier"), 0.01, weights_times(0.5)),
    "exploding: tanh, σ_w = 3": (
        stack(30, activation="tanh", weight_variance=9.0), 0.001, None),
    "exploding: ReLU, He × 3": (stack(10), 0.0, weights_times(3)),
    "exploding: ReLU, He × 3, training": (stack(10), 1e-9, weights_times(3)),
    "exploding: linear, σ_w = 3": (linear, 0.0, None),
    "exploding: plain residual": (stack(30, residual=True), 0.0, None),
    "exploding: batch norm, 50": (stack(50, norm="batch"), 0.001, None),
    "dead: biases of −10": (stack(4), 0.1, biases_of(-10.0)),
    "saturated: tanh, weights × 10": (
        stack(4, activation="tanh", init="xavier"), 0.001, weights_times(10)),
    "saturated: sigmoid, weights × 30": (
        stack(3, activation="sigmoid", init="xavier"), 0.001, weights_times(30)),
    "frozen: requires_grad": (stack(4), 0.05, frozen),
    "frozen: lr = 0": (stack(4), 0.05, left_out),
    "frozen: detached": (stack(4), 0.05, detached),
    "non-finite: NaN": (stack(4), 0.05, spoilt(np.nan)),
    "non-finite: inf": (stack(4), 0.05, spoilt(np.inf)),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_no_false_alarm_on_healthy_nets(name):
    make, lr = HEALTHY[name]
    for seed in SEEDS:
        flow = trained(make, lr, seed)
        found = diagnose(flow)
        assert found.healthy, (seed, str(found))
        flow.records = type(flow.records)(list(flow.records)[:1])  # as after one pass
        assert diagnose(flow).healthy, (seed, str(diagnose(flow)))


@pytest.mark.parametrize("name", SICK)
def test_every_sickness_is_found(name):
    make, lr, retouch = SICK[name]
    kind = name.partition(":")[0]
    for seed in SEEDS:
        found = diagnose(trained(make, lr, seed, retouch=retouch))
        assert any(k.startswith(kind) for k in found.kinds), (seed, str(found))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lr", [30.0, 1e3])
def test_a_learning_rate_far_too_high_shows_in_what_it_did(lr, seed):
    kinds = diagnose(trained(stack(4), lr, seed, steps=10)).kinds
    assert {"non-finite", "dead units", "exploding"} & set(kinds)


class TestConvergedOrStuck:
    @pytest.mark.parametrize(
        ("make", "lr", "steps"),
        [
            (stack(2, width=32, activation="tanh", init="xavier"), 1.0, 300),
            (stack(4, spirals, width=32), 0.3, 500),
            (stack(10, activation="tanh", init="xavier"), 0.1, 400),
            (batch_normed_cnn, 0.1, 60),
        ],
        ids=["tanh", "spirals", "10 layers", "convolutional"],
    )
    def test_a_net_that_has_learnt_is_healthy(self, make, lr, steps):
        flow = trained(make, lr, 0, steps)
        assert flow.losses[-1] < 0.3 * flow.losses[0]
        assert diagnose(flow).healthy

    def test_a_net_that_fits_its_data_exactly_is_healthy(self):
        """Gradients of 1e-6 and less, alike in all layers."""
        rng = np.random.default_rng(0)
        model = tg.nn.Sequential(tg.nn.Linear(3, 3, rng=rng), tg.nn.Linear(3, 2, rng=rng))
        x = np.eye(3)
        y = x @ rng.normal(size=(3, 2))
        sgd = tg.optim.SGD(model.parameters(), lr=0.3)
        with watch(model, sgd) as flow:
            for _ in range(1500):
                sgd.zero_grad()
                tg.nn.functional.mse_loss(model(x), y).backward()
                sgd.step()
        assert flow.series("weight_grad", "rms")[-1].max() < 1e-7
        found = diagnose(flow)
        assert found.healthy
        assert "this is a minimum" in found.summary

    @pytest.mark.parametrize("seed", range(3))
    def test_a_deep_sigmoid_net_is_stuck(self, seed):
        make = stack(8, activation="sigmoid", init="xavier")
        assert diagnose(trained(make, 0.1, seed, 100)).kinds == ("vanishing", "loss plateau")

    def test_a_few_records_have_no_course(self):
        flow = trained(stack(8, activation="sigmoid", init="xavier"), 0.1, 0, 49)
        assert diagnose(flow).kinds == ("vanishing",)

    def test_a_loss_at_its_floor_has_nothing_to_vanish(self):
        flow = trained(stack(20, activation="sigmoid", init="xavier"), 0.1, 0)
        assert diagnose(flow).kinds == ("vanishing",)
        flow.records[-1] = flow.records[-1]._replace(loss=0.01)
        assert diagnose(flow).healthy


class TestWhatRatiosOfWeightGradientsHide:
    def test_a_xavier_relu_net_of_depth_30_vanishes_though_its_weight_gradients_are_equal(self):
        flow = trained(stack(30, init="xavier"), 0.01, 0, 1)
        norms = flow.series("weight_grad", "norm")[0]
        assert 0.1 < norms[1] / norms[28] < 10
        (finding,) = diagnose(flow).findings
        assert finding.kind == "vanishing"
        assert finding.layers[0] == "layers.0.linear"
        assert finding.numbers["factor a layer"] == pytest.approx(0.5**0.5, abs=0.06)
        assert finding.numbers["gradient to weight"] < 1e-4

    def test_glorots_tanh_net_loses_a_factor_12_which_is_told_and_no_alarm(self):
        flow = trained(glorot, 0.1, 0, 1)
        found = diagnose(flow)
        assert found.healthy
        loss = flow.series("delta", "norm")[0]
        assert 1 / 20 < loss[0] / loss[-1] < 1 / 5
        assert "‖δ‖ is multiplied by 0." in str(found)

    def test_float32_underflow(self):
        flow = trained(stack(90, activation="sigmoid", init="xavier"), 0.0, 0, 1)
        finding = diagnose(flow).findings[0]
        assert finding.kind == "vanishing" and finding.numbers["decay"] == 0
        assert "exactly 0" in finding.message

    def test_a_loss_scaled_down_until_nothing_but_subnormals_is_left(self):
        model, batch = stack(3)(np.random.default_rng(0))
        x, y = batch(np.random.default_rng(1))
        found = diagnose(model, x, y, loss=lambda z, t: cross_entropy(z, t) * 1e-40)
        assert found.kinds == ("vanishing",)

    def test_an_output_that_passes_no_gradient_at_all(self):
        model = tg.nn.Sequential(tg.nn.Linear(4, 1, rng=0), tg.nn.ReLU())
        model[0].bias.data[:] = -100.0
        mse = tg.nn.functional.mse_loss
        (finding,) = diagnose(model, np.eye(4), np.ones((4, 1)), loss=mse).findings
        assert finding.kind == "vanishing" and "even the last layer" in finding.message
        assert diagnose(model, np.eye(4), np.zeros((4, 1)), loss=mse).healthy  # it is right

    def test_in_a_narrow_net_chance_alone_loses_the_gradient(self):
        """At β = 5·60/8 a typical He-ReLU net is within its band, and yet loses all but 1e-6."""
        lost = [diagnose(trained(stack(60, width=8), 0.0, seed, 1)) for seed in SEEDS]
        lenient = [
            diagnose(trained(stack(60, width=8), 0.0, seed, 1), thresholds=Thresholds(lost=1e-99))
            for seed in SEEDS
        ]
        assert sum("vanishing" in found.kinds for found in lost) >= 3
        assert sum("vanishing" in found.kinds for found in lenient) <= 2

    def test_before_it_overflowed_it_exploded(self):
        found = diagnose(trained(linear, 0.001, 0))
        assert found.kinds[:2] == ("non-finite", "exploding")

    def test_only_the_output_of_a_sure_classifier_may_be_saturated(self):
        rng = np.random.default_rng(0)
        model = tg.nn.Sequential(tg.nn.Linear(4, 1, rng=rng), tg.nn.Sigmoid())
        model[0].weight.data *= 100
        x = rng.normal(size=(64, 4))
        y = (model(x).data > 0.5).astype(float)
        loss = tg.nn.functional.binary_cross_entropy
        assert diagnose(model, x, y, loss=loss).healthy


class TestOnePass:
    def test_leaves_nothing_changed(self):
        rng = np.random.default_rng(0)
        model = tg.nn.Sequential(
            tg.nn.Linear(64, 16, rng=rng), tg.nn.BatchNorm1d(16), tg.nn.Dropout(0.5, rng=1),
            tg.nn.Tanh(), tg.nn.Linear(16, 10, rng=rng),
        )  # fmt: skip
        x = tg.tensor(X[:32], requires_grad=True, dtype=float)
        pending = cross_entropy(model(x), Y[:32])
        pending.backward()
        before = model.state_dict()
        grads = [p.grad for p in [*model.parameters(), x]]
        states = [repr(g.bit_generator.state) for _, g in model.named_generators()]
        with tg.no_grad():
            diagnose(model, x, Y[:32])
        with pytest.raises(ZeroDivisionError):
            diagnose(model, x, Y[:32], loss=lambda z, t: z.sum() * (1 / 0))
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])
        assert all(p.grad is g for p, g in zip([*model.parameters(), x], grads, strict=True))
        assert states == [repr(g.bit_generator.state) for _, g in model.named_generators()]
        assert model.training
        pending.backward()  # its graph is still valid

    def test_another_loss(self):
        model = tg.nn.Linear(3, 1, rng=0)
        found = diagnose(model, np.eye(3), np.ones((3, 1)), loss=tg.nn.functional.mse_loss)
        assert found and found.summary == ""

    def test_inside_another_flow(self):
        model, batch = stack(3)(np.random.default_rng(0))
        x, y = batch(np.random.default_rng(1))
        with watch(model) as flow:
            assert diagnose(model, x, y)
        assert not flow.records


class TestReport:
    def test_says_what_where_why_and_what_helps(self):
        found = diagnose(trained(stack(20, activation="sigmoid", init="xavier"), 0.1, 0))
        text = str(found)
        for part in ("VANISHING", "layers.0.linear", "Why this counts", "What usually helps"):
            assert part in text
        assert not found and not found.healthy

    def test_a_healthy_net_gets_a_line(self):
        assert str(diagnose(trained(stack(3), 0.01, 0))).startswith("Healthy")

    @pytest.mark.parametrize("name", SICK)
    def test_goes_into_json(self, name):
        make, lr, retouch = SICK[name]
        found = diagnose(trained(make, lr, 0, retouch=retouch))
        again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert [f["kind"] for f in again["findings"]] == [f.kind for f in found.findings]
        assert not again["healthy"] and again["findings"][0]["why"]

    def test_thresholds_decide(self):
        flow = trained(stack(10), 0.01, 0)
        assert diagnose(flow).healthy
        assert diagnose(flow, thresholds=Thresholds(dead=0.01)).kinds == ("dead units",)
        assert "exploding" in diagnose(flow, thresholds=Thresholds(exploding=1e-3)).kinds
        sigmoids = trained(stack(4, activation="sigmoid", init="xavier"), 0.01, 0)
        assert diagnose(sigmoids, thresholds=Thresholds(vanishing=0.1)).kinds == ("vanishing",)

    def test_a_hidden_layer_that_was_never_called_is_named(self):
        model, batch = stack(3)(np.random.default_rng(0))
        model.spare = tg.nn.Linear(3, 3, rng=0)
        (finding,) = diagnose(model, *batch(np.random.default_rng(1))).findings
        assert finding.layers == ("spare",) and "no gradient reaches" in finding.message


class TestErrors:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"dead": 0.0}, {"dead": 1.5}, {"vanishing": math.nan}, {"exploding": math.inf},
            {"window": 0}, {"window": 2.5}, {"window": True}, {"level": 1}, {"flat": "2 %"},
            {"update": -1.0},
        ],
    )  # fmt: skip
    def test_thresholds_have_their_range(self, wrong):
        with pytest.raises(ArgumentError, match=f"Thresholds: {next(iter(wrong))} is"):
            Thresholds(**wrong)

    def test_a_model_comes_with_data(self):
        model, _ = stack(2)(np.random.default_rng(0))
        with pytest.raises(ArgumentError, match=r"received no x\. Or pass a GradientFlow"):
            diagnose(model)
        with pytest.raises(ArgumentError, match="received no y"):
            diagnose(model, X)

    def test_something_was_recorded(self):
        model, _ = stack(2)(np.random.default_rng(0))
        with pytest.raises(ArgumentError, match="at least one backward pass"):
            diagnose(watch(model))

    @pytest.mark.parametrize("wrong", [{"loss": "mse"}, {"thresholds": {"dead": 0.5}}])
    def test_loss_and_thresholds_are_of_their_kind(self, wrong):
        model, _ = stack(2)(np.random.default_rng(0))
        with pytest.raises(DtypeError, match="loss is a function of output and target"):
            diagnose(model, X, Y, **wrong)

    @pytest.mark.parametrize("wrong", [None, 3, "model", X])
    def test_the_subject_is_a_flow_or_a_model(self, wrong):
        with pytest.raises(DtypeError, match="a GradientFlow or a Module"):
            diagnose(wrong)


def test_a_learning_rate_of_0_is_told_as_such():
    model = tg.nn.Sequential(tg.nn.Linear(4, 8, rng=0), tg.nn.Tanh(), tg.nn.Linear(8, 3, rng=1))
    sgd = tg.optim.SGD(model.parameters(), lr=0.0)
    with tg.diagnostics.watch(model, sgd) as flow:
        for _ in range(6):
            sgd.zero_grad()
            tg.nn.functional.cross_entropy(model(np.eye(4)), np.array([0, 1, 2, 0])).backward()
            sgd.step()
    (finding,) = [f for f in tg.diagnostics.diagnose(flow).findings if f.kind == "frozen layers"]
    assert "moves nothing" in finding.message and "learning rate" in finding.advice
