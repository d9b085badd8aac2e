"""Gradient clipping: bound the step, and say what was done.

Every function takes what `clip_grad_norm_` takes: a tensor, or an iterable of tensors or of
(name, tensor) pairs. Those without a gradient are passed over; one that is listed twice counts
once. Gradients are changed in place. Norms are accumulated in float64 and scaled, so that
gradients of 1e30 in float32, or 1e200 in float64, do not overflow.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from ..checks import check_numbers
from ..core.tensor import Tensor
from ..errors import NonFiniteError
from .parameters import Parameters, listed


class Clipped(float):
    """What clipping did: the norm before it, as a number, and how much of it is left.

    Attributes
    ----------
    coefficient : float
        ‖after‖/‖before‖: 1.0 if nothing was changed, NaN where a norm is NaN or infinite and
        something was changed. Where one number multiplied the gradients it is that number.
    by_parameter : dict of str to Clipped
        The same for each parameter, where each was clipped by itself; else empty. Under its name,
        or its place in the list.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> p = tg.tensor([0.0, 0.0], requires_grad=True, name="bias")
    >>> p.grad = [6.0, 8.0]
    >>> clipped = tg.optim.clip_grad_norm_each_([p], max_norm=5.0)
    >>> clipped, round(clipped.coefficient, 3), clipped.by_parameter
    (10.0, 0.5, {'0 (bias)': 10.0})
    """

    coefficient: float
    by_parameter: Mapping[str, "Clipped"]

    def __new__(
        cls,
        norm: float,
        coefficient: float = 1.0,
        by_parameter: Mapping[str, "Clipped"] | None = None,
    ) -> "Clipped":
        self = super().__new__(cls, norm)
        self.coefficient = coefficient
        self.by_parameter = by_parameter or {}
        return self


def clip_grad_norm_(
    parameters: Tensor | Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Clipped:
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
    Clipped
        The norm before clipping, and the coefficient. If the norm is NaN or infinite, every
        gradient is left as it is: there is no direction to keep. 0.0 if there are no gradients.

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
    _check("clip_grad_norm_", max_norm=max_norm, norm_type=norm_type)
    grads = {name: grad for name, (_, grad) in _gradients(parameters).items()}
    total = _norm(grads.values(), norm_type)
    if error_if_nonfinite:
        _check_finite("clip_grad_norm_", grads, total)
    coefficient = _coefficient(total, max_norm)
    for grad in grads.values() if coefficient < 1 else ():
        _scale(grad, coefficient)
    return Clipped(total, coefficient)


def clip_grad_norm_each_(
    parameters: Tensor | Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Clipped:
    """Scale each gradient g by min(1, max_norm/(‖g‖ + 1e-6)), by itself.

    One exploding layer does not silence the others, but the direction of the step changes.

    Parameters
    ----------
    parameters, norm_type, error_if_nonfinite
        As for `clip_grad_norm_`.
    max_norm : float
        Of each gradient; at least 0.

    Returns
    -------
    Clipped
        Of all gradients as one vector, and ``by_parameter``. A gradient whose norm is NaN or
        infinite is left as it is.

    Raises
    ------
    ArgumentError
        ``max_norm`` below 0 or NaN, ``norm_type`` not above 0.
    NonFiniteError
        With ``error_if_nonfinite``: names the first parameter whose gradient is not finite.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> p, q = (tg.tensor([0.0, 0.0], requires_grad=True) for _ in range(2))
    >>> p.grad, q.grad = [30.0, 40.0], [0.3, 0.4]
    >>> tg.optim.clip_grad_norm_each_([("p", p), ("q", q)], max_norm=1.0).by_parameter
    {'p': 50.0, 'q': 0.5}
    >>> p.grad.round(3), q.grad
    (array([0.6, 0.8]), array([0.3, 0.4]))
    """
    _check("clip_grad_norm_each_", max_norm=max_norm, norm_type=norm_type)
    grads = {name: grad for name, (_, grad) in _gradients(parameters).items()}
    if error_if_nonfinite:
        _check_finite("clip_grad_norm_each_", grads, _norm(grads.values(), norm_type))
    by_parameter = {}
    for name, grad in grads.items():
        norm = _norm([grad], norm_type)
        coefficient = _coefficient(norm, max_norm)
        if coefficient < 1:
            _scale(grad, coefficient)
        by_parameter[name] = Clipped(norm, coefficient)
    return _together(by_parameter, norm_type)


def clip_grad_value_(parameters: Tensor | Parameters, clip_value: float) -> Clipped:
    """Clip every entry of every gradient to the interval from −clip_value to clip_value.

    Mikolov 2012, "Statistical language models based on neural networks", PhD thesis, §3.2.2. An
    infinity becomes the bound; a NaN stays.

    Parameters
    ----------
    parameters : Tensor, or iterable of Tensor or of (name, Tensor)
        As for `clip_grad_norm_`.
    clip_value : float
        At least 0.

    Returns
    -------
    Clipped
        Euclidean norms, of all gradients as one vector and ``by_parameter``.

    Raises
    ------
    ArgumentError
        ``clip_value`` below 0 or NaN.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> p = tg.tensor([0.0, 0.0], requires_grad=True)
    >>> p.grad = [3.0, -4.0]
    >>> tg.optim.clip_grad_value_([p], 3.0)
    5.0
    >>> p.grad
    array([ 3., -3.])
    """
    _check("clip_grad_value_", clip_value=clip_value)
    by_parameter = {}
    for name, (_, grad) in _gradients(parameters).items():
        before = _norm([grad])
        with np.errstate(over="ignore"):  # a bound beyond float32 is none
            bound = grad.dtype.type(clip_value)
        changed = bool(np.any(np.abs(grad) > bound))
        np.clip(grad, -bound, bound, out=grad)
        by_parameter[name] = Clipped(before, _ratio(_norm([grad]), before) if changed else 1.0)
    return _together(by_parameter)


def adaptive_clip_grad_(
    parameters: Tensor | Parameters, clip_factor: float = 0.01, eps: float = 1e-3
) -> Clipped:
    """Bound each unit's gradient by a part of its weights: ‖g‖ ≤ clip_factor · max(‖w‖, eps).

    A unit is a row of a weight: all entries with one index on axis 0, where `nn` has outputs. A
    tensor of fewer than two axes is one unit. A unit beyond the bound is scaled down to it.

    Brock, De, Smith & Simonyan 2021, "High-performance large-scale image recognition without
    normalization", §4.1, eq. 3. They leave out the last layer of a network.

    Parameters
    ----------
    parameters : Tensor, or iterable of Tensor or of (name, Tensor)
        As for `clip_grad_norm_`.
    clip_factor : float
        The λ of the paper, at least 0; .01 suits large batches, more is needed for small ones.
    eps : float
        At least 0: weights that start at 0 can move.

    Returns
    -------
    Clipped
        Euclidean norms, of all gradients as one vector and ``by_parameter``. A unit is left as it
        is where the norm of its gradient, or of its weights, is NaN or infinite.

    Raises
    ------
    ArgumentError
        ``clip_factor`` or ``eps`` below 0 or NaN.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> w = tg.tensor([[3.0, 4.0], [0.0, 1.0]], requires_grad=True)
    >>> w.grad = [[0.6, 0.8], [0.06, 0.08]]
    >>> clipped = tg.optim.adaptive_clip_grad_([w], clip_factor=0.1)
    >>> w.grad.round(3)
    array([[0.3 , 0.4 ],
           [0.06, 0.08]])
    """
    _check("adaptive_clip_grad_", clip_factor=clip_factor, eps=eps)
    by_parameter = {}
    for name, (weight, grad) in _gradients(parameters).items():
        before = _norm([grad])
        norms = _unit_norms(grad)
        with np.errstate(all="ignore"):
            bounds = clip_factor * np.maximum(_unit_norms(weight), eps)
            over = (norms > bounds) & np.isfinite(norms)
            coefficients = np.where(over, bounds / norms, 1.0)
        changed = bool(np.any(over))
        if changed:
            _scale(grad, coefficients)
        by_parameter[name] = Clipped(before, _ratio(_norm([grad]), before) if changed else 1.0)
    return _together(by_parameter)


def _check(function: str, **values: Any) -> None:
    """Every argument is at least 0; the order of a norm is above."""
    for name, value in values.items():
        if isinstance(value, float | np.floating) and value == math.inf:
            continue  # no bound or, as an order, the largest magnitude
        if name == "norm_type":
            check_numbers(function, "above 0", lambda order: order > 0, norm_type=value)
        else:
            check_numbers(function, "at least 0", lambda bound: bound >= 0, **{name: value})


def _gradients(parameters: Tensor | Parameters) -> dict[str, tuple[ndarray, ndarray]]:
    """Value and gradient of every parameter that has one, each once, by name."""
    result: dict[str, tuple[ndarray, ndarray]] = {}
    seen = set()
    for i, (name, tensor) in enumerate(listed(parameters)):
        if tensor._grad is not None and tensor not in seen:
            seen.add(tensor)
            result[name if name not in result else f"{i} ({name})"] = tensor._value, tensor._grad
    return result


def _check_finite(function: str, grads: Mapping[str, ndarray], total: float) -> None:
    if not math.isfinite(total):
        guilty = [name for name, grad in grads.items() if not np.isfinite(grad).all()]
        reason = "their norm is too large for float64"
        if guilty:
            reason = f"parameter {guilty[0]} holds a NaN or an infinity"
        raise NonFiniteError(
            f"{function}: gradients must be finite; {reason}. No gradient was changed; look for "
            f"the operation that made it"
        )


def _coefficient(norm: float, max_norm: float) -> float:
    """What to multiply a gradient by; one that is 0 or not finite has no direction to keep."""
    return min(1.0, max_norm / (norm + 1e-6)) if 0 < norm < math.inf else 1.0


def _scale(grad: ndarray, coefficient: float | ndarray) -> None:
    if np.all(coefficient >= np.finfo(grad.dtype).tiny):
        grad *= np.asarray(coefficient, grad.dtype)
    else:  # in float64: float32 does not hold the coefficient itself
        np.multiply(grad, coefficient, out=grad, dtype=np.float64, casting="same_kind")


def _ratio(after: float, before: float) -> float:
    return after / before if math.isfinite(before) else math.nan


def _together(by_parameter: dict[str, Clipped], order: float = 2.0) -> Clipped:
    """Parameters that were clipped one by one, as one vector."""
    before = _norm([np.array([float(c) for c in by_parameter.values()])], order)
    if all(c.coefficient == 1 for c in by_parameter.values()):
        return Clipped(before, 1.0, by_parameter)
    after = _norm([np.array([c * c.coefficient for c in by_parameter.values()])], order)
    return Clipped(before, _ratio(after, before), by_parameter)


def _norm(grads: Any, order: float = 2.0) -> float:
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


def _unit_norms(array: ndarray) -> ndarray:
    """Euclidean norms of the rows, or of the whole if it has none, in a shape that broadcasts."""
    axes = tuple(range(1, array.ndim)) if array.ndim > 1 else None
    values = array.astype(np.float64)
    largest = np.max(np.abs(values), axis=axes, keepdims=True, initial=0.0)
    with np.errstate(all="ignore"):  # as in `_norm`
        roots = np.sqrt(np.sum((values / largest) ** 2, axis=axes, keepdims=True))
        return np.where((largest == 0) | ~np.isfinite(largest), largest, largest * roots)
