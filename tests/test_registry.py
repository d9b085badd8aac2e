"""Every primitive, driven by its own record (nothing here knows any by name), and every
composition of primitives.
"""

import doctest

import numpy as np
import pytest
from compositions import COMPOSITIONS
from oracle import assert_close, complex_gradient, contraction, numeric_gradient

import tinygrad_stab as tg
from tinygrad_stab.core.operand import HANDLERS, Operand
from tinygrad_stab.domain import Integers

# A user's own operation is a record like any other, and goes through the same tests.
CUBE = tg.primitive(
    "users_cube",
    lambda x: x**3,
    lambda g, out, x: g * 3 * x**2,
    doc="x³, as a user would define it.\n\n>>> CUBE([2.0])\narray([8.])",
)
PRIMITIVES = list(tg.REGISTRY.values())
RULED = [p for p in PRIMITIVES if p.rules]


def ids(operations):
    """Every case of these operations, as a parameter of a test."""
    return [
        pytest.param(p, c, id=f"{p.name}-{n}-{i}")
        for n, p in enumerate(operations)
        for i, c in enumerate(p.cases)
    ]


RECORDED = ids(RULED)
CASES = RECORDED + ids(COMPOSITIONS)


class Call:
    """A primitive as a function of the arguments that it can be differentiated in."""

    def __init__(self, primitive, case, rng):
        self.primitive, self.params = primitive, case.params
        self.all = primitive.sample(case, rng)
        domains = case.domain or (
            primitive.domain[:1] * len(self.all) if primitive.variadic else primitive.domain
        )
        self.free = [
            i
            for i, domain in enumerate(domains[: len(self.all)])
            if not isinstance(domain, Integers)
            and (primitive.variadic or primitive.rules[i] is not None)
        ]
        self.args = [self.all[i] for i in self.free]
        self.cotangent = rng.normal(size=np.shape(self.forward(*self.args)))

    def _complete(self, some):
        full = list(self.all)
        for i, value in zip(self.free, some, strict=True):
            full[i] = value
        return full

    def forward(self, *some):
        """On arrays, without the engine."""
        return self.primitive.forward(*self._complete(some), **self.params)

    def traced(self, *some):
        """Through the engine."""
        return self.primitive(*self._complete(some), **self.params)

    def gradients(self, args=None):
        args = self.args if args is None else args
        leaves = [tg.tensor(a, requires_grad=True) for a in args]
        # Keep the memory layout that a test is about: a tensor copies.
        for leaf, a in zip(leaves, args, strict=True):
            leaf._value = a
        out = self.traced(*leaves)
        out.backward(self.cotangent)
        return [leaf.grad for leaf in leaves]


@pytest.mark.parametrize(("primitive", "case"), CASES)
def test_gradient_agrees_with_differences(primitive, case, rng):
    call = Call(primitive, case, rng)
    for i, gradient in enumerate(call.gradients()):
        assert type(gradient) is np.ndarray
        expected = numeric_gradient(call.forward, [call.cotangent], call.args, i)
        assert_close(gradient, expected, 1e-8)


@pytest.mark.parametrize(("primitive", "case"), [c for c in CASES if c.values[0].analytic])
def test_gradient_agrees_with_the_complex_step(primitive, case, rng):
    call = Call(primitive, case, rng)
    for i, gradient in enumerate(call.gradients()):
        expected = complex_gradient(call.forward, [call.cotangent], call.args, i)
        assert_close(gradient, expected, 1e-12)


@pytest.mark.parametrize(("primitive", "case"), CASES)
def test_second_derivatives_agree_with_differences_of_the_first(primitive, case, rng):
    call = Call(primitive, case, rng)
    weights = [rng.normal(size=a.shape) for a in call.args]

    def first(*args):
        _, pullback = tg.vjp(call.traced, *args)
        return pullback(call.cotangent)

    _, pullback = tg.vjp(first, *call.args)
    for i, gradient in enumerate(pullback(*weights)):
        assert_close(gradient, numeric_gradient(first, weights, call.args, i), 1e-7)


@pytest.mark.parametrize(("primitive", "case"), CASES)
def test_memory_layout_does_not_matter(primitive, case, rng):
    call = Call(primitive, case, rng)

    def read_only(a):
        a = a.copy()
        a.flags.writeable = False
        return a

    layouts = {
        "Fortran": lambda a: np.asfortranarray(a).reshape(a.shape),
        "negative strides": lambda a: a[tuple(np.s_[::-1] for _ in a.shape)].copy()[
            tuple(np.s_[::-1] for _ in a.shape)
        ],
        "gaps": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
        "read-only": read_only,
    }
    expected = call.gradients()
    for name, lay_out in layouts.items():
        args = [lay_out(a) for a in call.args]
        before = [a.copy() for a in args]
        for actual, wanted in zip(call.gradients(args), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-13, atol=1e-14, err_msg=name)
        for a, b in zip(args, before, strict=True):
            np.testing.assert_array_equal(a, b, err_msg="an argument was written to")


@pytest.mark.parametrize(
    ("primitive", "case"), [c for c in CASES if getattr(c.values[0], "keeps_float32", True)]
)
def test_float32_stays_float32(primitive, case, rng):
    if "dtype" in case.params:
        case = case._replace(params=case.params | {"dtype": np.float32})
    call = Call(primitive, case, rng)
    wanted = call.gradients()
    args = [a.astype(np.float32) for a in call.args]
    call.all = [a.astype(np.float32) if a.dtype == np.float64 else a for a in call.all]
    assert call.traced(*[tg.tensor(a) for a in args]).dtype == np.float32
    for actual, expected in zip(call.gradients(args), wanted, strict=True):
        assert actual.dtype == np.float32
        assert_close(actual.astype(float), expected, 1e-4)


@pytest.mark.parametrize(("primitive", "case"), CASES)
def test_value_is_that_of_forward(primitive, case, rng):
    call = Call(primitive, case, rng)
    expected = call.forward(*call.args)
    plain = call.traced(*call.args)
    assert not isinstance(plain, Operand)
    np.testing.assert_array_equal(plain, expected)
    out = call.traced(*[tg.tensor(a) for a in call.args])
    assert isinstance(out, tg.Tensor) and not out.requires_grad
    np.testing.assert_allclose(out.data, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(("primitive", "case"), RECORDED)
def test_formulas_can_be_read_off(primitive, case):
    formulas = tg.inspection.formulas(primitive, case)
    assert formulas
    for name, formula in formulas.items():
        assert "object at" not in formula and "Symbol" not in formula, (name, formula)


KINKS = [pytest.param(p, k, id=f"{p.name}-{k.convention}") for p in PRIMITIVES for k in p.kinks]


@pytest.mark.parametrize(("primitive", "kink"), KINKS)
def test_convention_at_the_kink(primitive, kink):
    at = [np.asarray(a) for a in kink.at]
    assert not np.any(kink.where(*at)), "the example does not lie on the kink"
    leaves = [tg.tensor(a, requires_grad=True) for a in at]
    primitive(*leaves).sum().backward()
    for leaf, expected in zip(leaves, kink.gradient, strict=True):
        np.testing.assert_array_equal(leaf.grad, expected)
    assert kink.convention in primitive.__doc__


@pytest.mark.parametrize("primitive", PRIMITIVES, ids=lambda p: p.name)
def test_documentation(primitive):
    assert primitive.__doc__.strip()
    namespace = {"tg": tg, "np": np, "CUBE": CUBE}
    test = doctest.DocTestParser().get_doctest(
        primitive.__doc__, namespace, primitive.name, None, None
    )
    failures = []
    doctest.DocTestRunner(verbose=False).run(test, out=failures.append)
    assert not failures, "".join(failures)
    if primitive.rules and "called by ``tg." not in primitive.__doc__:
        assert test.examples, "an example that runs"


@pytest.mark.parametrize("primitive", PRIMITIVES, ids=lambda p: p.name)
def test_is_public_under_its_name(primitive):
    own = primitive.forward.__module__ != __name__
    if own and "called by ``tg." not in primitive.__doc__:
        assert getattr(tg, primitive.name) is primitive


@pytest.mark.parametrize(
    "function", [f for f, h in HANDLERS.items() if h in RULED], ids=lambda f: f.__name__
)
def test_numpy_function_is_the_same_primitive(function, rng):
    primitive = HANDLERS[function]
    call = Call(primitive, primitive.cases[0], rng)
    leaves = [tg.tensor(a, requires_grad=True) for a in call.all if a.dtype == float]
    if len(leaves) != len(call.all):
        pytest.skip("has arguments that are not floats")
    out = function(*leaves, **call.params)
    assert out.op is primitive
    if hasattr(tg.Tensor, primitive.name):
        method = getattr(leaves[0], primitive.name)(*leaves[1:], **call.params)
        np.testing.assert_array_equal(method.data, out.data)


@pytest.mark.parametrize("primitive", [p for p in PRIMITIVES if not p.rules], ids=lambda p: p.name)
def test_without_rules_results_are_plain_arrays(primitive, rng):
    args = primitive.sample(primitive.cases[0], rng)
    result = primitive(*[tg.tensor(a, requires_grad=True) for a in args])
    assert not isinstance(result, Operand)
    np.testing.assert_array_equal(result, primitive.forward(*args))


def test_a_name_stands_for_one_record():
    with pytest.raises(tg.errors.ArgumentError, match=r"'exp' is taken by <primitive exp\(x\)>"):
        tg.primitive("exp", np.exp, lambda g, out, x: g)
    assert tg.REGISTRY["exp"] is tg.exp


def test_a_rule_of_the_wrong_shape_is_an_error_not_a_silent_sum():
    bad = tg.primitive(
        "users_bad_shape", lambda x: 2 * x, lambda g, out, x: g[None] * 2, replace=True
    )
    try:
        x = tg.tensor([1.0, 2.0], requires_grad=True)
        with pytest.raises(
            tg.errors.ShapeError, match=r"rule for x must .* \(2,\); received \(1, 2\)"
        ):
            bad(x).sum().backward()
        assert x.grad is None
    finally:
        del tg.REGISTRY["users_bad_shape"]


def test_an_argument_without_a_rule_may_not_require_grad():
    condition = tg.tensor([1.0, 0.0], requires_grad=True)
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(tg.errors.DtypeError, match=r"condition has none. Pass its .data"):
        tg.where(condition, x, 0.0).sum().backward()


def test_contraction_is_what_the_oracles_differentiate(rng):
    x = rng.normal(size=3)
    assert contraction(np.exp, [np.ones(3)], [x]) == pytest.approx(np.exp(x).sum())


METHODS = [
    "abs",
    "add",
    "all",
    "any",
    "arctan2",
    "argmax",
    "argmin",
    "argsort",
    "astype",
    "broadcast_to",
    "cholesky",
    "clip",
    "copysign",
    "cos",
    "cumprod",
    "cumsum",
    "det",
    "diagonal",
    "divide",
    "dot",
    "equal",
    "erf",
    "exp",
    "flip",
    "float_power",
    "floor",
    "fmax",
    "fmin",
    "gather",
    "greater",
    "hypot",
    "inner",
    "inv",
    "isfinite",
    "isnan",
    "less",
    "log",
    "log_softmax",
    "logaddexp",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "nan_to_num",
    "negative",
    "norm",
    "outer",
    "power",
    "prod",
    "ravel",
    "reciprocal",
    "relu",
    "remainder",
    "repeat",
    "reshape",
    "roll",
    "round",
    "rsqrt",
    "scatter_add",
    "sigmoid",
    "sign",
    "sin",
    "sinc",
    "slogdet",
    "softmax",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "std",
    "subtract",
    "sum",
    "swapaxes",
    "take",
    "tan",
    "tanh",
    "tile",
    "trace",
    "transpose",
    "tril",
    "triu",
    "trunc",
    "var",
]


@pytest.mark.parametrize("name", METHODS)
def test_methods_that_numpy_or_pytorch_have(name):
    method = getattr(tg.Tensor, name)
    assert callable(method) and method.__doc__
