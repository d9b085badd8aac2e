"""Learning-rate schedules, with PyTorch's names, defaults and values.

A schedule is a formula: ``lr_at(base_lr, step)``. So it can be read, drawn before training
(``preview``) and combined with others (``composed.py``). Making one sets the learning rate of
step 0; after each ``optimizer.step()``, ``schedule.step()`` moves on to the next.

All take ``optimizer`` and ``last_epoch``, and raise, as `LRScheduler` says. t is the step.
"""

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import check_choice, check_integers, check_numbers, is_integer, is_number
from ..errors import ArgumentError, DtypeError, StateDictError
from .base import Optimizer


class LRScheduler:
    """Base class of schedules: write ``lr_at``; keep in attributes what it needs.

    Each step computes the learning rate anew from the base, so a ``group["lr"]`` that was changed
    by hand is overwritten by the next ``step()``. For the same reason, of two schedules on one
    optimiser the one that steps last wins: combine them with `SequentialLR` or `ChainedScheduler`.
    PyTorch multiplies the rate that it finds instead.

    Parameters
    ----------
    optimizer : Optimizer
        Each group's ``"lr"`` becomes that of the schedule's first step at once; what it was is
        kept as ``"initial_lr"``, the base. A group that has an ``"initial_lr"`` keeps it.
    last_epoch : int
        The step before the first one; from 0 on, groups must have an ``"initial_lr"``.

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

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        owner = type(self).__name__
        check_optimizer(owner, optimizer)
        check_integers(owner, -1, last_epoch=last_epoch)
        self.optimizer = optimizer
        bases = self._bases(last_epoch)
        for base in bases:
            check_numbers(owner, "finite, at least 0", lambda lr: lr >= 0, base_lr=base)
        self._move_to(int(last_epoch) + 1, bases)

    def _bases(self, last_epoch: int) -> list[float]:
        groups = self.optimizer.param_groups
        for i, group in enumerate(groups):
            if last_epoch >= 0 and "initial_lr" not in group:
                raise ArgumentError(
                    f"{type(self).__name__}: to resume at last_epoch ≥ 0, each group has an "
                    f'"initial_lr"; received group={i} without. Leave last_epoch out and call '
                    f"load_state_dict"
                )
        return [group.get("initial_lr", group["lr"]) for group in groups]

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        """The learning rate of a step, a whole number from 0; overridden by every schedule."""
        raise TypeError(f"{type(self).__name__} must define lr_at(self, base_lr, step, group=0)")

    def momentum_at(self, step: int, group: int = 0) -> float | None:
        """The momentum of a step; None, as here, if the schedule leaves the momentum alone."""
        return None

    def preview(self, steps: int) -> np.ndarray:
        """Learning rates of the first group at steps 0, 1, …, ``steps`` − 1, in an array.

        The optimiser is not touched.
        """
        check_integers(type(self).__name__, 0, steps=steps)
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
            The schedule has no such step (`OneCycleLR`). Nothing is changed.
        """
        check_state(type(self).__name__, state, self.state_dict())
        self._move_to(int(state["last_epoch"]), [float(base) for base in state["base_lrs"]])

    def _lr(self, base_lr: float, step: int, group: int) -> float:
        try:
            lr = self.lr_at(base_lr, step, group)
        except OverflowError:  # what a power of Python floats raises
            lr = math.inf
        if not (is_number(lr) and lr >= 0):
            raise ArgumentError(
                f"{type(self).__name__}: the learning rate of step {step} is finite, at least 0; "
                f"received lr={lr!r:.60}"
            )
        return float(lr)

    def _move_to(self, step: int, base_lrs: list[float]) -> None:
        """Compute all that a step sets, then set it: an error leaves everything as it was."""
        groups = self.optimizer.param_groups
        if len(groups) != len(base_lrs):
            raise ArgumentError(
                f"{type(self).__name__}: each group has one base learning rate; received "
                f"base_lrs={len(base_lrs)}, groups={len(groups)}. Make the schedule after the "
                f"last group"
            )
        lrs = [self._lr(base, step, i) for i, base in enumerate(base_lrs)]
        momenta = [self.momentum_at(step, i) for i in range(len(groups))]
        for group, base, lr, momentum in zip(groups, base_lrs, lrs, momenta, strict=True):
            group["initial_lr"] = float(base)
            group["lr"] = lr
            if momentum is not None and "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif momentum is not None:
                group["momentum"] = momentum
        self.last_epoch, self.base_lrs, self._last_lr = step, [*map(float, base_lrs)], lrs


class LambdaLR(LRScheduler):
    """base · f(t), with any function f of the step: ``lr_lambda``, one for all groups or one each.

    It may be called more than once for a step, and is not part of ``state_dict()``.

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
        self.lr_lambdas = one_a_group("LambdaLR", optimizer, "lr_lambda", lr_lambda)
        for function in self.lr_lambdas:
            if not callable(function):
                raise ArgumentError(
                    f"LambdaLR: lr_lambda is a function of the step; received {function!r:.60}"
                )
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        factor = self.lr_lambdas[group](step)
        if not is_number(factor):
            raise ArgumentError(
                f"LambdaLR: lr_lambda({step}) is a finite number; received {factor!r:.60}"
            )
        return base_lr * factor


class StepLR(LRScheduler):
    """base · γ^⌊t/step_size⌋: every ``step_size`` steps, at least 1, times γ, at least 0.

    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.5)
    >>> tg.optim.StepLR(sgd, step_size=2, gamma=0.1).preview(5).round(3)
    array([0.5  , 0.5  , 0.05 , 0.05 , 0.005])
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        check_integers("StepLR", 1, step_size=step_size)
        check_numbers("StepLR", "finite, at least 0", lambda g: g >= 0, gamma=gamma)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        return base_lr * self.gamma ** (step // self.step_size)


class MultiStepLR(LRScheduler):
    """base · γ^(how many milestones are ≤ t): times γ, at least 0, at each milestone.

    Milestones are steps, ascending; one that is listed twice counts twice. (PyTorch sorts them.)

    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.5)
    >>> tg.optim.MultiStepLR(sgd, milestones=[1, 3], gamma=0.1).preview(4).round(3)
    array([0.5  , 0.05 , 0.05 , 0.005])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = ascending("MultiStepLR", milestones)
        check_numbers("MultiStepLR", "finite, at least 0", lambda g: g >= 0, gamma=gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        return base_lr * self.gamma ** bisect_right(self.milestones, step)


class ConstantLR(LRScheduler):
    """base · factor while t < total_iters, then base; 0 ≤ factor ≤ 1, total_iters ≥ 1.

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
        check_numbers("ConstantLR", "from 0 to 1", lambda f: 0 <= f <= 1, factor=factor)
        check_integers("ConstantLR", 1, total_iters=total_iters)
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        return base_lr * self.factor if step < self.total_iters else base_lr


class LinearLR(LRScheduler):
    """base · (start + (end − start) · min(t, total_iters)/total_iters): a straight line, then flat.

    Step 0 has the factor ``start_factor``, above 0 and at most 1, already before the first
    ``step()``; ``end_factor`` is from 0 to 1. `WarmupLR` is told the length alone.

    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.6)
    >>> tg.optim.LinearLR(sgd, total_iters=2).preview(4).round(3)
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
        start = "above 0, at most 1. To start at 0, use WarmupLR with from_zero=True"
        check_numbers("LinearLR", start, lambda f: 0 < f <= 1, start_factor=start_factor)
        check_numbers("LinearLR", "from 0 to 1", lambda f: 0 <= f <= 1, end_factor=end_factor)
        check_integers("LinearLR", 1, total_iters=total_iters)
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        done = min(step, self.total_iters) / self.total_iters
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


class WarmupLR(LRScheduler):
    """base · (t + 1)/n while t < n, then base: n ≥ 1 steps up to the base, none of them at 0.

    ``from_zero`` uses t/n instead: the first step then changes nothing, and step n is the first at
    the base. Goyal et al. 2017, "Accurate, large minibatch SGD", §2.2.

    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> tg.optim.WarmupLR(sgd, warmup_steps=4).preview(5)
    array([0.2, 0.4, 0.6, 0.8, 0.8])
    """

    def __init__(
        self, optimizer: Optimizer, warmup_steps: int, from_zero: bool = False, last_epoch: int = -1
    ) -> None:
        check_integers("WarmupLR", 1, warmup_steps=warmup_steps)
        check_choice("WarmupLR", (True, False), from_zero=from_zero)
        self.warmup_steps, self.from_zero = warmup_steps, from_zero
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        done = step if self.from_zero else step + 1
        return base_lr * min(1.0, done / self.warmup_steps)


class ExponentialLR(LRScheduler):
    """base · γ^t, where γ is at least 0.

    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> tg.optim.ExponentialLR(sgd, gamma=0.5).preview(4)
    array([0.8, 0.4, 0.2, 0.1])
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        check_numbers("ExponentialLR", "finite, at least 0", lambda g: g >= 0, gamma=gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        return base_lr * self.gamma**step


class CosineAnnealingLR(LRScheduler):
    """η_min + (base − η_min) · (1 + cos(π·t/T_max))/2: half a cosine, down to η_min at T_max ≥ 1.

    Periodic: after T_max it goes up again, to the base at 2·T_max, as PyTorch's does. For one that
    stays down there is `WarmupCosineLR`.

    Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", eq. 5; the
    restarts are left out.

    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> tg.optim.CosineAnnealingLR(sgd, T_max=2).preview(5).round(3)
    array([0.8, 0.4, 0. , 0.4, 0.8])
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        check_integers("CosineAnnealingLR", 1, T_max=T_max)
        check_numbers(
            "CosineAnnealingLR", "finite, at least 0", lambda lr: lr >= 0, eta_min=eta_min
        )
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        return half_cosine(base_lr, self.eta_min, step / self.T_max)


class WarmupCosineLR(LRScheduler):
    """`WarmupLR` for n ≥ 0 steps, then one half cosine down to η_min at step T > n, then flat.

    η_min + (base − η_min) · (1 + cos(π·s))/2 with s = min(1, (t − n)/(T − n)), from step n on.
    Unlike `CosineAnnealingLR` it never goes up again.

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
        check_integers("WarmupCosineLR", 0, warmup_steps=warmup_steps)
        if not is_integer(total_steps, warmup_steps + 1):
            raise ArgumentError(
                f"WarmupCosineLR: total_steps is an integer above warmup_steps={warmup_steps}; "
                f"received total_steps={total_steps!r:.60}. It counts the warm-up, too"
            )
        check_numbers("WarmupCosineLR", "finite, at least 0", lambda lr: lr >= 0, eta_min=eta_min)
        check_choice("WarmupCosineLR", (True, False), from_zero=from_zero)
        self.warmup_steps, self.total_steps = warmup_steps, total_steps
        self.eta_min, self.from_zero = eta_min, from_zero
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        if step < self.warmup_steps:
            return base_lr * (step if self.from_zero else step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return half_cosine(base_lr, self.eta_min, min(1.0, done))


def half_cosine(a: float, b: float, done: float) -> float:
    """From a to b along half a cosine, done going from 0 to 1."""
    return b + (a - b) * (1 + math.cos(math.pi * done)) / 2


# --- what several schedules check, here and in `composed.py`


def check_optimizer(owner: str, optimizer: object) -> None:
    """Refuse what is no optimiser."""
    if not isinstance(optimizer, Optimizer):
        raise DtypeError(
            f"{owner}: optimizer is an Optimizer; received a {type(optimizer).__name__}. Make the "
            f"optimiser first, and pass it"
        )


def one_a_group(owner: str, optimizer: Optimizer, name: str, value: Any) -> list[Any]:
    """A list with one value for each group, from such a list or from one value for all."""
    check_optimizer(owner, optimizer)
    groups = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * groups
    if len(value) != groups:
        raise ArgumentError(
            f"{owner}: {name} is one value, or a list of one for each group; received "
            f"values={len(value)}, groups={groups}"
        )
    return list(value)


def ascending(owner: str, milestones: Iterable[int]) -> list[int]:
    """Steps at which something changes, as a list."""
    steps = list(milestones) if isinstance(milestones, Iterable) else [-1]  # refused below
    if not all(is_integer(step, 0) for step in steps) or steps != sorted(steps):
        raise ArgumentError(
            f"{owner}: milestones are integers of at least 0, ascending; received "
            f"milestones={milestones!r:.60}. Sort them"
        )
    return [int(step) for step in steps]


def check_state(owner: str, state: object, own: dict[str, Any]) -> None:
    """Refuse a state that does not have the entries of one's own, each of its kind."""
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
            f"{owner}: the state is the state_dict() of a schedule of its kind, for as many "
            f"groups; {'; '.join(problems)}. Nothing was loaded"
        )


def _fits(value: Any, own: int | float | list[float]) -> bool:
    """A list of as many learning rates, a count, or a measurement: infinite at first, never NaN."""
    if isinstance(own, list):
        listed = isinstance(value, list | tuple) and len(value) == len(own)
        return listed and all(is_number(lr) and lr >= 0 for lr in value)
    if isinstance(own, int):
        return is_integer(value, 0)
    return is_number(value) or (isinstance(value, float) and math.isinf(value))
