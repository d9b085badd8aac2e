"""Learning-rate schedules, with PyTorch's names, defaults and values.

A schedule is a formula: ``lr_at(base_lr, step)``. So it can be read, drawn before training
(``preview``), put after another (``SequentialLR``) or on top of it (``ChainedScheduler``). The one
that looks at a measurement, ``ReduceLROnPlateau``, has no formula and stands by itself.

Making a schedule sets the learning rate of step 0. After each ``optimizer.step()``,
``schedule.step()`` moves on to the next.
"""

import math
import sys
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError, DtypeError, StateDictError
from .base import Optimizer


class LRScheduler:
    """Base class of schedules: write ``lr_at``; keep in attributes what it needs.

    Each step computes the learning rate anew from the base, so a ``group["lr"]`` that was changed
    by hand is overwritten by the next ``step()``. For the same reason, of two schedules on one
    optimiser the one that steps last wins: combine them with ``SequentialLR`` or
    ``ChainedScheduler``. PyTorch multiplies the rate that it finds instead.

    Parameters
    ----------
    optimizer : Optimizer
        Each group's ``"lr"`` becomes that of the schedule's first step at once; what it was is
        kept as ``"initial_lr"``, the base. A group that has an ``"initial_lr"`` keeps it.
    last_epoch : int
        The step before the first one; from 0 on, groups must have an ``"initial_lr"``.
    base_lrs : list of float, optional
        One base for each group, instead of the groups' own.

    Attributes
    ----------
    last_epoch : int
        The step whose learning rate the optimiser has now.

    Raises
    ------
    ArgumentError
        A value outside its range; a learning rate that is negative or not finite.
    DtypeError
        ``optimizer`` is none.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> class InverseSqrtLR(tg.optim.LRScheduler):
    ...     def lr_at(self, base_lr, step, group=0):
    ...         return base_lr / (1 + step) ** 0.5
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.6)
    >>> InverseSqrtLR(sgd).preview(4).round(3)
    array([0.6  , 0.424, 0.346, 0.3  ])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        last_epoch: int = -1,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        _require_optimizer(self, optimizer)
        _check_whole(self, -1, last_epoch=last_epoch)
        if base_lrs is None:
            for i, group in enumerate(optimizer.param_groups):
                _require(
                    last_epoch == -1 or "initial_lr" in group,
                    self,
                    'to resume at last_epoch ≥ 0, each group has an "initial_lr". Leave last_epoch '
                    "out and call load_state_dict",
                    group=i,
                )
            base_lrs = [g.get("initial_lr", g["lr"]) for g in optimizer.param_groups]
        for base in base_lrs:
            _check_real(self, math.inf, base_lr=base)
        self.optimizer = optimizer
        self._move_to(int(last_epoch) + 1, [float(base) for base in base_lrs])

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """The learning rate of a step, a whole number from 0; overridden by every schedule."""
        raise TypeError(f"{type(self).__name__} must define lr_at(self, base_lr, step, group=0)")

    def momentum_at(self, step: int, group: int = 0) -> float | None:
        """The momentum of a step; None, as here, if the schedule leaves the momentum alone."""
        return None

    def preview(self, steps: int) -> np.ndarray:
        """Learning rates of the first group at steps 0, 1, …; the optimiser is not touched.

        Parameters
        ----------
        steps : int
            How many, at least 0.

        Returns
        -------
        ndarray of shape (steps,)
        """
        _check_whole(self, 0, steps=steps)
        return np.array([self._lr(self.base_lrs[0], step, 0) for step in range(steps)], np.float64)

    def step(self) -> None:
        """Give the optimiser the learning rate of the next step. Call it after the optimiser's.

        Warns
        -----
        UserWarning
            At the first call, if the optimiser has taken no step yet.
        """
        if self.last_epoch == 0 and self.optimizer.steps_taken == 0:
            warnings.warn(
                f"{type(self).__name__}: optimizer.step() comes first, then schedule.step(); the "
                f"optimiser has taken no step, so the first learning rate is passed over. Swap "
                f"the two calls",
                UserWarning,
                stacklevel=2,
            )
        self._move_to(self.last_epoch + 1, self.base_lrs)

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group, as the last step set it."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands: plain numbers. What it was made with is not among them."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another schedule, made with the same arguments, stood.

        Sets the groups' learning rates, too, so it does not matter whether the optimiser's state
        is loaded before or after.

        Raises
        ------
        StateDictError
            Names every missing, unexpected or unfit entry. Nothing is changed.
        ArgumentError
            The schedule has no such step (``OneCycleLR``). Nothing is changed.
        """
        _require_fit(self, state, self.state_dict())
        self._move_to(int(state["last_epoch"]), [float(base) for base in state["base_lrs"]])

    def _lr(self, base_lr: float, step: int, group: int) -> float:
        try:
            lr = self.lr_at(base_lr, step, group)
        except OverflowError:  # what a power of Python floats raises
            lr = math.inf
        fine = _is_real(lr) and lr >= 0
        _require(fine, self, f"the learning rate of step {step} is finite, at least 0", lr=lr)
        return float(lr)

    def _move_to(self, step: int, base_lrs: list[float]) -> None:
        """Compute all that a step sets, then set it: an error leaves everything as it was."""
        groups = self.optimizer.param_groups
        _require(
            len(groups) == len(base_lrs),
            self,
            "each group has one base learning rate. Make the schedule after the last group",
            base_lrs=len(base_lrs),
            groups=len(groups),
        )
        lrs = [self._lr(base, step, i) for i, base in enumerate(base_lrs)]
        momenta = [self.momentum_at(step, i) for i in range(len(groups))]
        for group, base, lr, momentum in zip(groups, base_lrs, lrs, momenta, strict=True):
            group["initial_lr"] = base
            group["lr"] = lr
            if momentum is not None and "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif momentum is not None:
                group["momentum"] = momentum
        self.last_epoch, self.base_lrs, self._last_lr = step, base_lrs, lrs


class LambdaLR(LRScheduler):
    """base · f(t), with any function f of the step.

    Parameters
    ----------
    optimizer : Optimizer
    lr_lambda : function, or list of functions
        From step to factor; one for all groups, or one each. It may be called more than once for
        a step, and is not part of ``state_dict()``.
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        No functions, another number of them than groups, or a factor that is no number.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.6)
    >>> tg.optim.LambdaLR(sgd, lambda step: 1 / (1 + step)).preview(3).round(3)
    array([0.6, 0.3, 0.2])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _one_a_group(self, "lr_lambda", lr_lambda, optimizer)
        for function in self.lr_lambdas:
            _require(
                callable(function), self, "lr_lambda is a function of the step", function=function
            )
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """At step t: base · f(t), f being the group's."""
        factor = self.lr_lambdas[group](step)
        _require(_is_real(factor), self, f"lr_lambda({step}) is a finite number", factor=factor)
        return base_lr * factor


class StepLR(LRScheduler):
    """base · γ^⌊t/step_size⌋: every ``step_size`` steps, times γ.

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int
        At least 1.
    gamma : float
        At least 0.
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.5)
    >>> tg.optim.StepLR(sgd, step_size=2).preview(5).round(3)
    array([0.5  , 0.5  , 0.05 , 0.05 , 0.005])
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        _check_whole(self, 1, step_size=step_size)
        _check_real(self, math.inf, gamma=gamma)
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """At step t: base · γ^⌊t/step_size⌋."""
        return base_lr * self.gamma ** (step // self.step_size)


class MultiStepLR(LRScheduler):
    """base · γ^(how many milestones are ≤ t): times γ at each milestone.

    Parameters
    ----------
    optimizer : Optimizer
    milestones : list of int
        Steps, at least 0, ascending; one that is listed twice counts twice. (PyTorch sorts them.)
    gamma : float
        At least 0.
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        A value outside its range, or milestones out of order.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.5)
    >>> tg.optim.MultiStepLR(sgd, milestones=[1, 3]).preview(4).round(3)
    array([0.5  , 0.05 , 0.05 , 0.005])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = _ascending(self, milestones)
        _check_real(self, math.inf, gamma=gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """At step t: base · γ^(how many milestones are ≤ t)."""
        return base_lr * self.gamma ** bisect_right(self.milestones, step)


class ConstantLR(LRScheduler):
    """base · factor while t < total_iters, then base.

    Parameters
    ----------
    optimizer : Optimizer
    factor : float
        From 0 to 1.
    total_iters : int
        At least 1.
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.5)
    >>> tg.optim.ConstantLR(sgd, factor=0.1, total_iters=2).preview(4)
    array([0.05, 0.05, 0.5 , 0.5 ])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        _check_real(self, 1, factor=factor)
        _check_whole(self, 1, total_iters=total_iters)
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """At step t: base · factor while t < total_iters, then base."""
        return base_lr * self.factor if step < self.total_iters else base_lr


class LinearLR(LRScheduler):
    """base · (start + (end − start) · min(t, total_iters)/total_iters): a straight line, then flat.

    Step 0 has the factor ``start_factor``, already before the first ``step()``. For a warm-up
    whose length alone is given there is ``WarmupLR``.

    Parameters
    ----------
    optimizer : Optimizer
    start_factor : float
        Above 0, at most 1.
    end_factor : float
        From 0 to 1.
    total_iters : int
        Steps until ``end_factor``, at least 1.
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.6)
    >>> schedule = tg.optim.LinearLR(sgd, total_iters=2)
    >>> round(sgd.param_groups[0]["lr"], 3)
    0.2
    >>> schedule.preview(4).round(3)
    array([0.2, 0.4, 0.6, 0.6])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        _require(
            _is_real(start_factor) and 0 < start_factor <= 1,
            self,
            "start_factor is above 0, at most 1. To start at 0, use WarmupLR with from_zero=True",
            start_factor=start_factor,
        )
        _check_real(self, 1, end_factor=end_factor)
        _check_whole(self, 1, total_iters=total_iters)
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """At step t: base · (start + (end − start) · min(t, total_iters)/total_iters)."""
        done = min(step, self.total_iters) / self.total_iters
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


class WarmupLR(LRScheduler):
    """base · (t + 1)/n while t < n, then base: n steps up to the base, none of them at 0.

    Goyal et al. 2017, "Accurate, large minibatch SGD", §2.2.

    Parameters
    ----------
    optimizer : Optimizer
    warmup_steps : int
        n, at least 1.
    from_zero : bool
        Use t/n instead: the first step then changes nothing, and step n is the first at the base.
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> tg.optim.WarmupLR(sgd, warmup_steps=4).preview(5)
    array([0.2, 0.4, 0.6, 0.8, 0.8])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        from_zero: bool = False,
        last_epoch: int = -1,
    ) -> None:
        _check_whole(self, 1, warmup_steps=warmup_steps)
        _check_choice(self, (True, False), from_zero=from_zero)
        self.warmup_steps = warmup_steps
        self.from_zero = from_zero
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """At step t: base · (t + 1)/n, or base · t/n from zero, and never above base."""
        done = step if self.from_zero else step + 1
        return base_lr * min(1.0, done / self.warmup_steps)


class ExponentialLR(LRScheduler):
    """base · γ^t.

    Parameters
    ----------
    optimizer : Optimizer
    gamma : float
        At least 0.
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> tg.optim.ExponentialLR(sgd, gamma=0.5).preview(4)
    array([0.8, 0.4, 0.2, 0.1])
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        _check_real(self, math.inf, gamma=gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """At step t: base · γ^t."""
        return base_lr * self.gamma**step


class CosineAnnealingLR(LRScheduler):
    """η_min + (base − η_min) · (1 + cos(π·t/T_max))/2: half a cosine, down to η_min at T_max.

    Periodic: after T_max it goes up again, to the base at 2·T_max, as PyTorch's does. For one that
    stays down there is ``WarmupCosineLR``.

    Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", eq. 5; the
    restarts are left out.

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int
        Half a period, at least 1.
    eta_min : float
        At least 0.
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> tg.optim.CosineAnnealingLR(sgd, T_max=2).preview(5).round(3)
    array([0.8, 0.4, 0. , 0.4, 0.8])
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        _check_whole(self, 1, T_max=T_max)
        _check_real(self, math.inf, eta_min=eta_min)
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """η_min + (base − η_min) · (1 + cos(π·t/T_max))/2."""
        return _cosine(base_lr, self.eta_min, step / self.T_max)


class WarmupCosineLR(LRScheduler):
    """``WarmupLR`` for n steps, then one half cosine down to η_min at step T, then flat.

    base · (t + 1)/n while t < n; then η_min + (base − η_min) · (1 + cos(π·s))/2 with
    s = min(1, (t − n)/(T − n)). Unlike ``CosineAnnealingLR`` it never goes up again.

    Goyal et al. 2017, §2.2; Loshchilov & Hutter 2017, eq. 5.

    Parameters
    ----------
    optimizer : Optimizer
    warmup_steps : int
        n, at least 0.
    total_steps : int
        T, above n.
    eta_min : float
        At least 0.
    from_zero : bool
        Warm up by t/n instead: the first step then changes nothing.
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> tg.optim.WarmupCosineLR(sgd, warmup_steps=2, total_steps=4).preview(6).round(3)
    array([0.4, 0.8, 0.8, 0.4, 0. , 0. ])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        eta_min: float = 0.0,
        from_zero: bool = False,
        last_epoch: int = -1,
    ) -> None:
        _check_whole(self, 0, warmup_steps=warmup_steps)
        _require(
            _is_whole(total_steps, warmup_steps + 1),
            self,
            f"total_steps is a whole number above warmup_steps={warmup_steps}. It counts the "
            f"warm-up, too",
            total_steps=total_steps,
        )
        _check_real(self, math.inf, eta_min=eta_min)
        _check_choice(self, (True, False), from_zero=from_zero)
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.eta_min = eta_min
        self.from_zero = from_zero
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """The warm-up's line, then the half cosine, then η_min."""
        if step < self.warmup_steps:
            return base_lr * (step if self.from_zero else step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return _cosine(base_lr, self.eta_min, min(1.0, done))


class OneCycleLR(LRScheduler):
    """Up to ``max_lr``, then down to almost nothing, the momentum going the other way.

    From max_lr/div_factor to max_lr in the first ``pct_start`` of the steps, then to
    max_lr/(div_factor·final_div_factor) at step total_steps − 1. With ``three_phase`` it first
    comes down as it went up, and the rest goes to the last value. Between a and b, with s going
    from 0 to 1: b + (a − b)·(1 + cos(π·s))/2, or a + (b − a)·s.

    It ends with an error, not flat: there is no step after ``total_steps``. Step ``total_steps``
    itself, which the last ``schedule.step()`` of a training loop asks for but nothing uses,
    repeats the last value (PyTorch runs on past it).

    Smith & Topin 2018, "Super-convergence", with PyTorch's defaults.

    Parameters
    ----------
    optimizer : Optimizer
        Its own learning rates are not used: a group's ``"initial_lr"`` becomes max_lr/div_factor.
    max_lr : float or list of float
        At least 0; one for all groups, or one each.
    total_steps : int, optional
        At least 1; if left out, epochs · steps_per_epoch.
    epochs, steps_per_epoch : int, optional
        Each at least 1.
    pct_start : float
        Share of the steps that go up, from 0 to 1; at most 0.5 with ``three_phase``.
    anneal_strategy : {"cos", "linear"}
    cycle_momentum : bool
        Move a group's ``"momentum"``, or the first of its ``"betas"``.
    base_momentum, max_momentum : float or list of float
        From 0, below 1: the momentum where the rate is highest, and where it is lowest.
    div_factor, final_div_factor : float
        Above 0.
    three_phase : bool
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        A value outside its range, neither ``total_steps`` nor both others, groups without a
        momentum; from ``step()``, after ``total_steps`` of them.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.1, momentum=0.9)
    >>> schedule = tg.optim.OneCycleLR(sgd, max_lr=1.0, total_steps=10, div_factor=10.0)
    >>> schedule.preview(10).round(2)
    array([0.1 , 0.55, 1.  , 0.95, 0.81, 0.61, 0.39, 0.19, 0.05, 0.  ])
    >>> sgd.param_groups[0]["momentum"]
    0.95
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            _require(
                _is_whole(epochs, 1) and _is_whole(steps_per_epoch, 1),
                self,
                "total_steps is given, or both epochs and steps_per_epoch, whole numbers from 1",
                total_steps=total_steps,
                epochs=epochs,
                steps_per_epoch=steps_per_epoch,
            )
            total_steps = (epochs or 1) * (steps_per_epoch or 1)
        _check_whole(self, 1, total_steps=total_steps)
        _check_choice(self, (True, False), three_phase=three_phase, cycle_momentum=cycle_momentum)
        _require(
            _is_real(pct_start) and 0 <= pct_start <= (0.5 if three_phase else 1),
            self,
            "pct_start is from 0 to 1, or to 0.5 with three_phase",
            pct_start=pct_start,
        )
        _check_choice(self, ("cos", "linear"), anneal_strategy=anneal_strategy)
        for factor in (div_factor, final_div_factor):
            _require(
                _is_real(factor) and factor > 0,
                self,
                "div_factor and final_div_factor are above 0",
                factor=factor,
            )
        max_lrs = _one_a_group(self, "max_lr", max_lr, optimizer)
        for value in max_lrs:
            _check_real(self, math.inf, max_lr=value)
        self.base_momentums = _one_a_group(self, "base_momentum", base_momentum, optimizer)
        self.max_momentums = _one_a_group(self, "max_momentum", max_momentum, optimizer)
        for value in [*self.base_momentums, *self.max_momentums]:
            _require(
                _is_real(value) and 0 <= value < 1,
                self,
                "base_momentum and max_momentum are from 0, below 1",
                value=value,
            )
        for i, group in enumerate(optimizer.param_groups):
            _require(
                not cycle_momentum or "momentum" in group or "betas" in group,
                self,
                "each group has a momentum or betas to cycle. Pass cycle_momentum=False",
                optimizer=type(optimizer).__name__,
                group=i,
            )
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        top = pct_start * total_steps - 1
        self.phase_ends = [top, 2 * top, total_steps - 1] if three_phase else [top, total_steps - 1]
        super().__init__(optimizer, last_epoch, [value / div_factor for value in max_lrs])

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """At step t: base → base·div_factor → (base →) base/final_div_factor, phase by phase."""
        down = [base_lr] * (len(self.phase_ends) - 2)  # only with three phases
        top, end = base_lr * self.div_factor, base_lr / self.final_div_factor
        return self._through([base_lr, top, *down, end], step)

    def momentum_at(self, step: int, group: int = 0) -> float | None:
        """max_momentum → base_momentum → max_momentum; None without ``cycle_momentum``."""
        if not self.cycle_momentum:
            return None
        top = self.max_momentums[group]
        down = [top] * (len(self.phase_ends) - 2)
        return self._through([top, self.base_momentums[group], *down, top], step)

    def _through(self, values: list[float], step: int) -> float:
        """On the way through values, one for the start and one for the end of each phase."""
        _require(
            step <= self.total_steps,
            self,
            f"there are {self.total_steps} steps. Make it with a larger total_steps",
            step=step,
        )
        last = len(self.phase_ends) - 1
        phase = next((i for i, end in enumerate(self.phase_ends) if step <= end), last)
        start, end = [0.0, *self.phase_ends][phase], self.phase_ends[phase]
        done = min(1.0, (step - start) / (end - start)) if end > start else 1.0
        a, b = values[phase : phase + 2]
        return _cosine(a, b, done) if self.anneal_strategy == "cos" else a + (b - a) * done


class SequentialLR(LRScheduler):
    """One schedule after another: from each milestone on the next, beginning at its own step 0.

    lr(t) = lrᵢ(t − mᵢ) where mᵢ is the last milestone ≤ t, and m₀ = 0. Each has the same base, the
    group's ``"initial_lr"``. The last one has no end; it does what it does after its own.

    Parameters
    ----------
    optimizer : Optimizer
    schedulers : list of LRScheduler
        Of this optimiser; from now on, step only the whole. Parts may be composed themselves.
    milestones : list of int
        One fewer, ascending.
    last_epoch : int
        As of ``LRScheduler``.

    Raises
    ------
    ArgumentError
        No schedules, one without a formula or of another optimiser, milestones out of order or
        too few or many.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> warm, decay = tg.optim.WarmupLR(sgd, 2), tg.optim.ExponentialLR(sgd, gamma=0.5)
    >>> tg.optim.SequentialLR(sgd, [warm, decay], milestones=[2]).preview(5)
    array([0.4, 0.8, 0.8, 0.4, 0.2])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self.schedulers = _parts(self, schedulers, optimizer)
        self.milestones = _ascending(self, milestones)
        _require(
            len(self.milestones) == len(self.schedulers) - 1,
            self,
            "there is one milestone fewer than schedulers",
            milestones=len(self.milestones),
            schedulers=len(self.schedulers),
        )
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """lrᵢ(t − mᵢ)."""
        part, since = self._active(step)
        return part.lr_at(base_lr, since, group)

    def momentum_at(self, step: int, group: int = 0) -> float | None:
        """The momentum of the schedule whose turn it is."""
        part, since = self._active(step)
        return part.momentum_at(since, group)

    def _active(self, step: int) -> tuple[LRScheduler, int]:
        """The schedule whose turn it is, and the step as it counts."""
        i = bisect_right(self.milestones, step)
        return self.schedulers[i], step - [0, *self.milestones][i]


class ChainedScheduler(LRScheduler):
    """Several schedules at once: each takes for its base what the one before it gives.

    lr(t) = lrₖ(… lr₂(lr₁(base, t), t) …, t): the product of the factors, for schedules that are
    base · factor(t), and then PyTorch's values. PyTorch's depend on the rate that each finds and
    differ where a part is none (``CosineAnnealingLR`` with η_min > 0, ``OneCycleLR``).

    Parameters
    ----------
    schedulers : list of LRScheduler
        Of one optimiser; from now on, step only the whole. Parts may be composed themselves.
    optimizer : Optimizer, optional
        Theirs.

    Raises
    ------
    ArgumentError
        No schedules, one without a formula or of another optimiser.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> warm, decay = tg.optim.WarmupLR(sgd, 2), tg.optim.ExponentialLR(sgd, gamma=0.5)
    >>> tg.optim.ChainedScheduler([warm, decay]).preview(4)
    array([0.4, 0.4, 0.2, 0.1])
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self.schedulers = _parts(self, schedulers, optimizer)
        super().__init__(self.schedulers[0].optimizer)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """lrₖ(… lr₂(lr₁(base, t), t) …, t)."""
        for part in self.schedulers:
            base_lr = part.lr_at(base_lr, step, group)
        return base_lr

    def momentum_at(self, step: int, group: int = 0) -> float | None:
        """The momentum of the last schedule that has one."""
        momenta = [part.momentum_at(step, group) for part in self.schedulers]
        return next((m for m in reversed(momenta) if m is not None), None)


class ReduceLROnPlateau:
    """lr ← max(factor·lr, min_lr) once a measurement has stopped improving. No formula of the step.

    A value improves on the best so far if it is below best·(1 − threshold), or below
    best − threshold if ``threshold_mode`` is "abs"; above best·(1 + threshold) or best + threshold
    with ``mode`` "max". The relative test is meant for values above 0. NaN never improves. More
    than ``patience`` values in a row that do not improve reduce the rate; the ``cooldown`` values
    that follow are not counted.

    It takes each group's ``"lr"`` as it finds it, so a change by hand stays. It may be called
    before the first ``optimizer.step()``: no learning rate is passed over.

    Parameters
    ----------
    optimizer : Optimizer
    mode : {"min", "max"}
    factor : float
        From 0, below 1.
    patience, cooldown : int
        Each at least 0.
    threshold : float
        At least 0, and below 1 if relative.
    threshold_mode : {"rel", "abs"}
    min_lr : float or list of float
        At least 0; one for all groups, or one each.
    eps : float
        At least 0. A reduction by no more than this is left out.

    Attributes
    ----------
    last_epoch : int
        How many values it has seen.

    Raises
    ------
    ArgumentError
        A value outside its range.
    DtypeError
        ``optimizer`` is none.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> schedule = tg.optim.ReduceLROnPlateau(sgd, factor=0.5, patience=1)
    >>> for loss in [3.0, 2.0, 2.0, 2.0]:
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [0.4]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        _require_optimizer(self, optimizer)
        _check_choice(self, ("min", "max"), mode=mode)
        _require(
            _is_real(factor) and 0 <= factor < 1, self, "factor is from 0, below 1", factor=factor
        )
        _check_whole(self, 0, patience=patience, cooldown=cooldown)
        _check_choice(self, ("rel", "abs"), threshold_mode=threshold_mode)
        _require(
            _is_real(threshold) and threshold >= 0 and (threshold < 1 or threshold_mode == "abs"),
            self,
            "threshold is at least 0, and below 1 if relative",
            threshold=threshold,
        )
        self.min_lrs = _one_a_group(self, "min_lr", min_lr, optimizer)
        for value in self.min_lrs:
            _check_real(self, math.inf, min_lr=value)
        _check_real(self, math.inf, eps=eps)
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.eps = eps
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self._last_lr = [float(group["lr"]) for group in optimizer.param_groups]

    def step(self, metrics: float | Tensor | np.ndarray) -> None:
        """Look at the next value, and reduce the learning rates if it is time.

        Parameters
        ----------
        metrics : float, or tensor or array of one number
            Such as the loss on validation data.

        Raises
        ------
        ArgumentError
            ``metrics`` is not one real number, or a group was added since. Nothing is changed.
        """
        if isinstance(metrics, Tensor | np.ndarray | np.generic) and metrics.size == 1:
            metrics = metrics.item()
        _require(
            isinstance(metrics, float) or _is_real(metrics),
            self,
            "metrics is one real number. Pass the value to watch, such as step(loss.item())",
            metrics=metrics,
        )
        groups = self.optimizer.param_groups
        _require(
            len(groups) == len(self.min_lrs),
            self,
            "each group has one min_lr. Make the schedule after the last group",
            min_lrs=len(self.min_lrs),
            groups=len(groups),
        )
        self.last_epoch += 1
        if self._improves(float(metrics)):
            self.best = float(metrics)
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, min_lr in zip(groups, self.min_lrs, strict=True):
                reduced = max(group["lr"] * self.factor, min_lr)
                if group["lr"] - reduced > self.eps:
                    group["lr"] = reduced
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = [float(group["lr"]) for group in groups]

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group after the last step."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: plain numbers (``best`` is infinite before the first step)."""
        return {
            "last_epoch": self.last_epoch,
            "best": self.best,
            "num_bad_epochs": self.num_bad_epochs,
            "cooldown_counter": self.cooldown_counter,
            "last_lr": self.get_last_lr(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another schedule, made with the same arguments, stood.

        Sets the groups' learning rates, too.

        Raises
        ------
        StateDictError
            Names every missing, unexpected or unfit entry. Nothing is changed.
        """
        _require_fit(self, state, self.state_dict())
        self.last_epoch = int(state["last_epoch"])
        self.best = float(state["best"])
        self.num_bad_epochs = int(state["num_bad_epochs"])
        self.cooldown_counter = int(state["cooldown_counter"])
        self._last_lr = [float(lr) for lr in state["last_lr"]]
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=False):
            group["lr"] = lr

    def _improves(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            bar = self.best * (1 + sign * self.threshold)
        else:
            bar = self.best + sign * self.threshold
        return value > bar if self.mode == "max" else value < bar


def _cosine(a: float, b: float, done: float) -> float:
    """From a to b along half a cosine, done going from 0 to 1."""
    return b + (a - b) * (1 + math.cos(math.pi * done)) / 2


def _is_real(value: object) -> bool:
    """Whether it is a number that fits a float: no NaN, infinity, bool or text."""
    largest = sys.float_info.max
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and bool(-largest <= value <= largest)
    )


def _is_whole(value: object, least: int) -> bool:
    """Whether it is a whole number, and no less."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _require(holds: bool, schedule: object, invariant: str, **received: object) -> None:
    """Raise unless it holds. The likely fix follows the invariant, after a full stop."""
    if not holds:
        rule, _, fix = invariant.partition(". ")
        shown = ", ".join(f"{name}={value!r:.60}" for name, value in received.items())
        raise ArgumentError(
            f"{type(schedule).__name__}: {rule}; received {shown}" + (f". {fix}" if fix else "")
        )


def _check_real(schedule: object, most: float, **values: Any) -> None:
    """Raise unless each is a finite number, from 0 to the most."""
    for name, value in values.items():
        bounds = "a finite number, at least 0" if most == math.inf else f"from 0 to {most}"
        fine = _is_real(value) and 0 <= value <= most
        _require(fine, schedule, f"{name} is {bounds}", **{name: value})


def _check_whole(schedule: object, least: int, **values: object) -> None:
    """Raise unless each is a whole number, and no less."""
    for name, value in values.items():
        fine = _is_whole(value, least)
        _require(fine, schedule, f"{name} is a whole number from {least}", **{name: value})


def _check_choice(schedule: object, choices: tuple[Any, Any], **values: Any) -> None:
    """Raise unless each is one of two texts, or a bool."""
    for name, value in values.items():
        fine = isinstance(value, type(choices[0])) and value in choices
        rule = f"{name} is {choices[0]!r} or {choices[1]!r}"
        _require(fine, schedule, rule, **{name: value})


def _require_optimizer(schedule: object, optimizer: object) -> None:
    if not isinstance(optimizer, Optimizer):
        raise DtypeError(
            f"{type(schedule).__name__}: optimizer is an Optimizer; received a "
            f"{type(optimizer).__name__}. Make the optimiser first, and pass it"
        )


def _one_a_group(schedule: object, name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """A list with one value for each group, from such a list or from one value for all."""
    _require_optimizer(schedule, optimizer)
    groups = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * groups
    _require(
        len(value) == groups,
        schedule,
        f"{name} is one value, or a list of one for each group",
        values=len(value),
        groups=groups,
    )
    return list(value)


def _ascending(schedule: object, milestones: Iterable[int]) -> list[int]:
    steps = list(milestones) if isinstance(milestones, Iterable) else [-1]  # refused below
    _require(
        all(_is_whole(step, 0) for step in steps) and steps == sorted(steps),
        schedule,
        "milestones are whole numbers from 0, ascending. Sort them",
        milestones=milestones,
    )
    return [int(step) for step in steps]


def _parts(
    schedule: object, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None
) -> list[LRScheduler]:
    """The schedules that a composed one is made of."""
    parts = list(schedulers) if isinstance(schedulers, Iterable) else [schedulers]
    _require(len(parts) > 0, schedule, "schedulers holds at least one schedule", parts=parts)
    for i, part in enumerate(parts):
        _require(
            isinstance(part, LRScheduler),
            schedule,
            "schedulers are schedules with a formula. Step a ReduceLROnPlateau by itself",
            scheduler=type(part).__name__,
            index=i,
        )
        _require(
            part.optimizer is (parts[0].optimizer if optimizer is None else optimizer),
            schedule,
            "all schedulers belong to one optimiser. Make them with the same one",
            scheduler=type(part).__name__,
            index=i,
        )
    return parts


def _require_fit(schedule: object, state: object, own: dict[str, Any]) -> None:
    """Raise unless a state has the entries of one's own, each of its kind."""
    if not isinstance(state, Mapping):
        problems = [f"it is a {type(state).__name__}"]
    else:
        problems = [f"{name} is missing" for name in own if name not in state]
        problems += [f"{name} is unexpected" for name in state if name not in own]
        problems += [
            f"{name} is {state[name]!r:.60}"
            for name in own
            if name in state and not _fits(state[name], own[name])
        ]
    if problems:
        raise StateDictError(
            f"{type(schedule).__name__}: the state is the state_dict() of a schedule of its kind, "
            f"for as many groups; {'; '.join(problems)}. Nothing was loaded"
        )


def _fits(value: Any, own: int | float | list[float]) -> bool:
    """A list of as many learning rates, a count, or a measurement: infinite at first, never NaN."""
    if isinstance(own, list):
        listed = isinstance(value, list | tuple) and len(value) == len(own)
        return listed and all(_is_real(lr) and lr >= 0 for lr in value)
    if isinstance(own, int):
        return _is_whole(value, 0)
    return _is_real(value) or (isinstance(value, float) and math.isinf(value))
