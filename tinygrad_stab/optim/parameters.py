"""What optimisers, clipping and penalties take: tensors, or tensors with names."""

from collections.abc import Iterable
from typing import Any

from ..core.tensor import Tensor
from ..errors import DtypeError, describe

Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]]


def listed(parameters: Tensor | Parameters) -> list[tuple[str, Tensor]]:
    """Each parameter with a name for messages: the one given, the tensor's own, or its place."""
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    if not isinstance(parameters, Iterable):
        raise DtypeError(
            f"parameters: are leaf tensors, or (name, tensor) pairs; received "
            f"{describe(parameters)}. Pass model.parameters()"
        )
    result = []
    for i, entry in enumerate(parameters):
        name, tensor = entry if named(entry) else (None, entry)
        if not isinstance(tensor, Tensor) or tensor.op is not None or tensor.dtype.kind != "f":
            raise DtypeError(
                f"parameters: are leaf tensors of real floating-point numbers, or (name, tensor) "
                f"pairs; entry {i} is {_kind(tensor)}. Pass model.parameters()"
            )
        name = name or (f"{i} ({tensor.name})" if tensor.name else str(i))
        result.append((name, tensor))
    return result


def named(entry: Any) -> bool:
    """Whether an entry is a pair of a name and something."""
    return isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)


def _kind(entry: Any) -> str:
    if not isinstance(entry, Tensor):
        return f"a {type(entry).__name__}"
    return f"the result of {entry.op.name}" if entry.op else f"of dtype {entry.dtype}"
