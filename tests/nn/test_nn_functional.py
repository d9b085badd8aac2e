"""Functional layers and losses against loops and formulas written out in NumPy."""

from functools import partial

import numpy as np
import pytest
from oracle import assert_close, numeric_gradient

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, DtypeError, IndexingError, ShapeError

F = tg.nn.functional


def check(f, *args, tolerance=1e-8):
    """The gradient of every argument against differences of f on plain arrays."""
    leaves = [tg.tensor(a, requires_grad=True) for a in args]
    out = f(*leaves)
    v = np.random.default_rng(1).normal(size=out.shape)
    out.backward(v)
    for i, leaf in enumerate(leaves):
        expected = numeric_gradient(lambda *a: np.asarray(f(*a)), [v], args, i)
        assert_close(leaf.grad, expected, tolerance)
    return out.data


def convolve(x, w, b, stride, padding, dilation, groups):
    """Cross-correlation by its definition."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    n, _, height, width = x.shape
    outputs, depth, kh, kw = w.shape
    rows = (height - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (width - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    out = np.zeros((n, outputs, rows, columns))
    for i, o, r, q in np.ndindex(*out.shape):
        first = o // (outputs // groups) * depth
        for d, a, e in np.ndindex(depth, kh, kw):
            pixel = x[
                i, first + d, r * stride[0] + a * dilation[0], q * stride[1] + e * dilation[1]
            ]
            out[i, o, r, q] += w[o, d, a, e] * pixel
    return out + b[:, None, None]


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [((1, 1), (0, 0), (1, 1), 1), ((2, 1), (1, 2), (1, 1), 2), ((1, 2), (2, 1), (2, 1), 1),
     ((3, 3), (1, 1), (1, 2), 4)],
)  # fmt: skip
def test_conv2d(stride, padding, dilation, groups, rng):
    x, w, b = (
        rng.normal(size=(2, 4, 6, 5)),
        rng.normal(size=(4, 4 // groups, 2, 3)),
        rng.normal(size=4),
    )
    out = check(lambda *a: F.conv2d(*a, stride, padding, dilation, groups), x, w, b)
    np.testing.assert_allclose(
        out, convolve(x, w, b, stride, padding, dilation, groups), atol=1e-12
    )


def test_conv1d(rng):
    x, w, b = rng.normal(size=(2, 3, 7)), rng.normal(size=(4, 3, 2)), rng.normal(size=4)
    out = check(lambda *a: F.conv1d(*a, stride=2, padding=1, dilation=2), x, w, b)
    expected = convolve(x[:, :, None], w[:, :, None], b, (1, 2), (0, 1), (1, 2), 1)[:, :, 0]
    np.testing.assert_allclose(out, expected, atol=1e-12)


def test_convolution_errors():
    with pytest.raises(ShapeError, match=r"conv2d: .* input \(1, 3, 5, 5\), weight \(2, 4, 3, 3\)"):
        F.conv2d(np.ones((1, 3, 5, 5)), np.ones((2, 4, 3, 3)))
    with pytest.raises(ShapeError, match="a window must fit into the image"):
        F.conv2d(np.ones((1, 3, 2, 2)), np.ones((2, 3, 3, 3)))
    with pytest.raises(ShapeError, match="conv1d"):
        F.conv1d(np.ones((3, 5)), np.ones((2, 3, 3)))


def test_pooling(rng):
    x = rng.normal(size=(2, 3, 6, 7))
    out = check(lambda a: F.max_pool2d(a, 2), x)
    np.testing.assert_array_equal(out, x[:, :, :6, :6].reshape(2, 3, 3, 2, 3, 2).max(axis=(3, 5)))
    out = check(lambda a: F.avg_pool2d(a, (2, 3), stride=(2, 1)), x)
    np.testing.assert_allclose(out[0, 0, 1, 2], x[0, 0, 2:4, 2:5].mean())
    out = check(lambda a: F.max_pool2d(a, 3, stride=2, padding=1), -np.abs(x) - 1)
    assert np.isfinite(out).all() and out.shape == (2, 3, 3, 4), "padding never wins"
    assert check(lambda a: F.avg_pool2d(a, 2, padding=1), x).shape == (2, 3, 4, 4)
    ties = tg.tensor(np.ones((1, 1, 2, 2)), requires_grad=True)
    F.max_pool2d(ties, 2).sum().backward()
    np.testing.assert_array_equal(ties.grad, np.full((1, 1, 2, 2), 0.25))


class TestNormalisation:
    def test_layer_norm(self, rng):
        x, w, b = rng.normal(size=(4, 2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
        out = check(lambda *a: F.layer_norm(a[0], (2, 3), *a[1:]), x, w, b)
        mean, var = (f(x, axis=(1, 2), keepdims=True) for f in (np.mean, np.var))
        np.testing.assert_allclose(out, (x - mean) / np.sqrt(var + 1e-5) * w + b)
        with pytest.raises(ShapeError, match="ends in normalized_shape"):
            F.layer_norm(x, 4)

    def test_group_norm(self, rng):
        x, w, b = rng.normal(size=(2, 4, 3)), rng.normal(size=4), rng.normal(size=4)
        out = check(lambda *a: F.group_norm(a[0], 2, *a[1:]), x, w, b)
        g = x.reshape(2, 2, 6)
        g = (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(out, g.reshape(x.shape) * w[:, None] + b[:, None])
        with pytest.raises(ShapeError, match="must divide the channels"):
            F.group_norm(x, 3)

    def test_batch_norm(self, rng):
        x, w, b = rng.normal(size=(5, 3, 2)), rng.normal(size=3), rng.normal(size=3)
        mean, var = np.zeros(3), np.ones(3)
        out = check(lambda *a: F.batch_norm(a[0], None, None, *a[1:], training=True), x, w, b)
        m, v = x.mean(axis=(0, 2)), x.var(axis=(0, 2))
        shaped = [a[:, None] for a in (m, v, w, b)]
        np.testing.assert_allclose(
            out, (x - shaped[0]) / np.sqrt(shaped[1] + 1e-5) * shaped[2] + shaped[3]
        )
        F.batch_norm(tg.tensor(x), mean, var, training=True, momentum=0.3)
        np.testing.assert_allclose(mean, 0.3 * m)
        np.testing.assert_allclose(var, 0.7 + 0.3 * x.var(axis=(0, 2), ddof=1))
        out = check(lambda *a: F.batch_norm(a[0], mean, var, *a[1:]), x, w, b)
        np.testing.assert_allclose(
            out[:, 0], (x[:, 0] - mean[0]) / np.sqrt(var[0] + 1e-5) * w[0] + b[0]
        )
        with pytest.raises(ArgumentError, match="needs running_mean"):
            F.batch_norm(x)


def test_embedding(rng):
    table, index = rng.normal(size=(5, 3)), np.array([[0, 4], [4, 1]])
    np.testing.assert_array_equal(check(lambda w: F.embedding(index, w), table), table[index])
    with pytest.raises(IndexingError, match="numbered 0 to 4; received -1 to 1"):
        F.embedding([-1, 1], table)
    with pytest.raises(DtypeError, match="rows are numbered by integers"):
        F.embedding([0.5], table)


def test_dropout():
    x = tg.tensor(np.ones(10_000), requires_grad=True)
    y = F.dropout(x, 0.3, rng=5)
    assert set(np.round(np.unique(y.data), 12)) == {0, round(1 / 0.7, 12)}
    assert (y.data == 0).mean() == pytest.approx(0.3, abs=0.02)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    np.testing.assert_array_equal(F.dropout(x, 0.3, rng=5).data, y.data)
    assert not np.array_equal(F.dropout(x, 0.3, rng=6).data, y.data)


class TestLosses:
    @pytest.mark.parametrize(
        ("loss", "of_difference"),
        [
            (F.mse_loss, lambda d: d**2),
            (F.l1_loss, np.abs),
            (F.smooth_l1_loss, lambda d: np.where(np.abs(d) < 1, d**2 / 2, np.abs(d) - 0.5)),
            (partial(F.smooth_l1_loss, beta=0.0), np.abs),
            (
                partial(F.huber_loss, delta=0.7),
                lambda d: np.where(np.abs(d) < 0.7, d**2 / 2, 0.7 * (np.abs(d) - 0.35)),
            ),
        ],
    )
    def test_regression(self, loss, of_difference, rng):
        x, t = rng.normal(size=(4, 3)) * 2, rng.normal(size=(4, 3))
        expected = of_difference(x - t)
        np.testing.assert_allclose(check(lambda a: loss(a, t, reduction="none"), x), expected)
        np.testing.assert_allclose(check(lambda a: loss(a, t), x), expected.mean())
        np.testing.assert_allclose(check(lambda a: loss(a, t, reduction="sum"), x), expected.sum())

    def test_cross_entropy_in_all_its_forms(self, rng):
        x, t = rng.normal(size=(6, 4)), np.array([0, 3, 1, 2, 3, -100])
        log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
        w, kept = np.array([1.0, 2.0, 0.5, 3.0]), t != -100
        rows, classes = np.arange(6)[kept], t[kept]
        picked = -log_p[rows, classes]
        out = check(lambda a: F.cross_entropy(a, t), x)
        np.testing.assert_allclose(out, picked.mean())
        out = check(lambda a: F.cross_entropy(a, t, weight=w), x)
        np.testing.assert_allclose(out, (w[classes] * picked).sum() / w[classes].sum())
        out = check(lambda a: F.cross_entropy(a, t, reduction="sum", label_smoothing=0.1), x)
        smooth = 0.9 * picked - 0.1 / 4 * log_p[rows].sum(axis=1)
        np.testing.assert_allclose(out, smooth.sum())
        soft = rng.uniform(size=(6, 4))
        out = check(lambda a: F.cross_entropy(a, soft, weight=w, label_smoothing=0.2), x)
        mixed = 0.8 * soft + 0.2 / 4
        np.testing.assert_allclose(out, -(mixed * w * log_p).sum(axis=1).mean())

    def test_cross_entropy_of_images(self, rng):
        x, t = rng.normal(size=(2, 3, 4, 5)), rng.integers(0, 3, (2, 4, 5))
        flat = np.moveaxis(x, 1, -1).reshape(-1, 3)
        out = check(lambda a: F.cross_entropy(a, t), x)
        np.testing.assert_allclose(out, F.cross_entropy(tg.tensor(flat), t.ravel()).item())
        soft = rng.uniform(size=x.shape)
        expected = F.cross_entropy(tg.tensor(flat), np.moveaxis(soft, 1, -1).reshape(-1, 3)).item()
        np.testing.assert_allclose(check(lambda a: F.cross_entropy(a, soft), x), expected)

    def test_nll_is_cross_entropy_of_logarithms(self, rng):
        x, t = rng.normal(size=(5, 3)), np.array([0, 2, -100, 1, 1])
        w = np.array([1.0, 2.0, 3.0])
        for kwargs in ({}, {"weight": w}, {"reduction": "sum"}, {"reduction": "none"}):
            loss = partial(F.nll_loss, target=t, **kwargs)
            out = check(lambda a, loss=loss: loss(F.log_softmax(a)), x)
            np.testing.assert_allclose(out, F.cross_entropy(tg.tensor(x), t, **kwargs).data)

    def test_binary(self, rng):
        x, t = rng.normal(size=8) * 3, rng.uniform(size=8)
        p = 1 / (1 + np.exp(-x))
        expected = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        np.testing.assert_allclose(
            check(lambda a: F.binary_cross_entropy_with_logits(a, t), x), expected.mean()
        )
        np.testing.assert_allclose(
            check(lambda a: F.binary_cross_entropy(a, t), p), expected.mean()
        )
        weighted = -(3 * t * np.log(p) + (1 - t) * np.log(1 - p))
        np.testing.assert_allclose(
            check(lambda a: F.binary_cross_entropy_with_logits(a, t, pos_weight=3.0), x),
            weighted.mean(),
        )
        certain = tg.tensor([0.0, 1.0], requires_grad=True)
        loss = F.binary_cross_entropy(certain, np.array([1.0, 1.0]), reduction="none")
        np.testing.assert_allclose(loss.data, [100, 0], atol=1e-12)
        loss.sum().backward()
        assert np.isfinite(certain.grad).all()
        with pytest.raises(ArgumentError, match="inputs are probabilities"):
            F.binary_cross_entropy(tg.tensor([1.5]), np.array([1.0]))

    def test_kl_div(self, rng):
        x, t = np.log(rng.dirichlet(np.ones(3), 4)), rng.dirichlet(np.ones(3), 4)
        t[0] = [0.0, 1.0, 0.0]
        expected = np.where(t > 0, t * (np.log(np.where(t > 0, t, 1)) - x), 0).sum(axis=1)
        out = check(lambda a: F.kl_div(a, t, reduction="batchmean"), x)
        np.testing.assert_allclose(out, expected.mean())
        logs = np.log(rng.dirichlet(np.ones(3), 4))
        out = check(lambda a: F.kl_div(a, logs, log_target=True, reduction="sum"), x)
        np.testing.assert_allclose(out, (np.exp(logs) * (logs - x)).sum())

    @pytest.mark.parametrize("loss", [F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.kl_div])
    def test_shapes_must_be_the_same(self, loss):
        with pytest.raises(ShapeError, match="without broadcasting"):
            loss(tg.tensor(np.ones((2, 1))), np.ones(2))

    def test_lists_and_integers_count_as_floats(self):
        for options in ({}, {"weight": [1.0, 1.0]}, {"label_smoothing": 0.0}, {"ignore_index": 1}):
            np.testing.assert_allclose(F.cross_entropy([[0, 0]], [0], **options), np.log(2))
        np.testing.assert_allclose(F.cross_entropy([[0, 0]], [[0.5, 0.5]]), np.log(2))
        np.testing.assert_allclose(F.nll_loss([[-1, -2]], [1]), 2)

    @pytest.mark.parametrize("target", ["a", None, [[1], [1, 2]]], ids=str)
    def test_targets_that_are_no_numbers_are_refused(self, target):
        with pytest.raises((DtypeError, ShapeError), match="an array needs"):
            F.mse_loss(tg.tensor([1.0]), target)
        with pytest.raises((DtypeError, ShapeError), match="an array needs"):
            F.cross_entropy(tg.tensor([[1.0, 2.0]]), target)
