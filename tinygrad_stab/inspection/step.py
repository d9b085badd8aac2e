"""A debugger for the backward pass: one step at a time, forwards and backwards."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from ..arrays import norm, rms
from ..core.backward import check_unwritten, unbroadcast
from ..core.tensor import Tensor
from ..errors import ArgumentError, GraphError
from .formula import term_formula
from .trace import Node, Step, Term, Trace, trace

if TYPE_CHECKING:
    from ..nn.module import Module

_SMALL = 8  # arrays of so few elements are written out
_FULL_JACOBIAN = 10_000  # elements; a larger one is described, unless it is asked for


@dataclass(frozen=True)
class LocalDerivative:
    """∂(result)/∂(argument) of one operation, as far as it is worth writing out.

    Attributes
    ----------
    structure : str
        ``elementwise``, ``jacobian`` or ``described``.
    value : ndarray or None
        Elementwise: the derivative at each element, of the result's shape. Jacobian: of shape
        (result size, argument size). Described: None.
    shape : tuple of int
        Of the whole Jacobian.
    norm : float
        Its Frobenius norm; where it is described, an estimate from 8 random products,
        ‖J‖² = E ‖Jᵀ v‖² for v of random signs.
    """

    structure: str
    value: ndarray | None
    shape: tuple[int, int]
    norm: float

    def __str__(self) -> str:
        rows, columns = self.shape
        if self.structure == "elementwise":
            return f"elementwise, {_brief(self.value)}"
        zeros = ""
        if self.value is not None:
            share = 1 - np.count_nonzero(self.value) / max(self.value.size, 1)
            zeros = f", {share:.0%} zeros" if share else ""
            if self.value.size <= _SMALL:
                return f"{rows} × {columns} Jacobian {_brief(self.value)}"
        about = "≈ " if self.value is None else ""
        return f"{rows} × {columns} Jacobian, norm {about}{self.norm:.3g}{zeros}"


@dataclass(frozen=True)
class StepView:
    """One step of the backward pass, to be read.

    Attributes
    ----------
    number, count : int
        Which step it is, from 1, and of how many.
    node : Node
        Whose gradient is passed on.
    upstream : ndarray
        ∂L/∂node.
    terms : tuple of Term
        What each of its arguments receives.
    """

    trace: Trace
    number: int
    count: int
    step: Step

    @property
    def node(self) -> Node:
        """Whose gradient is passed on."""
        return self.trace.nodes[self.step.node]

    upstream = property(lambda self: self.step.upstream, doc="∂L/∂node.")
    terms = property(lambda self: self.step.terms, doc="What each of its arguments receives.")

    @property
    def norm(self) -> float:
        """Of the upstream gradient."""
        return norm(self.step.upstream)

    def formula(self, term: Term, style: str = "text") -> str:
        """The rule that ran for a term, with the nodes' names."""
        return term_formula(self.trace, self.step, term, style)

    def local(self, term: Term, whole: bool = False) -> LocalDerivative:
        """The local derivative behind a term; ``whole`` insists on the Jacobian."""
        for arg in self.node.tensor.args:
            if isinstance(arg, Tensor):
                check_unwritten(arg, self.node.tensor)
        return local_derivative(self.node.tensor, term.place, whole)

    def __str__(self) -> str:
        node = self.node
        where = f"  {node.source}" if node.source else ""
        lines = [
            f"step {self.number} of {self.count}: {node.name} = {node.op}(…){where}",
            f"  upstream ∂L/∂{node.name}: {_brief(self.upstream)}",
        ]
        for term in self.terms:
            parent = self.trace.nodes[term.parent]
            so_far = "" if _same(term.total, term.contribution) else f"; sum {_brief(term.total)}"
            lines += [
                f"  → {parent.name}, its {term.argument}",
                f"      {self.formula(term)}",
                f"      local derivative: {self.local(term)}",
                f"      contribution: {_brief(term.contribution)}{so_far}",
            ]
        return "\n".join(lines)


Breakpoint = str | Tensor | Callable[[StepView], bool]


class Backprop:
    """Walk a backward pass step by step; what it shows is what ``loss.backward()`` computes.

    Parameters
    ----------
    loss : Tensor
        Its graph is read once, here; no ``.grad`` is touched.
    model : Module, optional
        Gives parameters their names.
    gradient : array_like, optional
        ∂L/∂loss; may be left out for a scalar.

    Attributes
    ----------
    position : int
        How many steps have been taken.
    trace : Trace

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor(2.0, requires_grad=True, name="x")
    >>> bp = tg.inspection.Backprop(tg.exp(x * x))
    >>> print(bp.step())
    step 1 of 2: exp = exp(…)
      upstream ∂L/∂exp: 1.
      → multiply, its x
          ∂L/∂multiply = ∂L/∂exp·exp
          local derivative: elementwise, 54.5982
          contribution: 54.5982
    >>> bp.run_to("x"), bp.grad("x")
    (True, array(218.39260013))
    """

    def __init__(self, loss: Tensor, model: "Module | None" = None, gradient: Any = None) -> None:
        self.trace = trace(loss, model, gradient)
        self.position = 0
        self.breakpoints: list[Breakpoint] = []

    def __len__(self) -> int:
        return len(self.trace.steps)

    def view(self, position: int) -> StepView:
        """The step at a position, from 0."""
        return StepView(self.trace, position + 1, len(self), self.trace.steps[position])

    def step(self) -> StepView | None:
        """Take the next step; None if there is none left."""
        if self.position == len(self):
            return None
        self.position += 1
        return self.view(self.position - 1)

    def back(self) -> StepView | None:
        """Take the last step back, and show it; None at the beginning."""
        if self.position == 0:
            return None
        self.position -= 1
        return self.view(self.position)

    def reset(self) -> None:
        """Go back to the beginning."""
        self.position = 0

    def __iter__(self) -> Iterator[StepView]:
        """The steps that are left, each taken as it is asked for."""
        while (view := self.step()) is not None:
            yield view

    def break_at(self, where: Breakpoint) -> None:
        """Let `run` stop at a node's name, a module's path, an operation, or a predicate.

        Parameters
        ----------
        where : str, Tensor or callable
            A callable takes a `StepView` and says whether to stop there, such as
            ``lambda s: s.norm < 1e-8``.

        Raises
        ------
        ArgumentError
            A word that is neither a name, a module nor an operation of this graph.
        """
        known = callable(where)
        if isinstance(where, Tensor):
            known = where in self.trace.tensors
        if not known and not any(_matches(where, node) for node in self.trace.nodes):
            raise ArgumentError(
                f"break_at: needs a name, a module path, an operation of this graph or a "
                f"function of a step; received {where!r:.60}. intermediates(loss) lists the names"
            )
        self.breakpoints.append(where)

    def run(self) -> StepView | None:
        """Take steps until one meets a breakpoint, and return it; None at the end."""
        for view in self:
            for where in self.breakpoints:
                if _matches(where, view.node) or (
                    callable(where) and not isinstance(where, Tensor) and where(view)
                ):
                    return view
        return None

    def run_to(self, which: str | int | Tensor) -> bool:
        """Take steps until the gradient of a node is complete.

        Returns
        -------
        bool
            Whether it is: False if it was complete further back already, or nothing reaches it.

        Raises
        ------
        GraphError
            There is no such node.
        """
        target = self.trace.find(which).id
        last = [i for i, s in enumerate(self.trace.steps) for t in s.terms if t.parent == target]
        if target == self.trace.loss:
            last = [-1]
        if not last or last[-1] + 1 < self.position:
            return False
        self.position = last[-1] + 1
        return True

    def grad(self, which: str | int | Tensor) -> ndarray | None:
        """∂L/∂node as it stands after the steps taken: the sum of the terms so far, or None."""
        target = self.trace.find(which).id
        for step in reversed(self.trace.steps[: self.position]):
            for term in reversed(step.terms):
                if term.parent == target:
                    return term.total
        return self.trace.nodes[target].grad if target == self.trace.loss else None

    def __repr__(self) -> str:
        name = self.trace.nodes[self.trace.loss].name
        return f"<Backprop of {name}: {self.position} of {len(self)} steps>"


def local_derivative(node: Tensor, place: int, whole: bool = False) -> LocalDerivative:
    """∂(result)/∂(argument) of the operation that made a node.

    Parameters
    ----------
    node : Tensor
        The result of an operation.
    place : int
        Which argument.
    whole : bool
        The Jacobian even of elementwise operations, and however large.

    Raises
    ------
    GraphError
        The tensor is a leaf.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> tg.inspection.local_derivative(x * x, 0, whole=True).value
    array([[1., 0.],
           [0., 2.]])
    """
    op: Any = node.op
    if op is None:
        raise GraphError(
            f"local_derivative: needs the result of an operation; {node.path} is a leaf"
        )
    rule = op.rules_of_each(len(node.args))[place]
    argument = np.shape(node.values[place])
    shape = (node.size, int(np.prod(argument)))

    def pull(g: ndarray) -> ndarray:
        """Jᵀ g, before the sum over what was repeated is taken."""
        with np.errstate(all="ignore"):
            return np.asarray(rule(g, node._value, *node.values, **node.params))

    if op.elementwise and not whole:
        slope = np.broadcast_to(pull(np.ones(node.shape, node.dtype)), node.shape)
        return LocalDerivative("elementwise", slope, shape, norm(slope))
    from_ones = np.zeros(node.shape, node.dtype)
    if whole or shape[0] * shape[1] <= _FULL_JACOBIAN:
        rows = []
        for place_in_result in np.ndindex(node.shape):
            from_ones[place_in_result] = 1
            rows.append(unbroadcast(pull(from_ones), argument).ravel())
            from_ones[place_in_result] = 0
        jacobian = np.array(rows).reshape(shape)
        return LocalDerivative("jacobian", jacobian, shape, norm(jacobian))
    rng = np.random.default_rng(0)
    squares = [
        np.sum(unbroadcast(pull(rng.choice([-1.0, 1.0], node.shape)), argument) ** 2)
        for _ in range(8)
    ]
    return LocalDerivative("described", None, shape, float(np.sqrt(np.mean(squares))))


def _matches(where: Any, node: Node) -> bool:
    """Whether a node has this name or operation, or was made inside this module."""
    if isinstance(where, Tensor):
        return node.tensor is where
    if not isinstance(where, str):
        return False
    inside = node.module == where or node.module.startswith(f"{where}.")
    return inside or where in (node.name, node.op)


def _same(a: ndarray, b: ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def _brief(array: Any) -> str:
    """A small array in full, a larger one as shape and size."""
    if array.size <= _SMALL:
        return np.array2string(array, precision=4, separator=", ").replace("\n", "")
    finite = array[np.isfinite(array)]
    low, high = (np.min(finite), np.max(finite)) if finite.size else (np.nan, np.nan)
    return f"{array.shape}, RMS {rms(array):.3g}, from {low:.3g} to {high:.3g}"
