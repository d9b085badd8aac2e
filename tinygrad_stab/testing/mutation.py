"""Does the gradient check see what people get wrong? Plant it in every rule, and count.

A mutant is a record with one rule spoilt in one way. It is killed if `check_gradients` refuses it
somewhere on the record's own domain (or if it breaks its convention at a kink); it is equivalent
if it gives what the rule gives, everywhere; else it has survived, and the tests have a hole.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.backward import contribution
from ..core.operand import Operand
from ..core.primitive import REGISTRY, Primitive, Rule
from ..core.tensor import Tensor
from ..errors import ArgumentError, GradientCheckError, StabError, VacuousCheckError
from .hints import largest
from .records import Call, calls

KILLED, SURVIVED, EQUIVALENT = "killed", "survived", "equivalent"


@dataclass(frozen=True)
class Mutant:
    """One rule, spoilt in one way.

    Attributes
    ----------
    primitive, argument, mutation : str
        Whose rule, by which argument, spoilt how.
    verdict : str
        ``killed``, ``survived`` or ``equivalent``.
    by : str
        What killed it.
    """

    primitive: str
    argument: str
    mutation: str
    verdict: str
    by: str = ""


@dataclass(frozen=True)
class MutationReport:
    """All mutants of some primitives, and how many of them were noticed.

    Attributes
    ----------
    mutants : list of Mutant
    """

    mutants: list[Mutant]

    def count(self, verdict: str) -> int:
        """How many had this fate."""
        return sum(mutant.verdict == verdict for mutant in self.mutants)

    @property
    def score(self) -> float:
        """Share of the mutants that were killed, of those that could be; 1 if there are none."""
        killed, alive = self.count(KILLED), self.count(SURVIVED)
        return killed / (killed + alive) if killed + alive else 1.0

    @property
    def survivors(self) -> list[Mutant]:
        """Those that nothing noticed."""
        return [mutant for mutant in self.mutants if mutant.verdict == SURVIVED]

    def __str__(self) -> str:
        lines = [
            f"{self.count(KILLED)} of {self.count(KILLED) + self.count(SURVIVED)} mutants killed "
            f"({self.score:.1%}); besides, {self.count(EQUIVALENT)} equivalent to the rule"
        ]
        lines += [f"  survived: {m.primitive}, {m.argument}: {m.mutation}" for m in self.survivors]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and strings."""
        return {
            "score": self.score,
            "counts": {v: self.count(v) for v in (KILLED, SURVIVED, EQUIVALENT)},
            "mutants": [vars(mutant) for mutant in self.mutants],
        }


def mutate(
    primitives: Primitive | Iterable[Primitive] | None = None, seed: int = 0
) -> MutationReport:
    """Spoil every rule in every way that people get rules wrong, and see which are noticed.

    Parameters
    ----------
    primitives : Primitive or iterable of Primitive, optional
        Also records of your own. Default: all of the registry.
    seed : int
        Of the arguments that are drawn from the records' domains.

    Returns
    -------
    MutationReport

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> print(tg.testing.mutate(tg.tanh))
    11 of 11 mutants killed (100.0%); besides, 1 equivalent to the rule
    """
    if primitives is None:
        primitives = REGISTRY.values()
    elif isinstance(primitives, Primitive):
        primitives = [primitives]
    primitives = list(primitives) if isinstance(primitives, Iterable) else [primitives]
    if not all(isinstance(p, Primitive) for p in primitives):
        raise ArgumentError(
            f"mutate: takes records, made by tg.primitive; received {primitives!r:.80}. Pass "
            f"tg.REGISTRY[name] for one by name"
        )
    return MutationReport([mutant for p in primitives for mutant in mutants_of(p, seed)])


def mutants_of(primitive: Primitive, seed: int = 0) -> Iterator[Mutant]:
    """Every mutant of one primitive, with its fate.

    Raises
    ------
    ArgumentError
        The rules are wrong before anything was spoilt.
    """
    # The larger arguments first: they kill sooner.
    drawn = sorted(calls(primitive, seed=seed), key=lambda c: -sum(a.size for a in c.args))
    for call in drawn:
        if by := _noticed(primitive, call):
            raise ArgumentError(
                f"mutate: the rules must be right to begin with; those of {primitive.name} are "
                f"refused ({by}). Mend them, or the record's domain"
            )
    for index, rule in enumerate(primitive.rules if drawn else ()):
        if rule is None:
            continue
        argument = "each array" if primitive.variadic else primitive.arg_names[index]
        for mutation, spoilt in _mutations(primitive, index, rule, drawn):
            mutant = copy.copy(primitive)  # not a new record: it does not enter the registry
            mutant.rules = (*primitive.rules[:index], spoilt, *primitive.rules[index + 1 :])
            by = next(filter(None, (_noticed(mutant, call) for call in drawn)), "")
            by = by or _convention_broken(mutant)
            verdict = KILLED if by else SURVIVED
            if not by and all(_same(primitive, mutant, call) for call in drawn):
                verdict = EQUIVALENT
            yield Mutant(primitive.name, argument, mutation, verdict, by)


def _noticed(primitive: Primitive, call: Call) -> str:
    """How `check_gradients` refuses a record for these arguments; empty if it does not."""
    try:
        call.check(primitive, control=None)
    except VacuousCheckError:
        return ""
    except GradientCheckError as error:
        words = str(error).partition("\n")[0].removeprefix("check_gradients: ")
        return words.removeprefix(f"the gradient of {primitive.name} ").partition("; received")[0]
    except (StabError, ValueError, TypeError, IndexError) as error:
        return f"raises {type(error).__name__}"
    return ""


def _convention_broken(primitive: Primitive) -> str:
    """Which convention at a kink a record does not keep."""
    for kink in primitive.kinks:
        leaves = [Tensor(a, requires_grad=True, dtype=float) for a in kink.at]
        with np.errstate(all="ignore"):
            primitive(*leaves).sum().backward()
        for leaf, expected in zip(leaves, kink.gradient, strict=True):
            if not np.array_equal(leaf.grad, expected, equal_nan=True):  # type: ignore[arg-type]
                return f"breaks its convention {kink.convention}"
    return ""


def _same(primitive: Primitive, mutant: Primitive, call: Call) -> bool:
    """Whether two records give the same gradients, to rounding."""
    leaves = [
        Tensor(a, requires_grad=i in call.free) if a.dtype.kind == "f" else a
        for i, a in enumerate(call.args)
    ]
    out = primitive(*leaves, **call.params)
    g = np.random.default_rng(0).normal(size=out.shape)
    for i in call.free:
        right = contribution(out, i, g)
        own, out.op = out.op, mutant
        try:
            other = contribution(out, i, g)
        finally:
            out.op = own
        if not np.allclose(other, right, rtol=1e-12, atol=1e-13 * largest(right), equal_nan=True):
            return False
    return True


# The mutations: from a rule to the same rule, spoilt.


def _mutations(
    primitive: Primitive, index: int, rule: Rule, drawn: list[Call]
) -> Iterator[tuple[str, Rule]]:
    """Everything that people get wrong in a rule, as far as it makes sense for this one."""
    for name, spoil in _OF_RESULTS.items():
        yield name, _after(rule, spoil)
    ndims = {np.ndim(a) for call in drawn for a in call.args}
    if max(ndims) > 1:
        yield "transposed", _after(rule, lambda r: np.swapaxes(r, -1, -2) if np.ndim(r) > 1 else r)
    yield "g left out", lambda g, out, *args, **params: rule(0 * g + 1, out, *args, **params)
    yield "out for x", _with_out_as_argument(rule, index)
    yield "x for out", _with_argument_as_out(rule, index)
    if primitive.broadcasts:
        yield "first copy, not the sum over all", _first_copy(rule, index)
    if len(primitive.rules) > 1 and not primitive.variadic:
        yield (
            "swapped operands",
            lambda g, out, x, y, *rest, **params: rule(g, out, y, x, *rest, **params),
        )
    if "axis" in primitive.param_names:
        yield "wrong axis", _wrong_axis(rule)
    for k in range(max(_terms(rule, primitive, index, call) for call in drawn)):
        for side in ("left", "right"):
            yield f"term {k + 1} without its {side} side", _dropping(rule, k, side)


def _after(rule: Rule, spoil: Callable[[Any], Any]) -> Rule:
    return lambda g, out, *args, **params: spoil(rule(g, out, *args, **params))


def _off_at_largest(result: ndarray) -> ndarray:
    result = np.array(result)
    if result.size:
        result.flat[np.argmax(np.abs(result))] *= 1.5
    return result


_OF_RESULTS: dict[str, Callable[[Any], Any]] = {
    "sign": lambda r: -r,
    "factor ½": lambda r: r / 2,
    "factor 2": lambda r: r * 2,
    "relative 1e-4": lambda r: r * (1 + 1e-4),
    "one element × 1.5": _off_at_largest,
    "zero": np.zeros_like,
}


def _with_out_as_argument(rule: Rule, index: int) -> Rule:
    def spoilt(g: Any, out: Any, *args: Any, **params: Any) -> Any:
        i = params.get("index", index)
        return rule(g, out, *args[:i], out, *args[i + 1 :], **params)

    return spoilt


def _with_argument_as_out(rule: Rule, index: int) -> Rule:
    def spoilt(g: Any, out: Any, *args: Any, **params: Any) -> Any:
        return rule(g, args[params.get("index", index)], *args, **params)

    return spoilt


def _first_copy(rule: Rule, index: int) -> Rule:
    """The gradient of the first of an argument's copies alone, where it was broadcast."""

    def spoilt(g: Any, out: Any, *args: Any, **params: Any) -> Any:
        result, shape = np.asarray(rule(g, out, *args, **params)), np.shape(args[index])
        while result.ndim > len(shape):
            result = result[0]
        for axis, n in enumerate(shape):
            if n == 1:
                result = result.take([0], axis)
        return result

    return spoilt


def _wrong_axis(rule: Rule) -> Rule:
    """The next axis; the first, if it was all of them."""

    def spoilt(g: Any, out: Any, *args: Any, **params: Any) -> Any:
        axis, ndim = params.get("axis"), max(1, np.ndim(args[0]))
        wrong = (axis + 1) % ndim if isinstance(axis, int) else 0
        return rule(g, out, *args, **(params | {"axis": wrong}))

    return spoilt


class _Dropping(Operand):
    """A value that loses one side of one sum or difference on its way through a rule."""

    __slots__ = ("sums",)

    def __init__(self, value: Any, sums: "_Sums") -> None:
        self._value, self.sums = value, sums

    @staticmethod
    def apply(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        sums = next(a.sums for a in args if isinstance(a, _Dropping))
        values = [a._value if isinstance(a, Operand) else a for a in args]
        result = primitive.evaluate(values, params)
        if primitive.name in ("add", "subtract"):
            sums.seen += 1
            if sums.seen - 1 == sums.drop:
                left, right = values
                kept = left if sums.side == "right" else right
                if sums.side == "left" and primitive.name == "subtract":
                    kept = np.negative(right)
                result = np.broadcast_to(kept, np.shape(result))
        return _Dropping(np.asarray(result), sums) if primitive.rules else result


@dataclass
class _Sums:
    """Which sum of a rule to spoil, and how many there have been."""

    drop: int = -1
    side: str = ""
    seen: int = 0


def _traced(rule: Rule, sums: _Sums, g: Any, out: Any, args: Any, params: Any) -> Any:
    wrapped = [
        _Dropping(a, sums) if isinstance(a, ndarray) and a.dtype.kind == "f" else a
        for a in (g, out, *args)
    ]
    result = rule(*wrapped, **params)
    return result._value if isinstance(result, Operand) else result


def _terms(rule: Rule, primitive: Primitive, index: int, call: Call) -> int:
    """How many sums and differences a rule computes."""
    sums = _Sums()
    out = np.asarray(primitive(*call.args, **call.params))
    params = call.params | ({"index": index} if primitive.variadic else {})
    _traced(rule, sums, np.ones(out.shape), out, call.args, params)
    return sums.seen


def _dropping(rule: Rule, k: int, side: str) -> Rule:
    return lambda g, out, *args, **params: _traced(rule, _Sums(k, side), g, out, args, params)
