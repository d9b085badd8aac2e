"""The tensor itself: what it holds, what may be written, how it behaves as an array."""

import copy
import pickle
import re

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.errors import DtypeError, GraphError, IndexingError, ShapeError


def leaf(data, **kwargs):
    return tg.tensor(data, requires_grad=True, **kwargs)


class TestValue:
    def test_copies_its_data(self):
        array = np.array([1.0, 2.0])
        x = tg.tensor(array)
        array[0] = 100
        np.testing.assert_array_equal(x.data, [1.0, 2.0])

    @pytest.mark.parametrize(
        ("data", "dtype"),
        [
            (1.0, np.float64),
            ([1, 2], np.int64),
            (np.float32(1), np.float32),
            (True, np.bool_),
            (1j, np.complex128),
        ],
    )
    def test_keeps_the_type_of_its_data(self, data, dtype):
        assert tg.tensor(data).dtype == dtype

    def test_converts_on_request(self):
        assert leaf([1, 2], dtype=np.float32).dtype == np.float32

    @pytest.mark.parametrize("data", [object(), "text", np.datetime64("2020-01-01"), [object()]])
    def test_refuses_what_is_not_a_number(self, data):
        with pytest.raises(DtypeError, match="an array needs numbers; received"):
            tg.tensor(data)

    def test_refuses_ragged_rows(self):
        with pytest.raises(ShapeError, match="rows of equal length"):
            tg.tensor([[1.0], [1.0, 2.0]])

    def test_refuses_a_list_of_tensors(self):
        with pytest.raises(DtypeError, match=r"Join them with tg\.stack"):
            tg.tensor([leaf(1.0), leaf(2.0)])

    @pytest.mark.parametrize("data", [1, True, 1j])
    def test_only_real_floats_may_require_grad(self, data):
        with pytest.raises(DtypeError, match="needs real floating-point numbers"):
            leaf(data)

    def test_result_is_read_only(self):
        y = leaf([1.0, 2.0]) * 2
        with pytest.raises(ValueError, match="read-only"):
            y.data[0] = 5
        with pytest.raises(GraphError, match="only a leaf can be written to; multiply"):
            y.data = np.zeros(2)
        with pytest.raises(GraphError, match="only a leaf"):
            y[0] = 1.0

    def test_requires_grad_may_be_switched_on_leaves_only(self):
        x = leaf(1.0)
        y = x * 2
        x.requires_grad = False
        assert not (x * 2).requires_grad
        with pytest.raises(GraphError, match="only a leaf"):
            y.requires_grad = False


class TestWriting:
    """A leaf that was written to after an operation used it makes backward an error."""

    @pytest.mark.parametrize(
        "write",
        [
            lambda x: x.data.__setitem__(0, 100.0),
            lambda x: x.data.fill(7.0),
            lambda x: np.copyto(x.data, 3.0),
            lambda x: np.add(x.data, 1, out=x.data),
            lambda x: setattr(x, "data", np.zeros(2)),
            lambda x: x.__setitem__(0, 100.0),
            lambda x: x.add_(np.ones(2)),
            lambda x: exec("x.data -= 0.5", {"x": x}),
        ],
    )
    @pytest.mark.parametrize("requires_grad", [True, False])
    def test_is_noticed_and_names_the_tensor(self, write, requires_grad):
        x = tg.tensor([1.0, 2.0], requires_grad=requires_grad, name="x")
        w = leaf([3.0, 4.0], name="w")
        loss = (x * w * x).sum()
        write(x)
        with pytest.raises(GraphError, match=r"x \(2,\) was written to after multiply had used"):
            loss.backward()
        assert w.grad is None and x.grad is None, "nothing is half done"

    def test_reading_is_harmless(self):
        x = leaf([1.0, 2.0])
        loss = (x * x).sum()
        assert x.data.sum() == 3 and float(x.data[0]) == 1
        loss.backward()
        np.testing.assert_array_equal(x.grad, [2.0, 4.0])

    def test_writing_before_the_forward_pass_is_fine(self):
        x = leaf([1.0, 2.0])
        array = x.data
        array[0] = 5.0
        loss = (x * x).sum()
        assert x.data[0] == 5
        loss.backward()
        np.testing.assert_array_equal(x.grad, [10.0, 4.0])

    def test_nan_does_not_look_like_a_write(self):
        x = leaf([np.nan, 2.0])
        loss = (x * x).sum()
        assert np.isnan(x.data[0])
        loss.backward()

    def test_gradient_descent_as_every_course_writes_it(self):
        x = leaf([1.0, -2.0])
        for _ in range(50):
            x.grad = None
            (x * x).sum().backward()
            x.data -= 0.3 * x.grad
        np.testing.assert_allclose(x.data, 0, atol=1e-12)

    def test_a_refused_write_changes_nothing(self):
        x = leaf([1.0, 2.0])
        loss = (x * x).sum()
        with pytest.raises(ShapeError, match=r"keeps its shape \(2,\); got \(3,\)"):
            x.data = np.zeros(3)
        with pytest.raises(ShapeError, match="add_: a leaf keeps its shape"):
            x.add_(np.zeros(3))
        with pytest.raises(IndexingError, match=r"item assignment: .*index=7"):
            x[7] = 1.0
        with pytest.raises(ShapeError, match="item assignment"):
            x[:] = np.zeros(3)
        with pytest.raises(DtypeError, match="never silently"):
            x[0] = leaf(1.0)
        loss.backward()
        np.testing.assert_array_equal(x.grad, [2.0, 4.0])

    def test_augmented_assignment_of_the_tensor_is_recorded(self):
        x = leaf([1.0, 2.0])
        y = x
        y *= 3.0
        assert y is not x
        y.sum().backward()
        np.testing.assert_array_equal(x.grad, [3.0, 3.0])
        np.testing.assert_array_equal(x.data, [1.0, 2.0])


class TestAsArray:
    def test_scalars(self):
        x = tg.tensor(2.5)
        assert (float(x), x.item(), int(x), f"{x:.1f}", bool(x)) == (2.5, 2.5, 2, "2.5", True)

    def test_length_and_iteration(self):
        x = leaf([[1.0, 2.0], [3.0, 4.0]])
        assert len(x) == 2
        sum(row.sum() * i for i, row in enumerate(x)).backward()
        np.testing.assert_array_equal(x.grad, [[0, 0], [1, 1]])
        with pytest.raises(TypeError):
            len(tg.tensor(1.0))

    def test_truth_of_many_is_an_error(self):
        with pytest.raises(ValueError, match="ambiguous"):
            bool(tg.tensor([1.0, 2.0]))

    def test_repr(self):
        assert repr(tg.tensor([1.0, 2.0])) == "tensor([1., 2.])"
        x = leaf([1.0], name="x", dtype=np.float32)
        assert repr(x) == "tensor([1.], dtype=float32, name='x', requires_grad=True)"
        assert repr(x * 2) == "tensor([2.], dtype=float32, op=multiply)"

    def test_comparisons_are_plain_arrays(self):
        x = leaf([1.0, 2.0])
        for result in (x > 1, x >= 1, x < 1, x <= 1, x == 1, x != 1, x > 1):
            assert type(result) is np.ndarray and result.dtype == bool

    def test_is_hashable_by_identity(self):
        x, y = leaf(1.0), leaf(1.0)
        assert {x: 1, y: 2}[x] == 1

    def test_never_turns_silently_into_an_array(self):
        with pytest.raises(DtypeError, match=r"w: \(2,\) float64\). Use .data .* or .detach\(\)"):
            np.asarray(leaf([1.0, 2.0], name="w"))
        np.testing.assert_array_equal(np.asarray(tg.tensor([1.0, 2.0])), [1.0, 2.0])

    @pytest.mark.parametrize(
        "kind", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
    )
    def test_copies_of_a_leaf_are_independent(self, kind):
        x = leaf([1.0, 2.0], name="x")
        (x * x).sum().backward()
        y = kind(x)
        assert y.requires_grad and y.name == "x"
        np.testing.assert_array_equal(y.data, x.data)
        np.testing.assert_array_equal(y.grad, x.grad)
        y.data[0] = 9
        assert x.data[0] == 1

    def test_a_result_is_not_copied_without_its_graph(self):
        with pytest.raises(GraphError, match="copy or pickle: only a leaf"):
            copy.deepcopy(leaf(1.0) * 2)


class TestNumPy:
    def test_both_ways_of_writing_are_the_same_primitive(self):
        x = leaf([0.5, 1.0])
        assert tg.exp(x).op is x.exp().op is np.exp(x).op is tg.exp

    def test_arrays_and_scalars_on_the_left(self):
        x = leaf([1.0, 2.0], dtype=np.float32)
        y = np.array([3.0, 4.0])
        for result, expected in (
            (y * x, [3, 8]),
            (np.float64(2) * x, [2, 4]),
            (2 - x, [1, 0]),
            (2 / x, [2, 1]),
            (2**x, [2, 4]),
            (y @ x, 11),
        ):
            assert isinstance(result, tg.Tensor) and result.requires_grad
            np.testing.assert_array_equal(result.data, expected)

    @pytest.mark.parametrize(
        "operation", [lambda x: x * 2.0, lambda x: 1.5 - x, lambda x: x**2, lambda x: x / 3]
    )
    def test_python_numbers_keep_float32(self, operation):
        x = leaf([1.0, 2.0], dtype=np.float32)
        y = operation(x)
        y.sum().backward()
        assert y.dtype == x.grad.dtype == np.float32

    def test_a_wider_constant_widens_the_value_but_not_the_gradient(self):
        x = leaf([1.0, 2.0], dtype=np.float32)
        y = x * np.array([1.0, 2.0])
        y.sum().backward()
        assert y.dtype == np.float64 and x.grad.dtype == np.float32

    def test_function_without_a_rule_names_itself_and_the_nearest(self):
        with pytest.raises(tg.errors.UnsupportedError, match=r"np\.nansum: .* Is np\.sum meant\?"):
            np.nansum(leaf([1.0]))
        with pytest.raises(tg.errors.UnsupportedError, match=r"np\.svd: has no derivative rule"):
            np.linalg.svd(leaf(np.eye(2)))

    @pytest.mark.parametrize(
        "call",
        [
            lambda x: np.add.reduce(x),
            lambda x: np.multiply.outer(x, x),
            lambda x: np.add(x, 1, out=np.zeros(2)),
            lambda x: exec("a += x", {"a": np.zeros(2), "x": x}),
        ],
    )
    def test_ways_to_call_that_cannot_be_recorded(self, call):
        with pytest.raises(tg.errors.UnsupportedError, match="must be recorded"):
            call(leaf([1.0, 2.0]))

    def test_unknown_arguments_are_named(self):
        with pytest.raises(DtypeError, match=r"sum: takes \(x, axis, keepdims\).*dtype by name"):
            np.sum(leaf([1.0]), dtype=np.float32)

    def test_arguments_by_name_are_differentiated_too(self):
        weight, bias = leaf(np.eye(2)), leaf(np.zeros(2))
        tg.linear(np.ones((3, 2)), bias=bias, weight=weight).sum().backward()
        np.testing.assert_array_equal(bias.grad, [3.0, 3.0])
        np.testing.assert_array_equal(weight.grad, np.full((2, 2), 3.0))

    def test_shape_attributes(self):
        x = leaf(np.zeros((2, 3, 4)))
        assert (x.shape, x.ndim, x.size, np.shape(x), np.ndim(x), np.size(x)) == (
            (2, 3, 4), 3, 24, (2, 3, 4), 3, 24,
        )  # fmt: skip
        assert x.T.shape == (4, 3, 2) and x.mT.shape == (2, 4, 3)


class TestErrors:
    """Invariant, what was received, likely fix; never a bare NumPy message."""

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda x: x + np.ones(3), ShapeError, "add: shapes must broadcast"),
            (lambda x: x @ np.ones((3, 2)), ShapeError, "matmul: x's last axis must be as long"),
            (lambda x: x @ 2.0, ShapeError, "matmul: .* at least one axis"),
            (lambda x: x.reshape(3), ShapeError, "reshape: the new shape must hold"),
            (lambda x: x[5], IndexingError, "getitem: the index must fit x"),
            (lambda x: x.sum(axis=3), IndexingError, "sum: axis must name distinct axes"),
            (lambda x: x.sum(axis=(0, 0)), ShapeError, "sum: axis must name distinct axes"),
            (lambda x: x[:0].max(), ShapeError, "max: x must have elements"),
            (lambda x: tg.concatenate([x, np.ones((1, 1))]), ShapeError, "concatenate: arrays"),
            (lambda x: tg.stack([x, np.ones(3)]), ShapeError, "stack: arrays must all have"),
            (lambda x: tg.linear(x, np.ones((3, 784))), ShapeError, "x has 2 features but"),
            (lambda x: x.astype(int), DtypeError, "astype: the result must still be able"),
        ],
    )  # fmt: skip
    def test_message(self, call, error, message):
        with pytest.raises(error, match=message) as caught:
            call(leaf([1.0, 2.0]))
        assert re.search(r"\(2,\)|\(0,\)|dtype", str(caught.value)), "says what it received"
        assert not re.search("operands could not be broadcast", str(caught.value))

    def test_plain_arrays_get_the_same_errors(self):
        with pytest.raises(ShapeError, match=r"add: shapes must broadcast.*x: \(2,\) float64"):
            tg.add(np.ones(2), np.ones(3))

    def test_errors_are_the_builtins_that_a_caller_expects(self):
        for ours, builtin in (
            (ShapeError, ValueError),
            (DtypeError, TypeError),
            (IndexingError, IndexError),
            (GraphError, RuntimeError),
            (tg.errors.StateDictError, KeyError),
            (tg.errors.DataNotFoundError, OSError),
        ):
            assert issubclass(ours, builtin) and issubclass(ours, tg.errors.StabError)
