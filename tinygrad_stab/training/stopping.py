"""When to stop: before the model learns what is only so in its examples."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checks import check_choice, check_integers, check_numbers
from ..errors import ArgumentError, StateDictError
from ..nn import Module


class EarlyStopping:
    """A callback of `fit` that ends training when a number has stopped getting better.

    It stops after ``patience`` epochs in a row that were not better than the best by more than
    ``min_delta`` (Goodfellow, Bengio & Courville 2016, "Deep Learning", §7.8, algorithm 7.1).

    Parameters
    ----------
    model : Module
        Whose best state is kept.
    monitor : str
        An entry of the record: "loss", or what ``evaluate`` returned. NaN is never better.
    mode : {"min", "max"}
        Whether less is better, or more.
    patience : int
        At least 1.
    min_delta : float
        At least 0.
    restore_best : bool
        Whether the model gets its best state back on stopping. If the epochs run out before, load
        ``best_state`` yourself.

    Attributes
    ----------
    best : float
        The best number so far; infinite before the first epoch.
    best_epoch : int
        Its epoch; 0 before the first.
    best_state : dict of str to ndarray
        The model's ``state_dict()`` of then; empty without ``restore_best``.

    Raises
    ------
    ArgumentError
        A value outside its range; when called, a record without ``monitor``.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> stopping = tg.training.EarlyStopping(tg.nn.Linear(1, 1), patience=2)
    >>> [stopping({"epoch": i, "loss": loss}) for i, loss in enumerate([3.0, 1.0, 2.0, 1.5], 1)]
    [False, False, False, True]
    >>> stopping.best, stopping.best_epoch
    (1.0, 2)
    """

    def __init__(
        self,
        model: Module,
        monitor: str = "loss",
        mode: str = "min",
        patience: int = 3,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        check_choice("EarlyStopping", ("min", "max"), mode=mode)
        check_integers("EarlyStopping", 1, patience=patience)
        check_numbers("EarlyStopping", "finite, at least 0", lambda d: d >= 0, min_delta=min_delta)
        self.model = model
        self.monitor = monitor
        self.mode = mode
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best
        self.best = math.inf if mode == "min" else -math.inf
        self.best_epoch = 0
        self.bad_epochs = 0  # in a row, up to now
        self.best_state: dict[str, np.ndarray] = {}

    def __call__(self, record: Mapping[str, Any]) -> bool:
        """Look at an epoch; True if training is to end."""
        if self.monitor not in record:
            raise ArgumentError(
                f"EarlyStopping: monitors an entry of the record; received {self.monitor!r}, and a "
                f"record of {', '.join(record)}. Let evaluate return it"
            )
        value = float(record[self.monitor])
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_epoch, self.bad_epochs = value, int(record["epoch"]), 0
            self.best_state = self.model.state_dict() if self.restore_best else {}
            return False
        self.bad_epochs += 1
        stop = self.bad_epochs >= self.patience
        if stop and self.best_state:
            self.model.load_state_dict(self.best_state)
        return stop

    def state_dict(self) -> dict[str, Any]:
        """What it remembers of the epochs that it has seen."""
        names = ("best", "best_epoch", "bad_epochs")
        best_state = {name: array.copy() for name, array in self.best_state.items()}
        return {name: getattr(self, name) for name in names} | {"best_state": best_state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned.

        Raises
        ------
        StateDictError
            An entry is missing, or is no number. Nothing is changed.
        """
        try:
            best, epoch = float(state["best"]), int(state["best_epoch"])
            bad = int(state["bad_epochs"])
            best_state = {name: np.array(array) for name, array in state["best_state"].items()}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise StateDictError(
                f"load_state_dict: needs the state of an EarlyStopping; received {state!r:.200} "
                f"({error}). Was it made by its state_dict()?"
            ) from error
        self.best, self.best_epoch, self.bad_epochs = best, epoch, bad
        self.best_state = best_state
