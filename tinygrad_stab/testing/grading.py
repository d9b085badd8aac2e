"""Gradients worked out by hand, marked node by node, each mistake under its name.

The chain rule at a node is a sum over its consumers, ∂L/∂node = Σ (∂L/∂consumer)·(local
derivative). So a mistake is a term that is missing, or a term that was made wrongly, or a right
step from a wrong ∂L/∂consumer. Each of these gives an array of its own, which is computed here and
compared with the answer; a reason is given only if it explains every entry of it.
"""

from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from itertools import combinations, takewhile
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy import ndarray

from ..arrays import numbers
from ..core.backward import _fit, contribution, graph, sweep
from ..core.tensor import Tensor
from ..errors import ArgumentError, DtypeError, GraphError, ShapeError, StabError, describe
from ..inspection.names import intermediates
from ..ops.fused import softmax
from .hints import differences, hint, largest

if TYPE_CHECKING:
    from ..nn.module import Module

Use = tuple[Tensor, int]  # a consumer, and which of its arguments is meant
Gradients = MutableMapping[Tensor, ndarray]
Mistake = tuple[ndarray, str]  # the gradient that it gives, and what to call it

_ALL_SUBSETS = 8  # up to so many consumers every choice of forgotten ones is tried
_NEAR = 16  # of the nodes without an answer on the way to the loss, so many are looked at
_ROUNDING = 64  # times what rounding was seen to change in a gradient is still rounding


@dataclass(frozen=True)
class Grade:
    """The mark for one gradient.

    Attributes
    ----------
    correct : bool
    reason : str
        What is wrong, in plain words; empty if nothing is.
    error : float
        The largest difference from the right gradient, relative to its largest entry: ``inf`` for
        a wrong shape, or where only one of the two is finite.
    """

    correct: bool
    reason: str
    error: float


@dataclass(frozen=True)
class Grades:
    """The marks of all gradients that were handed in; printed, a table.

    Attributes
    ----------
    nodes : dict of str to Grade
        From the loss towards the inputs: the order in which to mend them.
    """

    nodes: dict[str, Grade]

    @property
    def passed(self) -> bool:
        """Whether every gradient is right (and there is one)."""
        return bool(self.nodes) and all(grade.correct for grade in self.nodes.values())

    def to_dict(self) -> dict[str, Any]:
        """The same in plain types, for JSON; an error that is not finite is None."""
        return {
            "passed": self.passed,
            "nodes": {
                name: {
                    "correct": grade.correct,
                    "reason": grade.reason,
                    "error": grade.error if np.isfinite(grade.error) else None,
                }
                for name, grade in self.nodes.items()
            },
        }

    def __str__(self) -> str:
        width = max(map(len, self.nodes), default=0)
        right = sum(grade.correct for grade in self.nodes.values())
        lines = [
            f"{'✓' if grade.correct else '✗'} {name:{width}}  {grade.reason}".rstrip()
            for name, grade in self.nodes.items()
        ]
        return "\n".join([*lines, f"{right} of {len(lines)} gradients are right"])


def compare(
    student: Mapping[str, Any],
    loss: Tensor,
    model: "Module | None" = None,
    tolerance: float = 1e-6,
) -> Grades:
    """Mark gradients that were worked out by hand, and say what is wrong with each.

    Parameters
    ----------
    student : mapping of str to array_like
        ∂L/∂node by the node's name in ``tg.inspection.intermediates(loss, model)``, of the node's
        shape. Any of the nodes may be left out; the more are given, the nearer a mistake is found.
    loss : Tensor
        A scalar, computed from something that requires grad. ``loss.backward()`` need not have
        been called, and nothing is changed: no ``.grad``, no value.
    model : Module, optional
        Gives the parameters their names.
    tolerance : float
        How far an entry may be off, relative to the largest of its gradient; above 0, below 1.
        What rounding alone changes is never held against an answer.

    Returns
    -------
    Grades
        For each node whether it is right and, if not, why: a contribution that was forgotten, a
        local derivative left out or taken at the wrong place, an operand transposed, a sum over
        the batch left out or turned into a mean, whatever `hints.hint` recognises; or a right step
        from a wrong gradient further up, so that one mistake is not marked all the way down.

    Raises
    ------
    ArgumentError
        Nothing was handed in; a name that is not in the graph; a tolerance outside its range.
    DtypeError
        ``student`` is no mapping, an answer no real array of numbers, the loss no tensor of reals.
    ShapeError
        An answer has rows of unequal length.
    GraphError
        The loss has no graph, is no scalar, or a value was written to since it was used.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> from tinygrad_stab.testing.grading import compare
    >>> x = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> W = tg.tensor([[1.0, -2.0]], requires_grad=True, name="W")
    >>> z = tg.linear(x, W)  # x Wᵀ = [[-3], [-5], [-7]]
    >>> loss = tg.sum(tg.square(z))
    >>> print(compare({"linear": z.data, "W": z.data.T @ x}, loss))
    ✗ linear  a factor 2 is missing
    ✗ W       right step, from a wrong ∂L/∂linear: mend `linear` first
    0 of 2 gradients are right
    """
    if not isinstance(loss, Tensor) or loss.dtype.kind != "f":
        raise DtypeError(
            f"compare: loss must be a tensor of real numbers; received {type(loss).__name__} "
            f"{describe(loss)}. Pass the tensor itself, not its value"
        )
    if loss.op is None or loss.ndim:
        flaw = "has axes" if loss.ndim else "was not"
        fix = "Reduce it (.sum(), .mean())" if loss.ndim else "Compute it outside no_grad()"
        raise GraphError(
            f"compare: loss must be a scalar that was computed from something that requires grad; "
            f"{loss.path} {loss.shape} {flaw}. {fix}"
        )
    if not 0 < tolerance < 1:
        raise ArgumentError(
            f"compare: tolerance is relative, above 0 and below 1; received {tolerance!r}. "
            f"1e-6 fits float64"
        )
    named = intermediates(loss, model)
    answers = _answers(student, named, model is None)
    with np.errstate(all="ignore"):  # IEEE values are compared, not warned of
        return _Marking(loss, named, answers, tolerance).grades()


def _answers(student: Any, named: dict[str, Tensor], unnamed: bool) -> dict[Tensor, ndarray]:
    """What was handed in, by node, as float64."""
    if not isinstance(student, Mapping):
        raise DtypeError(
            f"compare: gradients come as a dict, name -> array; received {describe(student)}. "
            f"Pass {{'name': array}} with names of tg.inspection.intermediates(loss, model)"
        )
    if not student:
        raise ArgumentError(
            f"compare: at least one gradient must be handed in, for none would pass in vain; "
            f"received an empty dict. There are {_listed(named)}"
        )
    answers = {}
    for name, value in student.items():
        if name not in named:
            near = get_close_matches(str(name), named, cutoff=0.5)
            raise ArgumentError(
                f"compare: names are those of tg.inspection.intermediates(loss, model); received "
                f"{name!r}. "
                + (f"Did you mean {' or '.join(map(repr, near))}? " if near else "")
                + f"There are {_listed(named)}"
                + (". Pass model= to name parameters by their path" if unnamed else "")
            )
        try:
            array = numbers(value._value if isinstance(value, Tensor) else value)
        except StabError as error:
            raise type(error)(f"compare: ∂L/∂{name}: {error}") from error
        if array.dtype.kind == "c":
            raise DtypeError(
                f"compare: gradients are real; received {describe(array)} for {name}. Take .real"
            )
        answers[named[name]] = array.astype(np.float64)
    return answers


def _listed(names: Mapping[str, Any], most: int = 40) -> str:
    """Names for a message."""
    return ", ".join(list(names)[:most]) + (", …" if len(names) > most else "")


class _Marking:
    """The right gradients, the answers, and what the answers lead to."""

    def __init__(
        self,
        loss: Tensor,
        named: dict[str, Tensor],
        answers: dict[Tensor, ndarray],
        tolerance: float,
    ) -> None:
        self.names = {node: name for name, node in named.items()}
        self.answers, self.tolerance = answers, tolerance
        self.nodes = graph(loss)
        self.right: dict[Tensor, ndarray] = sweep(self.nodes, {loss: np.ones((), loss.dtype)})
        self.rounding = self._rounding(loss)
        self.uses: dict[Tensor, list[Use]] = {node: [] for node in self.nodes}
        for consumer in self.nodes:
            for index, arg in enumerate(consumer.args):
                if isinstance(arg, Tensor) and arg in self.uses:
                    self.uses[arg].append((consumer, index))
        # The gradient of each node as it follows from what was done above it, and the nodes with a
        # wrong gradient from which it does; `slips` are the mistakes found between the answers.
        self.own = dict(self.right)
        self.blame: dict[Tensor, set[Tensor]] = {}
        self.slips: dict[Tensor, ndarray] = {}

    def _rounding(self, loss: Tensor) -> dict[Tensor, float]:
        """What rounding may change in each gradient, seen in passes with other numbers.

        Gradients that cancel (a bias before batch normalisation) are nothing but rounding; another
        way to work them out gives another such number, and it is as right.
        """
        seen = dict.fromkeys(self.nodes, 0.0)
        for factor in (3.0, 7.0):
            again = sweep(self.nodes, {loss: np.asarray(1 / factor, loss.dtype)})
            for node in self.nodes:
                off = differences(again[node] * factor, self.right[node])
                seen[node] = max(seen[node], _ROUNDING * largest(off))
        return seen

    def grades(self) -> Grades:
        """Every answer marked, from the loss down, so that follow-through is known in time."""
        marks = {}
        for node in reversed(self.nodes):
            self.follow(node)
            if node not in self.answers:
                continue
            answer = self.answers[node]
            marks[self.names[node]] = grade = self.grade(node, answer)
            wrong = not grade.correct and answer.shape == node.shape
            self.own[node] = answer.astype(node.dtype) if wrong else self.right[node]
            self.blame[node] = {node} if wrong else set()
        return Grades(marks)

    def follow(self, node: Tensor) -> None:
        """Work out the gradient of a node from those above it, as whoever answered would."""
        if node in self.slips:
            self.own[node], self.blame[node] = self.slips[node], {node}
            return
        self.blame[node] = set().union(*(self.blame[consumer] for consumer, _ in self.uses[node]))
        if self.blame[node]:
            self.own[node] = _sum(self.parts(node, self.own))

    def grade(self, node: Tensor, answer: ndarray) -> Grade:
        """The mark for one answer."""
        goal, rounding = self.right[node], self.rounding[node]
        if largest(goal) <= rounding:
            goal = np.where(np.isfinite(goal), 0.0, goal)
        if answer.shape != node.shape:
            error = np.inf
        else:
            off = float(np.max(differences(answer, goal), initial=0.0))
            scale = max(largest(goal), rounding / self.tolerance)
            error = off / scale if scale else (np.inf if off else 0.0)
        if error <= self.tolerance:
            return Grade(True, "", error)
        return Grade(False, self.reason(node, answer, goal, error), error)

    def reason(self, node: Tensor, answer: ndarray, goal: ndarray, error: float) -> str:
        """What is wrong with an answer."""
        wrong = sorted(self.names[other] for other in self.blame[node])
        if wrong and self.fits(node, answer, self.own[node]):
            return (
                f"right step, from a wrong {' and '.join(f'∂L/∂{name}' for name in wrong)}: "
                f"mend {' and '.join(f'`{name}`' for name in wrong)} first"
            )
        if reason := _not_finite(answer, goal) or self.explain(node, answer, goal, self.right):
            return reason
        if wrong and (reason := self.explain(node, answer, self.own[node], self.own)):
            return (
                f"{reason}; besides, it starts from a wrong "
                f"{' and '.join(f'∂L/∂{name}' for name in wrong)}"
            )
        if answer.shape != node.shape:
            return f"its shape is {answer.shape}, but that of the tensor, {node.shape}, is needed"
        if error < 1e-3:
            return (
                f"nearly right: off by {error:.1g} of the largest entry, as float32 or finite "
                f"differences are"
            )
        worst = int(np.argmax(differences(answer, goal)))
        return f"no usual mistake explains it; it is off most at element {_element(worst, answer)}"

    def explain(self, node: Tensor, answer: ndarray, goal: ndarray, grads: Gradients) -> str:
        """Which mistake turned ``goal`` into the answer, if the gradients above it are these."""
        rounding = self.rounding[node] / largest(goal) if goal.any() else 0.0
        differs = hint(answer, goal, max(self.tolerance, rounding))
        batches = {n for use in self.uses[node] if (n := _batch(*use)) > 1}
        if answer.shape != node.shape:
            forgot = any(differs == f"not summed over axis 0 of length {n}" for n in batches)
            return f"forgot to sum over the batch: {differs}" if forgot else differs
        for gradient, words in self.mistakes(node, grads):
            if self.fits(node, answer, gradient):
                return words
        for n in batches:
            if self.fits(node, answer, goal / n):
                return f"a factor {n} is missing, as if averaged over the batch instead of summed"
            if self.fits(node, answer, goal * n):
                return f"a factor {n} too much, as if summed over the batch instead of averaged"
        if answer.size == 1:  # any two numbers differ by a factor; a mistake on the way says more
            return self.on_the_way(node, answer, grads) or differs
        if not differs and self.fits(node, answer, node._value):
            return f"this is the value of {self.names[node]}, not its gradient"
        return differs or self.on_the_way(node, answer, grads)

    def on_the_way(self, node: Tensor, answer: ndarray, grads: Gradients) -> str:
        """A mistake at a node further up, for which nothing was handed in."""
        between, seen = [node], {node}
        for below in between:  # which grows: nearest first
            if len(between) > _NEAR:
                break
            for consumer, _ in self.uses[below]:
                if consumer not in seen and consumer not in self.answers:
                    seen.add(consumer)
                    between.append(consumer)
        between = between[1:]
        downwards = sorted(between, key=lambda other: other.stamp, reverse=True)
        for start in between:
            path = [*(other for other in downwards if other.stamp < start.stamp), node]
            for wrong, words in self.mistakes(start, grads):
                changed: dict[Tensor, ndarray] = {start: wrong}
                for other in path:
                    if any(consumer in changed for consumer, _ in self.uses[other]):
                        changed[other] = _sum(self.parts(other, ChainMap(changed, grads)))
                if node in changed and self.fits(node, answer, changed[node]):
                    self.slips[start] = wrong
                    for other in takewhile(lambda other: other is not node, reversed(self.nodes)):
                        if other not in self.answers:
                            self.follow(other)
                    return f"on the way, at ∂L/∂{self.names[start]}: {words}"
        return ""

    def mistakes(self, node: Tensor, grads: Gradients) -> Iterator[Mistake]:
        """What the gradient of a node would be after each of the usual mistakes at this node."""
        uses, parts = self.uses[node], self.parts(node, grads)
        count = len(parts)
        for missing in _choices(count):
            through = " and ".join(self.through(node, uses[i]) for i in missing)
            left = _sum([part for i, part in enumerate(parts) if i not in missing])
            if len(missing) == 1:
                yield left, f"forgot one consumer: the contribution through {through} is missing"
            else:
                n = len(missing)
                yield left, f"forgot {n} consumers: the contributions through {through} are missing"
        for i, use in enumerate(uses):
            others = _sum([np.zeros(node.shape, node.dtype), *parts[:i], *parts[i + 1 :]])
            for wrong, words in self.missteps(node, use, grads[use[0]]):
                yield others + wrong, words
            if count > 1:
                through = f"the contribution through {self.through(node, use)}"
                yield others + 2 * parts[i], f"{through} is counted twice"
                yield others - parts[i], f"{through} has the wrong sign"

    def missteps(self, node: Tensor, use: Use, g: ndarray) -> Iterator[Mistake]:
        """What would come through one consumer after each of the usual mistakes at this step."""
        consumer, index = use
        op: Any = consumer.op
        out, values, name = consumer._value, consumer.values, self.names[consumer]
        with suppress(ShapeError):  # which says that ∂L/∂consumer cannot be passed on as it is
            yield (
                _fit(g, node, consumer),
                f"forgot the local derivative of {name}: ∂L/∂{name} was passed on unchanged",
            )
        if len(values) == 1 and out.shape == node.shape:
            with suppress(StabError):
                beyond = np.asarray(op.evaluate([out], consumer.params))
                yield (
                    contribution(consumer, index, g, (beyond, out)),
                    f"the local derivative of {name} was taken at its output, not at its input",
                )
            yield (
                contribution(consumer, index, g, (values[0], values[0])),
                f"the local derivative of {name}, written with its output, was given its input",
            )
        if op.name in ("linear", "matmul"):
            needed = "it should not be" if op.name == "linear" else "it should be"
            done = "transposed" if op.name == "linear" else "not transposed"
            for other, value in enumerate(values):
                if other != index and np.ndim(value) > 1 and value.shape[-1] == value.shape[-2]:
                    turned = [*values[:other], value.mT, *values[other + 1 :]]
                    yield (
                        contribution(consumer, index, g, (out, *turned)),
                        f"{self.operand(consumer, other)} is {done} in the step through {name}, "
                        f"though {needed}",
                    )
        if op.name == "softmax_cross_entropy" and index == 0:
            yield (
                np.expand_dims(g, -1) * softmax(values[0]),
                f"forgot to subtract the target from the softmax in the step through {name}",
            )
        if (n := _batch(consumer, index)) > 1:
            first = np.zeros_like(g)
            first[0] = g[0]
            yield (
                contribution(consumer, index, first),
                f"forgot to sum over the batch: this is the first of {n} examples only",
            )

    def parts(self, node: Tensor, grads: Gradients) -> list[ndarray]:
        """What each consumer of a node contributes to its gradient."""
        return [contribution(consumer, i, grads[consumer]) for consumer, i in self.uses[node]]

    def fits(self, node: Tensor, answer: ndarray, gradient: ndarray) -> bool:
        """Whether an answer for a node is this gradient, up to the tolerance."""
        if answer.shape != gradient.shape:
            return False
        allowed = max(self.tolerance * largest(gradient), self.rounding[node])
        return bool(np.all(differences(answer, gradient) <= allowed))

    def through(self, node: Tensor, use: Use) -> str:
        """The name of a consumer, and as what it uses the node if it does so more than once."""
        consumer, index = use
        name = self.names[consumer]
        if sum(other is consumer for other, _ in self.uses[node]) == 1:
            return name
        op: Any = consumer.op
        return f"{name} (as its {f'array {index}' if op.variadic else op.arg_names[index]})"

    def operand(self, consumer: Tensor, index: int) -> str:
        """What to call an argument: its name if it has one, else the operation's word for it."""
        arg, op = consumer.args[index], cast(Any, consumer.op)
        known = isinstance(arg, Tensor) and arg in self.names
        return self.names[arg] if known else op.arg_names[index]


def _choices(count: int) -> Iterator[tuple[int, ...]]:
    """Which of some contributions may be missing: one, or more, but never all."""
    sizes = range(1, count) if count <= _ALL_SUBSETS else (1, count - 1)
    for size in sizes:
        yield from combinations(range(count), size)


def _sum(parts: Sequence[ndarray]) -> ndarray:
    """Of arrays of one shape; of one, itself."""
    return np.asarray(reduce(np.add, parts))


def _batch(consumer: Tensor, index: int) -> int:
    """How many examples share an argument, which gets a contribution of each; 1 if none do."""
    op: Any = consumer.op
    shape, out = consumer.args[index].shape, consumer.shape
    if op.name in ("linear", "matmul"):
        shared = index > 0 and len(shape) <= 2 and np.ndim(consumer.values[0]) > 1
    else:
        shared = op.broadcasts and (len(shape) < len(out) or shape[:1] != out[:1])
    return out[0] if shared and out else 1


def _not_finite(answer: ndarray, goal: ndarray) -> str:
    """NaN and infinity, where they do not belong or are missing."""
    if answer.shape != goal.shape:
        return ""
    odd = ~(np.isfinite(answer) & np.isfinite(goal)) & (differences(answer, goal) > 0)
    if not odd.any():
        return ""
    first = int(np.argmax(odd))
    if not np.isfinite(goal.flat[first]):
        return (
            f"the right gradient is {goal.flat[first]} at element {_element(first, goal)}: "
            f"is there a log of 0, or a division by 0, in the network?"
        )
    more = f" and at {n} more" if (n := int(odd.sum()) - 1) else ""
    return f"{answer.flat[first]} at element {_element(first, answer)}{more}"


def _element(flat: int, array: ndarray) -> str:
    index = np.unravel_index(flat, array.shape)
    return f"({', '.join(str(int(i)) for i in index)})"
