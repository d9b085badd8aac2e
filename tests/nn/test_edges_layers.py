"""Layers at the edges: one test a statement, under its number (T…)."""

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab import nn
from tinygrad_stab.errors import ShapeError

equal = np.testing.assert_array_equal
close = np.testing.assert_allclose


def test_t13_running_variance_is_unbiased_and_the_normalising_one_is_not():
    layer = nn.BatchNorm1d(1, eps=0.0)
    out = layer(tg.tensor([[1.0], [3.0]]))
    equal(out.data, [[-1], [1]])  # with the unbiased variance it would be ±1/√2
    close([layer.running_mean[0], layer.running_var[0]], [0.2, 1.1], rtol=1e-15)


def test_t14_one_value_a_channel_has_no_variance_to_train_with():
    layer = nn.BatchNorm1d(3)
    before = layer.state_dict()
    for shape in ((1, 3), (1, 3, 1)):
        with pytest.raises(ValueError, match=r"more than one value.*received shape \(1, 3"):
            layer(np.ones(shape))
    assert all(np.array_equal(before[k], v) for k, v in layer.state_dict().items())
    assert layer(np.ones((1, 3, 2))).shape == (1, 3, 2)
    assert layer.eval()(np.ones((1, 3))).shape == (1, 3)


def test_t15_dropout_keeps_the_mean():
    x = tg.tensor(np.full(200_000, 3.0))
    out = nn.Dropout(0.25, rng=0)(x).data
    equal(np.unique(out), [0, 3 / 0.75])
    assert out.mean() == pytest.approx(3, abs=4 * 3 * np.sqrt(0.25 / 0.75 / x.size))


def test_t15_dropout_is_the_identity_in_evaluation():
    x = tg.tensor([1.0, 2.0])
    assert nn.Dropout(0.5).eval()(x) is x
    assert nn.Dropout(1.0).eval()(x) is x


def test_t15_dropout_of_everything_gives_zeros():
    x = tg.tensor([1.0, -2.0], requires_grad=True)
    out = nn.Dropout(1.0)(x)
    out.sum().backward()
    equal(out.data, 0)
    equal(x.grad, 0)


FANNED = [
    nn.init.xavier_uniform_, nn.init.xavier_normal_, nn.init.kaiming_uniform_,
    nn.init.kaiming_normal_, nn.init.orthogonal_,
]  # fmt: skip


@pytest.mark.parametrize("initialise", FANNED)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_t30_fewer_than_two_axes_have_no_fans(initialise, shape):
    with pytest.raises(ValueError, match="at least 2 axes"):
        initialise(tg.tensor(np.zeros(shape)))


@pytest.mark.parametrize("initialise", FANNED)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_t30_initialising_nothing_does_nothing(initialise, shape):
    assert initialise(tg.tensor(np.zeros(shape)), rng=0).shape == shape


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: nn.Linear(3, 4, rng=rng),
        lambda rng: nn.Embedding(3, 4, rng=rng),
        lambda rng: nn.Conv1d(2, 3, 3, rng=rng),
        lambda rng: nn.Conv2d(2, 3, 3, rng=rng),
        lambda rng: nn.ResidualBlock(3, 2, rng=rng),
    ],
)
def test_t31_the_same_seed_gives_the_same_weights_bit_by_bit(make):
    a, b, other = make(7).state_dict(), make(7).state_dict(), make(8).state_dict()
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not all(np.array_equal(a[k], other[k]) for k in a)
    shared = np.random.default_rng(7)
    first, second = make(shared).state_dict(), make(shared).state_dict()
    assert all(np.array_equal(a[k], first[k]) for k in a)
    assert not all(np.array_equal(first[k], second[k]) for k in first)


def test_t31_the_same_seed_gives_the_same_masks():
    x = np.ones(64)
    a, b = nn.Dropout(rng=5), nn.Dropout(rng=np.random.default_rng(5))
    masks = [a(tg.tensor(x)).data for _ in range(3)]
    equal([b(tg.tensor(x)).data for _ in range(3)], masks)
    assert not np.array_equal(masks[0], masks[1]), "another mask a call"


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_t31_two_modules_do_not_share_one_mask(rng):
    net = nn.Sequential(nn.Dropout(rng=rng), nn.Dropout(rng=rng))
    x = tg.tensor(np.ones(256))
    assert not np.array_equal(net[0](x).data, net[1](x).data)


def test_t32_a_wrong_width_is_named_with_both_shapes():
    with pytest.raises(
        ShapeError, match=r"4 features .* expects 3 \(x: \(1, 4\), weight: \(2, 3\)"
    ):
        nn.Linear(3, 2)(np.ones((1, 4)))
