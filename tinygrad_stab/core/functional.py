"""Derivatives of functions: JAX's transforms, on plain arrays in and out.

They nest to any order: ``grad(grad(f))``. A result is an ndarray, unless it depends on a tensor
outside that requires grad (an enclosing transform's argument, a parameter that `f` closes over);
then it is a tensor, and can be differentiated in turn.

``argnums`` says which positional arguments to differentiate with respect to: an int, or a
sequence for a tuple of results. Errors: ArgumentError for an argnum that does not exist,
ShapeError for outputs, cotangents or tangents of a shape that does not fit.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError
from .backward import graph, sweep
from .mode import enable_grad, mode
from .tensor import Tensor

Function = Callable[..., Any]
Argnums = int | Sequence[int]


def vjp(f: Function, *primals: Any) -> tuple[Any, Function]:
    """Value of ``f(*primals)``, and the function that pulls a cotangent back through it.

    Parameters
    ----------
    f : callable
        Returns an array or tensor, or a tuple of these.
    *primals : array_like
        Real numbers; integers are taken as float64.

    Returns
    -------
    out : ndarray or Tensor, or tuple of these
    pullback : callable
        ``pullback(v)``, with v of out's shape (one argument an output), gives vᵀ·(∂f/∂primal) for
        each primal as a tuple. It may be called any number of times.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> out, pullback = tg.vjp(lambda a, b: a * b, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 3., 40.]), array([ 1., 20.]))
    """
    recording = mode.recording
    inputs = [_input(primal) for primal in primals]
    with enable_grad():
        result = f(*inputs)
    outputs = result if isinstance(result, tuple) else (result,)
    for out in outputs:
        if not isinstance(out, Tensor) and np.asarray(out).dtype.kind not in "fiub":
            raise DtypeError(
                f"vjp: the function must return real numbers, or a tuple of them; received a "
                f"{type(out).__name__}. Is a return missing?"
            )
    nodes = graph(*(out for out in outputs if isinstance(out, Tensor)))
    wanted = set(inputs)
    # If the result depends on a tensor that requires grad and is not ours, someone outside may
    # differentiate this derivative: then the rules must run on tensors.
    linked = recording and any(node.op is None and node not in wanted for node in nodes)
    for node in nodes:
        if any(isinstance(arg, Tensor) and arg in wanted for arg in node.args):
            wanted.add(node)
    for x in inputs:
        if x.op is None:  # no one else can ask for the gradient of a leaf that only we hold
            x.requires_grad = False

    def pullback(*cotangents: Any) -> tuple[Any, ...]:
        if [np.shape(v) for v in cotangents] != [np.shape(out) for out in outputs]:
            raise ShapeError(
                f"vjp: one cotangent an output, of its shape; received shapes "
                f"{[np.shape(v) for v in cotangents]} for {[np.shape(out) for out in outputs]}"
            )
        differentiable = linked or (mode.recording and any(map(_needs_grad, cotangents)))
        seeds: dict[Tensor, Any] = {}
        for out, v in zip(outputs, cotangents, strict=True):
            if isinstance(out, Tensor) and out in wanted:
                if not differentiable or not isinstance(v, Tensor):
                    v = Tensor(v, dtype=out.dtype)._value
                seeds[out] = seeds[out] + v if out in seeds else v
        observe = getattr(mode.recording, "observe", None)
        with np.errstate(all="ignore"):
            grads = sweep(nodes, seeds, wanted, set(inputs), differentiable, observe)
        return tuple(grads[x] if x in grads else np.zeros(x.shape, x.dtype) for x in inputs)

    values = tuple(out if linked else _copy(out) for out in outputs)
    return values if isinstance(result, tuple) else values[0], pullback


def value_and_grad(f: Function, argnums: Argnums = 0) -> Function:
    """``value_and_grad(f)(x)`` = f(x), ∂f/∂x, of a scalar function, from one forward pass.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.value_and_grad(lambda x: x**3)(2.0)
    (array(8.), array(12.))
    """

    def transformed(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        out, pullback = vjp(*_chosen(f, argnums, args, kwargs))
        if np.shape(out) != ():
            raise ShapeError(
                f"grad: the function must return a scalar; received shape {np.shape(out)}. "
                f"Reduce it (np.sum, np.mean), or use jacobian"
            )
        grads = pullback(np.ones((), out.dtype))
        return out, grads[0] if isinstance(argnums, int) else grads

    return transformed


def grad(f: Function, argnums: Argnums = 0) -> Function:
    """``grad(f)(x)`` = ∂f/∂x, of a scalar function; of the shape of x.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.grad(lambda x: x**3)(2.0)
    array(12.)
    >>> tg.grad(tg.grad(lambda x: x**3))(2.0)
    array(12.)
    """
    both = value_and_grad(f, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """``jvp(f, (x,), (v,))`` = f(x), (∂f/∂x)·v: how far the output moves with the inputs.

    A pullback is linear in its cotangent, so the pullback of the pullback pushes forward: two
    reverse passes and no rule besides the VJP (J. Townsend 2017, "A new trick for calculating
    Jacobian vector products").

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.jvp(lambda x: x**2, (3.0,), (10.0,))
    (array(9.), array(60.))
    """
    if [np.shape(x) for x in primals] != [np.shape(v) for v in tangents]:
        raise ShapeError(
            f"jvp: one tangent a primal, of its shape; received shapes "
            f"{[np.shape(v) for v in tangents]} for {[np.shape(x) for x in primals]}"
        )
    out, pullback = vjp(f, *primals)
    _refuse_several("jvp", out)
    _, push = vjp(pullback, np.zeros(np.shape(out), out.dtype))
    return out, push(*tangents)[0]


def jacobian(f: Function, argnums: Argnums = 0) -> Function:
    """``jacobian(f)(x)[i, j]`` = ∂f_i/∂x_j, of shape f.shape + x.shape.

    One backward pass an element of the output.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    def transformed(*args: Any, **kwargs: Any) -> Any:
        g, *primals = _chosen(f, argnums, args, kwargs)
        out, pullback = vjp(g, *primals)
        _refuse_several("jacobian", out)
        shape, size = np.shape(out), int(np.size(out))
        rows = [pullback(unit) for unit in np.eye(size, dtype=out.dtype).reshape(size, *shape)]
        whole = [
            np.reshape(
                np.stack(parts) if rows else np.zeros(0, out.dtype), shape + np.shape(primal)
            )
            for parts, primal in zip(
                zip(*rows, strict=True) if rows else primals, primals, strict=True
            )
        ]
        return whole[0] if isinstance(argnums, int) else tuple(whole)

    return transformed


def hessian(f: Function, argnum: int = 0) -> Function:
    """``hessian(f)(x)[i, j]`` = ∂²f/∂x_i∂x_j, of a scalar function: its gradient's Jacobian.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.hessian(lambda x: x[0] * x[1] ** 2)(np.array([3.0, 5.0]))
    array([[ 0., 10.],
           [10.,  6.]])
    """
    return jacobian(grad(f, argnum), argnum)


def _refuse_several(what: str, out: Any) -> None:
    if isinstance(out, tuple):
        raise ShapeError(
            f"{what}: the function must return one array; received {len(out)}. Stack them"
        )


def _needs_grad(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _copy(x: Any) -> np.ndarray:
    """As an array that the caller may write to without changing what a later pullback sees."""
    return np.array(x._value if isinstance(x, Tensor) else x)


def _input(primal: Any) -> Tensor:
    """A tensor to differentiate with respect to: new, and linked to ``primal`` if that is one."""
    if _needs_grad(primal) and mode.recording:
        return cast(Tensor, np.positive(primal))  # a node of its own
    array = _copy(primal)
    return Tensor(array, requires_grad=True, dtype=float if array.dtype.kind in "iub" else None)


def _chosen(f: Function, argnums: Argnums, args: Sequence[Any], kwargs: Any) -> list[Any]:
    """``f`` as a function of the chosen arguments alone, and these arguments."""
    indices = [argnums] if isinstance(argnums, int) else list(argnums)
    distinct = {i % len(args) if args else i for i in indices}
    if not all(-len(args) <= i < len(args) for i in indices) or len(distinct) < len(indices):
        raise ArgumentError(
            f"argnums: counts positional arguments, each once; received {argnums}, with "
            f"{len(args)} given"
        )

    def g(*some: Any) -> Any:
        full = list(args)
        for i, x in zip(indices, some, strict=True):
            full[i] = x
        return f(*full, **kwargs)

    return [g, *(args[i] for i in indices)]
