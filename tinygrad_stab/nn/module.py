"""Module: parameters, buffers and sub-modules found in attributes, and named by their path."""

from collections.abc import Callable, Iterator, Mapping
from reprlib import recursive_repr
from typing import Any

import numpy as np

from ..arrays import numbers
from ..core.mode import mode
from ..core.tensor import Tensor
from ..errors import ArgumentError, StateDictError, describe


class Module:
    """Base class of layers and networks: write ``forward``, keep tensors in attributes.

    What an attribute holds says what it is: a tensor is a parameter, an array a buffer (state that
    no gradient moves, such as a running mean), a module a sub-module, a Generator a source of
    randomness. All are also found in lists, tuples and dicts. There is nothing to register, and no
    ``super().__init__()`` to forget.

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

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every array inside, each once, under its path, such as ``norm.running_mean``."""
        return _walk(self, np.ndarray)

    def named_generators(self) -> Iterator[tuple[str, np.random.Generator]]:
        """Every source of randomness inside, each once, under its path, such as ``dropout.rng``."""
        return _walk(self, np.random.Generator)

    def apply(self, function: Callable[["Module"], Any]) -> "Module":
        """Call a function on every module inside and then on this one, e.g. to initialise."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

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
        """A copy of every parameter's and every buffer's value, by path."""
        return {name: _value(held).copy() for name, held in self._state().items()}

    def load_state_dict(
        self, state: Mapping[str, Any], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Copy values into the parameters and buffers of the same path: all of them, or none.

        Parameters
        ----------
        state : mapping of str to array_like
            Converted to the dtype of the parameter or buffer; complex values are refused.
        strict : bool
            Whether missing and unexpected names are an error. Shapes must always agree exactly.

        Returns
        -------
        missing, unexpected : list of str
            What ``state`` lacks, and names that nothing here has.

        Raises
        ------
        StateDictError
            Names every missing, unexpected and misshapen entry. Nothing is changed.
        """
        if not isinstance(state, Mapping):
            raise StateDictError(
                f"load_state_dict: a state is a mapping of names to arrays; received "
                f"{describe(state)}. Pass what state_dict() returned"
            )
        own = self._state()
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
        arrays = {name: numbers(state[name]) for name in own if name in state}
        problems = [
            problem
            for name, array in arrays.items()
            if (problem := _misfit(name, array, own[name]))
        ]
        if strict:
            problems += [f"{name} is missing" for name in missing]
            problems += [f"{name} is unexpected" for name in unexpected]
        if problems:
            raise StateDictError(
                f"load_state_dict: every entry must match a parameter or buffer of "
                f"{type(self).__name__}; {'; '.join(problems)}. Nothing was loaded"
                + ("; strict=False ignores missing and unexpected names" if strict else "")
            )
        for name, array in arrays.items():
            held = own[name]
            if isinstance(held, Tensor):
                held.data = array
            else:
                held[...] = array
        return missing, unexpected

    def _state(self) -> dict[str, Any]:
        """Parameters and buffers, by path."""
        return dict(self.named_parameters()) | dict(self.named_buffers())

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


def _value(held: Any) -> np.ndarray:
    return held._value if isinstance(held, Tensor) else held


def _misfit(name: str, array: np.ndarray, held: Any) -> str:
    """Why an array cannot become the value of a parameter or buffer; empty if it can."""
    if array.shape != held.shape:
        return f"{name} has shape {array.shape}, the one here {held.shape}"
    whole = held.dtype.kind in "iub"
    if array.dtype.kind not in ("iub" if whole else "fiub"):
        return f"{name} holds {array.dtype}, not {'integers' if whole else 'real numbers'}"
    if isinstance(held, np.ndarray) and not held.flags.writeable:
        return f"{name} is read-only"
    return ""


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
