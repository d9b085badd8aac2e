"""What the strategies draw: it fits, it is as odd as it should be, and it shrinks."""

import inspect
import re
from random import Random

import hypothesis
import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import tinygrad_stab as tg
from tinygrad_stab.domain import CONDITION, POSITIVE, POSITIVE_DEFINITE, REALS, Integers, Interval
from tinygrad_stab.errors import ArgumentError, DtypeError, GradientCheckError, ShapeError
from tinygrad_stab.testing.strategies import (
    Expression,
    arguments,
    arrays_in,
    expressions,
    gradient_property,
    laid_out,
    networks,
    primitives,
    tensors,
)

FEW = settings(max_examples=15, database=None)
SOME = settings(max_examples=40)
INTERVALS = [
    REALS,
    POSITIVE,
    Interval(-0.9, 0.9),
    Interval(0.0, 1.0),
    Interval(1.0, 1.0 + 1e-6),
    Interval(2.0, 2.0),
    Interval(-1e30, 1e30),
    Interval(0.0, 1e-30),
]


def occurs(strategy, condition):
    """Something drawn that has a property; an error if nothing has."""
    only = settings(max_examples=2000, database=None, phases=[Phase.generate])
    return find(strategy, condition, settings=only, random=Random(0))


def simplest(strategy, condition=lambda drawn: True):
    """The simplest drawn thing that has a property."""
    # Without explanations, for which the simplest is varied again.
    both = settings(max_examples=300, database=None, phases=[Phase.generate, Phase.shrink])
    return find(strategy, condition, settings=both, random=Random(0))


# --- arrays


@SOME
@given(st.sampled_from(INTERVALS), st.sampled_from([np.float64, np.float32]), st.data())
def test_numbers_lie_in_their_interval(interval, dtype, data):
    x = data.draw(arrays_in(interval, dtype=dtype))
    assert x.dtype == dtype
    assert np.all(x.astype(float) >= interval.low) and np.all(x.astype(float) <= interval.high)
    assert 1 <= x.ndim <= 3 and set(x.shape) <= {1, 2, 3}


@given(arrays_in(Integers(2, 5), (4,)))
def test_integers_lie_in_their_domain(x):
    assert x.dtype == np.int64 and set(x.tolist()) <= {2, 3, 4}


@SOME
@given(arrays_in(POSITIVE_DEFINITE))
def test_matrices_are_positive_definite(x):
    np.testing.assert_array_equal(x, x.mT)
    assert np.linalg.eigvalsh(x).min() > 0.49


TINY = np.finfo(float).tiny


@pytest.mark.parametrize(
    "condition",
    [
        lambda x: x[0] == x[1] and x[0] not in (0, x[2]),
        lambda x: len(set(x)) == 3 and not any(x == np.round(x)),
        lambda x: np.sum(x == 0) == 1,
        lambda x: -3.0 in x,
        lambda x: np.any((x != 0) & (np.abs(x) < TINY)),
        lambda x: np.any(np.abs(x) == TINY),
        lambda x: np.any((x > 0.3) & (x < 0.4)),
        lambda x: np.all(x == np.round(x)) and len(set(x)) > 1,
    ],
    ids=["ties", "generic", "zero", "ends", "subnormal", "tiny", "between", "integers"],
)
def test_numbers_at_which_code_goes_wrong_occur(condition):
    occurs(arrays_in(REALS, (3,)), condition)


@given(arrays_in(REALS, (3,), tiny=False) | arguments(tg.exp, tiny=False).map(lambda c: c[0][0]))
def test_tiny_numbers_can_be_left_out(x):
    assert np.all((x == 0) | (np.abs(x) >= 1e-3))


def test_other_numbers_are_spread_evenly():
    seen = []

    @settings(max_examples=300, derandomize=True, database=None)
    @given(arrays_in(REALS, (4,)))
    def collect(x):
        seen.extend(x[~np.isin(x, [-3, -2, -1, 1, 2, 3]) & (np.abs(x) > 1e-7)])

    collect()
    parts, _ = np.histogram(seen, 6, (-3, 3))
    assert parts.min() > 0.08 * parts.sum()


@pytest.mark.parametrize("shape", [(), (0, 2), (2, 1, 3)])
def test_shape_is_that_asked_for(shape):
    assert occurs(arrays_in(REALS, shape), lambda x: True).shape == shape
    either = st.sampled_from([(5,), shape])
    assert occurs(arrays_in(REALS, either), lambda x: x.shape != (5,)).shape == shape


def test_arrays_shrink_to_simple_numbers():
    np.testing.assert_array_equal(simplest(arrays_in(REALS, (2, 2))), np.zeros((2, 2)))
    np.testing.assert_array_equal(simplest(arrays_in(POSITIVE, (3,))), np.ones(3))
    np.testing.assert_array_equal(simplest(arrays_in(REALS, (3,)), lambda x: x[1] > 0), [0, 1, 0])
    definite = simplest(arrays_in(POSITIVE_DEFINITE, (2, 2)))
    np.testing.assert_array_equal(definite, 0.5 * np.eye(2))


def test_positive_definite_matrices_are_square():
    with pytest.raises(ShapeError, match=r"are square; received the shape \(2, 3\)"):
        arrays_in(POSITIVE_DEFINITE, (2, 3))


# --- memory


@SOME
@given(st.data())
def test_layouts_hold_the_same_values(data):
    shape = data.draw(array_shapes(min_dims=0, min_side=0, max_side=3))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    array = data.draw(arrays_in(REALS, shape, dtype))
    before = array.copy()
    other = data.draw(laid_out(array))
    assert type(other) is np.ndarray and other.dtype == array.dtype
    np.testing.assert_array_equal(other, before, strict=True)
    assert not np.shares_memory(other, array)


@pytest.mark.parametrize(
    "condition",
    [
        lambda x: x.flags.c_contiguous and x.flags.writeable,
        lambda x: x.flags.f_contiguous,
        lambda x: max(x.strides) < 0,
        lambda x: x.strides == (48, 16),
        lambda x: not x.flags.writeable,
    ],
    ids=["C", "Fortran", "backwards", "gaps", "read-only"],
)
def test_every_layout_occurs(condition):
    occurs(laid_out(np.arange(6.0).reshape(2, 3)), condition)


# --- tensors and records


@given(tensors((2,), np.float32, POSITIVE))
def test_tensors_are_leaves_with_numbers_of_their_domain(x):
    assert x.op is None and x.requires_grad and x.dtype == np.float32
    assert float(x.data.min()) >= 0.2 and float(x.data.max()) <= 4.0


def test_integers_have_no_gradient():
    assert not occurs(tensors((), domain=CONDITION, requires_grad=False), bool).requires_grad
    with pytest.raises(DtypeError, match="needs real floating-point numbers"):
        occurs(tensors((), domain=CONDITION), bool)


@given(primitives())
def test_records_have_rules(primitive):
    assert tg.REGISTRY[primitive.name] is primitive and any(primitive.rules)


def test_records_without_rules_are_drawn_when_asked_for():
    occurs(primitives(differentiable=False), lambda p: not p.rules)


@given(st.data())
def test_a_record_takes_its_arguments(data):
    primitive = data.draw(primitives(differentiable=False))
    dtype = data.draw(st.sampled_from([np.float64, np.float32]))
    args, params = data.draw(arguments(primitive, dtype=dtype))
    assert {a.dtype for a in args} <= {np.dtype(dtype), np.dtype(np.int64)}
    before = [a.copy() for a in args]
    primitive(*args, **params)
    for a, b in zip(args, before, strict=True):
        np.testing.assert_array_equal(a, b)


@SOME
@given(st.data())
def test_arguments_stay_off_the_kinks(data):
    kinked = [p for p in tg.REGISTRY.values() if p.kinks]
    primitive = data.draw(st.sampled_from(kinked))
    args, params = data.draw(arguments(primitive))
    for kink in primitive.kinks:
        assert np.min(np.abs(kink.where(*args, **params)), initial=1.0) >= 0.05


@SOME
@given(st.data())
def test_arguments_have_elements_unless_they_may_have_none(data):
    args, _ = data.draw(arguments(data.draw(primitives()), empty=False))
    assert all(a.size for a in args)


@pytest.mark.parametrize("primitive", [p for p in tg.REGISTRY.values() if p.kinks], ids=str)
def test_examples_on_a_kink_occur(primitive):
    def on_it(call):
        return any(not np.all(kink.where(*call[0], **call[1])) for kink in primitive.kinks)

    occurs(arguments(primitive, off_kinks=False, empty=False), on_it)


@pytest.mark.parametrize(
    ("primitive", "condition"),
    [
        (tg.multiply, lambda x, y: x is y),
        (tg.solve, lambda a, b: a.shape == (2, 3, 3) and not b.flags.writeable),
        (tg.where, lambda c, x, y: x is y),
        (tg.divide, lambda x, y: x.ndim == 3 and y.ndim < 3),
        (tg.linear, lambda x, weight: weight.strides[0] < 0),
        (tg.add, lambda x, y: x.size == 0 and y.size > 0),
        (tg.REGISTRY["einsum"], lambda x, y, z: x.ndim == 3),
        (tg.maximum, lambda x, y: x.size > 1 and not x.flags.c_contiguous),
    ],
)
def test_odd_arguments_occur(primitive, condition):
    count = len(inspect.signature(condition).parameters)
    occurs(arguments(primitive), lambda call: len(call[0]) == count and condition(*call[0]))


# --- programs


def called(f):
    """The records that a program calls."""
    names = re.findall(r"= tg\.(?:REGISTRY\[')?(\w+)", f.definition)
    return [tg.REGISTRY[name] for name in names]


def uses(f, name):
    return len(re.findall(rf"\b{name}\b", f.definition.partition("):")[2]))


SMOOTH, ANY = expressions(), expressions(smooth=False)


@SOME
@given(SMOOTH | ANY)
def test_what_is_printed_is_what_runs(f):
    definition, call = f.source.rsplit("\n", 1)
    space = {}
    exec(definition, space)
    value = f(*f.inputs)
    np.testing.assert_array_equal(eval(call, space), value, strict=True)
    assert repr(f) == str(f) == f.source
    assert np.max(np.abs(value)) <= 3.0 and all(x.dtype == np.float64 for x in f.inputs)


@SOME
@given(SMOOTH | ANY)
def test_programs_run_on_tensors_and_use_all_inputs(f):
    out = f(*[tg.tensor(x, requires_grad=True) for x in f.inputs])
    assert type(out) is tg.Tensor
    np.testing.assert_allclose(out.data, f(*f.inputs), rtol=1e-13, atol=1e-13)
    assert all(uses(f, name) for name in inspect.signature(f).parameters)


@SOME
@given(SMOOTH)
def test_smooth_programs_have_no_kinks(f):
    assert 1 <= len(called(f)) <= 6
    assert all(p.analytic and not p.kinks for p in called(f))


@SOME
@given(expressions(outputs=3, max_steps=2))
def test_several_outputs_are_a_tuple(f):
    assert isinstance(f(*f.inputs), tuple) and len(f(*f.inputs)) == 3
    assert len(called(f)) == 3


def test_programs_vary():
    wanted = {
        "a result that is used twice": lambda f: any(uses(f, name) > 2 for name in "abc"),
        "an input that is used twice": lambda f: any(uses(f, name) > 1 for name in "xyz"),
        "all steps": lambda f: len(called(f)) == 6,
        "broadcasting": lambda f: (
            len({x.shape for x in f.inputs}) > 1 and tg.multiply in called(f)[-1:]
        ),
        "a product": lambda f: {tg.matmul, tg.REGISTRY["einsum"]} & set(called(f)),
        "a reduction": lambda f: {tg.sum, tg.mean, tg.prod, tg.logsumexp} & set(called(f)),
        "another shape": lambda f: {tg.reshape, tg.transpose, tg.getitem} & set(called(f)),
        "a matrix made definite": lambda f: ".mT / 3 + 0.5 * np.eye(3)" in f.definition,
        "a value squeezed": lambda f: "0.2 + 3.8 * tg.sigmoid(" in f.definition,
        "a large value scaled": lambda f: re.search(r"sigmoid\(0\.\d+ \* ", f.definition),
    }

    @settings(max_examples=500, derandomize=True, database=None)
    @given(SMOOTH)
    def collect(f):
        for what in [what for what, condition in wanted.items() if condition(f)]:
            del wanted[what]

    collect()
    assert not wanted


def test_kinked_records_occur_if_allowed():
    occurs(ANY, lambda f: any(p.kinks for p in called(f)))


def test_a_program_shrinks_to_few_calls_on_simple_numbers():
    programs = expressions(records=[tg.exp, tg.tanh, tg.add, tg.mean, tg.transpose, tg.matmul])
    f = simplest(programs, lambda f: tg.tanh in called(f))
    assert f.source.splitlines()[4:] == [
        *["def f(x):", "    a = tg.tanh(x)", "    return a", "", "", "f(np.array(0.0))"]
    ]
    f = simplest(programs, lambda f: uses(f, "a") > 2)
    assert len(called(f)) == 2 and not any(x.any() for x in f.inputs)


def test_users_records_are_drawn_too():
    cube = tg.primitive("users_cubic", lambda x: x**3, lambda g, out, x: g * 3 * x**2, replace=True)
    try:
        occurs(primitives(), lambda p: p is cube)
        only = expressions(records=[tg.sum, cube])
        f = occurs(only, lambda f: set(called(f)) == {tg.sum, cube})
        assert "= tg.REGISTRY['users_cubic'](" in f.definition
    finally:
        del tg.REGISTRY["users_cubic"]


def test_programs_need_a_record_with_rules():
    f = occurs(expressions(records=[tg.sum, tg.transpose]), lambda f: len(called(f)) > 1)
    assert set(called(f)) <= {tg.sum, tg.transpose}
    with pytest.raises(ArgumentError, match="needs records with rules and no kinks; 0 of those"):
        expressions(records=[tg.less, tg.relu])


def test_numbers_are_printed_exactly():
    x = np.array([0.1, -0.0, 5e-324, 1 / 3])
    f = Expression("def f(x):\n    return x\n", [x, np.full((2, 2), -0.0)])
    call = f.source.rsplit("\n", 1)[1]
    f, array, full = "f", np.array, np.full
    assert call == "f(np.array([0.1, -0.0, 5e-324, 0.3333333333333333]), np.full((2, 2), -0.0))"
    assert (f, array([1 / 3])[0], full((), 5e-324)) == ("f", x[3], x[2])


# --- networks


@SOME
@given(networks())
def test_networks_take_their_inputs(drawn):
    model, x = drawn
    assert isinstance(model, tg.nn.Sequential) and x.ndim == 2 and x.shape[1] <= 4
    assert all(p.dtype == np.float64 and p.requires_grad for p in model.parameters())
    assert model(x).shape[0] == len(x) and np.all(np.isfinite(model(x).data))


@pytest.mark.parametrize("kind", [tg.nn.ReLU, tg.nn.Tanh, tg.nn.Sigmoid, tg.nn.Residual])
def test_every_layer_occurs(kind):
    occurs(networks(), lambda drawn: any(isinstance(m, kind) for m in drawn[0].modules()))


@SOME
@given(networks(smooth=True, max_layers=2))
def test_smooth_networks_have_no_relu(drawn):
    modules = list(drawn[0].modules())
    assert not any(isinstance(m, tg.nn.ReLU) for m in modules)
    assert sum(isinstance(m, tg.nn.Linear) for m in modules) <= 2


# --- properties of gradients

test_softsign = gradient_property(lambda x: x / (1 + np.abs(x)), settings=FEW)
test_sum_of_products = gradient_property(lambda x, y: np.sum(x * y), settings=FEW)
test_matmul = gradient_property(tg.matmul, shapes=[(3,), (3, 4)], settings=FEW)
test_log = gradient_property(np.log, domain=POSITIVE, settings=FEW)
test_relu_on_and_off_its_kink = gradient_property(tg.relu, shapes=[None], settings=FEW)
test_max_with_ties = gradient_property(lambda x: np.max(x, axis=-1), settings=FEW)
test_record_with_parameters = gradient_property(tg.clip, settings=FEW)
test_record_with_labels = gradient_property(tg.softmax_cross_entropy, settings=FEW)
test_inverse = gradient_property(np.linalg.inv, domain=POSITIVE_DEFINITE, settings=FEW)
test_second_derivatives = gradient_property(tg.tanh, shapes=[(2,)], settings=FEW, order=2)
test_pair = gradient_property((lambda x: np.sum(x * x), lambda x: 2 * x), settings=FEW)


@pytest.mark.parametrize(
    "f",
    [
        (lambda x: np.sum(x * x), lambda x: x),
        (lambda x, y: np.sum(x * y), lambda x, y: (y, x * (x != y))),  # wrong at ties alone
    ],
)
def test_a_wrong_gradient_is_found(f):
    with pytest.raises(GradientCheckError, match="the gradient of f is wrong"):
        gradient_property(f, settings=settings(database=None, phases=[Phase.generate]))()


def test_a_property_can_be_collected():
    property_ = gradient_property(tg.tanh, shapes=[(2,)])
    assert property_.__name__ == "test_gradient_of_tanh" and "tanh" in property_.__doc__
    assert not inspect.signature(property_).parameters
    assert gradient_property(lambda x: x).__name__ == "test_gradient_of_f"


def test_a_property_that_proves_nothing_fails():
    with pytest.raises((hypothesis.errors.Unsatisfiable, hypothesis.errors.FailedHealthCheck)):
        gradient_property(lambda x: x * 0, settings=FEW)()


def test_a_property_needs_shapes_that_fit():
    with pytest.raises(ArgumentError, match="received 0 and 0"):
        gradient_property(lambda *xs: xs[0])
    with pytest.raises(ArgumentError, match="received 2 and 1"):
        gradient_property(tg.divide, shapes=[(), ()], domain=[POSITIVE])
