"""Modules made of modules, one after the other."""

from collections.abc import Iterator
from typing import Any

from ..errors import DtypeError
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
