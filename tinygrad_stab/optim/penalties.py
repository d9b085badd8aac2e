"""Keeping weights small: penalties to add to a loss, and groups for weight decay.

For `SGD` the two are one: the gradient of ½λ‖w‖² is λw, which is what ``weight_decay=λ`` adds.
For optimisers that divide the gradient they are not. `Adam` divides λw by the size of the gradient,
so that weights with large gradients are hardly held back, and a weight with none moves by lr
whatever λ is; `AdamW` shrinks all alike. Loshchilov & Hutter 2019, "Decoupled weight decay
regularization", §2, propositions 1 and 2.
"""

from typing import Any

from ..checks import check_numbers
from ..core.tensor import Tensor
from .parameters import Parameters, listed


def l1_penalty(parameters: Tensor | Parameters, coefficient: float, biases: bool = True) -> Tensor:
    """λ·Σ|w|, to add to a loss; its gradient is λ·sign(w), 0 where w is 0.

    It pushes all weights to 0 at one speed, so that many arrive: Tibshirani 1996, "Regression
    shrinkage and selection via the lasso".

    Parameters
    ----------
    parameters : Tensor, or iterable of Tensor or of (name, Tensor)
        One that is listed twice counts once.
    coefficient : float
        λ, at least 0 and finite.
    biases : bool
        Whether tensors of fewer than two axes count: biases, and scales of normalisations.

    Returns
    -------
    Tensor
        Without axes; 0 if there are no parameters.

    Raises
    ------
    ArgumentError
        ``coefficient`` outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> w = tg.tensor([3.0, -4.0], requires_grad=True)
    >>> penalty = tg.optim.l1_penalty([w], 0.1)
    >>> penalty.backward()
    >>> round(penalty.item(), 6), w.grad
    (0.7, array([ 0.1, -0.1]))
    """
    check_numbers("l1_penalty", "finite, at least 0", lambda c: c >= 0, coefficient=coefficient)
    return _total([abs(w).sum() for w in _counted(parameters, biases)], coefficient)


def l2_penalty(parameters: Tensor | Parameters, coefficient: float, biases: bool = True) -> Tensor:
    """½·λ·Σw², to add to a loss; its gradient is λ·w, the same as that of ``weight_decay=λ``.

    With the ½: λ·Σw² is ``l2_penalty(…, 2·λ)``. Hoerl & Kennard 1970, "Ridge regression".

    Parameters, result and errors are those of `l1_penalty`.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> w = tg.tensor([3.0, -4.0], requires_grad=True)
    >>> penalty = tg.optim.l2_penalty([w], 0.1)
    >>> penalty.backward()
    >>> round(penalty.item(), 6), w.grad
    (1.25, array([ 0.3, -0.4]))
    """
    check_numbers("l2_penalty", "finite, at least 0", lambda c: c >= 0, coefficient=coefficient)
    return _total([(w * w).sum() for w in _counted(parameters, biases)], coefficient / 2)


def decay_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimiser: weights, which decay, and biases and scales, which do not.

    A tensor of two axes or more is a weight. Decaying the others gains nothing: a bias does not
    make a function steeper. Goodfellow, Bengio & Courville 2016, "Deep learning", §7.1.

    Parameters
    ----------
    model : Module, or iterable of Tensor or of (name, Tensor)
        A module stands for its ``named_parameters()``.
    weight_decay : float
        Of the weights; at least 0 and finite.

    Returns
    -------
    list of dict
        ``{"params": […], "weight_decay": …}``, without a group that would be empty.

    Raises
    ------
    ArgumentError
        ``weight_decay`` outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> net = tg.nn.Linear(3, 2, rng=0)
    >>> optimizer = tg.optim.AdamW(tg.optim.decay_groups(net, 0.1), lr=0.01)
    >>> [(group["param_names"], group["weight_decay"]) for group in optimizer.param_groups]
    [(['weight'], 0.1), (['bias'], 0.0)]
    """
    check_numbers("decay_groups", "finite, at least 0", lambda d: d >= 0, weight_decay=weight_decay)
    entries = list(model.named_parameters() if hasattr(model, "named_parameters") else model)
    axes = [tensor.ndim for _, tensor in listed(entries)]
    pairs = list(zip(entries, axes, strict=True))
    groups: list[dict[str, Any]] = [
        {"params": [entry for entry, n in pairs if n >= 2], "weight_decay": weight_decay},
        {"params": [entry for entry, n in pairs if n < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _counted(parameters: Tensor | Parameters, biases: bool) -> list[Tensor]:
    """The parameters that are penalised, each once."""
    distinct = dict.fromkeys(tensor for _, tensor in listed(parameters))
    return [tensor for tensor in distinct if biases or tensor.ndim >= 2]


def _total(terms: list[Tensor], coefficient: float) -> Tensor:
    """The sum of the terms, times a Python number, which does not widen float32."""
    total = terms[0] if terms else Tensor(0.0)
    for term in terms[1:]:
        total = total + term
    return float(coefficient) * total
