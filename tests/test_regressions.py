"""Faults that were found once, each as the smallest program that shows it."""

import gc
import weakref

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab import nn
from tinygrad_stab.errors import ArgumentError, DtypeError, GraphError, ShapeError, StabError

F = nn.functional


def leaf(data, **kwargs):
    return tg.tensor(data, requires_grad=True, **kwargs)


class TestSilentlyWrong:
    def test_integer_distribution_as_target(self):
        grads = []
        for target in (np.array([[1, 1, 0]]), np.array([[1.0, 1.0, 0.0]])):
            x = leaf([[1.0, 2.0, 3.0]])
            tg.softmax_cross_entropy(x, target).sum().backward()
            grads.append(x.grad)
        np.testing.assert_array_equal(*grads)

    def test_momentum_of_a_parameter_without_axes(self):
        values = []
        for shape in ((), (1,)):
            p = leaf(np.ones(shape))
            optimizer = tg.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.1)
            for _ in range(4):
                p.grad = np.ones(shape)
                optimizer.step()
            values.append(p.data.item())
        assert values[0] == values[1] == pytest.approx(0.0197, abs=1e-4)

    def test_unrecorded_results_have_memory_of_their_own(self):
        x = leaf([1.0, 2.0])
        loss = (x * x).sum()
        with tg.no_grad():
            v = x.reshape(2)
        v[0] = 100.0
        loss.backward()
        np.testing.assert_array_equal(x.grad, [2.0, 4.0])
        c = tg.tensor([1.0, 2.0])
        y, w = c.reshape(2, 1), leaf([[1.0], [1.0]])
        z = (w * y).sum()
        c.data[0] = 100.0
        z.backward()
        np.testing.assert_array_equal(w.grad, [[1.0], [2.0]])
        spread = np.broadcast_to(c, (2, 2))
        spread.data += 1

    def test_write_below_what_a_pullback_goes_through(self):
        w = leaf([1.0, 2.0, 3.0])
        v = w[:2]
        _, pullback = tg.vjp(lambda x: (x * v).sum(), np.ones(2))
        w.data[0] = 100.0
        with pytest.raises(GraphError, match="written to"):
            pullback(1.0)

    def test_parameters_of_a_call_may_change_afterwards(self):
        x, axes, index = leaf(np.ones((2, 3))), [1, 0], np.array([0, 1, 1])
        y = np.transpose(x, axes)
        z = tg.getitem(leaf([1.0, 2.0]), index)
        axes.reverse()
        index[:] = 0
        y.backward(np.arange(6.0).reshape(3, 2))
        np.testing.assert_array_equal(x.grad, np.arange(6.0).reshape(3, 2).T)
        z.sum().backward()
        np.testing.assert_array_equal(z.args[0].grad, [1, 2])

    @pytest.mark.parametrize(
        ("pick", "index"),
        [
            (lambda x, i: np.take(x, i, axis=0), np.array([0, 1, 1])),
            (lambda x, i: np.take_along_axis(x, i, axis=0), np.array([[0, 1], [1, 1]])),
            (lambda x, i: tg.gather(x, 0, i), np.array([[0, 1], [1, 1]])),
            (lambda x, i: tg.scatter_add(np.zeros((2, 2)), 0, i, x), np.array([[0, 1], [1, 1]])),
        ],
    )
    def test_an_index_inside_a_tuple_may_change_afterwards(self, pick, index):
        grads = []
        for change in (False, True):
            x, own = leaf(np.arange(4.0).reshape(2, 2)), index.copy()
            out = pick(x, own)
            if change:
                own[:] = 0
            out.backward(np.arange(1.0, out.size + 1).reshape(out.shape))
            grads.append(x.grad)
        np.testing.assert_array_equal(*grads)

    def test_reshape_with_an_order(self):
        with pytest.raises(DtypeError, match="order by name"):
            leaf(np.ones(6)).reshape(2, 3, order="F")

    @pytest.mark.parametrize(
        "call",
        [
            lambda x: abs(x * (3 + 4j)).backward(),
            lambda x: tg.grad(lambda y: abs(y * (3 + 4j)))(2.0),
            lambda x: tg.grad(lambda y: y * 1j)(2.0),
            lambda x: (x * 2).backward(1j),
            lambda x: tg.tensor([1 + 2j], dtype=float),
            lambda x: setattr(x, "data", 1j),
            lambda x: x.__setitem__((), 1j),
            lambda x: tg.jvp(np.sin, (1.0,), (1j,)),
            lambda x: tg.vjp(np.sin, 1.0)[1](1j),
        ],
    )
    def test_complex_numbers_are_never_cast_to_real(self, call):
        x = leaf(2.0)
        with pytest.raises(DtypeError):
            call(x)
        assert x.grad is None and x.item() == 2

    @pytest.mark.parametrize("result", [None, "a", {"a": 1}])
    def test_a_function_that_returns_no_number(self, result):
        with pytest.raises(DtypeError, match="Is a return missing"):
            tg.grad(lambda x: result)(1.0)

    @pytest.mark.parametrize("argnums", [(0, 0), (0, -1)])
    def test_the_same_argument_twice(self, argnums):
        with pytest.raises(ArgumentError, match="each once"):
            tg.grad(lambda x: x * x, argnums=argnums)(3.0)

    def test_missing_arguments(self):
        with pytest.raises(DtypeError, match=r"takes \(condition, x, y\)"):
            np.where(leaf([1.0]))
        with pytest.raises(DtypeError, match="at least the first 2"):
            tg.linear(leaf(np.ones((2, 2))), bias=np.ones(2))

    def test_masked_arrays_do_not_swallow_tensors(self):
        with pytest.raises(DtypeError, match="never silently"):
            np.ma.array([1.0, 2.0]) * leaf([1.0, 2.0])

    @pytest.mark.parametrize(
        "call",
        [
            lambda: tg.tensor(None),
            lambda: tg.tensor([1.0], dtype=object),
            lambda: tg.tensor([1.0], dtype=str),
            lambda: setattr(tg.tensor(1.0), "data", None),
            lambda: tg.tensor([1.0]).__setitem__(0, None),
        ],
    )
    def test_none_and_objects_are_no_numbers(self, call):
        with pytest.raises(DtypeError, match="number"):
            call()

    def test_private_attributes_hold_parameters_too(self):
        class Net(nn.Module):
            def __init__(self):
                self._inner = nn.Linear(2, 2)

        assert [name for name, _ in Net().named_parameters()] == ["_inner.weight", "_inner.bias"]

    def test_a_replaced_layer_is_the_one_that_runs(self):
        net = nn.Sequential(nn.ReLU())
        setattr(net, "0", nn.Tanh())
        assert isinstance(net[0], nn.Tanh) and net(tg.tensor(-1.0)).item() < 0

    def test_paths_that_collide(self):
        class Net(nn.Module):
            def __init__(self):
                self.layers = {0: nn.Linear(1, 1), "0": nn.Linear(1, 1)}

        with pytest.raises(ArgumentError, match=r"'layers.0.weight' names two"):
            Net().state_dict()
        a, b = leaf(1.0, name="a"), leaf(1.0, name="a#2")
        c = leaf(1.0, name="a")
        assert len(tg.inspection.intermediates(a * b * c)) == 5

    def test_an_infinite_gradient_of_a_step_is_zero(self):
        x = leaf([0.5])
        np.floor(x).backward([np.inf])
        np.testing.assert_array_equal(x.grad, [0.0])


class TestHalfDone:
    def test_loading_with_a_result_in_an_attribute(self):
        class Net(nn.Module):
            def __init__(self):
                self.a, self.z = leaf(1.0), leaf(2.0)

            def forward(self, x):
                self.h = self.a * x
                return self.h * self.z

        net = Net()
        net(3.0)
        assert list(net.state_dict()) == ["a", "z"]
        with pytest.raises(StabError):
            net.load_state_dict({"a": 5.0, "z": [[1.0], [1.0, 2.0]]})
        assert net.a.item() == 1

    def test_a_gradient_that_does_not_fit_is_refused_when_assigned(self):
        p = leaf([1.0])
        with pytest.raises(ShapeError, match=r"grad: has the shape of its tensor, \(1,\)"):
            p.grad = np.ones(3)
        p.grad = [2]
        assert p.grad.dtype == np.float64
        shared = np.ones(1)
        q = leaf([1.0])
        p.grad = q.grad = shared
        tg.optim.clip_grad_norm_([p, q], 0.1)
        np.testing.assert_array_equal(shared, 1)

    def test_pullbacks_do_not_share_memory(self):
        w = leaf(1.0)
        _, pullback = tg.vjp(lambda x, y: (x + y) + 0 * w, np.ones(2), np.ones(2))
        a, b = pullback(np.ones(2))
        assert a is not b

    def test_an_unknown_operator_registers_nothing(self):
        with pytest.raises(ArgumentError, match="an operator is one of"):
            tg.primitive("users_odd", np.exp, lambda g, out, x: g, operator="??")
        assert "users_odd" not in tg.REGISTRY

    def test_an_unrecorded_result_does_not_hold_its_module(self):
        class Net(nn.Module):
            def forward(self, x):
                self.last = x * 2.0
                return self.last

        gc.disable()
        try:
            net = Net()
            with tg.no_grad():
                net(leaf(1.0))
            alive = weakref.ref(net)
            del net
            assert alive() is None
        finally:
            gc.enable()


class TestBareErrors:
    def test_no_features_at_all(self):
        nn.Linear(3, 0)(np.ones((2, 2, 3))).sum().backward()
        nn.Linear(0, 3)(np.ones((2, 2, 0))).sum().backward()

    @pytest.mark.parametrize("reduce", [np.sum, np.max, np.min])
    def test_axis_0_of_no_axes(self, reduce):
        x = leaf(2.0)
        reduce(x, axis=0).backward()  # NumPy takes it
        assert x.grad == 1

    def test_bools_as_exponents(self):
        x = leaf([2.0, 3.0])
        (x ** np.array([True, False])).sum().backward()
        np.testing.assert_array_equal(x.grad, [1.0, 0.0])

    def test_empty_lists_as_indices(self):
        x = leaf(np.ones((2, 3)))
        assert x[[]].shape == (0, 3) and x[[], 0].shape == (0,)

    def test_integers_into_the_sigmoid(self):
        assert tg.sigmoid(np.array([0, 0])).dtype == float and tg.sigmoid(0) == 0.5

    def test_concatenate_everything(self):
        x = leaf(np.ones((2, 2)))
        np.concatenate([x, x], axis=None).sum().backward()
        np.testing.assert_array_equal(x.grad, np.full((2, 2), 2.0))

    def test_lists_and_numbers_as_arguments(self):
        assert np.dot(leaf([1.0, 2.0]), [3.0, 4.0]).item() == 11
        assert F.cross_entropy(leaf([1.0, 1.0]), 1).item() == pytest.approx(np.log(2))
        assert F.mse_loss([1.0, 2.0], [1.0, 4.0]) == 2
        with pytest.raises(ShapeError, match="bias needs one entry"):
            tg.linear(leaf([1.0]), np.ones((2, 1)), 0.5)

    def test_several_outputs_where_one_is_needed(self):
        for call in (
            lambda: tg.jvp(lambda x: (x, x), (1.0,), (1.0,)),
            lambda: tg.jacobian(lambda x: (x, x))(1.0),
        ):
            with pytest.raises(ShapeError, match="must return one array; received 2"):
                call()

    def test_the_reason_is_the_one_that_holds(self):
        with pytest.raises(ShapeError, match="Integers to negative integer powers"):
            tg.tensor([1, 2]) ** -1

    def test_tensor_has_no_subclasses(self):
        with pytest.raises(DtypeError, match="Tensor: has no subclasses"):
            type("Mine", (tg.Tensor,), {})

    def test_numbers_too_large(self):
        assert tg.optim.clip_grad_norm_([], 1.0, 0.001) == 0
        p = leaf(np.ones(1000))
        p.grad = np.ones(1000)
        assert tg.optim.clip_grad_norm_([p], 1.0, norm_type=0.001) == np.inf
        with pytest.raises(StabError, match=r"too large|out of bounds"):
            tg.tensor([1], dtype=np.int8) + 1000

    def test_size_along_an_axis(self):
        assert np.size(leaf(np.ones((2, 3))), 1) == 3

    def test_scatter_of_what_does_not_fit(self):
        with pytest.raises(ShapeError, match="scatter: x must have the shape"):
            tg.scatter(leaf([1.0]), slice(None), (3,))

    def test_a_module_that_knows_its_parent(self):
        net, child = nn.Sequential(), nn.ReLU()
        net.child, child.parent = child, net
        assert "…" in repr(net)

    def test_one_no_grad_twice(self):
        off = tg.no_grad()
        for _ in range(2):
            with off, off:
                assert not (leaf(1.0) * 2).requires_grad
            assert (leaf(1.0) * 2).requires_grad

        @tg.no_grad()
        def twice(x):
            return x * 2

        assert not twice(leaf(1.0)).requires_grad

    def test_sigmoid_under_strict_floating_point(self):
        with np.errstate(all="raise", under="ignore"):
            assert tg.sigmoid(-1000.0) == 0


class TestTypes:
    def test_a_gradient_of_a_directional_derivative_is_an_array(self):
        second = tg.grad(lambda v: tg.jvp(lambda y: y**3, (2.0,), (v,))[1])(1.0)
        assert type(second) is np.ndarray and second == 12
        _, pullback = tg.vjp(lambda y: y**3, 2.0)
        assert type(tg.grad(lambda v: pullback(v)[0])(1.0)) is np.ndarray

    def test_an_empty_jacobian_keeps_its_type(self):
        assert tg.jacobian(lambda x: x[:0])(np.ones(3, np.float32)).dtype == np.float32


class TestOperations:
    """Found by comparing every operation with NumPy and PyTorch."""

    def test_logaddexp_of_large_numbers(self):
        for big, dtype in ((1e8, np.float32), (1e15, np.float64)):
            x, y = leaf(big, dtype=dtype), leaf(big, dtype=dtype)
            np.logaddexp(x, y).backward()
            assert x.grad == y.grad == 0.5
        x, y = leaf(np.inf), leaf(1.0)
        np.logaddexp(x, y).backward()
        assert (x.grad, y.grad) == (1, 0)

    def test_nan_to_num_has_numpys_order_of_arguments(self):
        x = np.array([np.nan, 1.0, np.inf])
        np.testing.assert_array_equal(
            np.nan_to_num(leaf(x), True, 5.0).data, np.nan_to_num(x, True, 5.0)
        )

    def test_running_statistics_that_cannot_be_updated(self):
        x, mean = leaf(np.ones((3, 2))), np.zeros(2)
        with pytest.raises(DtypeError, match="updated in place"):
            F.batch_norm(x, tg.tensor(np.zeros(2)), tg.tensor(np.ones(2)), training=True)
        with pytest.raises(ShapeError, match=r"running_var has shape \(2,\)"):
            F.batch_norm(x, mean, np.ones(3), training=True)
        np.testing.assert_array_equal(mean, 0)

    def test_what_is_ignored_may_be_nan(self):
        x = leaf([[0.0, 0.0], [np.nan, np.nan]])
        for loss in (F.cross_entropy(x, [0, -100]), F.nll_loss(F.log_softmax(x), [0, -100])):
            assert loss.item() == pytest.approx(np.log(2))

    def test_a_batch_of_nothing_does_no_harm(self):
        x = leaf(np.ones((2, 3)))
        loss = F.cross_entropy(x, [-100, -100])
        loss.backward()
        assert np.isnan(loss.item())
        np.testing.assert_array_equal(x.grad, 0)

    @pytest.mark.parametrize(
        "f",
        [
            lambda x: np.sqrt(np.clip(x, 0, None)),
            lambda x: np.sqrt(np.maximum(x, 0.0)),
            lambda x: np.sqrt(np.max(np.stack([x, tg.tensor(0.0)]))),
        ],
    )
    def test_a_blocked_infinite_gradient_is_zero(self, f):
        x = leaf(-1.0)
        f(x).backward()
        assert x.grad == 0

    def test_certain_and_wrong_in_float32(self):
        p = leaf([0.0, 0.3], dtype=np.float32)
        F.binary_cross_entropy(p, np.ones(2, np.float32)).backward()
        assert np.isfinite(p.grad).all()

    def test_softplus_at_infinity(self):
        assert tg.softplus(np.inf) == np.inf and tg.softplus(-np.inf) == 0
        assert tg.log_sigmoid(leaf(-np.inf)).item() == -np.inf

    @pytest.mark.parametrize(
        "call",
        [
            lambda x: np.inner(leaf(np.ones((2, 1))), x),
            lambda x: np.tensordot(leaf(np.ones((2, 1))), leaf(np.ones((3, 2))), 1),
            lambda x: np.tensordot(x, x, ([0, 0], [0, 1])),
            lambda x: np.linalg.norm(x, 1, axis=5),
            lambda x: np.squeeze(x, 3),
            lambda x: np.take(x, [0], axis=3),
            lambda x: np.flip(x, 5),
            lambda x: np.moveaxis(x, 0, 5),
            lambda x: np.repeat(x, 2, axis=5),
            lambda x: np.split(x, 0),
            lambda x: np.split(x, -1),
            lambda x: np.pad(x, 1.5),
            lambda x: np.tile(x, 2.5),
            lambda x: np.tril(x[0]),
            lambda x: tg.concatenate([]),
            lambda x: np.trace(x[0]),
            lambda x: tg.gather(x, 5, np.zeros((1, 1), int)),
            lambda x: tg.gather(x, 0, np.zeros(2, int)),
            lambda x: tg.gather(x, 0, np.array([[-1]])),
            lambda x: tg.gather(x, 0, np.array([[True]])),
            lambda x: F.binary_cross_entropy(tg.sigmoid(x[:, :1]), np.ones((2, 1)), np.ones(3)),
            lambda x: np.einsum("ij->i", x, dtype=float),
            lambda x: F.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), np.ones(3)),
            lambda x: F.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), stride=-1),
            lambda x: F.max_pool2d(np.ones((1, 1, 4, 4)), 2, stride=0),
            lambda x: F.max_pool2d(np.ones((1, 1, 4, 4)), 2, padding=2),
            lambda x: F.layer_norm(x, 3, weight=np.ones((3, 3))),
            lambda x: F.nll_loss(x, [0, 1], weight=np.ones(2)),
            lambda x: F.cross_entropy(x, np.array([[0, 1, 2], [1, 1, 1]])),
        ],
    )
    def test_refused_with_the_packages_own_error(self, call):
        with pytest.raises(StabError):
            call(leaf(np.ones((2, 3))))

    def test_take_counts_and_never_masks(self):
        x = leaf([[1.0, 2.0], [3.0, 4.0]])
        np.testing.assert_array_equal(np.take(x, [True, False], axis=0).data, [[3, 4], [1, 2]])
        assert np.take(x, [], axis=0).shape == (0, 2)

    @pytest.mark.parametrize("p", [0.5, 1.5, 3, np.int64(3)])
    def test_other_norms_at_zero(self, p):
        x = leaf([0.0, 0.0])
        np.linalg.norm(x, p, axis=0).backward()
        np.testing.assert_array_equal(x.grad, [0, 0])

    @pytest.mark.parametrize(
        ("subscripts", "shapes"),
        [("ij,ij->", [(2, 3), (1, 3)]), ("i,i", [(1,), (3,)]), ("ij,i->j", [(2, 3), (1,)])],
    )
    def test_einsum_with_lengths_of_1(self, subscripts, shapes, rng):
        arrays = [rng.normal(size=s) for s in shapes]
        leaves = [leaf(a) for a in arrays]
        np.einsum(subscripts, *leaves).sum().backward()
        for i, x in enumerate(leaves):
            moved = [a + 1e-30j * (i == k) for k, a in enumerate(arrays)]
            expected = np.einsum(subscripts, *moved).imag.sum() / 1e-30
            np.testing.assert_allclose(x.grad.sum(), expected, rtol=1e-12)

    @pytest.mark.parametrize(
        "f",
        [
            lambda x: np.roll(x, [1, 2], [0, 1]),
            lambda x: np.clip(x[0], np.zeros((3, 1)), None),
            lambda x: np.split(x[:0], 1)[0],
            lambda x: np.float_power(2.0, x),
            lambda x: np.sum(a=x),
            lambda x: np.cumsum(x[0, 0], 0),
            lambda x: np.prod(x[0, 0]),
            lambda x: F.group_norm(x[:0][:, :, None], 3),
            lambda x: F.conv2d(np.ones((2, 0, 5, 5)), np.zeros((3, 0, 2, 2))) + x.sum(),
        ],
    )
    def test_forms_that_numpy_or_pytorch_take(self, f):
        x = leaf(np.ones((2, 3)))
        out = f(x)
        out.backward(np.ones(out.shape))
        assert x.grad.shape == (2, 3)

    def test_numpy_scalars_as_parameters_keep_float32(self):
        x = leaf([1.0, -2.0], dtype=np.float32)
        for out in (
            tg.leaky_relu(x, np.float64(0.1)),
            tg.elu(x, np.float64(1)),
            np.clip(x, np.float64(0), None),
            tg.logsumexp(x[:0]),
            F.mse_loss(x, [1, 2]),
        ):
            assert out.dtype == np.float32


def test_the_mixed_second_derivative_of_a_power_at_exponent_zero():
    by_y_of_x = tg.grad(lambda y: tg.grad(lambda x: x**y)(2.0))(0.0)
    by_x_of_y = tg.grad(lambda x: tg.grad(lambda y: x**y)(0.0))(2.0)
    assert float(by_y_of_x) == float(by_x_of_y) == 0.5  # 1/x
    assert float(tg.grad(lambda x: x**0)(0.0)) == 0
