"""The reverse sweep: from an output's gradient to the gradient of everything it was made from.

One loop, used by `Tensor.backward` and by every functional transform. It goes through the nodes
in the reverse of the order in which they were made, so that a node's gradient is complete (the
sum over all its consumers) before its rules pass it on: the chain rule, one edge at a time.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy import ndarray

from ..errors import DtypeError, GraphError, ShapeError
from .operand import Operand

if TYPE_CHECKING:
    from .primitive import Primitive
    from .tensor import Tensor

_made_at = attrgetter("stamp")


def graph(*outputs: "Tensor") -> list["Tensor"]:
    """Everything that outputs were computed from and that needs a gradient, first made first.

    Parameters
    ----------
    *outputs : Tensor

    Returns
    -------
    list of Tensor
        Leaves (in the order in which they were made, or last written to), then the results of
        operations in the order of the forward pass, the outputs included. A tensor that is used
        more than once is listed once.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor(3.0, requires_grad=True, name="x")
    >>> [t.path for t in tg.graph(tg.exp(x * x))]
    ['x', 'multiply', 'exp']
    """
    leaves: list[Any] = []
    results: list[Any] = []
    seen: set[Any] = {output for output in outputs if output._requires_grad}
    stack: list[Any] = list(seen)
    while stack:
        node = stack.pop()
        if node.op is None:
            leaves.append(node)
            continue
        results.append(node)
        tensor = type(node)  # which has no subclasses
        for arg in node.args:
            if type(arg) is tensor and arg._requires_grad and arg not in seen:
                seen.add(arg)
                stack.append(arg)
    return sorted(leaves, key=_made_at) + sorted(results, key=_made_at)


def contribution(
    node: "Tensor", index: int, g: ndarray, seen: Sequence[Any] | None = None
) -> ndarray:
    """What one argument of an operation receives through it: one term of the chain rule's sum.

    Parameters
    ----------
    node : Tensor
        The result of an operation.
    index : int
        Which of ``node.args`` is meant; a tensor for which there is a rule.
    g : ndarray
        ∂L/∂node, of its shape.
    seen : sequence of arrays, optional
        What the rule is told that result and arguments were. Default: what they were.

    Returns
    -------
    ndarray
        Of the argument's shape and dtype, maybe ``g`` itself or a view of it: not to be written to.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> tg.core.backward.contribution(x * x, 0, np.array(1.0))
    array(3.)
    """
    op = cast("Primitive", node.op)
    rule = cast(Any, op.rules_of_each(len(node.args))[index])
    seen = (node._value, *node.values) if seen is None else seen
    return _fit(rule(g, *seen, **node.params), node.args[index], node)


def sweep(
    nodes: list["Tensor"],
    grads: dict[Any, Any],
    wanted: set["Tensor"] | None = None,
    kept: set["Tensor"] | None = None,
    differentiable: bool = False,
    observe: Callable[["Tensor", int, Any, Any, Any], None] | None = None,
) -> dict[Any, Any]:
    """Pass gradients back along a graph.

    Parameters
    ----------
    nodes : list of Tensor
        ``graph(*outputs)``.
    grads : dict
        Output -> ∂L/∂output, of its shape and dtype. It is filled in.
    wanted : set of Tensor, optional
        Compute gradients of these only, which must hold all that lies between an input and the
        outputs. Default: of everything that requires grad.
    kept : set of Tensor, optional
        Forget the gradient of any other result as soon as it has been passed on. Default: keep all.
    differentiable : bool
        Call the rules with tensors, so that the gradients carry a graph of their own.
    observe : callable, optional
        ``observe(node, index, g, part, total)`` is told of each contribution as it is made: what
        argument ``index`` of a node with gradient ``g`` receives through it, and the sum of what
        it has received so far.

    Returns
    -------
    dict
        ``grads``: Tensor -> ∂L/∂tensor, an ndarray (a Tensor if ``differentiable``). Nothing is
        written to the tensors, so an error on the way changes nothing.

    Raises
    ------
    GraphError
        A leaf was written to after an operation had used it.
    ShapeError
        A rule gave a gradient that does not fit its argument.
    """
    owned = set()  # tensors whose gradient is a sum made here, and so may be added to in place
    for node in reversed(nodes):
        op = node.op
        if op is None:
            break  # leaves come first in the list
        g = grads.get(node)
        if g is None:  # its value may still have been used by a node that has one
            for arg in node.args:
                if isinstance(arg, Operand):
                    check_unwritten(arg, node)
            continue
        if kept is not None and node not in kept:
            del grads[node]
        params, stamp = node.params, node.stamp
        seen: tuple[Any, ...] = (g, node._value, *node.values)  # what the rules are called with
        if differentiable:
            pairs = zip(node.args, node.values, strict=True)
            seen = (g, node, *(a if isinstance(a, Operand) else v for a, v in pairs))
        tensor = type(node)  # which has no subclasses
        rules = op.rules if not op.variadic else op.rules_of_each(len(node.args))
        for index, (arg, rule) in enumerate(zip(node.args, rules, strict=False)):
            if type(arg) is not tensor:
                continue
            if arg.stamp > stamp:
                check_unwritten(arg, node)
            if not (arg._requires_grad if wanted is None else arg in wanted):
                continue
            if rule is None:
                raise DtypeError(
                    f"{op.name}: an argument that requires grad needs a rule; "
                    f"{_name(arg, node)} has none. Pass its .data or .detach()"
                )
            part = rule(*seen, **params) if params else rule(*seen)
            value = arg._value
            if (
                type(part) is not ndarray
                or part.shape != value.shape
                or part.dtype is not value.dtype
            ):
                part = _fit(part, arg, node)
            if arg not in grads:
                if (
                    arg.op is None
                    and type(part) is ndarray
                    and (part.base is not None or _among(part, seen, params))
                ):
                    part = part.copy()  # a leaf's gradient is its own: users write to it
                grads[arg] = part
            elif arg in owned and not differentiable:
                grads[arg] += part
            else:  # not in place: the first part may also be the gradient of a sibling
                total = grads[arg] + part
                grads[arg] = total if differentiable else np.asarray(total)
                owned.add(arg)
            if observe is not None:
                observe(node, index, g, part, grads[arg])
    return grads


def check_unwritten(arg: Any, node: "Tensor") -> None:
    """Refuse a value that is no longer what an operation saw."""
    if arg.stamp > node.stamp and arg.written_since(node.stamp):
        raise GraphError(
            f"backward: a value must stay as it was until the backward pass; {arg.path} "
            f"{arg.shape} was written to after {node.path} had used it. Ask for gradients before "
            f"writing (as an optimiser's step does), or compute the output again"
        )


def _name(arg: Any, node: "Tensor") -> str:
    """What an operation calls one of its arguments."""
    op = cast("Primitive", node.op)
    index = next(i for i, other in enumerate(node.args) if other is arg)
    return op.argument_name(index)


def unbroadcast(part: Any, shape: tuple[int, ...]) -> Any:
    """The sum over the axes along which an argument of this shape was repeated."""
    extra = np.ndim(part) - len(shape)
    padded = (1,) * extra + shape
    repeated = tuple(i for i, n in enumerate(np.shape(part)) if n != padded[i] or i < extra)
    return np.reshape(np.sum(part, axis=repeated), shape)


def _fit(part: Any, arg: Any, node: "Tensor") -> Any:
    """What a rule returned, as an array of its argument's shape and dtype.

    Along an axis on which the argument was repeated, each copy had a share: sum over it.
    """
    op, shape, received = cast("Primitive", node.op), arg.shape, np.shape(part)
    if received != shape:
        extra = len(received) - len(shape)
        padded = (1,) * extra + shape
        fits = extra >= 0 and all(n in (1, m) for n, m in zip(padded, received, strict=True))
        if not (op.broadcasts and fits):
            raise ShapeError(
                f"{op.name}: the rule for {_name(arg, node)} must give a gradient of the "
                f"argument's shape {shape}; received {received}. Mend the rule"
                + ("" if op.broadcasts else ", or declare broadcasts=True if it repeats arguments")
            )
        part = unbroadcast(part, shape)
    if np.result_type(part).kind == "c" and arg.dtype.kind != "c":
        raise DtypeError(
            f"{op.name}: gradients are real; that of {arg.path} came out complex, from a complex "
            f"number on the way. Complex numbers are for values only"
        )
    if isinstance(part, Operand):
        return part if part.dtype == arg.dtype else part.astype(arg.dtype)
    return np.asarray(part, arg.dtype)


def _among(part: ndarray, seen: Iterable[Any], params: dict[str, Any]) -> bool:
    """Whether a rule returned one of the arrays that it was given."""
    for given in seen:
        if part is given:
            return True
    return bool(params) and any(part is value for value in params.values())
