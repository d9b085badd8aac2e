"""Losses as modules, under PyTorch's names; the formulas stand in `nn.functional`."""

from typing import Any

import numpy as np

from ..arrays import numbers
from ..checks import check_integers, check_numbers
from . import functional
from .module import Module


class _Loss(Module):
    """A function of (input, target), and the attributes that go with it as keywords."""

    function: Any
    options: tuple[str, ...] = ("reduction",)

    def __init__(self, reduction: str = "mean") -> None:
        functional.check_reduction(reduction)
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of a batch."""
        options = {name: getattr(self, name) for name in self.options}
        return type(self).function(input, target, **options)

    def extra_repr(self) -> str:
        """Its options."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)


def _buffer(weight: Any) -> np.ndarray | None:
    """Weights as an array of its own: saved with the model, but no parameter that is trained."""
    return None if weight is None else numbers(weight).copy()


class MSELoss(_Loss):
    """Squared error: see :func:`tinygrad_stab.nn.functional.mse_loss`.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.MSELoss()(tg.tensor([1.0, 4.0]), np.array([1.0, 2.0]))
    tensor(2.)
    """

    function = staticmethod(functional.mse_loss)


class L1Loss(_Loss):
    """Absolute error: see :func:`tinygrad_stab.nn.functional.l1_loss`.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.L1Loss("sum")(tg.tensor([1.0, 4.0]), np.array([1.0, 2.0]))
    tensor(2.)
    """

    function = staticmethod(functional.l1_loss)


class SmoothL1Loss(_Loss):
    """Huber's loss divided by β: see :func:`tinygrad_stab.nn.functional.smooth_l1_loss`.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.SmoothL1Loss("none", beta=2.0)(tg.tensor([1.0, 4.0]), np.zeros(2))
    tensor([0.25, 3.  ])
    """

    function = staticmethod(functional.smooth_l1_loss)
    options = ("reduction", "beta")

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        check_numbers("SmoothL1Loss", "finite, at least 0", lambda b: b >= 0, beta=beta)
        super().__init__(reduction)
        self.beta = beta


class HuberLoss(_Loss):
    """Squared near 0, absolute beyond δ: see :func:`tinygrad_stab.nn.functional.huber_loss`.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.HuberLoss("none", delta=2.0)(tg.tensor([1.0, 4.0]), np.zeros(2))
    tensor([0.5, 6. ])
    """

    function = staticmethod(functional.huber_loss)
    options = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        check_numbers("HuberLoss", "finite, above 0", lambda d: d > 0, delta=delta)
        super().__init__(reduction)
        self.delta = delta


class NLLLoss(_Loss):
    """−log p of the right class, from log p: see :func:`tinygrad_stab.nn.functional.nll_loss`.

    Options and errors are those of :class:`CrossEntropyLoss`.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.NLLLoss()(tg.tensor([[-1.0, -2.0]]), np.array([1]))
    tensor(2.)
    """

    function = staticmethod(functional.nll_loss)
    options: tuple[str, ...] = ("weight", "ignore_index", "reduction")

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        check_integers(type(self).__name__, -(2**31), ignore_index=ignore_index)
        super().__init__(reduction)
        self.weight = _buffer(weight)
        self.ignore_index = ignore_index


class CrossEntropyLoss(NLLLoss):
    """Softmax and cross-entropy: see :func:`tinygrad_stab.nn.functional.cross_entropy`.

    Parameters
    ----------
    weight : array_like of shape (C,), optional
        Of each class. It is copied, and kept as a buffer.
    ignore_index : int
        Targets of this class count for nothing.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float
        From 0 to 1.

    Raises
    ------
    ArgumentError
        An option outside its range.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.CrossEntropyLoss()(tg.tensor([[0.0, 0.0]]), np.array([1]))
    tensor(0.69314718)
    """

    function = staticmethod(functional.cross_entropy)
    options = ("weight", "ignore_index", "reduction", "label_smoothing")

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        check_numbers(
            "CrossEntropyLoss",
            "from 0 to 1",
            lambda e: 0 <= e <= 1,
            label_smoothing=label_smoothing,
        )
        super().__init__(weight, ignore_index, reduction)
        self.label_smoothing = label_smoothing


class BCELoss(_Loss):
    """Cross-entropy for yes or no, from probabilities: see
    :func:`tinygrad_stab.nn.functional.binary_cross_entropy`.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.BCELoss()(tg.tensor([0.5]), np.array([1.0]))
    tensor(0.69314718)
    """

    function = staticmethod(functional.binary_cross_entropy)
    options: tuple[str, ...] = ("weight", "reduction")

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = _buffer(weight)


class BCEWithLogitsLoss(BCELoss):
    """Sigmoid and cross-entropy for yes or no: see
    :func:`tinygrad_stab.nn.functional.binary_cross_entropy_with_logits`.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.BCEWithLogitsLoss(pos_weight=3.0)(tg.tensor([0.0]), np.array([1.0]))
    tensor(2.07944154)
    """

    function = staticmethod(functional.binary_cross_entropy_with_logits)
    options = ("weight", "reduction", "pos_weight")

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(weight, reduction)
        self.pos_weight = _buffer(pos_weight)


class KLDivLoss(_Loss):
    """Kullback–Leibler divergence, from log-probabilities: see
    :func:`tinygrad_stab.nn.functional.kl_div`.

    ``reduction="batchmean"`` is the divergence itself, averaged over the batch; "mean" is not.

    >>> import numpy as np, tinygrad_stab as tg
    >>> loss = tg.nn.KLDivLoss(reduction="batchmean")
    >>> loss(tg.tensor(np.log([[0.25, 0.75]])), np.array([[0.5, 0.5]]))
    tensor(0.14384104)
    """

    function = staticmethod(functional.kl_div)
    options = ("reduction", "log_target")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        functional.check_reduction(reduction, ["mean", "batchmean", "sum", "none"])
        self.reduction = reduction
        self.log_target = log_target
