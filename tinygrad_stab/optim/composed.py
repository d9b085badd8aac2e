"""Schedules of several phases or of other schedules; and one that looks at a measurement."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import check_choice, check_integers, check_numbers, is_integer, is_number
from ..core.tensor import Tensor
from ..errors import ArgumentError
from .base import Optimizer
from .schedules import (
    LRScheduler,
    ascending,
    check_optimizer,
    check_state,
    half_cosine,
    one_a_group,
)


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
    total_steps, epochs, steps_per_epoch : int, optional
        At least 1: the number of steps or, if it is left out, its two factors.
    pct_start : float
        Share of the steps that go up, from 0 to 1; at most 0.5 with ``three_phase``.
    anneal_strategy : {"cos", "linear"}
    cycle_momentum : bool
        Move a group's ``"momentum"``, or the first of its ``"betas"``; it must have one of them.
    base_momentum, max_momentum : float or list of float
        From 0, below 1: the momentum where the rate is highest, and where it is lowest.
    div_factor, final_div_factor : float
        Above 0.
    three_phase : bool
    last_epoch : int
        As of `LRScheduler`.

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
        what = "OneCycleLR"
        if total_steps is None:
            if not (is_integer(epochs, 1) and is_integer(steps_per_epoch, 1)):
                raise ArgumentError(
                    f"OneCycleLR: total_steps is given, or both epochs and steps_per_epoch, "
                    f"integers of at least 1; received epochs={epochs!r:.60}, "
                    f"steps_per_epoch={steps_per_epoch!r:.60}"
                )
            total_steps = epochs * steps_per_epoch
        check_integers(what, 1, total_steps=total_steps)
        check_choice(what, (True, False), three_phase=three_phase, cycle_momentum=cycle_momentum)
        check_choice(what, ("cos", "linear"), anneal_strategy=anneal_strategy)
        most, share = 0.5 if three_phase else 1, "from 0 to 1, or to 0.5 with three_phase"
        check_numbers(what, share, lambda p: 0 <= p <= most, pct_start=pct_start)
        check_numbers(
            what, "finite, above 0", lambda f: f > 0,
            div_factor=div_factor, final_div_factor=final_div_factor,
        )  # fmt: skip
        self.max_lrs = one_a_group(what, optimizer, "max_lr", max_lr)
        self.base_momentums = one_a_group(what, optimizer, "base_momentum", base_momentum)
        self.max_momentums = one_a_group(what, optimizer, "max_momentum", max_momentum)
        for i, group in enumerate(optimizer.param_groups):
            check_numbers(what, "finite, at least 0", lambda lr: lr >= 0, max_lr=self.max_lrs[i])
            check_numbers(
                what, "from 0, below 1", lambda m: 0 <= m < 1,
                base_momentum=self.base_momentums[i], max_momentum=self.max_momentums[i],
            )  # fmt: skip
            if cycle_momentum and "momentum" not in group and "betas" not in group:
                raise ArgumentError(
                    f"OneCycleLR: each group has a momentum or betas to cycle; received "
                    f"optimizer={type(optimizer).__name__!r}, group={i}. Pass cycle_momentum=False"
                )
        self.total_steps, self.anneal_strategy = total_steps, anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        top = pct_start * total_steps - 1
        self.phase_ends = [top, 2 * top, total_steps - 1] if three_phase else [top, total_steps - 1]
        super().__init__(optimizer, last_epoch)

    def _bases(self, last_epoch: int) -> list[float]:
        return [top / self.div_factor for top in self.max_lrs]

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
        if step > self.total_steps:
            raise ArgumentError(
                f"OneCycleLR: there are {self.total_steps} steps; received step={step}. Make it "
                f"with a larger total_steps"
            )
        last = len(self.phase_ends) - 1
        phase = next((i for i, end in enumerate(self.phase_ends) if step <= end), last)
        start, end = [0.0, *self.phase_ends][phase], self.phase_ends[phase]
        done = min(1.0, (step - start) / (end - start)) if end > start else 1.0
        a, b = values[phase : phase + 2]
        return half_cosine(a, b, done) if self.anneal_strategy == "cos" else a + (b - a) * done


class SequentialLR(LRScheduler):
    """One schedule after another: from each milestone on the next, beginning at its own step 0.

    lr(t) = lrᵢ(t − mᵢ) where mᵢ is the last milestone ≤ t, and m₀ = 0. Each has the same base, the
    group's ``"initial_lr"``. The last one has no end; it does what it does after its own.

    ``schedulers`` are of this optimiser, and may be composed themselves; from now on, step only
    the whole. ``milestones`` are steps, one fewer than they, ascending.

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
        self.schedulers = _parts("SequentialLR", schedulers, optimizer)
        self.milestones = ascending("SequentialLR", milestones)
        if len(self.milestones) != len(self.schedulers) - 1:
            raise ArgumentError(
                f"SequentialLR: there is one milestone fewer than schedulers; received "
                f"milestones={len(self.milestones)}, schedulers={len(self.schedulers)}"
            )
        super().__init__(optimizer, last_epoch)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
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
    differ where a part is none (`CosineAnnealingLR` with η_min > 0, `OneCycleLR`), or takes no
    notice of it (`LambdaLR`).

    ``schedulers`` are of one optimiser, and may be composed themselves; from now on, step only
    the whole.

    >>> import tinygrad_stab as tg
    >>> sgd = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.8)
    >>> warm, decay = tg.optim.WarmupLR(sgd, 2), tg.optim.ExponentialLR(sgd, gamma=0.5)
    >>> tg.optim.ChainedScheduler([warm, decay]).preview(4)
    array([0.4, 0.4, 0.2, 0.1])
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self.schedulers = _parts("ChainedScheduler", schedulers, optimizer)
        super().__init__(self.schedulers[0].optimizer)

    def lr_at(self, base_lr: float, step: int, group: int = 0) -> float:
        for part in self.schedulers:
            base_lr = part.lr_at(base_lr, step, group)
        return base_lr

    def momentum_at(self, step: int, group: int = 0) -> float | None:
        """The momentum of the last schedule that has one."""
        momenta = [part.momentum_at(step, group) for part in self.schedulers]
        return next((m for m in reversed(momenta) if m is not None), None)


def _parts(
    owner: str, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None
) -> list[LRScheduler]:
    """The schedules that a composed one is made of."""
    parts = list(schedulers) if isinstance(schedulers, Iterable) else [schedulers]
    if not parts:
        raise ArgumentError(f"{owner}: schedulers holds at least one schedule; received none")
    for i, part in enumerate(parts):
        received = f"received scheduler={type(part).__name__}, index={i}"
        if not isinstance(part, LRScheduler):
            raise ArgumentError(
                f"{owner}: schedulers are schedules with a formula; {received}. Step a "
                f"ReduceLROnPlateau by itself"
            )
        if part.optimizer is not (parts[0].optimizer if optimizer is None else optimizer):
            raise ArgumentError(
                f"{owner}: all schedulers belong to one optimiser; {received}. Make them with the "
                f"same one"
            )
    return parts


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
        what = "ReduceLROnPlateau"
        check_optimizer(what, optimizer)
        check_choice(what, ("min", "max"), mode=mode)
        check_choice(what, ("rel", "abs"), threshold_mode=threshold_mode)
        check_numbers(what, "from 0, below 1", lambda f: 0 <= f < 1, factor=factor)
        check_integers(what, 0, patience=patience, cooldown=cooldown)
        most = 1 if threshold_mode == "rel" else math.inf
        bounds = "at least 0, and below 1 if relative"
        check_numbers(what, bounds, lambda t: 0 <= t < most, threshold=threshold)
        self.min_lrs = one_a_group(what, optimizer, "min_lr", min_lr)
        for least in self.min_lrs:
            check_numbers(what, "finite, at least 0", lambda lr: lr >= 0, min_lr=least)
        check_numbers(what, "finite, at least 0", lambda e: e >= 0, eps=eps)
        self.optimizer, self.mode, self.factor = optimizer, mode, factor
        self.patience, self.cooldown = patience, cooldown
        self.threshold, self.threshold_mode, self.eps = threshold, threshold_mode, eps
        self.last_epoch = 0  # how many values it has seen
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self._last_lr = [float(group["lr"]) for group in optimizer.param_groups]

    def step(self, metrics: float | Tensor | np.ndarray) -> None:
        """Look at the next value, such as a loss, and reduce the learning rates if it is time.

        Raises
        ------
        ArgumentError
            ``metrics`` is not one real number, or a group was added since. Nothing is changed.
        """
        if isinstance(metrics, Tensor | np.ndarray | np.generic) and metrics.size == 1:
            metrics = metrics.item()
        if not (isinstance(metrics, float) or is_number(metrics)):
            raise ArgumentError(
                f"ReduceLROnPlateau: metrics is one real number; received metrics={metrics!r:.60}. "
                f"Pass the value to watch, such as step(loss.item())"
            )
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            raise ArgumentError(
                f"ReduceLROnPlateau: each group has one min_lr; received "
                f"min_lrs={len(self.min_lrs)}, groups={len(groups)}. Make the schedule after the "
                f"last group"
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

    def _improves(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            bar = self.best * (1 + sign * self.threshold)
        else:
            bar = self.best + sign * self.threshold
        return value > bar if self.mode == "max" else value < bar

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group after the last step."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: plain numbers (``best`` is infinite before the first step)."""
        names = ("last_epoch", "best", "num_bad_epochs", "cooldown_counter")
        return {name: getattr(self, name) for name in names} | {"last_lr": self.get_last_lr()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another schedule, made with the same arguments, stood.

        Sets the groups' learning rates, too. Errors are those of `LRScheduler.load_state_dict`.
        """
        check_state("ReduceLROnPlateau", state, self.state_dict())
        self.last_epoch = int(state["last_epoch"])
        self.best = float(state["best"])
        self.num_bad_epochs = int(state["num_bad_epochs"])
        self.cooldown_counter = int(state["cooldown_counter"])
        self._last_lr = [float(lr) for lr in state["last_lr"]]
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=False):
            group["lr"] = lr
