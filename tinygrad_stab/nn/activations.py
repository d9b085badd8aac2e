"""Activations: elementwise functions as layers, each with its derivative's range.

A product of many derivatives decides what a deep network's first layers learn: where the range lies
below 1, gradients vanish unless the weights make up for it.
"""

from typing import Any

from ..checks import check_integers, check_numbers
from ..core.tensor import Tensor
from ..errors import ArgumentError
from ..ops import activations
from ..ops.activations import relu, sigmoid
from ..ops.elementwise import tanh
from ..ops.fused import log_softmax, softmax
from . import functional
from .module import Module

# A layer makes tensors whatever it is given, so it goes straight to their `apply`, which takes a
# third less time than the general call of a primitive.
_call: Any = Tensor.apply
_NONE: dict[str, Any] = {}


class ReLU(Module):
    """max(x, 0), elementwise (Nair & Hinton 2010); derivative 0 or 1.

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


class LeakyReLU(Module):
    """x above 0, a·x below, a = ``negative_slope`` (Maas et al. 2013); derivative a or 1.

    >>> import tinygrad_stab as tg
    >>> tg.nn.LeakyReLU(0.1)(tg.tensor([-1.0, 2.0]))
    tensor([-0.1,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        check_numbers("LeakyReLU", "finite", lambda a: True, negative_slope=negative_slope)
        self.negative_slope = float(negative_slope)

    def forward(self, x: Any) -> Tensor:
        """Any shape."""
        return _call(activations.leaky_relu, (x,), {"negative_slope": self.negative_slope})

    def extra_repr(self) -> str:
        """The slope."""
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x above 0, α·(e^x − 1) below (Clevert et al. 2016, equation 15); derivative α·e^x or 1.

    >>> import tinygrad_stab as tg
    >>> tg.nn.ELU()(tg.tensor([-1.0, 2.0]))
    tensor([-0.63212056,  2.        ])
    """

    def __init__(self, alpha: float = 1.0) -> None:
        check_numbers("ELU", "finite", lambda a: True, alpha=alpha)
        self.alpha = float(alpha)

    def forward(self, x: Any) -> Tensor:
        """Any shape."""
        return _call(activations.elu, (x,), {"alpha": self.alpha})

    def extra_repr(self) -> str:
        """What it tends to at −∞ is −alpha."""
        return f"alpha={self.alpha}"


class SELU(Module):
    """λ·ELU(x, α), λ = 1.0507, α = 1.6733: keeps mean 0 and variance 1 (Klambauer et al. 2017).

    Its derivative lies in (0, λα = 1.758). The weights must have variance 1/fan_in
    (`nn.init.lecun_normal_`).

    >>> import tinygrad_stab as tg
    >>> tg.nn.SELU()(tg.tensor([-1.0, 1.0]))
    tensor([-1.11133074,  1.05070099])
    """

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return activations.selu(x)


class GELU(Module):
    """x·Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016).

    Its derivative lies in [−0.129, 1.129]. ``approximate="tanh"`` is
    ½x·(1 + tanh(√(2/π)·(x + 0.044715x³))).

    >>> import tinygrad_stab as tg
    >>> tg.nn.GELU()(tg.tensor([-1.0, 1.0]))
    tensor([-0.15865525,  0.84134475])
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ArgumentError(f'GELU: approximate is "none" or "tanh"; received {approximate!r}')
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return activations.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """Which formula."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x·σ(x), also called swish (Ramachandran et al. 2017); derivative in [−0.0998, 1.0998].

    >>> import tinygrad_stab as tg
    >>> tg.nn.SiLU()(tg.tensor([0.0, 1.0]))
    tensor([0.        , 0.73105858])
    """

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return activations.silu(x)


class Softplus(Module):
    """log(1 + e^(βx))/β, a smooth ReLU (Dugas et al. 2001); derivative σ(βx), in (0, 1).

    >>> import tinygrad_stab as tg
    >>> tg.nn.Softplus(beta=2.0)(tg.tensor([0.0]))
    tensor([0.34657359])
    """

    def __init__(self, beta: float = 1.0) -> None:
        check_numbers("Softplus", "finite, above 0", lambda b: b > 0, beta=beta)
        self.beta = float(beta)

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return functional.softplus(x, self.beta)

    def extra_repr(self) -> str:
        """The steepness."""
        return f"beta={self.beta}"


class Softmax(Module):
    """e^x/Σ e^x along the axis ``dim``: positive numbers that sum to 1 (Bridle 1990).

    Its Jacobian is diag(p) − p pᵀ. For a loss use `CrossEntropyLoss` on the logits instead.

    >>> import tinygrad_stab as tg
    >>> tg.nn.Softmax()(tg.tensor([1000.0, 1000.0]))
    tensor([0.5, 0.5])
    """

    def __init__(self, dim: int = -1) -> None:
        check_integers("Softmax", -64, dim=dim)
        self.dim = int(dim)

    def forward(self, x: Any) -> Tensor:
        """Any shape that has the axis ``dim``."""
        return _call(softmax, (x,), {"axis": self.dim})

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """log(softmax(x)) along the axis ``dim``, right where the softmax itself underflows.

    >>> import tinygrad_stab as tg
    >>> tg.nn.LogSoftmax()(tg.tensor([1000.0, 0.0]))
    tensor([    0., -1000.])
    """

    def forward(self, x: Any) -> Tensor:
        """Any shape that has the axis ``dim``."""
        return _call(log_softmax, (x,), {"axis": self.dim})
