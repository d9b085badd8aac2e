"""Losses as modules, under PyTorch's names; the formulas stand in `nn.functional`."""

from typing import Any

from . import functional
from .module import Module


class _Loss(Module):
    """A function of (input, target) with a way to reduce it."""

    function: Any

    def __init__(self, reduction: str = "mean") -> None:
        functional.check_reduction(reduction)
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of a batch."""
        return type(self).function(input, target, reduction=self.reduction)

    def extra_repr(self) -> str:
        """How it is reduced."""
        return f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """Squared error: see :func:`tinygrad_stab.nn.functional.mse_loss`."""

    function = staticmethod(functional.mse_loss)


class CrossEntropyLoss(_Loss):
    """Softmax and cross-entropy: see :func:`tinygrad_stab.nn.functional.cross_entropy`."""

    function = staticmethod(functional.cross_entropy)


class BCEWithLogitsLoss(_Loss):
    """Sigmoid and cross-entropy for yes or no: see
    :func:`tinygrad_stab.nn.functional.binary_cross_entropy_with_logits`.
    """

    function = staticmethod(functional.binary_cross_entropy_with_logits)
