"""Module: parameters and sub-modules found by walking attributes, and named by their path."""

from collections.abc import Iterator, Mapping
from reprlib import recursive_repr
from typing import Any

import numpy as np

from ..core.mode import mode
from ..core.tensor import Tensor
from ..errors import ArgumentError, DtypeError, StateDictError


class Module:
    """Base class of layers and networks: write ``forward``, keep tensors in attributes.

    A tensor in an attribute is a parameter, a module in an attribute a sub-module; both are also
    found in lists, tuples and dicts. There is nothing to register, and no ``super().__init__()``
    to forget.

    Attributes
    ----------
    training : bool
        What ``train()`` and ``eval()`` switch, for layers that behave differently.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> class Net(tg.nn.Module):
    ...     def __init__(self):
    ...         self.blocks = [tg.nn.Linear(4, 4, rng=0), tg.nn.Linear(4, 2, rng=1)]
    ...
    ...     def forward(self, x):
    ...         for block in self.blocks:
    ...             x = tg.tanh(block(x))
    ...         return x
    >>> [name for name, _ in Net().named_parameters()]
    ['blocks.0.weight', 'blocks.0.bias', 'blocks.1.weight', 'blocks.1.bias']
    """

    training: bool = True

    def forward(self, *args: Any) -> Any:
        """Compute the output; overridden by every module."""
        raise TypeError(f"{type(self).__name__} must define forward(self, x)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward``; what it makes is marked with the path of this call."""
        outer = mode.scope
        mode.scope = (outer, self)
        try:
            return self.forward(*args, **kwargs)
        finally:
            mode.scope = outer

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """Path and module: itself under "", and every one inside, each once."""
        return _walk(self, Module)

    def modules(self) -> Iterator["Module"]:
        """All modules: itself and every one inside."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor inside, each once, under its path, such as ``blocks.0.weight``."""
        return _walk(self, Tensor)

    def parameters(self) -> Iterator[Tensor]:
        """Every tensor inside."""
        return (tensor for _, tensor in self.named_parameters())

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter._grad = None

    def train(self, mode: bool = True) -> "Module":
        """Switch this module and all inside to training (or, with False, to evaluation)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> "Module":
        """Switch this module and all inside to evaluation."""
        return self.train(False)

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter's value, by path."""
        return {name: tensor._value.copy() for name, tensor in self.named_parameters()}

    def load_state_dict(
        self, state: Mapping[str, Any], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Copy values into the parameters of the same path: all of them, or none.

        Parameters
        ----------
        state : mapping of str to array_like
            Converted to the parameter's dtype; complex values are refused.
        strict : bool
            Whether missing and unexpected names are an error. Shapes must always agree exactly.

        Returns
        -------
        missing, unexpected : list of str
            Parameters that ``state`` lacks, names that no parameter has.

        Raises
        ------
        StateDictError
            Names every missing, unexpected and misshapen entry. No parameter is changed.
        """
        parameters = dict(self.named_parameters())
        missing = [name for name in parameters if name not in state]
        unexpected = [name for name in state if name not in parameters]
        arrays = {name: Tensor(state[name])._value for name in parameters if name in state}
        problems = [
            f"{name} has shape {array.shape}, the parameter {parameters[name].shape}"
            for name, array in arrays.items()
            if array.shape != parameters[name].shape
        ] + [
            f"{name} holds {array.dtype}, not real numbers"
            for name, array in arrays.items()
            if array.dtype.kind not in "fiub"
        ]
        if strict:
            problems += [f"{name} is missing" for name in missing]
            problems += [f"{name} is unexpected" for name in unexpected]
        if problems:
            raise StateDictError(
                f"load_state_dict: every entry must match a parameter of "
                f"{type(self).__name__}; {'; '.join(problems)}. Nothing was loaded"
                + ("; strict=False ignores missing and unexpected names" if strict else "")
            )
        for name, array in arrays.items():
            parameters[name].data = array
        return missing, unexpected

    def extra_repr(self) -> str:
        """What stands between the parentheses of the ``repr`` of a layer."""
        return ""

    @recursive_repr("…")
    def __repr__(self) -> str:
        inside = [
            f"({path}): " + repr(module).replace("\n", "\n  ")
            for path, module in _children(self, Module)
        ]
        if not inside:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(inside) + "\n)"


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


def _children(holder: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """What of a kind an object holds directly, and in its lists, tuples and dicts, by path."""
    if isinstance(holder, Mapping):
        items = list(holder.items())
    elif isinstance(holder, list | tuple):
        items = list(enumerate(holder))
    else:
        items = list(vars(holder).items())
    for key, value in items:
        if isinstance(value, kind) and getattr(value, "op", None) is None:
            yield str(key), value  # a result that is kept in an attribute is no parameter
        elif isinstance(value, list | tuple | Mapping):
            for path, inner in _children(value, kind):
                yield f"{key}.{path}", inner


def _walk(root: Module, kind: type) -> Iterator[tuple[str, Any]]:
    """Everything of a kind in a tree of modules, each object once, with its path from the root."""
    seen: set[int] = set()
    paths: set[str] = set()

    def named(path: str, value: Any) -> tuple[str, Any]:
        if path in paths:
            raise ArgumentError(
                f"{type(root).__name__}: every path names one thing; {path!r} names two. Rename "
                f"an attribute or a key"
            )
        paths.add(path)
        return path, value

    def visit(module: Module, prefix: str) -> Iterator[tuple[str, Any]]:
        if id(module) in seen:
            return
        seen.add(id(module))
        if kind is Module:
            yield named(prefix.removesuffix("."), module)
        else:
            for path, value in _children(module, kind):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield named(prefix + path, value)
        for path, child in _children(module, Module):
            yield from visit(child, f"{prefix}{path}.")

    return visit(root, "")
