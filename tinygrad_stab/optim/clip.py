"""Gradient clipping: bound the step, keep its direction."""

import math

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError, NonFiniteError
from .parameters import Parameters, listed


def clip_grad_norm_(
    parameters: Tensor | Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients by min(1, max_norm/(‖g‖ + 1e-6)), g being all of them as one vector.

    Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks",
    §3.2, algorithm 1; the formula with 1e-6 is PyTorch's.

    Parameters
    ----------
    parameters : Tensor, or iterable of Tensor or of (name, Tensor)
        Those without a gradient are passed over; one that is listed twice counts once.
    max_norm : float
        At least 0.
    norm_type : float
        Order of the norm, above 0; ``math.inf`` for the largest magnitude.
    error_if_nonfinite : bool
        Raise if a gradient holds a NaN or an infinity.

    Returns
    -------
    float
        The norm before clipping, accumulated in float64 and scaled, so that gradients of 1e30 in
        float32, or 1e200 in float64, do not overflow. If it is NaN or infinite, every gradient is
        left as it is: there is no direction to keep. 0.0 if there are no gradients.

    Raises
    ------
    ArgumentError
        ``max_norm`` below 0 or NaN, ``norm_type`` not above 0.
    NonFiniteError
        With ``error_if_nonfinite``: names the first parameter whose gradient is not finite.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> p = tg.tensor([0.0, 0.0], requires_grad=True)
    >>> p.grad = np.array([3.0, 4.0])
    >>> tg.optim.clip_grad_norm_([p], max_norm=1.0)
    5.0
    >>> p.grad.round(3)
    array([0.6, 0.8])
    """
    if not max_norm >= 0:
        raise ArgumentError(f"clip_grad_norm_: max_norm is at least 0; received {max_norm}")
    if not norm_type > 0:
        raise ArgumentError(f"clip_grad_norm_: norm_type is above 0; received {norm_type}")
    named = {id(tensor): (name, tensor) for name, tensor in listed(parameters)}
    grads = [(name, tensor.grad) for name, tensor in named.values() if tensor.grad is not None]
    total = _norm([grad for _, grad in grads], norm_type)
    if not math.isfinite(total):
        if error_if_nonfinite:
            guilty = [name for name, grad in grads if not np.isfinite(grad).all()]
            raise NonFiniteError(
                "clip_grad_norm_: gradients must be finite; "
                + (
                    f"parameter {guilty[0]} holds a NaN or an infinity"
                    if guilty
                    else "their norm is too large for float64"
                )
                + ". No gradient was changed; look for the operation that made it"
            )
        return total
    coefficient = max_norm / (total + 1e-6)
    if coefficient < 1:
        for _, grad in grads:  # in float64: float32 may not hold the coefficient itself
            np.multiply(grad, coefficient, out=grad, dtype=np.float64, casting="same_kind")
    return total


def _norm(grads: list[np.ndarray], order: float) -> float:
    """The norm of all entries as one float64 vector."""
    flat = [g.ravel().astype(np.float64, copy=False) for g in grads if g.size]
    with np.errstate(all="ignore"):
        if order == 2:
            squares = sum(float(v @ v) for v in flat)
            if 1e-280 < squares < math.inf:
                return math.sqrt(squares)
        # Divide by the largest entry: then no power overflows, nor do all of them underflow.
        largest = float(np.max([np.max(np.abs(v)) for v in flat], initial=0.0))
        if order == math.inf or largest == 0 or not math.isfinite(largest):
            return largest
        total = np.sum([np.sum(np.abs(v / largest) ** order) for v in flat])
        return float(largest * total ** (1 / order))
