"""Losses as modules: options, buffers, shapes; their values are PyTorch's (tests/golden)."""

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab import nn
from tinygrad_stab.errors import ArgumentError, DtypeError, ShapeError

F = nn.functional
close = np.testing.assert_allclose

# Losses of an input and a target of the same shape.
ELEMENTWISE = [
    nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss,
    nn.KLDivLoss,
]  # fmt: skip
CLASSES = [nn.CrossEntropyLoss, nn.NLLLoss]


@pytest.mark.parametrize("loss", ELEMENTWISE)
@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4,), (4, 1)), ((4,), ()), ((4,), (2, 4))])
def test_a_target_that_would_broadcast_is_an_error(loss, shapes):
    x, target = (np.full(shape, 0.5) for shape in shapes)
    with pytest.raises(ShapeError, match="without broadcasting"):
        loss()(tg.tensor(x), target)


@pytest.mark.parametrize("loss", CLASSES)
@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (3,), ()])
def test_classes_that_would_broadcast_are_an_error(loss, shape):
    with pytest.raises(ShapeError, match=r"input|logits"):
        loss()(tg.tensor(np.zeros((4, 3))), np.zeros(shape, int))


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_a_sum_is_all_elements_and_a_mean_their_share(loss, rng):
    x, target = rng.uniform(0.1, 0.9, size=(2, 4, 3))
    x = tg.tensor(x)
    each = loss(reduction="none")(x, target).data
    assert each.shape == (4, 3)
    close(loss(reduction="sum")(x, target).data, each.sum())
    close(loss()(x, target).data, each.mean())


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_gradients_are_right(loss, rng):
    x, target = rng.uniform(0.1, 0.9, size=(2, 4, 3))
    tg.testing.check_gradients(lambda a: loss()(a, target), x)


@pytest.mark.parametrize("loss", [*ELEMENTWISE, *CLASSES])
@pytest.mark.parametrize("reduction", ["average", None, 1, []])
def test_an_unknown_reduction_is_refused_when_the_loss_is_made(loss, reduction):
    with pytest.raises(
        ArgumentError, match=r"reduction is 'mean' or .*'none'; received reduction="
    ):
        loss(reduction=reduction)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.SmoothL1Loss(beta=-1.0), lambda: nn.SmoothL1Loss(beta=np.nan),
        lambda: nn.HuberLoss(delta=0), lambda: nn.HuberLoss(delta="1"),
        lambda: nn.HuberLoss(delta=True), lambda: nn.CrossEntropyLoss(label_smoothing=1.5),
        lambda: nn.CrossEntropyLoss(label_smoothing=None), lambda: nn.NLLLoss(ignore_index=1.5),
        lambda: nn.CrossEntropyLoss(ignore_index=None),
    ],
)  # fmt: skip
def test_options_outside_their_range_are_refused(make):
    with pytest.raises(ArgumentError, match="; received "):
        make()


class TestWeights:
    @pytest.mark.parametrize("loss", [*CLASSES, nn.BCELoss, nn.BCEWithLogitsLoss])
    def test_are_a_buffer_and_no_parameter(self, loss):
        given = np.array([1.0, 2.0, 3.0])
        made = loss(weight=given)
        assert list(made.parameters()) == [] and list(made.state_dict()) == ["weight"]
        given[0] = 99
        assert made.weight[0] == 1, "a copy"
        assert list(loss().state_dict()) == []

    def test_are_numbers(self):
        with pytest.raises(DtypeError, match="needs numbers; received str"):
            nn.BCELoss("sum")  # the reduction comes second
        with pytest.raises(DtypeError, match="requires grad"):
            nn.NLLLoss(tg.tensor([1.0], requires_grad=True))

    @pytest.mark.parametrize("loss", [nn.BCELoss, nn.BCEWithLogitsLoss])
    @pytest.mark.parametrize("shape", [(2,), (2, 3, 3), (3, 1)])
    def test_of_elements_must_fit_without_repeating_the_input(self, loss, shape):
        x = tg.tensor(np.full((2, 3), 0.5))
        with pytest.raises(ShapeError, match=r"weight: broadcasts to .*\(2, 3\); received"):
            loss(weight=np.ones(shape))(x, x.data)
        with pytest.raises(ShapeError, match=r"pos_weight: broadcasts to .*\(2, 3\); received"):
            nn.BCEWithLogitsLoss(pos_weight=np.ones(shape))(x, x.data)

    @pytest.mark.parametrize("loss", CLASSES)
    def test_of_classes_are_as_many_as_classes(self, loss):
        with pytest.raises(ShapeError, match=r"weight has shape \(3,\).*received \(2,\)"):
            loss(weight=np.ones(2))(tg.tensor(np.zeros((4, 3))), np.zeros(4, int))

    @pytest.mark.parametrize(
        "loss",
        [nn.CrossEntropyLoss(np.ones(3)), nn.NLLLoss(np.ones(3)), nn.BCELoss(np.ones(3)),
         nn.BCEWithLogitsLoss(np.ones(3), pos_weight=np.full(3, 2.0)), nn.HuberLoss(),
         nn.CrossEntropyLoss(label_smoothing=0.1), nn.SmoothL1Loss(), nn.KLDivLoss("batchmean")],
    )  # fmt: skip
    def test_do_not_widen_float32(self, loss):
        x = tg.tensor(np.full((2, 3), 0.5), requires_grad=True, dtype=np.float32)
        classes = isinstance(loss, nn.NLLLoss)
        out = loss(x, np.array([0, 2]) if classes else np.full((2, 3), 0.5, np.float32))
        assert out.dtype == np.float32

    def test_two_for_the_positive_class_count_it_twice(self, rng):
        x, target = tg.tensor(rng.normal(size=6)), np.array([1.0, 0, 1, 1, 0, 0])
        once = nn.BCEWithLogitsLoss(reduction="none")(x, target).data
        twice = nn.BCEWithLogitsLoss(reduction="none", pos_weight=2.0)(x, target).data
        close(twice, once * (1 + target))


def test_smooth_l1_is_hubers_loss_over_beta(rng):
    x, target = tg.tensor(rng.normal(size=9) * 3), rng.normal(size=9)
    for beta in (0.5, 1.0, 2.0):
        close(
            nn.SmoothL1Loss("none", beta)(x, target).data * beta,
            nn.HuberLoss("none", beta)(x, target).data,
        )
    close(nn.SmoothL1Loss(beta=0.0)(x, target).data, nn.L1Loss()(x, target).data)


def test_nll_of_log_softmax_of_images_is_cross_entropy(rng):
    x, target = tg.tensor(rng.normal(size=(2, 3, 4, 5))), rng.integers(0, 3, (2, 4, 5))
    for options in ({}, {"weight": [1.0, 2.0, 0.5]}, {"ignore_index": 1}, {"reduction": "none"}):
        close(
            nn.NLLLoss(**options)(nn.LogSoftmax(1)(x), target).data,
            nn.CrossEntropyLoss(**options)(x, target).data,
        )


def test_divergence_of_a_distribution_from_itself_is_zero(rng):
    p = rng.dirichlet(np.ones(4), 5)
    x = tg.tensor(np.log(p), requires_grad=True)
    loss = nn.KLDivLoss("batchmean", log_target=True)(x, np.log(p))
    assert loss.item() == 0
    q = rng.dirichlet(np.ones(4), 5)
    expected = (q * np.log(q / p)).sum(axis=1).mean()
    close(nn.KLDivLoss("batchmean")(x, q).data, expected)


def test_repr_names_the_options():
    assert repr(nn.CrossEntropyLoss(label_smoothing=0.1)) == (
        "CrossEntropyLoss(weight=None, ignore_index=-100, reduction='mean', label_smoothing=0.1)"
    )
