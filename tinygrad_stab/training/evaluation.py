"""How good a model is: evaluation mode, and the share of right classes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.mode import no_grad
from ..core.tensor import Tensor
from ..errors import ShapeError
from ..nn import Module
from .loader import DataLoader


@contextmanager
def evaluation(model: Module) -> Iterator[None]:
    """Evaluation mode, recording nothing; every module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def accuracy(model: Module, x: Any, y: Any, batch_size: int = 1000) -> float:
    """Share of examples whose largest output is that of their class.

    Parameters
    ----------
    model : Module
        Maps inputs to outputs of shape (n, classes, …); put into evaluation mode for the time.
    x : array_like of shape (n, …)
    y : array_like of int, shape (n, …)
        Classes, from 0.
    batch_size : int
        How many examples are computed at once; it bounds the memory, no graph being kept.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ArgumentError
        No examples, or not as many classes in ``y`` as examples in ``x``.
    ShapeError
        The outputs have no axis of at least 2 classes, or what is left does not have y's shape.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> outputs = np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])
    >>> tg.training.accuracy(tg.nn.Sequential(), outputs, [0, 1, 1]) * 3
    2.0
    """
    correct = count = 0
    with evaluation(model):
        for inputs, labels in DataLoader(x, y, batch_size=batch_size):
            out = model(inputs)
            shape = np.shape(out)
            if len(shape) < 2 or shape[1] < 2 or shape[:1] + shape[2:] != labels.shape:
                raise ShapeError(
                    f"accuracy: needs outputs (n, classes, …), at least 2 classes, and a class "
                    f"each; received outputs {shape} for labels {labels.shape}. Labels are "
                    f"numbers from 0, not one-hot rows"
                )
            values = out.data if isinstance(out, Tensor) else np.asarray(out)
            correct += int(np.sum(values.argmax(axis=1) == labels))
            count += labels.size
    return correct / count
