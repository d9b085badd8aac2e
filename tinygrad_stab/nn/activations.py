"""Activations: elementwise functions as layers, each with its derivative's range."""

from typing import Any

from ..core.tensor import Tensor
from ..ops.activations import relu, sigmoid
from ..ops.elementwise import tanh
from .module import Module

# A layer makes tensors whatever it is given, so it goes straight to their `apply`, which takes a
# third less time than the general call of a primitive.
_call: Any = Tensor.apply
_NONE: dict[str, Any] = {}


class ReLU(Module):
    """max(x, 0), elementwise (Nair & Hinton 2010).

    >>> import tinygrad_stab as tg
    >>> tg.nn.ReLU()(tg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def forward(self, x: Any) -> Tensor:
        """Any shape."""
        return _call(relu, (x,), _NONE)


class Sigmoid(Module):
    """1/(1 + e^−x), elementwise; its derivative is at most ¼.

    >>> import tinygrad_stab as tg
    >>> tg.nn.Sigmoid()(tg.tensor([0.0]))
    tensor([0.5])
    """

    def forward(self, x: Any) -> Tensor:
        """Any shape."""
        return _call(sigmoid, (x,), _NONE)


class Tanh(Module):
    """Hyperbolic tangent, elementwise; its derivative is at most 1.

    >>> import tinygrad_stab as tg
    >>> tg.nn.Tanh()(tg.tensor([0.0]))
    tensor([0.])
    """

    def forward(self, x: Any) -> Tensor:
        """Any shape."""
        return _call(tanh, (x,), _NONE)
