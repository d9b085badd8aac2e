"""Layers: what PyTorch's answers (tests/golden) do not tell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_stab as tg
from tinygrad_stab import nn
from tinygrad_stab.errors import ArgumentError, DtypeError, IndexingError, ShapeError

close = np.testing.assert_allclose
equal = np.testing.assert_array_equal

ACTIVATIONS = [
    nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(),
    nn.Softplus(3.0), nn.Sigmoid(), nn.Tanh(), nn.Softmax(0), nn.LogSoftmax(),
]  # fmt: skip
# Every layer with parameters or randomness, by its dtype, and the shape of an input.
LAYERS = [
    (lambda dtype: nn.Linear(3, 2, rng=0, dtype=dtype), (4, 3)),
    (lambda dtype: nn.Dropout(0.5, rng=0), (4, 3)),
    (lambda dtype: nn.BatchNorm1d(3, dtype=dtype), (4, 3)),
    (lambda dtype: nn.BatchNorm2d(3, momentum=None, dtype=dtype), (4, 3, 2, 2)),
    (lambda dtype: nn.LayerNorm((3, 2), dtype=dtype), (4, 3, 2)),
    (lambda dtype: nn.GroupNorm(2, 4, dtype=dtype), (3, 4)),
    (lambda dtype: nn.Conv1d(2, 4, 3, padding="same", groups=2, rng=0, dtype=dtype), (3, 2, 5)),
    (lambda dtype: nn.Conv2d(2, 4, (2, 3), 2, (1, 0), rng=0, dtype=dtype), (3, 2, 4, 5)),
    (lambda dtype: nn.MaxPool2d(2), (2, 3, 4, 4)),
    (lambda dtype: nn.AvgPool2d((2, 3), 1, 1), (2, 3, 4, 4)),
    (lambda dtype: nn.Flatten(), (2, 3, 4)),
    (lambda dtype: nn.ResidualBlock(3, 2, scale=0.5, rng=0, dtype=dtype), (4, 3)),
    (lambda dtype: nn.ResidualBlock(3, order="linear-norm-relu", rng=0, dtype=dtype), (4, 3)),
]


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_gradients_of_activations_are_right(layer, rng):
    tg.testing.check_gradients(lambda x: layer(x), rng.normal(size=(3, 4)))


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_activations_keep_float32_however_their_numbers_came(layer):
    assert layer(tg.tensor(np.ones((2, 3), np.float32))).dtype == np.float32
    assert nn.LeakyReLU(np.float64(0.1))(tg.tensor([1.0], dtype=np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("layer", "low", "high"),
    [(nn.Sigmoid(), 0, 0.25), (nn.Tanh(), 0, 1), (nn.SELU(), 0, 1.7581), (nn.GELU(), -0.129, 1.129),
     (nn.SiLU(), -0.0999, 1.0999), (nn.Softplus(2.0), 0, 1), (nn.ELU(0.5), 0, 1)],
    ids=repr,
)  # fmt: skip
def test_derivatives_fill_the_range_that_the_docstring_states(layer, low, high):
    x = tg.tensor(np.linspace(-12, 12, 20_001), requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.min() == pytest.approx(low, abs=1.1e-3)
    assert x.grad.max() == pytest.approx(high, abs=1.1e-3)


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_gradients_of_layers_are_right_in_inputs_and_parameters(make, shape, rng):
    layer = make(np.float64)
    layer(rng.normal(size=shape))
    layer.eval()  # so that every call is the same function
    tg.testing.check_gradients(
        lambda x: layer(x), rng.normal(size=shape), parameters=layer.parameters()
    )


@pytest.mark.parametrize(("make", "shape"), LAYERS[2:4] + LAYERS[-2:])
def test_gradients_pass_through_the_statistics_of_the_batch(make, shape, rng):
    layer = make(np.float64)
    tg.testing.check_gradients(
        lambda x: layer(x), rng.normal(size=shape), parameters=layer.parameters()
    )


@pytest.mark.parametrize(("make", "shape"), LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_float32_stays_float32(make, shape, training, rng):
    layer = make(np.float32).train(training)
    out = layer(tg.tensor(rng.normal(size=shape), requires_grad=True, dtype=np.float32))
    out.sum().backward()
    assert out.dtype == np.float32
    assert {p.dtype for p in layer.parameters()} <= {np.dtype(np.float32)}
    assert {b.dtype.kind for _, b in layer.named_buffers()} <= {"f", "i"}
    assert all(b.dtype == np.float32 for _, b in layer.named_buffers() if b.dtype.kind == "f")


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_state_of_one_layer_makes_another_the_same(make, shape, rng):
    a, b = make(np.float64), make(np.float64)
    x = rng.normal(size=shape)
    a(x)
    for p in a.parameters():
        p.data += 1
    b.load_state_dict(a.state_dict())
    equal(np.asarray(b.eval()(x).data), np.asarray(a.eval()(x).data))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(2.0, 3), lambda: nn.Linear(True, 3), lambda: nn.Linear("2", 3),
        lambda: nn.LeakyReLU(np.nan), lambda: nn.ELU("1"), lambda: nn.Softplus(0),
        lambda: nn.GELU("fast"), lambda: nn.GELU([]), lambda: nn.Softmax(None),
        lambda: nn.Dropout(-0.1), lambda: nn.Dropout(50), lambda: nn.Dropout(np.nan),
        lambda: nn.Dropout("half"), lambda: nn.Flatten(None), lambda: nn.BatchNorm1d(-1),
        lambda: nn.BatchNorm1d(3, eps=-1), lambda: nn.BatchNorm2d(3, momentum=2),
        lambda: nn.BatchNorm1d(3, momentum="0.1"), lambda: nn.LayerNorm(()),
        lambda: nn.LayerNorm("ab"), lambda: nn.LayerNorm((2, 0.5)), lambda: nn.GroupNorm(2, 3),
        lambda: nn.GroupNorm(0, 3), lambda: nn.Embedding(-1, 2), lambda: nn.Conv2d(1, 0, 3),
        lambda: nn.Conv2d(3, 4, 3, groups=2), lambda: nn.Conv2d(1, 1, (3, 3, 3)),
        lambda: nn.Conv1d(1, 1, (3, 3)), lambda: nn.Conv2d(1, 1, 0),
        lambda: nn.Conv2d(1, 1, 3, stride=0), lambda: nn.Conv2d(1, 1, 3, padding=-1),
        lambda: nn.Conv2d(1, 1, 3, padding="full"), lambda: nn.Conv2d(1, 1, 3, dilation=1.5),
        lambda: nn.Conv2d(1, 1, 3, stride=2, padding="same"), lambda: nn.Conv2d(1, 1, True),
        lambda: nn.MaxPool2d(2, padding=2), lambda: nn.MaxPool2d([[2], [1, 2]]),
        lambda: nn.AvgPool2d(0), lambda: nn.Residual(nn.ReLU(), "1"),
        lambda: nn.Residual(nn.ReLU(), np.inf), lambda: nn.ResidualBlock(3, layers=0),
        lambda: nn.ResidualBlock(3, scale=np.nan), lambda: nn.ResidualBlock(3, order="norm-relu"),
        lambda: nn.ResidualBlock(3, order="linear-linear"), lambda: nn.ResidualBlock(3, order=None),
    ],
)  # fmt: skip
def test_arguments_outside_their_range_are_refused(make):
    with pytest.raises(ArgumentError, match="; received "):
        make()


class TestFlatten:
    @given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.data())
    def test_joins_the_axes_that_it_names(self, shape, data):
        first = data.draw(st.integers(0, len(shape) - 1))
        last = data.draw(st.integers(first, len(shape) - 1))
        x = np.arange(float(np.prod(shape))).reshape(shape)
        out = nn.Flatten(first - len(shape), last)(x).data
        assert out.ndim == len(shape) - (last - first)
        equal(out.ravel(), x.ravel())

    def test_needs_the_axes_in_order(self):
        with pytest.raises(IndexingError, match=r"axes of the input.*input \(3,\)"):
            nn.Flatten()(np.ones(3))
        with pytest.raises(ArgumentError, match="comes before"):
            nn.Flatten(2, 1)(np.ones((2, 3, 4)))


class TestDropout:
    def test_keeps_its_generator_where_a_module_looks_for_it(self):
        generator = np.random.default_rng(0)
        net = nn.Sequential(nn.Dropout(rng=generator), nn.Dropout(rng=1))
        found = dict(net.named_generators())
        assert list(found) == ["0.rng", "1.rng"] and found["0.rng"] is generator

    def test_gradient_passes_where_the_element_was_kept(self):
        x = tg.tensor(np.ones(1000), requires_grad=True)
        out = nn.Dropout(0.25, rng=0)(x)
        out.sum().backward()
        equal(x.grad, out.data)
        assert set(np.unique(out.data)) == {0, 4 / 3}


class TestEmbedding:
    def test_rows_are_standard_normal(self):
        w = nn.Embedding(200, 300, rng=0).weight.data
        assert w.std() == pytest.approx(1, rel=0.01) and abs(w.mean()) < 0.02

    def test_padding_counts_from_the_end_too(self):
        layer = nn.Embedding(4, 2, padding_idx=-1, rng=0)
        equal(layer.weight.data[3], 0)
        layer.weight[3] = 7.0
        out = layer([3, 0, 3, 0])
        equal(out.data[0], 7)
        out.sum().backward()
        equal(layer.weight.grad, [[2, 2], [0, 0], [0, 0], [0, 0]])

    @pytest.mark.parametrize("padding_idx", [4, -5, 1.5, "1", True])
    def test_padding_is_a_row(self, padding_idx):
        with pytest.raises(IndexingError, match="one of the 4 rows; received"):
            nn.Embedding(4, 2, padding_idx=padding_idx)

    def test_numbers_of_rows_are_checked(self):
        layer = nn.Embedding(4, 2)
        with pytest.raises(IndexingError, match="numbered 0 to 3; received 4 to 4"):
            layer([4])
        with pytest.raises(DtypeError, match="integers"):
            layer([1.0])
        assert layer(np.zeros((0, 3), int)).shape == (0, 3, 2)


class TestNormalisation:
    @pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.BatchNorm2d(3), nn.GroupNorm(1, 3)])
    @pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 4, 5, 5), (2,) * 6])
    def test_inputs_of_another_shape_are_refused_and_change_nothing(self, layer, shape):
        before = layer.state_dict()
        with pytest.raises(ShapeError, match=r"the input has shape \(N, 3.*received \(" + "[23]"):
            layer(np.ones(shape))
        for name, value in layer.state_dict().items():
            equal(value, before[name])

    def test_running_statistics_become_those_of_the_data(self, rng):
        layer = nn.BatchNorm1d(2, momentum=None)
        x = rng.normal([1.0, -2.0], [3.0, 0.5], size=(50, 20, 2))
        for batch in x:
            layer(batch)
        close(layer.running_mean, x.mean(axis=(0, 1)))
        close(layer.running_var, x.var(axis=1, ddof=1).mean(axis=0))
        assert layer.num_batches_tracked == 50 and layer.num_batches_tracked.dtype == np.int64

    def test_evaluation_and_no_tracking_leave_the_statistics_alone(self, rng):
        layer = nn.BatchNorm1d(2).eval()
        before = layer.state_dict()
        layer(rng.normal(size=(5, 2)))
        assert all(np.array_equal(before[k], v) for k, v in layer.state_dict().items())
        assert dict(nn.BatchNorm1d(2, track_running_stats=False).named_buffers()) == {}

    def test_statistics_are_buffers_and_not_parameters(self):
        layer = nn.BatchNorm2d(3)
        assert [n for n, _ in layer.named_parameters()] == ["weight", "bias"]
        assert list(layer.state_dict()) == [
            "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
        ]  # fmt: skip

    @given(st.integers(0, 2**32), st.floats(0.1, 1e4), st.floats(-1e4, 1e4))
    def test_scale_and_shift_of_an_example_are_taken_out(self, seed, scale, shift):
        x = np.random.default_rng(seed).normal(size=(3, 6))
        for layer in (nn.LayerNorm(6, eps=0.0), nn.GroupNorm(2, 6, eps=0.0)):
            close(layer(scale * x + shift).data, layer(x).data, atol=1e-6)

    def test_a_group_a_channel_is_each_channel_alone(self, rng):
        x = rng.normal(size=(2, 3, 10))
        out = nn.GroupNorm(3, 3)(x).data
        close(out.mean(axis=-1), 0, atol=1e-14)
        close(nn.GroupNorm(1, 3)(x).data, nn.LayerNorm((3, 10))(x).data, rtol=1e-12)


class TestConvolution:
    def test_weights_are_uniform_within_one_over_root_fan_in(self):
        layer = nn.Conv2d(8, 16, (3, 5), groups=2, rng=0)
        fan_in = 4 * 3 * 5
        assert layer.weight.shape == (16, 4, 3, 5)
        for p in layer.parameters():
            assert 0.7 < np.abs(p.data).max() * np.sqrt(fan_in) <= 1
        assert layer.weight.data.var() == pytest.approx(1 / (3 * fan_in), rel=0.1)

    @given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6))
    def test_same_keeps_the_size(self, kernel, dilation, length):
        layer = nn.Conv1d(1, 1, kernel, padding="same", dilation=dilation)
        assert layer(np.ones((1, 1, length))).shape == (1, 1, length)

    def test_same_puts_the_odd_zero_behind(self):
        layer = nn.Conv1d(1, 1, 2, padding="same", bias=False)
        layer.weight.data = np.array([[[1.0, 10.0]]])
        equal(layer(np.array([[[1.0, 2.0, 3.0]]])).data, [[[21, 32, 3]]])
        equal(nn.Conv1d(1, 1, 2, padding="valid")(np.ones((1, 1, 3))).shape, (1, 1, 2))

    def test_a_kernel_as_large_as_the_image_is_a_linear_layer(self, rng):
        conv = nn.Conv2d(2, 5, (3, 4), rng=0)
        linear = nn.Linear(24, 5)
        linear.load_state_dict({"weight": conv.weight.data.reshape(5, 24), "bias": conv.bias.data})
        x = rng.normal(size=(6, 2, 3, 4))
        close(conv(x).data[:, :, 0, 0], nn.Sequential(nn.Flatten(), linear)(x).data, rtol=1e-12)

    def test_channels_that_do_not_fit_are_named(self):
        with pytest.raises(ShapeError, match=r"input \(1, 2, 5, 5\), weight \(4, 3, 3, 3\)"):
            nn.Conv2d(3, 4, 3)(np.ones((1, 2, 5, 5)))

    @pytest.mark.parametrize("shape", [(0, 1, 5, 5), (2, 1, 5, 5)])
    def test_a_batch_may_be_empty(self, shape):
        x = tg.tensor(np.ones(shape), requires_grad=True)
        net = nn.Sequential(nn.Conv2d(1, 2, 2, rng=0), nn.MaxPool2d(2), nn.Flatten())
        out = net(x)
        out.sum().backward()
        assert out.shape == (shape[0], 8) and x.grad.shape == shape

    def test_memory_in_any_order_gives_the_same(self, rng):
        x = rng.normal(size=(3, 2, 6, 6))
        net = nn.Sequential(nn.Conv2d(2, 3, 3, rng=0), nn.MaxPool2d(2), nn.Conv2d(3, 2, 2, rng=1))
        grads = []
        for array in (x, np.asfortranarray(x), x[::-1].copy()[::-1]):
            leaf = tg.tensor(np.zeros_like(x), requires_grad=True)
            leaf.data = array
            net(leaf).sum().backward()
            grads.append(leaf.grad)
        close(grads[1], grads[0], rtol=1e-12)
        close(grads[2], grads[0], rtol=1e-12)

    def test_pooling_keeps_any_number_of_leading_axes(self, rng):
        x = rng.normal(size=(2, 3, 4, 6, 8))
        for layer in (nn.MaxPool2d(2, 1), nn.AvgPool2d((3, 2))):
            out = layer(x)
            equal(out[1, 2].data, layer(x[1, 2]).data)


class TestResidualBlock:
    ORDERS = ("norm-relu-linear", "linear-norm-relu", "relu-norm-linear", "relu-linear")

    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.parametrize("sizes", [(4,), (4, 3)])
    def test_is_its_skip_alone_if_the_last_layer_starts_at_zero(self, order, sizes, rng):
        block = nn.ResidualBlock(*sizes, order=order, zero_init_last=True, rng=0)
        x = np.abs(rng.normal(size=(6, 4)))
        skip = x if block.projection is None else x @ block.projection.weight.data.T
        expected = np.maximum(skip, 0) if order.endswith("relu") else skip
        equal(block(x).data, expected)

    @pytest.mark.parametrize("order", ORDERS)
    def test_learns_though_the_last_layer_starts_at_zero(self, order, rng):
        block = nn.ResidualBlock(4, order=order, zero_init_last=True, rng=0)
        x, target = rng.normal(size=(16, 4)), rng.normal(size=(16, 4)) ** 2
        losses = []
        for _ in range(30):
            block.zero_grad()
            loss = nn.MSELoss()(block(x), target)
            loss.backward()
            losses.append(loss.item())
            for p in block.parameters():
                p.data -= 0.2 * p.grad
        assert losses[-1] < 0.9 * losses[0]

    def test_jacobian_is_the_identity_plus_the_scaled_one_of_the_branch(self, rng):
        block = nn.ResidualBlock(3, order="relu-linear", layers=3, scale=0.3, rng=0)
        x = rng.normal(size=(1, 3))
        whole = tg.jacobian(lambda a: block(a)[0])(x).data[:, 0]
        branch = tg.jacobian(lambda a: block.branch(a)[0])(x).data[:, 0]
        close(whole, np.eye(3) + 0.3 * branch, rtol=1e-13)
        assert np.abs(branch).max() > 1e-3

    def test_only_linear_maps_that_are_normalised_next_have_no_bias(self):
        def biases(**kwargs):
            branch = nn.ResidualBlock(3, **kwargs).branch
            return [m.bias is not None for m in branch if isinstance(m, nn.Linear)]

        assert biases() == [False, True]
        assert biases(order="linear-norm-relu") == [False, False]
        assert biases(order="relu-norm-linear", layers=3) == [True, True, True]
        assert biases(order="linear-relu") == [True, True]

    def test_by_hand_in_each_order(self, rng):
        x = rng.normal(size=(5, 3))

        def norm(a):
            return (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-5)

        def relu(a):
            return np.maximum(a, 0)

        for order, branch, outer in (
            ("norm-relu-linear", lambda a, w, b: relu(norm(a)) @ w.T + b, lambda y: y),
            ("relu-norm-linear", lambda a, w, b: norm(relu(a)) @ w.T + b, lambda y: y),
            ("linear-norm-relu", lambda a, w, b: norm(a @ w.T), relu),
            ("linear-relu", lambda a, w, b: a @ w.T + b, relu),
        ):
            block = nn.ResidualBlock(3, 3, order, layers=1, scale=0.5, rng=0)
            linear = next(m for m in block.modules() if isinstance(m, nn.Linear))
            w, b = linear.weight.data, 0 if linear.bias is None else linear.bias.data
            close(block(x).data, outer(x + 0.5 * branch(x, w, b)), rtol=1e-12, err_msg=order)

    def test_gradient_survives_fifty_blocks_that_it_does_not_survive_without_skips(self):
        def gradient(deep):
            x = tg.tensor(np.random.default_rng(0).normal(size=(32, 16)), requires_grad=True)
            deep(x).sum().backward()
            return np.sqrt(np.mean(x.grad**2))

        rng = np.random.default_rng(1)
        blocks = [nn.ResidualBlock(16, order="relu-linear", layers=1, rng=rng) for _ in range(50)]
        assert gradient(nn.Sequential(*(b.branch for b in blocks))) < 1e-8
        assert 0.1 < gradient(nn.Sequential(*blocks)) < 1e3
