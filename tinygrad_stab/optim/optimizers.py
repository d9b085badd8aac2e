"""Optimisers, in order of increasing complexity, with PyTorch's names, defaults and formulas.

In `update`, p is the value of a parameter, changed in place, and g its gradient. Python numbers
leave float32 what it is. Where a formula needs many passes over an array, they share one
temporary t: memory is what an optimiser waits for.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from .base import Groups, Optimizer
from .parameters import Parameters

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop"]


class SGD(Optimizer):
    """Gradient descent, with momentum if wanted.

    g ← g + weight_decay·p;  v ← momentum·v + (1 − dampening)·g (v = g at the first step);
    p ← p − lr·v, or with Nesterov's momentum p ← p − lr·(g + momentum·v).

    Polyak 1964 (heavy ball); Nesterov 1983, in the form of Sutskever et al. 2013, "On the
    importance of initialization and momentum in deep learning", §2.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor), or of dict
        See `Optimizer`.
    lr, momentum, dampening, weight_decay : float
        Each at least 0 and finite. Decay is the gradient of ½·weight_decay·‖p‖².
    nesterov : bool
        Needs momentum above 0 and no dampening.
    maximize : bool
        Climb instead.

    Raises
    ------
    ArgumentError
        A value outside its range, no parameters, or one twice.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> p = tg.tensor(1.0, requires_grad=True)
    >>> optimizer = tg.optim.SGD([p], lr=0.1)
    >>> (p * p).backward()
    >>> optimizer.step()
    >>> p.item()
    0.8
    """

    may_remember = ("momentum_buffer",)

    def __init__(
        self,
        params: Parameters | Groups,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def update(self, p: ndarray, g: ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        if momentum:
            if "momentum_buffer" not in state:
                v = state["momentum_buffer"] = np.array(g)
            else:
                v = state["momentum_buffer"]
                v *= momentum
                v += (1 - group["dampening"]) * g
            g = g + momentum * v if group["nesterov"] else v
        p -= group["lr"] * g

    def _unfit(self, options: Mapping[str, Any]) -> list[str]:
        found = super()._unfit(options)
        if not found and options["nesterov"] and (options["dampening"] or not options["momentum"]):
            found = [
                f"nesterov needs momentum > 0 and dampening = 0; received momentum="
                f"{options['momentum']}, dampening={options['dampening']}"
            ]
        return found


class Adagrad(Optimizer):
    """Gradient descent whose rate falls, for each number alone, with the gradients it has seen.

    g ← g + weight_decay·p;  s ← s + g²;  p ← p − lr/(1 + (t − 1)·lr_decay) · g/(√s + eps),
    at the parameter's step t = 1, 2, ….

    Duchi, Hazan & Singer 2011, "Adaptive subgradient methods for online learning and stochastic
    optimization", §1.2, with the diagonal of the matrix only.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor), or of dict
        See `Optimizer`.
    lr, lr_decay, weight_decay, initial_accumulator_value, eps : float
        Each at least 0 and finite; s starts at ``initial_accumulator_value``.
    maximize : bool
        Climb instead.

    Raises
    ------
    ArgumentError
        A value outside its range, no parameters, or one twice.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> p = tg.tensor([1.0, 1.0], requires_grad=True)
    >>> optimizer = tg.optim.Adagrad([p], lr=0.1)
    >>> for _ in range(2):
    ...     p.grad = [1.0, 1e-6]
    ...     optimizer.step()
    >>> p.data.round(3)
    array([0.829, 0.829])
    """

    remembers = ("step", "sum")

    def __init__(
        self,
        params: Parameters | Groups,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "maximize": maximize,
            },
        )

    def update(self, p: ndarray, g: ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, sum=np.full_like(p, group["initial_accumulator_value"]))
        lr = group["lr"] / (1 + state["step"] * group["lr_decay"])
        state["step"] += 1
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        s = state["sum"]
        s += g * g
        p -= lr * g / (np.sqrt(s) + group["eps"])


class RMSprop(Optimizer):
    """Gradient descent divided by a running root mean square of the gradient.

    g ← g + weight_decay·p;  v ← alpha·v + (1 − alpha)·g²;  d = g/(√v + eps);  p ← p − lr·d.
    Centred, the mean is taken off first: m ← alpha·m + (1 − alpha)·g, and √(v − m²) replaces √v.
    With momentum, b ← momentum·b + d replaces d.

    Tieleman & Hinton 2012, "Lecture 6.5: rmsprop", Coursera; centred and with momentum: Graves
    2013, "Generating sequences with recurrent neural networks", eqs. 38–45, but eps outside the
    root, and v, m and b from 0.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor), or of dict
        See `Optimizer`.
    lr, eps, weight_decay, momentum : float
        Each at least 0 and finite.
    alpha : float
        How much of v is kept a step, from 0 to below 1.
    centered, maximize : bool

    Raises
    ------
    ArgumentError
        A value outside its range, no parameters, or one twice.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> p = tg.tensor(1.0, requires_grad=True)
    >>> optimizer = tg.optim.RMSprop([p], lr=0.1, alpha=0.75)
    >>> p.grad = 5.0
    >>> optimizer.step()
    >>> round(p.item(), 6)
    0.8
    """

    remembers = ("step", "square_avg")
    may_remember = ("grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: Parameters | Groups,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
            },
        )

    def update(self, p: ndarray, g: ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, square_avg=np.zeros_like(p))
        if group["centered"] and "grad_avg" not in state:
            state["grad_avg"] = np.zeros_like(p)
        if group["momentum"] and "momentum_buffer" not in state:
            state["momentum_buffer"] = np.zeros_like(p)
        state["step"] += 1
        alpha = group["alpha"]
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        v = variance = state["square_avg"]
        v *= alpha
        v += (1 - alpha) * g * g
        if group["centered"]:
            m = state["grad_avg"]
            m += (1 - alpha) * (g - m)
            variance = np.maximum(v - m * m, 0)  # by rounding it can come out below
        change = g / (np.sqrt(variance) + group["eps"])
        if group["momentum"]:
            b = state["momentum_buffer"]
            b *= group["momentum"]
            b += change
            change = b
        p -= group["lr"] * change


class Adam(Optimizer):
    """Momentum over a running root mean square, each corrected for having started at 0.

    g ← g + weight_decay·p;  m ← β₁·m + (1 − β₁)·g;  v ← β₂·v + (1 − β₂)·g²;
    p ← p − lr · m̂/(√v̂ + eps), where at the parameter's step t m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).
    With AMSGrad the largest v so far stands in the place of v.

    Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1; Reddi, Kale &
    Kumar 2018, "On the convergence of Adam and beyond", algorithm 2, with bias correction.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor), or of dict
        See `Optimizer`.
    lr, eps, weight_decay : float
        Each at least 0 and finite. The decay goes through the division, like any gradient: what is
        wanted is mostly `AdamW`.
    betas : (float, float)
        β₁ and β₂, from 0 to below 1.
    amsgrad, maximize : bool
    decoupled_weight_decay : bool
        Decay as `AdamW` does.

    Raises
    ------
    ArgumentError
        A value outside its range, no parameters, or one twice.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> p = tg.tensor([1.0, 1.0, 1.0], requires_grad=True)
    >>> optimizer = tg.optim.Adam([p], lr=0.1)
    >>> p.grad = [3.0, -0.001, 0.0]
    >>> optimizer.step()
    >>> p.data.round(4)
    array([0.9, 1.1, 1. ])
    """

    remembers = ("step", "exp_avg", "exp_avg_sq")
    may_remember = ("max_exp_avg_sq",)

    def __init__(
        self,
        params: Parameters | Groups,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def update(self, p: ndarray, g: ndarray, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(p), exp_avg_sq=np.zeros_like(p))
        if group["amsgrad"] and "max_exp_avg_sq" not in state:
            state["max_exp_avg_sq"] = np.zeros_like(p)
        state["step"] += 1
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        m, v, t = state["exp_avg"], state["exp_avg_sq"], np.empty_like(p)
        if decay and group["decoupled_weight_decay"]:
            p *= 1 - lr * decay
        elif decay:
            g = g + decay * p

        m *= beta1
        m += np.multiply(g, 1 - beta1, out=t)
        v *= beta2
        np.multiply(g, 1 - beta2, out=t)
        t *= g
        v += t
        if group["amsgrad"]:
            v = np.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])

        # m̂/(√v̂ + eps), multiplied out: numbers are cheaper to scale than arrays (§2, end).
        root = math.sqrt(1 - beta2 ** state["step"])
        np.sqrt(v, out=t)
        t += group["eps"] * root
        np.divide(m, t, out=t)
        t *= lr * root / (1 - beta1 ** state["step"])
        p -= t


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter itself, whatever its gradients were.

    p ← p − lr·weight_decay·p, then Adam's step without decay.

    Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2, where the decay
    is multiplied by the rate, as in PyTorch.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor), or of dict
        See `Optimizer`; `decay_groups` makes groups that spare biases.
    lr, eps, weight_decay : float
        Each at least 0 and finite.
    betas : (float, float)
        From 0 to below 1.
    amsgrad, maximize : bool

    Raises
    ------
    ArgumentError
        A value outside its range, no parameters, or one twice.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> p = tg.tensor(1.0, requires_grad=True)
    >>> optimizer = tg.optim.AdamW([p], lr=0.1, weight_decay=0.1)
    >>> p.grad = 0.0
    >>> optimizer.step()
    >>> p.item()
    0.99
    """

    def __init__(
        self,
        params: Parameters | Groups,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize,
            decoupled_weight_decay=True,
        )  # fmt: skip

    def _unfit(self, options: Mapping[str, Any]) -> list[str]:
        found = super()._unfit(options)
        if not options["decoupled_weight_decay"]:
            found.append("decoupled_weight_decay is True; received False. Use Adam")
        return found
