"""What Hypothesis draws: arrays, memory layouts, arguments of records, programs, networks.

Everything comes from a `domain` or from the registry's records, so what is added there is drawn
too. What is drawn shrinks: a counterexample is reported in its simplest form.

>>> from hypothesis import given
>>> @given(arrays_in(REALS, (3,)))
... def test_exp_never_falls(x):
...     assert (tg.grad(lambda x: tg.sum(tg.exp(x)))(x) > 0).all()
>>> test_exp_never_falls()
"""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial, update_wrapper
from itertools import combinations
from typing import Any

import hypothesis
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from .. import nn
from ..core.primitive import REGISTRY, Primitive
from ..core.tensor import Tensor
from ..domain import (
    REALS,
    Case,
    Domain,
    Integers,
    Interval,
    PositiveDefinite,
    Shape,
    sample,
)
from ..errors import ArgumentError, ShapeError, VacuousCheckError
from .gradcheck import check_gradients

Shapes = Shape | st.SearchStrategy[Shape] | None
Arguments = tuple[list[np.ndarray], dict[str, Any]]
_MARGIN = 0.05  # how far from a kink, as in `domain.sample`
_LARGEST = 40  # elements of an array in a program, which oracles run once an element


# --- arrays


def arrays_in(
    domain: Domain, shape: Shapes = None, dtype: Any = np.float64, tiny: bool = True
) -> st.SearchStrategy[np.ndarray]:
    """Arrays of numbers in a domain, evenly spread or where code goes wrong.

    Of an interval, its ends, 0, ±1, ±2, tiny and subnormal numbers are frequent, each if it lies
    within, and so are equal entries. Numbers shrink towards 0, 1, −1, …

    Parameters
    ----------
    domain : Interval, Integers or PositiveDefinite
    shape : tuple, strategy of tuples, or None
        None: one to three axes of length 1 to 3; square matrices for PositiveDefinite.
    dtype : dtype
        Of real numbers, which lie in the domain also as float32. Integers are int64.
    tiny : bool
        Whether an interval's numbers may be next to 0, but not 0: less than a thousandth of what
        its width is. Differences can hardly tell them from 0.

    Raises
    ------
    ShapeError
        A shape for PositiveDefinite whose last two lengths differ.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(arrays_in(REALS, (2,)), lambda x: x[0] == x[1] == 3)
    array([3., 3.])
    """
    if shape is None:
        shape = _small_shapes(square=isinstance(domain, PositiveDefinite))
    if isinstance(shape, st.SearchStrategy):
        return shape.flatmap(lambda drawn: arrays_in(domain, drawn, dtype, tiny))
    if isinstance(domain, Integers):
        return hnp.arrays(np.int64, shape, elements=st.integers(domain.low, domain.high - 1))
    if isinstance(domain, PositiveDefinite):
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ShapeError(
                f"arrays_in: positive definite matrices are square; received the shape {shape}. "
                f"Make its last two lengths equal"
            )
        return _definite(shape, dtype)
    even, mixed = _numbers(domain, np.dtype(dtype), tiny)
    return st.one_of(
        hnp.arrays(dtype, shape, elements=mixed),  # fills up with one number: ties
        hnp.arrays(dtype, shape, elements=mixed, fill=st.nothing()),
        hnp.arrays(dtype, shape, elements=even, fill=st.nothing()),
    )


@st.composite
def _definite(draw: st.DrawFn, shape: Shape, dtype: Any) -> np.ndarray:
    a, n = draw(arrays_in(Interval(-2.0, 2.0), shape)), shape[-1]
    return (a @ a.mT / max(n, 1) + 0.5 * np.eye(n)).astype(dtype)  # as PositiveDefinite.draw


def _small_shapes(square: bool = False) -> st.SearchStrategy[Shape]:
    if not square:
        return hnp.array_shapes(max_dims=3, max_side=3)
    stacks = hnp.array_shapes(min_dims=0, max_dims=1, max_side=3)
    return st.builds(lambda stack, n: (*stack, n, n), stacks, st.integers(1, 3))


def _numbers(domain: Interval, dtype: np.dtype, tiny: bool) -> list[st.SearchStrategy[Any]]:
    """Numbers of an interval: evenly spread ones, and mixed with those at which code goes wrong."""
    info: Any = np.finfo(dtype)
    low, high = dtype.type(domain.low), dtype.type(domain.high)
    if float(low) < domain.low:  # rounded outwards: the next number lies within
        low = np.nextafter(low, dtype.type(np.inf))
    if float(high) > domain.high:
        high = np.nextafter(high, dtype.type(-np.inf))
    low, high = float(low), float(high)
    simple = [0.0, 1.0, -1.0, 2.0, -2.0, low, high]
    # Hypothesis draws floats evenly from an interval, unless it holds the many floats around 0.
    digits = min(3 - math.floor(math.log10(high - low)), 300) if high > low else 0
    sides = [(max(low, 10.0**-digits), high), (low, min(high, -(10.0**-digits)))]
    floats = st.one_of([st.floats(a, b) for a, b in sides if a <= b] or [st.just(low)])
    if tiny:
        smallest = [1e-8, float(info.tiny), float(info.smallest_subnormal)]
        simple += [*smallest, *(-x for x in smallest)]

    def within(x: float) -> Any:
        return dtype.type(min(max(x, low), high))

    even = floats.map(lambda x: within(round(x, digits)))  # short in print
    some = st.sampled_from([dtype.type(x) for x in simple if low <= x <= high])
    return [even, st.one_of(some, even, (st.floats(low, high) if tiny else floats).map(within))]


@st.composite
def laid_out(draw: st.DrawFn, array: np.ndarray) -> np.ndarray:
    """Arrays equal to the given one, in other memory.

    In C's or Fortran's order, with negative strides, with gaps between elements, or read-only.

    Parameters
    ----------
    array : ndarray
        Of any shape; it is left alone.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(laid_out(np.eye(2)), lambda x: x.strides[0] < 0)
    array([[1., 0.],
           [0., 1.]])
    """
    backwards: Any = (..., *[np.s_[::-1]] * array.ndim)  # "..." keeps a 0-d array an array

    def read_only(x: np.ndarray) -> np.ndarray:
        x = x.copy()
        x.flags.writeable = False
        return x

    ways: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda x: x.copy(order="C"),
        lambda x: x.copy(order="F"),
        lambda x: x[backwards].copy()[backwards],
        lambda x: np.stack([x, x], axis=-1)[..., 0],
        read_only,
    ]
    return draw(st.sampled_from(ways))(array)


def tensors(
    shape: Shapes = None,
    dtype: Any = np.float64,
    domain: Domain = REALS,
    requires_grad: bool = True,
) -> st.SearchStrategy[Tensor]:
    """Tensors of numbers in a domain, drawn as by `arrays_in`.

    Raises
    ------
    DtypeError
        Integers that require a gradient.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(tensors((2,)), lambda x: x.data.min() == 3)
    tensor([3., 3.], requires_grad=True)
    """
    return st.builds(Tensor, arrays_in(domain, shape, dtype), st.just(requires_grad))


# --- records of the registry, and what to call them with


def primitives(differentiable: bool = True) -> st.SearchStrategy[Primitive]:
    """Records of the registry; if ``differentiable``, those with a rule for some argument.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(primitives(), lambda primitive: primitive.operator == "@")
    <primitive matmul(x, y)>
    """
    return st.sampled_from([p for p in REGISTRY.values() if any(p.rules) or not differentiable])


@st.composite
def arguments(
    draw: st.DrawFn,
    primitive: Primitive,
    off_kinks: bool = True,
    empty: bool = True,
    dtype: Any = np.float64,
    tiny: bool = True,
) -> Arguments:
    """Arguments and parameters for a record: one of its cases, or fresh shapes that broadcast.

    The arrays lie in the record's domain and anywhere in memory (`laid_out`); two of one shape
    and domain may be the very same array.

    Parameters
    ----------
    primitive : Primitive
    off_kinks : bool
        Stay 0.05 away from every kink. If not, half of the draws are the record's own examples
        *on* a kink, where it has any.
    empty : bool
        Whether arrays may have no elements.
    dtype, tiny
        Of the real arguments, as for `arrays_in`.

    Returns
    -------
    args : list of ndarray
    params : dict
        So that the call is ``primitive(*args, **params)``.

    Examples
    --------
    >>> from hypothesis import find
    >>> (x, y), params = find(arguments(tg.multiply), lambda call: call[0][0] is call[0][1])
    >>> x is y, params
    (True, {})
    """
    if primitive.kinks and not off_kinks and draw(st.booleans()):
        return [np.array(x, dtype) for x in draw(st.sampled_from(primitive.kinks)).at], {}
    cases = [c for c in primitive.cases if empty or all(map(math.prod, c.shapes))]
    case = draw(st.sampled_from(cases))
    if primitive.elementwise and draw(st.booleans()):
        fresh = hnp.mutually_broadcastable_shapes(
            num_shapes=primitive.arity, min_side=0 if empty else 1, max_side=3, max_dims=3
        )
        case = case._replace(shapes=draw(fresh).input_shapes)
    domains = _domains(primitive, case)
    each = zip(domains, case.shapes, strict=True)
    args = [draw(arrays_in(d, s, dtype, tiny)) for d, s in each]
    for i, j in combinations(range(len(args)), 2):
        x, y = args[i], args[j]
        if domains[i] == domains[j] and (x.shape, x.dtype) == (y.shape, y.dtype):
            args[j] = draw(st.sampled_from([y, x]))
    gaps = [np.abs(kink.where(*args, **case.params)) for kink in primitive.kinks]
    if off_kinks and any(np.min(gap, initial=np.inf) < _MARGIN for gap in gaps):
        # Zeros and ties often lie on a kink; to reject all of them would take too many draws.
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        args = sample(case, domains, primitive.kinks, rng)
        args = [x.astype(dtype) if x.dtype.kind == "f" else x for x in args]
    placed = {id(x): draw(laid_out(x)) for x in args}  # by identity: one array stays one array
    return [placed[id(x)] for x in args], dict(case.params)


def _domains(primitive: Primitive, case: Case) -> tuple[Domain, ...]:
    """The domain of each argument of a case."""
    count = len(case.shapes)
    own = primitive.domain[:1] * count if primitive.variadic else primitive.domain
    return (case.domain or own)[:count]


# --- random programs

_IMPORTS = "import numpy as np\nimport tinygrad_stab as tg\n\n\n"


class Expression:
    r"""A program over the registry, as the text that it is, and inputs for it.

    Call it with arrays, tensors, symbols, complex arrays: whatever the engine's functions take.
    Its ``repr`` is `source`, to be pasted and run.

    Attributes
    ----------
    definition : str
        The imports and a function ``f``.
    inputs : list of ndarray
        A float64 array for each argument of f.

    Examples
    --------
    >>> f = Expression("import math\n\ndef f(x):\n    return 2 * x\n", [np.zeros(2)])
    >>> f(np.array([0.5]))
    array([1.])
    >>> print(f.source.splitlines()[-1])
    f(np.full((2,), 0.0))
    """

    def __init__(self, definition: str, inputs: list[np.ndarray]) -> None:
        self.definition, self.inputs = definition, inputs
        self._function: Callable[..., Any] = _run(definition)["f"]
        self.__name__, self.__signature__ = "f", inspect.signature(self._function)  # for reports

    def __call__(self, *args: Any) -> Any:
        """The value: an array or tensor, or a tuple of these."""
        return self._function(*args)

    @property
    def source(self) -> str:
        """The definition, and a call with the inputs."""
        return f"{self.definition}\n\nf({', '.join(map(_literal, self.inputs))})"

    def __repr__(self) -> str:
        return self.source


def expressions(
    smooth: bool = True,
    outputs: int = 1,
    max_steps: int = 6,
    records: Iterable[Primitive] | None = None,
) -> st.SearchStrategy[Expression]:
    r"""Random differentiable programs over the registry, with shared subexpressions.

    A program is written from its result backwards: what a record is called with is an input, or
    a value that is there already (so values are shared), or the result of one more record of that
    shape. Elementwise records broadcast; the others come with the shapes and parameters of their
    cases. What lies outside the domain of the record that takes it is squeezed into it by a
    sigmoid, so all numbers are of moderate size (near these inputs: the text is fixed by then).

    Parameters
    ----------
    smooth : bool
        Only analytic records without kinks, so that differences and the complex step apply
        anywhere. If not, all that have rules, and kinks where they fall.
    outputs : int
        1: f returns an array, for whoever differentiates it to contract; more: a tuple.
    max_steps : int
        Calls of records, at most (and at least one an output).
    records : iterable of Primitive, optional
        What to draw from. Default: the registry, as it is now.

    Raises
    ------
    ArgumentError
        None of the records can be drawn.

    Examples
    --------
    >>> from hypothesis import find
    >>> f = find(expressions(max_steps=1), lambda f: "tg.tanh(x)" in f.definition)
    >>> print(*f.definition.splitlines()[4:], sep="\n")
    def f(x):
        a = tg.tanh(x)
        return a
    """
    chosen = [
        p
        for p in (REGISTRY.values() if records is None else records)
        if any(p.rules) and (not smooth or (p.analytic and not p.kinks))
    ]
    elementwise = [p for p in chosen if p.elementwise]
    rng = np.random.default_rng(0)
    # Shape of a result -> the records and cases that give it, besides the elementwise ones.
    makers: dict[Shape, list[tuple[Primitive, Case]]] = {}
    if elementwise:
        makers = {(): [], (3,): [], (2, 3): []}
    for p in chosen:
        for case in () if p in elementwise else p.cases:
            if all(0 < math.prod(shape) <= _LARGEST for shape in case.shapes):
                out = p.forward(*sample(case, _domains(p, case), (), rng), **case.params)
                if 0 < np.size(out) <= _LARGEST:
                    makers.setdefault(np.shape(out), []).append((p, case))
    if not makers:
        raise ArgumentError(
            f"expressions: needs records with rules{' and no kinks' * smooth}; {len(chosen)} of "
            f"those given have, and none has a case of at most {_LARGEST} elements. Add tg.exp"
        )
    return _expressions(elementwise, makers, outputs, max_steps)


@st.composite
def _expressions(
    draw: st.DrawFn, elementwise: Any, makers: Any, outputs: int, steps: int
) -> Expression:
    program = _Program(draw, elementwise, makers, max(steps - outputs, 0))
    results = [program.fit(draw(_step(program)), REALS) for _ in range(outputs)]
    body = "\n    ".join([*program.lines, f"return {', '.join(results)}"])
    definition = f"{_IMPORTS}def f({', '.join(program.inputs)}):\n    {body}\n"
    return Expression(definition, list(program.inputs.values()))


@st.composite
def _step(draw: st.DrawFn, program: "_Program", shape: Shape | None = None) -> str:
    """One more call in a program; of any shape, if none is given.

    As Hypothesis sees it, an inner step is like the outer one, so the inner can take its place
    when a counterexample shrinks. Its shape comes along: it is drawn even where there is but one.
    """
    first, last = 0, len(program.shapes) - 1
    if shape is not None:
        first = last = program.shapes.index(shape) if shape in program.shapes else 0
    drawn = program.shapes[draw(st.integers(first, last))]
    return program.step(drawn if shape is None else shape)


class _Program:
    """A program as far as it is written: its lines, and the values that they have."""

    def __init__(self, draw: st.DrawFn, elementwise: Any, makers: Any, steps: int) -> None:
        self.draw, self.elementwise, self.makers, self.left = draw, elementwise, makers, steps
        self.shapes = sorted(makers, key=math.prod)
        self.space = _run(_IMPORTS)
        self.inputs: dict[str, np.ndarray] = {}
        self.values: dict[str, np.ndarray] = {}  # of the inputs and of every line
        self.lines: list[str] = []

    def step(self, shape: Shape) -> str:
        """Call one more record, on arguments made first; the name of its result."""
        free = [(p, Case((shape,) * p.arity, {}, None)) for p in self.elementwise]
        unary, several = ([c for c in free if (c[0].arity == 1) is one] for one in (True, False))
        kinds = [kind for kind in (unary, several, self.makers.get(shape)) if kind]
        record, case = self.draw(st.one_of(*map(st.sampled_from, kinds)))
        domains, args = _domains(record, case), []
        rules = record.rules_of_each(len(domains))
        # Of an elementwise record's arguments one has the shape of the result.
        whole = self.draw(st.integers(0, len(domains) - 1)) if record.elementwise else None
        for i, (domain, rule) in enumerate(zip(domains, rules, strict=True)):
            if isinstance(domain, Integers) or rule is None:
                args.append(_literal(self.draw(arrays_in(domain, case.shapes[i]))))
            else:
                args.append(self.value(case.shapes[i], domain, whole not in (None, i)))
        args += [f"{name}={_literal(value)}" for name, value in case.params.items()]
        public = getattr(self.space["tg"], record.name, None) is record
        name = f"tg.{record.name}" if public else f"tg.REGISTRY[{record.name!r}]"
        return self.line(f"{name}({', '.join(args)})")

    def value(self, shape: Shape, domain: Domain, loose: bool) -> str:
        """A value in a domain, of a shape or (loose) of one that is repeated to it."""
        there = [
            name
            for name, value in self.values.items()
            if value.shape == shape or (loose and _broadcasts(value.shape, shape))
        ]
        choices = ["input"] + ["shared"] * bool(there)
        if self.left > 0 and (self.elementwise or shape in self.makers):
            choices += ["step", "step"]
        choice = self.draw(st.sampled_from(choices))
        if choice == "shared":
            return self.fit(self.draw(st.sampled_from(there)), domain)
        if loose:
            kept = shape[self.draw(st.integers(0, len(shape))) :]
            shape = tuple(self.draw(st.sampled_from([n, 1])) for n in kept)
        if choice == "step":
            self.left -= 1
            return self.fit(self.draw(_step(self, shape)), domain)
        name = _name("xyzuvw", len(self.inputs))
        array = self.draw(arrays_in(domain, shape, tiny=False))
        self.inputs[name] = self.values[name] = self.space[name] = array
        return name

    def fit(self, name: str, domain: Domain) -> str:
        """A value as it is, if it lies in the domain, or else moved there smoothly."""
        value = self.values[name]
        if isinstance(domain, PositiveDefinite):
            name, n = self.fit(name, REALS), value.shape[-1]
            return f"{name} @ {name}.mT / {n} + 0.5 * np.eye({n})"
        low, high = domain.low, domain.high
        if low <= value.min() and value.max() <= high:
            return name
        # A power of two brings large values to where the sigmoid is not flat.
        size = float(np.max(np.abs(value)))
        scale = f"{2.0 ** -math.ceil(math.log2(size / 4))} * " if size > 4 else ""
        return self.line(f"{low:g} + {high - low:g} * tg.sigmoid({scale}{name})")

    def line(self, expression: str) -> str:
        """Write one more line; the name of its value."""
        name = _name("abcdeghijklmnopqrst", len(self.lines))  # not f, the function
        self.space[name] = eval(expression, self.space)
        self.values[name] = np.asarray(self.space[name])
        self.lines.append(f"{name} = {expression}")
        return name


def _run(source: str) -> dict[str, Any]:
    """What a snippet defines."""
    space: dict[str, Any] = {}
    exec(source, space)
    return space


def _name(letters: str, n: int) -> str:
    return letters[n] if n < len(letters) else f"{letters[0]}{n}"


def _literal(value: Any) -> str:
    """An argument or parameter as Python text with exactly this value."""
    if isinstance(value, np.ndarray):
        dtype = "" if value.dtype == np.float64 else f", np.{value.dtype}"
        entries = [repr(x) for x in value.ravel().tolist()]
        if value.ndim and len(set(entries)) == 1:
            return f"np.full({value.shape}, {entries[0]}{dtype})"
        return f"np.array({value.tolist()}{dtype})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' * (len(value) == 1)})"
    return f"np.{value.__name__}" if isinstance(value, type) else repr(value)


def _broadcasts(shape: Shape, to: Shape) -> bool:
    """Whether arrays of a shape are repeated to another one."""
    aligned = zip(shape[::-1], to[::-1], strict=False)
    return len(shape) <= len(to) and all(n in (1, m) for n, m in aligned)


# --- networks


@st.composite
def networks(
    draw: st.DrawFn, smooth: bool = False, max_layers: int = 4, max_features: int = 4
) -> tuple[nn.Sequential, np.ndarray]:
    """Random stacks of layers, and inputs for them.

    Linear layers, alone, with an activation, or in a residual block; a seed that is drawn gives
    the weights.

    Parameters
    ----------
    smooth : bool
        No ReLU.
    max_layers, max_features : int
        Most layers of weights; most features a layer.

    Returns
    -------
    model : Sequential
        Its parameters are float64.
    x : ndarray of shape (batch, features)

    Examples
    --------
    >>> from hypothesis import find
    >>> model, x = find(networks(), lambda drawn: len(drawn[0]) == 3)
    >>> len(model), len(model(x)) == len(x)
    (3, True)
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    activations = st.sampled_from([nn.Sigmoid, nn.Tanh] + [nn.ReLU] * (not smooth))
    features = st.integers(1, max_features)
    kinds = st.lists(
        st.sampled_from(["alone", "active", "residual"]), min_size=1, max_size=max_layers
    )
    x = draw(arrays_in(REALS, st.tuples(st.integers(1, 3), features)))
    layers: list[nn.Module] = []
    width = x.shape[1]
    for kind in draw(kinds):
        before, width = width, width if kind == "residual" else draw(features)
        block: list[nn.Module] = [nn.Linear(before, width, rng=rng)]
        if kind != "alone":
            block.append(draw(activations)())
        layers += [nn.Residual(nn.Sequential(*block))] if kind == "residual" else block
    return nn.Sequential(*layers), x


# --- from a function to a test of its gradient


def gradient_property(
    f: Any,
    shapes: Sequence[Shapes] | None = None,
    domain: Domain | Sequence[Domain] | None = None,
    settings: hypothesis.settings | None = None,
    **options: Any,
) -> Callable[[], None]:
    """A test of a function's gradient, which pytest collects and Hypothesis drives.

    Draws arrays, with zeros and ties but no tiny numbers, and has `check_gradients` judge the
    gradient there. A draw at which that would prove nothing (a ReLU where all is below 0) is
    replaced by another; if nearly all are such, Hypothesis fails the test and says so.

    Parameters
    ----------
    f : callable, Primitive, or pair of callables
        As `check_gradients` takes it. A Primitive is called as its record says, off its kinks,
        unless shapes or domains are given.
    shapes : sequence, optional
        One an argument: a tuple, a strategy, or None. Those that are None, by default all, are
        one and the same small shape, which varies.
    domain : domain, or one for each argument
        Default: `REALS`.
    settings : hypothesis.settings, optional
        Default: those of the profile that is loaded, without a deadline.
    **options
        For `check_gradients`, such as ``order=2``.

    Raises
    ------
    ArgumentError
        It cannot be read off f how many arrays it takes; numbers of shapes and domains differ.

    Examples
    --------
    >>> test_softsign = gradient_property(lambda x: x / (1 + np.abs(x)), shapes=[(3,)])
    >>> test_softsign()
    """
    if isinstance(f, Primitive) and shapes is None and domain is None:
        calls = arguments(f, empty=False, tiny=False)
    else:
        calls = _calls(f, shapes, REALS if domain is None else domain)
    function = f[0] if isinstance(f, tuple) else f
    name = getattr(function, "__name__", type(function).__name__).replace("<lambda>", "f")

    def test(call: Arguments) -> None:
        args, params = call
        called = update_wrapper(partial(f, **params), f) if params else f
        try:
            check_gradients(called, *args, **options)
        except VacuousCheckError:
            hypothesis.reject()

    test.__name__ = test.__qualname__ = f"test_gradient_of_{name}"
    test.__doc__ = f"The gradient of {name} is right, wherever Hypothesis looks."
    own: Any = settings or hypothesis.settings(deadline=None)
    return own(hypothesis.given(calls)(test))


def _calls(
    f: Any, shapes: Sequence[Shapes] | None, domain: Domain | Sequence[Domain]
) -> st.SearchStrategy[Arguments]:
    """Arguments of these shapes, for a function of which no more is known."""
    shapes = [None] * _arity(f) if shapes is None else shapes
    domains = [domain] * len(shapes) if isinstance(domain, Domain) else domain
    if not shapes or len(domains) != len(shapes):
        raise ArgumentError(
            f"gradient_property: needs a shape for each array, and as many domains; received "
            f"{len(shapes)} and {len(domains)}. Pass shapes=[…], domain=[…]"
        )

    def of(common: Shape) -> st.SearchStrategy[Arguments]:
        each = zip(domains, shapes, strict=True)
        arrays = [arrays_in(d, common if s is None else s, tiny=False) for d, s in each]
        return st.tuples(*arrays).map(lambda drawn: (list(drawn), {}))

    return _small_shapes(square=PositiveDefinite() in domains).flatmap(of)


def _arity(f: Any) -> int:
    """How many arrays a function takes: its positional arguments without a default."""
    f = f[0] if isinstance(f, tuple) else f
    if isinstance(f, np.ufunc):
        return f.nin
    parameters = inspect.signature(f).parameters.values()
    return sum(p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD for p in parameters)
