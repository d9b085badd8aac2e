"""Optimisers, in order of increasing complexity, with PyTorch's names, defaults and formulas."""

import math

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError
from .parameters import Parameters, listed


class Optimizer:
    """What all optimisers share: a list of parameters, of which those with a gradient move.

    Parameters
    ----------
    params : iterable of Tensor, or of (name, Tensor)
        Leaves; each once. ``model.parameters()`` or ``model.named_parameters()``.
    lr : float
        Learning rate, at least 0. May be changed between steps.
    """

    def __init__(self, params: Parameters, lr: float) -> None:
        self.params: list[Tensor] = [tensor for _, tensor in listed(params)]
        if not self.params:
            raise ArgumentError("optimiser: needs parameters; received none. Was it a generator?")
        if len({id(p) for p in self.params}) < len(self.params):
            raise ArgumentError("optimiser: each parameter once; one was passed twice")
        if not (lr >= 0 and math.isfinite(lr)):
            raise ArgumentError(f"optimiser: lr is at least 0 and finite; received {lr}")
        self.lr = lr

    def zero_grad(self) -> None:
        """Forget all gradients; call it before each backward pass."""
        for p in self.params:
            p._grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        raise TypeError(f"{type(self).__name__} must define step(self)")


class SGD(Optimizer):
    """Gradient descent, with momentum if wanted.

    g ← g + weight_decay·p;  v ← momentum·v + (1 − dampening)·g (v = g at the first step);
    p ← p − lr·v, or with Nesterov's momentum p ← p − lr·(g + momentum·v).

    Polyak 1964 (heavy ball); Nesterov 1983, in the form of Sutskever et al. 2013, "On the
    importance of initialization and momentum in deep learning", §2.

    Parameters
    ----------
    params : iterable of Tensor, or of (name, Tensor)
    lr : float
        Learning rate, at least 0.
    momentum, dampening, weight_decay : float
        Each at least 0.
    nesterov : bool
        Needs momentum above 0 and no dampening.

    Raises
    ------
    ArgumentError
        A value outside its range, no parameters, or one twice.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> p = tg.tensor(1.0, requires_grad=True)
    >>> optimizer = tg.optim.SGD([p], lr=0.1)
    >>> (p * p).backward()
    >>> optimizer.step()
    >>> p.item()
    0.8
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr)
        given = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        for name, value in given.items():
            if not (value >= 0 and math.isfinite(value)):
                raise ArgumentError(f"SGD: {name} is at least 0 and finite; received {value}")
        if nesterov and (momentum == 0 or dampening != 0):
            raise ArgumentError(
                f"SGD: nesterov needs momentum > 0 and dampening = 0; received "
                f"momentum={momentum}, dampening={dampening}"
            )
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self._velocity: dict[Tensor, np.ndarray] = {}

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for p in self.params:
            if p.grad is None:
                continue
            g = p.grad
            if self.weight_decay:
                g = g + self.weight_decay * p._value
            if self.momentum:
                v = self._velocity.get(p)
                if v is None:
                    v = self._velocity[p] = np.array(g)
                else:
                    v *= self.momentum
                    v += (1 - self.dampening) * g
                g = g + self.momentum * v if self.nesterov else v
            p.add_(-self.lr * g)
