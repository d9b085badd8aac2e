"""`explain`: the chain rule from the loss to a tensor, whose factors multiply out."""

import json
import math

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.errors import GraphError
from tinygrad_stab.inspection import explain

F = tg.nn.functional


def norm(array):
    return np.linalg.norm(array)


def check_against(loss, name, model=None):
    """The explanation's gradient is that of backward, and its gains multiply out to its norm."""
    e = explain(loss, name, model)
    loss.backward()
    right = tg.inspection.intermediates(loss, model)[name].grad
    np.testing.assert_allclose(e.gradient, right, rtol=1e-12, atol=0)
    product = math.prod(factor.gain for factor in e.factors)
    assert product == pytest.approx(norm(right) / norm(e.seed), rel=1e-12)
    assert sum(e.attribution.values()) == pytest.approx(math.log10(product), rel=1e-9)
    for factor in e.factors:
        if factor.paths:
            assert len(factor.paths) == factor.count
            np.testing.assert_allclose(
                sum(path.gradient for path in factor.paths), factor.gradient, rtol=1e-10,
                atol=1e-12 * norm(factor.gradient),
            )  # fmt: skip
    return e


def test_three_layers_of_one_unit_multiply_out_number_by_number():
    # y₁ = σ(w₁x), y₂ = σ(w₂y₁), y₃ = σ(w₃y₂): δ₁ = (∂L/∂y₃)·σ′·w₃·σ′·w₂·σ′, all scalars.
    w = [tg.tensor(v, requires_grad=True, name=f"w{i}") for i, v in enumerate((0.7, -1.2, 2.0), 1)]
    y, zs = 0.5, []
    for weight in w:
        zs.append(weight * y)
        y = tg.sigmoid(zs[-1])
    loss = (y - 1.0) ** 2
    e = check_against(loss, "w1")
    assert e.symbols == (
        "∂L/∂w1 = (∂L/∂power) · (∂power/∂subtract) · (∂subtract/∂sigmoid#3) · "
        "(∂sigmoid#3/∂multiply#3) · (∂multiply#3/∂sigmoid#2) · (∂sigmoid#2/∂multiply#2) · "
        "(∂multiply#2/∂sigmoid) · (∂sigmoid/∂multiply) · (∂multiply/∂w1)"
    )
    ys = [float(tg.sigmoid(z).data) for z in zs]
    by_hand = [1, 2 * (ys[2] - 1), 1]
    for i in (2, 1, 0):
        by_hand += [ys[i] * (1 - ys[i]), (0.7, -1.2, 2.0)[i] if i else 0.5]
    assert float(e.gradient) == pytest.approx(math.prod(by_hand), rel=1e-12)
    gains = [factor.gain for factor in e.factors]
    np.testing.assert_allclose(gains, np.abs(by_hand[1:]), rtol=1e-12)


@pytest.mark.parametrize("name", ["2.linear", "1.sigmoid", "0.linear", "0.weight", "0.bias"])
def test_three_layer_net(name):
    rng = np.random.default_rng(0)
    net = tg.nn.Sequential(
        tg.nn.Linear(8, 6, rng=rng), tg.nn.Sigmoid(), tg.nn.Linear(6, 6, rng=rng),
        tg.nn.Sigmoid(), tg.nn.Linear(6, 3, rng=rng),
    )  # fmt: skip
    loss = F.cross_entropy(net(rng.normal(size=(4, 8))), np.array([0, 2, 1, 1]))
    e = check_against(loss, name, net)
    if name == "2.linear":
        assert e.symbols.endswith("(∂4.linear/∂3.sigmoid) · (∂3.sigmoid/∂2.linear)")
        assert [f.kind for f in e.factors[-2:]] == ["weights", "activation"]


@pytest.mark.parametrize("block", range(5))
def test_five_residual_blocks(block):
    rng = np.random.default_rng(0)
    net = tg.nn.Sequential(
        *[tg.nn.Residual(tg.nn.Sequential(tg.nn.Linear(64, 64, rng=rng), tg.nn.ReLU()))
          for _ in range(5)]
    )  # fmt: skip
    loss = tg.mean(net(rng.normal(size=(16, 64))) ** 2)
    e = check_against(loss, f"{block}.add", net)
    skips = [factor for factor in e.factors if factor.kind == "skip"]
    assert len(skips) == 4 - block
    for factor in skips:
        past, through = factor.paths
        assert past.gain == 1 and len(through.nodes) == 4
        i = int(factor.upper.split(".")[0])
        assert factor.symbol == (
            f"[(∂{i}.add/∂{i - 1}.add) + (∂{i}.add/∂{i}.inner.1.relu)·"
            f"(∂{i}.inner.1.relu/∂{i}.inner.0.linear)·(∂{i}.inner.0.linear/∂{i - 1}.add)]"
        )


def test_a_deep_stack_is_folded_and_its_decay_attributed():
    rng = np.random.default_rng(0)
    net = tg.nn.Sequential(
        *[m for _ in range(50) for m in (tg.nn.Linear(64, 64, rng=rng), tg.nn.Sigmoid())]
    )
    e = check_against(tg.sum(net(rng.normal(size=(8, 64)))), "0.linear", net)
    assert len(e.factors) == 100 and e.symbols.count("∂") < 16
    assert "48 more such, each × 0.1" in e.symbols
    # σ′ is about ¼ at each of 50 layers; the rest is the weights'.
    assert e.attribution["activation"] == pytest.approx(50 * math.log10(0.245), abs=0.5)
    table = str(e)
    assert len(table.splitlines()) < 14 and "activation" in table.splitlines()[-1]


def test_uses_of_one_tensor_are_summed():
    w = tg.tensor(2.0, requires_grad=True, name="w")
    e = check_against(w * w * tg.exp(w), "w")
    (factor,) = e.factors
    assert factor.kind == "branches" and factor.count == 2
    assert sum(float(path.gradient) for path in factor.paths) == float(e.gradient)
    assert "[(∂multiply#2/∂exp)·(∂exp/∂w) + (∂multiply#2/∂multiply)·(∂multiply/∂w)]" in e.symbols


def test_too_many_paths_are_counted():
    x = tg.tensor(1.0, requires_grad=True, name="x")
    y = x
    for _ in range(12):
        y = tg.sin(y) + tg.cos(y) * tg.sin(x)
    e = check_against(y, "x")
    assert any(f.count > 8 and not f.paths and "paths)" in f.symbol for f in e.factors)


def test_the_loss_itself_is_one():
    x = tg.tensor(1.0, requires_grad=True, name="x")
    y = tg.exp(x)
    e = explain(y, y)
    assert e.factors == () and float(e.gradient) == 1 and e.symbols == "∂L/∂exp = (∂L/∂exp)"
    assert str(explain(x * 1.0, "x"))


def test_zero_gradients_have_no_logarithm_but_no_error_either():
    x = tg.tensor([-1.0, -2.0], requires_grad=True, name="x")
    e = explain(tg.sum(tg.relu(x)), x)
    assert not np.any(e.gradient) and "log10" in str(e)
    json.dumps(e.to_dict())


def test_as_markdown_latex_and_dict():
    w = tg.tensor(0.5, requires_grad=True, name="w_1")
    e = explain(tg.tanh(w * 3.0), w)
    assert e.to_latex() == (
        r"\frac{\partial L}{\partial \mathrm{w\_1}} = \frac{\partial L}{\partial \mathrm{tanh}} "
        r"\cdot \frac{\partial \mathrm{tanh}}{\partial \mathrm{multiply}} "
        r"\cdot \frac{\partial \mathrm{multiply}}{\partial \mathrm{w\_1}}"
    )
    markdown = e.to_markdown()
    assert markdown.startswith("$$\n") and markdown.count("\n|") == 4
    plain = json.loads(json.dumps(e.to_dict()))
    assert plain["factors"][0]["kind"] == "activation" and plain["wrt"] == "w_1"


def test_nothing_is_explained_where_no_gradient_goes():
    x = tg.tensor([1.0, 2.0], requires_grad=True, name="x")
    y = tg.tensor([1.0, 2.0], requires_grad=True, name="y")
    with pytest.raises(GraphError, match="a node is a name, a number or a tensor"):
        explain(tg.sum(x), y)


def test_stretches_that_are_not_alike_are_not_folded():
    h = tg.tensor(0.3, requires_grad=True, name="h")
    y = h
    for f in (tg.sin, tg.tanh, tg.cos, tg.exp, tg.sigmoid):
        y = y + f(y)
    assert "more such" not in explain(y, h).symbols
    y = h
    for _ in range(5):
        y = y + tg.sin(y)
    assert "4 more such" in explain(y, h).symbols


def test_the_seed_counts_in_the_sum_of_logarithms():
    w = tg.tensor(0.5, requires_grad=True, name="w")
    assert "= 1.90: +2.00 ∂L/∂tanh, -0.10 activation" in str(explain(tg.tanh(w), w, gradient=100.0))


def test_long_chains_take_linear_time():
    x = y = tg.tensor(1.0, requires_grad=True, name="x")
    for _ in range(20_000):
        y = y * 1.0
    assert float(explain(y, x).gradient) == 1.0


def test_names_are_escaped_for_latex_and_tables():
    w = tg.tensor(0.5, requires_grad=True, name="a^b|c_d")
    markdown = explain(tg.tanh(w), w).to_markdown()
    assert all(line.count("|") == 5 for line in markdown.splitlines() if line.startswith("|"))
    assert r"\_d" in markdown
