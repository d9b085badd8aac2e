"""Layers: linear maps and what reshapes, looks up or drops."""

import math
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError
from ..ops.fused import linear
from . import init
from .module import Module

# A layer makes tensors whatever it is given, so it goes straight to their `apply`, which takes a
# third less time than the general call of a primitive.
_call: Any = Tensor.apply
_NONE: dict[str, Any] = {}


class Linear(Module):
    """y = x Wᵀ + b.

    Initialised as PyTorch does, W and b uniform in ±1/√in_features, which gives W a variance of
    1/(3·in_features): too small for deep nets (Glorot & Bengio 2010, §4.2.1); see `nn.init`.

    Parameters
    ----------
    in_features, out_features : int
        Lengths of the last axis of x and of y.
    bias : bool
        Whether there is a b.
    rng : numpy.random.Generator, int or None
        Where the weights come from. Pass one Generator to all layers: equal seeds give layers of
        equal shape equal weights.
    dtype : dtype
        Of the weights: float64 or float32.

    Attributes
    ----------
    weight : Tensor of shape (out_features, in_features)
    bias : Tensor of shape (out_features,), or None

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.Linear(64, 10, rng=0)(np.ones((32, 64))).shape
    (32, 10)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: init.Rng = None,
        dtype: Any = np.float64,
    ) -> None:
        if in_features < 0 or out_features < 0:
            raise ArgumentError(
                f"Linear: numbers of features are at least 0; received in_features={in_features}, "
                f"out_features={out_features}"
            )
        rng = np.random.default_rng(rng)
        bound = 1 / math.sqrt(max(in_features, 1))
        self.in_features = in_features
        self.out_features = out_features
        self.weight = init.empty((out_features, in_features), dtype, "weight")
        init.uniform_(self.weight, -bound, bound, rng)
        self.bias = None
        if bias:
            self.bias = init.empty((out_features,), dtype, "bias")
            init.uniform_(self.bias, -bound, bound, rng)

    def forward(self, x: Any) -> Tensor:
        """X of shape (…, in_features) → (…, out_features)."""
        return _call(linear, (x, self.weight, self.bias), _NONE)

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
