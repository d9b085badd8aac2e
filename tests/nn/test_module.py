"""Modules: found by walking attributes, named by path, saved by name."""

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab import nn
from tinygrad_stab.errors import ArgumentError, DtypeError, ShapeError, StateDictError


class Net(nn.Module):
    """Sub-modules in every kind of holder, one of them used twice."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.blocks = [nn.Linear(3, 3, rng=rng), {"inner": nn.Linear(3, 3, rng=rng)}]
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(3, 2, bias=False, rng=rng))
        self.scale = tg.tensor(1.0, requires_grad=True)
        self.again = self.blocks[0]
        self.settings = {"depth": 2}

    def forward(self, x):
        x = self.again(self.blocks[1]["inner"](self.blocks[0](x)))
        return self.head(x) * self.scale


NAMES = ["scale", "blocks.0.weight", "blocks.0.bias", "blocks.1.inner.weight",
         "blocks.1.inner.bias", "head.1.weight"]  # fmt: skip


def test_parameters_and_modules_by_path():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [name for name, _ in net.named_modules()] == [
        "", "blocks.0", "blocks.1.inner", "head", "head.0", "head.1",
    ]  # fmt: skip
    assert len(list(net.parameters())) == len(NAMES)
    assert len(list(net.modules())) == 6


def test_training_mode_reaches_every_module():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())


def test_results_know_the_module_that_made_them():
    net = Net()
    loss = net(np.ones((2, 3))).sum()
    paths = [t.path for t in tg.graph(loss) if t.op is not None]
    assert paths == [
        "blocks.0.linear", "blocks.1.inner.linear", "blocks.0.linear", "head.0.relu",
        "head.1.linear", "multiply", "sum",
    ]  # fmt: skip


def test_scope_comes_back_after_an_exception():
    with pytest.raises(ShapeError):
        Net()(np.ones((2, 4)))
    assert (tg.tensor(1.0, requires_grad=True) * 2).path == "multiply"


def test_a_module_made_on_the_way_goes_by_its_class():
    class Makes(nn.Module):
        def forward(self, x):
            return nn.Tanh()(x)

    assert Makes()(tg.tensor(1.0, requires_grad=True)).path == "Tanh.tanh"


def test_repr_shows_the_tree():
    assert repr(Net()).splitlines()[1:4] == [
        "  (blocks.0): Linear(in_features=3, out_features=3, bias=True)",
        "  (blocks.1.inner): Linear(in_features=3, out_features=3, bias=True)",
        "  (head): Sequential(",
    ]


def test_zero_grad():
    net = Net()
    net(np.ones((2, 3))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


class TestStateDict:
    def test_round_trip(self):
        a, b = Net(), Net()
        for p in a.parameters():
            p.data += 1
        state = a.state_dict()
        assert b.load_state_dict(state) == ([], [])
        for name, p in b.named_parameters():
            np.testing.assert_array_equal(p.data, state[name])
        state["scale"][...] = 99
        assert a.scale.item() == b.scale.item() == 2, "copies"

    def test_names_every_problem_and_loads_nothing(self):
        net = Net()
        before = net.state_dict()
        state = {k: v + 1 for k, v in before.items()}
        del state["head.1.weight"]
        state["extra"] = np.ones(1)
        state["blocks.0.bias"] = np.ones(1)  # would broadcast
        state["scale"] = np.array(1j)
        with pytest.raises(StateDictError) as caught:
            net.load_state_dict(state)
        message = str(caught.value)
        for part in (
            "head.1.weight is missing",
            "extra is unexpected",
            "blocks.0.bias has shape (1,), the one here (3,)",
            "scale holds complex128",
        ):
            assert part in message
        for name, value in net.state_dict().items():
            np.testing.assert_array_equal(value, before[name])

    def test_not_strict(self):
        net = Net()
        state = {"scale": np.array(5.0), "extra": np.ones(1)}
        missing, unexpected = net.load_state_dict(state, strict=False)
        assert missing == NAMES[1:] and unexpected == ["extra"] and net.scale.item() == 5
        with pytest.raises(StateDictError, match="has shape"):
            net.load_state_dict({"scale": np.ones(1)}, strict=False)

    def test_keeps_the_dtype_of_the_parameter(self):
        layer = nn.Linear(2, 2, dtype=np.float32)
        layer.load_state_dict({"weight": np.eye(2), "bias": np.zeros(2)})
        assert layer.weight.dtype == np.float32


class TestLayers:
    def test_linear(self, rng):
        layer = nn.Linear(3, 2, rng=0)
        x = rng.normal(size=(5, 4, 3))
        np.testing.assert_allclose(
            layer(x).data, x @ layer.weight.data.T + layer.bias.data, rtol=1e-14
        )
        assert nn.Linear(3, 2, bias=False).bias is None
        for p in layer.parameters():
            assert np.abs(p.data).max() <= 1 / np.sqrt(3)

    def test_linear_from_a_seed_is_reproducible(self):
        a, b = nn.Linear(3, 2, rng=7), nn.Linear(3, 2, rng=np.random.default_rng(7))
        np.testing.assert_array_equal(a.weight.data, b.weight.data)

    def test_linear_error_names_both_shapes(self):
        with pytest.raises(ShapeError, match=r"x: \(1, 4\), weight: \(2, 3\)\). Did you forget"):
            nn.Linear(3, 2)(np.ones((1, 4)))
        with pytest.raises(ArgumentError, match="at least 0; received in_features=-1"):
            nn.Linear(-1, 2)

    def test_sequential_takes_modules_only(self):
        with pytest.raises(DtypeError, match=r"argument 1 is a Primitive\. .*tg\.nn\.ReLU\(\)"):
            nn.Sequential(nn.ReLU(), tg.relu)
        both = nn.Sequential(nn.ReLU(), nn.Tanh())
        assert len(both) == 2 and list(both) == [both[0], both[1]]

    def test_residual(self):
        inner = nn.Linear(3, 3, rng=0)
        x = tg.tensor(np.ones((2, 3)), requires_grad=True)
        for scale in (1.0, 0.5):
            y = nn.Residual(inner, scale)(x)
            np.testing.assert_allclose(y.data, x.data + scale * inner(x).data)
            x.grad = None
            y.sum().backward()
            np.testing.assert_allclose(
                x.grad, 1 + scale * inner.weight.data.sum(axis=0)[None] * [[1], [1]]
            )
        with pytest.raises(ArgumentError, match=r"must keep the shape.*\(2, 3\) became \(2, 4\)"):
            nn.Residual(nn.Linear(3, 4))(x)

    def test_a_module_without_forward_says_so(self):
        with pytest.raises(TypeError, match="Module must define forward"):
            nn.Module()(1)


class TestLosses:
    def test_values(self):
        x, t = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
        assert nn.MSELoss()(tg.tensor(x), t).item() == pytest.approx((0 + 4 + 9 + 9) / 4)
        assert nn.MSELoss("sum")(tg.tensor(x), t).item() == pytest.approx(22)
        assert nn.MSELoss("none")(tg.tensor(x), t).shape == (2, 2)
        p = 1 / (1 + np.exp(-x))
        expected = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
        assert nn.BCEWithLogitsLoss()(tg.tensor(x), t).item() == pytest.approx(expected)
        e = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        expected = -np.log(e[[0, 1], [1, 0]]).mean()
        assert nn.CrossEntropyLoss()(tg.tensor(x), np.array([1, 0])).item() == pytest.approx(
            expected
        )
        assert nn.CrossEntropyLoss()(tg.tensor(x), t[::-1]).item() == pytest.approx(expected)

    @pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss()])
    def test_a_target_that_would_broadcast_is_an_error(self, loss):
        with pytest.raises(ShapeError, match=r"input: \(4, 1\), target: \(4,\)"):
            loss(tg.tensor(np.zeros((4, 1))), np.zeros(4))

    @pytest.mark.parametrize(
        ("target", "error"),
        [
            (np.array([0, 2]), IndexError),
            (np.array([0, -1]), IndexError),
            (np.array([0.0, 1.0]), TypeError),
            (np.array([[0], [1]]), ValueError),
            (np.array([0, 1, 1]), ValueError),
        ],
    )
    def test_classes_must_fit(self, target, error):
        with pytest.raises(error, match="softmax_cross_entropy: "):
            nn.CrossEntropyLoss()(tg.tensor(np.zeros((2, 2))), target)

    def test_stable_at_large_logits(self):
        z = tg.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
        loss = nn.CrossEntropyLoss(reduction="sum")(z, np.array([1, 1]))
        loss.backward()
        assert loss.item() == 2e4
        np.testing.assert_array_equal(z.grad, [[1, -1], [0, 0]])
        x = tg.tensor([1000.0, -1000.0], requires_grad=True)
        loss = nn.BCEWithLogitsLoss(reduction="none")(x, np.zeros(2))
        loss.sum().backward()
        np.testing.assert_array_equal(loss.data, [1000, 0])
        np.testing.assert_array_equal(x.grad, [1, 0])

    def test_unknown_reduction(self):
        with pytest.raises(ArgumentError, match="reduction is 'mean' or 'sum' or 'none'"):
            nn.MSELoss(reduction="average")


def test_a_buffer_that_cannot_be_written_is_found_before_anything_is_loaded():
    layer, other = tg.nn.BatchNorm1d(2), tg.nn.BatchNorm1d(2)
    layer.running_var = np.ones(2)
    layer.running_var.flags.writeable = False
    other.weight.data = np.full(2, 7.0)
    with pytest.raises(StateDictError, match="running_var is read-only"):
        layer.load_state_dict(other.state_dict())
    assert (layer.weight.data == 1).all()


@pytest.mark.parametrize("state", [None, 3, [np.ones(2)]], ids=str)
def test_a_state_is_a_mapping(state):
    with pytest.raises(StateDictError, match="a state is a mapping"):
        tg.nn.Linear(2, 1, rng=0).load_state_dict(state, strict=False)
