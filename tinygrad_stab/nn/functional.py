"""Functions under PyTorch's names and arguments; the losses among them with ``reduction``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ops.fused import linear, sigmoid_binary_cross_entropy, softmax_cross_entropy

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "linear", "mse_loss"]


_REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "mean": np.mean,
    "sum": np.sum,
    "none": lambda losses: losses,
}


def check_reduction(reduction: str) -> None:
    """Refuse an unknown way to reduce a loss, before anything is computed with it."""
    if reduction not in _REDUCTIONS:
        raise ArgumentError(f"reduction: is one of {', '.join(_REDUCTIONS)}; got {reduction!r}")


def _reduce(losses: Any, reduction: str) -> Any:
    check_reduction(reduction)
    return _REDUCTIONS[reduction](losses)


def _same_shape(loss: str, input: Any, target: Any) -> None:
    if np.shape(input) != np.shape(target):
        raise ShapeError(
            f"{loss}: input and target must have the same shape, without broadcasting "
            f"(input: {np.shape(input)}, target: {np.shape(target)}). "
            f"Add or remove an axis: target[:, None], input[:, 0]"
        )


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Squared error, (input − target)²; its gradient is 2·(input − target).

    Parameters
    ----------
    input, target : Tensor or array_like
        Of the same shape.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        Shapes differ, even where they would broadcast.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.mse_loss(tg.tensor([1.0, 4.0]), np.array([1.0, 2.0]))
    tensor(2.)
    """
    _same_shape("mse_loss", input, target)
    difference = input - target
    return _reduce(difference * difference, reduction)


def cross_entropy(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Cross-entropy of softmax(input) with a target.

    Parameters
    ----------
    input : Tensor or ndarray of shape (…, C)
        Logits, any real numbers; classes along the last axis.
    target : array_like
        Classes 0 … C − 1 as integers of shape (…), or distributions of shape (…, C).
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    IndexingError
        A class outside 0 … C − 1.
    ShapeError, DtypeError
        A target of another shape, or classes that are not integers.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.cross_entropy(tg.tensor([[0.0, 0.0]]), np.array([1]))
    tensor(0.69314718)
    """
    return _reduce(softmax_cross_entropy(input, target), reduction)


def binary_cross_entropy_with_logits(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Cross-entropy of sigmoid(input) with a target probability, elementwise.

    Parameters
    ----------
    input, target : Tensor or ndarray
        Logits, and probabilities of the same shape.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        Shapes differ, even where they would broadcast.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.binary_cross_entropy_with_logits(tg.tensor([0.0]), np.array([1.0]))
    tensor(0.69314718)
    """
    _same_shape("binary_cross_entropy_with_logits", input, target)
    return _reduce(sigmoid_binary_cross_entropy(input, target), reduction)
