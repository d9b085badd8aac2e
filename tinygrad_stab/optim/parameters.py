"""What optimisers and clipping take: tensors, or tensors with names."""

from collections.abc import Iterable

from ..core.tensor import Tensor
from ..errors import DtypeError

Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]]


def listed(parameters: Tensor | Parameters) -> list[tuple[str, Tensor]]:
    """Each parameter with a name for messages: the one given, the tensor's own, or its place."""
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    result = []
    for i, entry in enumerate(parameters):
        name, tensor = entry if isinstance(entry, tuple) else (None, entry)
        if not isinstance(tensor, Tensor) or tensor.op is not None:
            raise DtypeError(
                f"parameters: are leaf tensors, or (name, tensor) pairs; entry {i} is "
                + (
                    f"the result of {tensor.op.name}"
                    if isinstance(tensor, Tensor) and tensor.op
                    else f"a {type(tensor).__name__}"
                )
                + ". Pass model.parameters()"
            )
        name = name or (f"{i} ({tensor.name})" if tensor.name else str(i))
        result.append((name, tensor))
    return result
