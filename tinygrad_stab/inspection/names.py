"""Every tensor of a graph by name, and a table of them."""

from typing import TYPE_CHECKING

from ..arrays import rms
from ..core.backward import graph
from ..core.mode import Names
from ..core.tensor import Tensor

if TYPE_CHECKING:
    from ..nn.module import Module


def intermediates(loss: Tensor, model: "Module | None" = None) -> dict[str, Tensor]:
    """Everything that a loss was computed from and that has a gradient, by name.

    Parameters
    ----------
    loss : Tensor
        The end of the graph.
    model : Module, optional
        Gives the parameters their names; without it they go by their own.

    Returns
    -------
    dict of str to Tensor
        In the order of the forward pass, parameters first: each with ``.data`` and, after
        ``loss.backward()``, ``.grad``. The result of an operation is named by the path of the
        module that made it and the operation, such as ``0.linear`` or ``blocks.3.linear``; a name
        that occurs again gets a number: ``tanh#2``.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> net = tg.nn.Sequential(tg.nn.Linear(2, 3, rng=0), tg.nn.Tanh())
    >>> loss = net(np.ones((5, 2))).mean()
    >>> loss.backward()
    >>> {name: t.grad.shape for name, t in tg.inspection.intermediates(loss, net).items()}
    {'0.weight': (3, 2), '0.bias': (3,), '0.linear': (5, 3), '1.tanh': (5, 3), 'mean': ()}
    """
    known = {} if model is None else {tensor: name for name, tensor in model.named_parameters()}
    named: dict[str, Tensor] = {}
    times: dict[str, int] = {}
    paths: Names = {}  # what modules call one another
    for tensor in graph(loss):
        name = path = known.get(tensor) or tensor.path_among(paths)
        while name in named:
            times[path] = times.get(path, 1) + 1
            name = f"{path}#{times[path]}"
        named[name] = tensor
    return named


def table(loss: Tensor, model: "Module | None" = None) -> str:
    """The intermediates of a loss as lines of text: shape, size of value and of gradient.

    Parameters
    ----------
    loss : Tensor
    model : Module, optional
        Gives the parameters their names.

    Returns
    -------
    str
        Sizes are root mean squares; a dash stands for a gradient that was not computed.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor([3.0, 4.0], requires_grad=True, name="x")
    >>> loss = tg.sum(x * x)
    >>> loss.backward()
    >>> print(tg.inspection.table(loss))
    name      shape  RMS value  RMS gradient
    x         (2,)     3.5e+00       7.1e+00
    multiply  (2,)     1.3e+01       1.0e+00
    sum       ()       2.5e+01       1.0e+00
    """
    rows = [("name", "shape", "RMS value", "RMS gradient")]
    for name, tensor in intermediates(loss, model).items():
        gradient = "–" if tensor.grad is None else f"{rms(tensor.grad):.1e}"
        rows.append((name, str(tensor.shape), f"{rms(tensor._value):.1e}", gradient))
    wide = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(f"{n:{wide[0]}}  {s:{wide[1]}}  {v:>9}  {g:>12}" for n, s, v, g in rows)
