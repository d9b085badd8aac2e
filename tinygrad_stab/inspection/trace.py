"""One backward pass, kept whole: every node, every term of every sum.

The stepper, the explanation, the drawn graph and the page all show a trace, so that they cannot
contradict one another. It is taken by the sweep that `backward()` uses, told to an observer.
"""

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy import ndarray

from ..core.backward import graph, sweep
from ..core.mode import Names, scope_path
from ..core.operand import Operand
from ..core.primitive import Primitive
from ..core.tensor import Tensor
from ..errors import GraphError, ShapeError, describe
from .names import intermediates
from .provenance import Source, source

if TYPE_CHECKING:
    from ..nn.module import Module


class Argument(NamedTuple):
    """What an operation was called with, in one place."""

    name: str  # what the operation calls it: "x", "weight", "array 0"
    node: int | None  # which node it is; None: a constant, which needs no gradient
    value: Any  # its value (an array, a number, or None where it was left out)


class Term(NamedTuple):
    """One term of the chain rule: what a node receives through one consumer."""

    parent: int  # the node that receives it
    place: int  # which argument of the consumer that is
    argument: str  # ... and what the consumer's operation calls it
    contribution: ndarray  # upstream × local derivative, of the parent's shape
    total: ndarray  # the parent's gradient so far, this term included


class Step(NamedTuple):
    """What the backward pass does at one node: pass ∂L/∂node on to its arguments."""

    node: int
    upstream: ndarray  # ∂L/∂node, complete
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Node:
    """A tensor of the graph.

    Attributes
    ----------
    id : int
        Its place in the order of the forward pass (leaves first).
    name : str
        As `intermediates` names it; unique.
    op : str or None
        The operation that made it; None for a leaf.
    module : str
        Path of the module call that made it, such as ``blocks.3``; empty outside modules.
    arguments : tuple of Argument
    params : dict
        The operation's parameters, such as ``axis``.
    value : ndarray
    grad : ndarray or None
        ∂L/∂(this); None if nothing reached it.
    source : Source or None
        Where in the user's code it was made, if recorded.
    tensor : Tensor
    """

    id: int
    name: str
    op: str | None
    module: str
    arguments: tuple[Argument, ...]
    params: dict[str, Any]
    value: ndarray
    grad: ndarray | None
    source: Source | None
    tensor: Tensor


@dataclass(frozen=True)
class Trace:
    """All nodes in forward order, and all steps in the order of the backward pass.

    Attributes
    ----------
    nodes : tuple of Node
        ``nodes[i].id == i``; the last is not necessarily the loss.
    steps : tuple of Step
        One for each node that passed a gradient on, from the loss towards the leaves.
    loss : int
        The node where the backward pass began.
    """

    nodes: tuple[Node, ...]
    steps: tuple[Step, ...]
    loss: int

    @cached_property
    def received(self) -> Counter[int]:
        """How many terms each node receives."""
        return Counter(term.parent for step in self.steps for term in step.terms)

    @cached_property
    def tensors(self) -> frozenset[Tensor]:
        """The tensors of the nodes."""
        return frozenset(node.tensor for node in self.nodes)

    @cached_property
    def names(self) -> frozenset[str]:
        """What the nodes are called."""
        return frozenset(node.name for node in self.nodes)

    def find(self, which: "str | int | Tensor") -> Node:
        """A node by name, by number, or by its tensor.

        Raises
        ------
        GraphError
            There is none; names near matches.
        """
        for node in self.nodes:
            if which is node.tensor:
                return node
            if not isinstance(which, Tensor) and which in (node.id, node.name):
                return node
        near = get_close_matches(str(which), [node.name for node in self.nodes])
        raise GraphError(
            f"trace: a node is a name, a number or a tensor of the graph; received {which!r:.60}. "
            + (f"Is {' or '.join(near)} meant?" if near else f"There are {len(self.nodes)} nodes")
            + " Parameters have their paths as names if the model is passed too"
        )


def trace(loss: Tensor, model: "Module | None" = None, gradient: Any = None) -> Trace:
    """Run a backward pass and keep all of it; no ``.grad`` is touched.

    Parameters
    ----------
    loss : Tensor
    model : Module, optional
        Gives parameters their names.
    gradient : array_like, optional
        ∂L/∂loss, of its shape. May be left out for a scalar, where it is 1.

    Returns
    -------
    Trace

    Raises
    ------
    GraphError
        The loss has no graph, or is no scalar and ``gradient`` is missing.
    ShapeError
        ``gradient`` is of another shape.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor(3.0, requires_grad=True, name="x")
    >>> t = tg.inspection.trace(tg.exp(x * x))
    >>> [node.name for node in t.nodes], [t.nodes[step.node].name for step in t.steps]
    (['x', 'multiply', 'exp'], ['exp', 'multiply'])
    """
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise GraphError(
            f"trace: needs a tensor with a graph; received {type(loss).__name__} "
            f"{describe(loss)}. Compute it from something that requires grad, outside no_grad()"
        )
    if gradient is None and loss.ndim:
        raise GraphError(
            f"trace: without `gradient` the output must be a scalar; received shape {loss.shape}. "
            f"Reduce it (.sum(), .mean()), or pass gradient=∂L/∂output"
        )
    seed = np.array(1.0 if gradient is None else gradient, loss.dtype)
    if seed.shape != loss.shape:
        raise ShapeError(
            f"trace: `gradient` has the shape of the output, {loss.shape}; received {seed.shape}"
        )
    tensors = graph(loss)
    place = {tensor: i for i, tensor in enumerate(tensors)}
    terms: dict[Tensor, list[Term]] = {}

    def observe(node: Tensor, index: int, g: Any, part: Any, total: Any) -> None:
        term = Term(
            place[node.args[index]], index, _record(node).argument_name(index), np.array(part),
            np.array(total),
        )  # fmt: skip
        terms.setdefault(node, []).append(term)

    with np.errstate(all="ignore"):
        grads = sweep(tensors, {loss: seed}, observe=observe)
    names = {tensor: name for name, tensor in intermediates(loss, model).items()}
    paths: Names = {}
    nodes = tuple(
        Node(
            i, names[t], t.op.name if t.op else None, scope_path(t.scope, paths),
            _arguments(t, place), t.params, t._value if t.op else t._value.copy(), grads.get(t),
            source(t), t,
        )
        for i, t in enumerate(tensors)
    )  # fmt: skip
    order = sorted(terms, key=place.__getitem__, reverse=True)
    steps = tuple(Step(place[t], grads[t], tuple(terms[t])) for t in order)
    return Trace(nodes, steps, place[loss])


def _record(tensor: Tensor) -> Primitive:
    """The operation of a result."""
    return cast(Primitive, tensor.op)


def _arguments(tensor: Tensor, place: dict[Tensor, int]) -> tuple[Argument, ...]:
    return tuple(
        Argument(
            _record(tensor).argument_name(i),
            place.get(arg) if isinstance(arg, Tensor) else None,
            _kept(arg._value if isinstance(arg, Operand) else arg),
        )
        for i, arg in enumerate(tensor.args)
    )


def _kept(value: Any) -> Any:
    """As it is now: a leaf may be written to later."""
    return value.copy() if isinstance(value, np.ndarray) and value.flags.writeable else value
