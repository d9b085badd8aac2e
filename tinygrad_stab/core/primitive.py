"""A primitive operation is one record: its value, its derivatives, and where those hold.

The rule for an argument is a plain function ``rule(g, out, *args, **params)`` that returns
∂L/∂arg from ``g`` = ∂L/∂out. It uses only operators, array attributes and ``np.`` functions, so
that the same rule can be called with arrays (a backward pass), with tensors (a backward pass that
can itself be differentiated) and with symbols (the formula, read off the code that runs).
Everything else iterates over the registry: operators, tests, documentation.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..domain import REALS, Case, Domain, Kink, elementwise_cases, sample
from ..errors import ArgumentError, DtypeError, refusal
from .operand import HANDLERS, Operand

Rule = Callable[..., Any]
REGISTRY: dict[str, "Primitive"] = {}

# How an operator is written -> the methods behind it: operand on the left, operand on the right.
OPERATORS = {
    "+": ("__add__", "__radd__"), "-": ("__sub__", "__rsub__"), "*": ("__mul__", "__rmul__"),
    "/": ("__truediv__", "__rtruediv__"), "**": ("__pow__", "__rpow__"),
    "@": ("__matmul__", "__rmatmul__"), "%": ("__mod__", "__rmod__"), "<": ("__lt__",),
    "<=": ("__le__",), ">": ("__gt__",), ">=": ("__ge__",), "==": ("__eq__",), "!=": ("__ne__",),
    "neg": ("__neg__",), "pos": ("__pos__",), "abs": ("__abs__",),
}  # fmt: skip
_NONE: dict[str, Any] = {}  # the parameters of every operator


class Primitive:
    """Define an operation: its value and its derivative, once, for every use.

    ``tg.primitive(…)`` makes one and enters it into the registry; call it like a function.

    Parameters
    ----------
    name : str
        Its name in the registry, in formulas and in messages.
    forward : callable
        ``forward(*args, **params)`` on arrays, which it leaves as they are.
    *rules : callable or None
        One an argument: ``rule(g, out, *args, **params)`` returns ∂L/∂arg from g = ∂L/∂out.
        ``None``: no derivative in that argument (a condition, a label). No rules at all: results
        are plain arrays.
    doc : str
        The docstring; the conventions of ``kinks`` are added to it.
    domain : Interval or Integers, or one for each argument
        Where arguments may be drawn from.
    kinks : sequence of Kink
        Where there is no derivative, and the convention that the rules follow there.
    cases : sequence of Case, optional
        Shapes and parameters to test with. Default: elementwise, with broadcasting.
    analytic : bool
        Whether forward takes complex arrays and the complex step applies.
    broadcasts : bool, optional
        Whether arguments are repeated to fit each other, so that the engine sums a gradient back
        to its argument's shape. Default: if elementwise with two arguments or more.
    variadic : bool
        Any number of arrays, all under one rule that is told by ``index=`` which is meant.
    numpy : callable, optional
        The NumPy function that this answers for.
    operator : str
        A key of ``OPERATORS``, such as ``"+"``.
    method : bool or callable
        Install it as a method of tensors, as it is or in this form.
    expects : str
        For errors: what must hold of the arguments. After a full stop: the likely fix.
    replace : bool
        Redefine a name that exists; otherwise that is an ArgumentError.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> square = tg.primitive("my_square", np.square, lambda g, out, x: g * 2 * x, replace=True)
    >>> tg.grad(square)(3.0)
    array(6.)
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        *rules: Rule | None,
        doc: str = "",
        domain: Domain | Sequence[Domain] = REALS,
        kinks: Sequence[Kink] = (),
        cases: Sequence[Case] | None = None,
        analytic: bool = True,
        broadcasts: bool | None = None,
        variadic: bool = False,
        numpy: Callable[..., Any] | None = None,
        operator: str = "",
        method: bool | Callable[..., Any] = False,
        expects: str = "",
        replace: bool = False,
    ) -> None:
        if name in REGISTRY and not replace:
            raise ArgumentError(
                f"primitive: a name stands for one record; {name!r} is taken by "
                f"{REGISTRY[name]}. Choose another, or pass replace=True"
            )
        if operator and operator not in OPERATORS:
            raise ArgumentError(
                f"primitive: an operator is one of {' '.join(OPERATORS)}; received {operator!r}"
            )
        self.name = self.__name__ = name
        self.forward, self.rules = forward, rules
        # Names are read off a rule: a NumPy function need not have a signature to read.
        signature: Any = next((inspect.signature(r).parameters for r in rules if r), {})
        spoken = list(signature)[2:] or ["x", "y"][: getattr(forward, "nin", 1)]
        self.arg_names = tuple(spoken[: len(rules)] if rules else spoken)
        # Of the arguments, the last may be left out if the rule has defaults for them.
        optional = [n for n in self.arg_names if n in signature and _has_default(signature[n])]
        self.required = len(self.arg_names) - len(optional)
        self.arity = -1 if variadic else len(self.arg_names)
        # `index` tells a shared rule which argument is meant; it is no parameter of the operation.
        self.param_names = tuple(
            n for n in spoken[len(self.arg_names) :] if n != "index" or not variadic
        )
        one = isinstance(domain, Domain)
        self.domain: tuple[Any, ...] = (domain,) * len(self.arg_names) if one else tuple(domain)
        self.kinks = tuple(kinks)
        self.cases = elementwise_cases(self.arity) if cases is None else tuple(cases)
        self.analytic, self.variadic, self.operator = analytic, variadic, operator
        self.broadcasts = (cases is None and len(rules) > 1) if broadcasts is None else broadcasts
        self.expects = expects
        self.__doc__ = inspect.cleandoc(doc) + "".join(
            f"\n\nAt its kink: {kink.convention}." for kink in kinks
        )
        REGISTRY[name] = self
        if numpy is not None:
            HANDLERS[numpy] = self
        if method:
            call: Callable[..., Any] = self if method is True else method

            def as_method(x: Operand, *args: Any, **params: Any) -> Any:
                return call(x, *args, **params)

            as_method.__name__, as_method.__doc__ = name, self.__doc__
            setattr(Operand, name, as_method)
        if operator in ("neg", "pos", "abs"):
            setattr(Operand, OPERATORS[operator][0], lambda x: x.apply(self, (x,), _NONE))
        elif operator:  # flat functions, for these are the hottest calls
            left, *right = OPERATORS[operator]
            setattr(Operand, left, lambda x, y: x.apply(self, (x, y), _NONE))
            for reflected in right:
                setattr(Operand, reflected, lambda y, x: y.apply(self, (x, y), _NONE))

    def __repr__(self) -> str:
        return f"<primitive {self.name}({', '.join(self.arg_names + self.param_names)})>"

    def __call__(self, *args: Any, **params: Any) -> Any:
        """The operation on arrays, tensors or symbols; the result is of their kind."""
        if params or len(args) != self.arity:
            args, params = self._bind(args, params)
        for arg in args:
            if isinstance(arg, Operand):
                return arg.apply(self, args, params)
        weak = self.broadcasts  # a Python number beside an array does not widen it
        values = [a if a is None or (weak and np.isscalar(a)) else np.asarray(a) for a in args]
        return self.evaluate(values, params)

    def evaluate(self, values: Sequence[Any], params: dict[str, Any]) -> Any:
        """The forward function on arrays, with errors that say what was received."""
        try:
            return self.forward(*values, **params)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise self.refusal(error, values, params) from error

    def refusal(self, error: Exception, values: Sequence[Any], params: dict[str, Any]) -> Exception:
        """An error of the forward function, with what was expected and what was received."""
        names = self.arg_names
        if self.variadic:
            names = tuple(map(self.argument_name, range(len(values))))
        expects = self.expects
        if not expects and self.broadcasts and not _broadcast(values):
            expects = (
                "shapes must broadcast: aligned at the last axis, lengths are equal or 1. "
                "Is an axis missing (x[:, None]), or a transpose (x.T)?"
            )
        return refusal(self.name, expects, names, values, params, error)

    def argument_name(self, index: int) -> str:
        """What it calls one of its arguments."""
        return f"array {index}" if self.variadic else self.arg_names[index]

    @cached_property
    def elementwise(self) -> bool:
        """Whether each element of the result comes from one element of each argument."""
        return self.arity > 0 and self.cases == elementwise_cases(self.arity)

    def rules_of_each(self, count: int) -> Sequence[Rule | None]:
        """The rule of each argument: of any number of them, if one is shared by all."""
        if not self.variadic:
            return self.rules[:count]
        shared: Any = self.rules[0]
        return [partial(shared, index=i) for i in range(count)]

    def sample(self, case: Case, rng: np.random.Generator) -> list[np.ndarray]:
        """Random arguments for one of its cases, off the kinks."""
        domain = self.domain[:1] * len(case.shapes) if self.variadic else self.domain
        return sample(case, domain, self.kinks, rng)

    def _bind(self, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Sort what was given, by position or by name, into arguments and parameters."""
        names = self.arg_names + self.param_names
        if not self.variadic:
            if "a" in params and "a" not in names:  # what NumPy calls its first argument
                params[names[0]] = params.pop("a")
            given = dict(zip(names, args, strict=False))
            complete = set(self.arg_names[: self.required]) <= given.keys() | params.keys()
            known = params.keys() <= set(names) - given.keys()
            if len(args) > len(names) or not complete or not known:
                raise DtypeError(
                    f"{self.name}: takes ({', '.join(names)}), each once and at least the first "
                    f"{self.required}; received {len(args)} by position and "
                    f"{', '.join(params) or 'none'} by name"
                )
            params = given | params
            args = tuple(params.pop(n) for n in self.arg_names if n in params)
        for name, value in params.items():
            if isinstance(value, Operand):
                raise DtypeError(
                    f"{self.name}: has no derivative with respect to {name}, so {name} must be "
                    f"plain; received a {type(value).__name__}. Pass {name}.data"
                )
            params[name] = _own(value)
        return args, params


def _own(value: Any) -> Any:
    """A parameter as the rules may read it later: its lists and arrays, also in tuples, copied."""
    if isinstance(value, tuple):
        return tuple(map(_own, value))
    if isinstance(value, list | np.ndarray):
        return value.copy()
    return value.item() if isinstance(value, np.generic) else value  # does not widen float32


def _has_default(parameter: inspect.Parameter) -> bool:
    return parameter.default is not inspect.Parameter.empty


def _broadcast(values: Sequence[Any]) -> bool:
    """Whether arrays have shapes that broadcast."""
    try:
        np.broadcast_shapes(*map(np.shape, values))
    except ValueError:
        return False
    return True


primitive = Primitive  # as the verb of its main use: exp = primitive("exp", np.exp, …)
