"""Modules made of modules: one after the other, and around a skip connection."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ArgumentError, DtypeError
from .module import Module


class Sequential(Module):
    """Modules one after the other: f_n(… f_2(f_1(x))).

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.nn.Sequential(tg.nn.Linear(64, 10, rng=0), tg.nn.ReLU())
    Sequential(
      (0): Linear(in_features=64, out_features=10, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise DtypeError(
                    f"Sequential: needs modules; argument {i} is a {type(module).__name__}. "
                    f"For a function, use its layer (tg.nn.ReLU() for tg.relu)"
                )
            setattr(self, str(i), module)

    def forward(self, x: Any) -> Any:
        """Apply each module to the output of the one before it."""
        for module in self.chain:
            x = module(x)
        return x

    @property
    def chain(self) -> list[Module]:
        """The modules, in the order in which they are applied."""
        return [value for value in vars(self).values() if isinstance(value, Module)]

    def __len__(self) -> int:
        return len(self.chain)

    def __getitem__(self, index: Any) -> Any:
        return self.chain[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self.chain)


class Residual(Module):
    """x + scale·f(x): the gradient reaches x past f, whatever f does to it.

    ∂L/∂x = g + scale·(∂f/∂x)ᵀ g (He et al. 2016, "Identity Mappings in Deep Residual Networks",
    equation 5).

    Parameters
    ----------
    inner : Module
        f; its output has the shape of its input.
    scale : float
        Of the branch: 1/√L keeps the variance of L He-initialised blocks below a factor e.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.Residual(tg.nn.ReLU())(tg.tensor([-1.0, 2.0]))
    tensor([-1.,  4.])
    """

    def __init__(self, inner: Module, scale: float = 1.0) -> None:
        if not np.isfinite(scale):
            raise ArgumentError(f"Residual: scale is a finite number; received {scale}")
        self.inner = inner
        self.scale = scale

    def forward(self, x: Any) -> Any:
        """The input plus what the branch makes of it."""
        branch = self.inner(x)
        if np.shape(branch) != np.shape(x):
            raise ArgumentError(
                f"Residual: the branch must keep the shape of its input; {np.shape(x)} became "
                f"{np.shape(branch)}. Give f as many outputs as inputs"
            )
        return x + (branch if self.scale == 1.0 else self.scale * branch)
