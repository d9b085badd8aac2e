"""The training loop: forward, backward, clip, step; and what is measured and decided each epoch."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.mode import no_grad
from ..core.tensor import Tensor
from ..errors import (
    ArgumentError,
    DtypeError,
    NonFiniteError,
    ShapeError,
    StateDictError,
    describe,
)
from ..nn import Module
from ..optim import LRScheduler, Optimizer
from .loader import DataLoader

Record = dict[str, Any]


def fit(
    model: Module,
    loader: DataLoader | Sequence[Any],
    loss: Callable[[Any, Any], Tensor],
    optimizer: Optimizer,
    epochs: int = 1,
    *,
    schedule: LRScheduler | None = None,
    schedule_per: str = "epoch",
    clip: Callable[[list[Tensor]], Any] | None = None,
    penalty: Callable[[Module], Any] | None = None,
    evaluate: Callable[[Module], Mapping[str, float]] | None = None,
    callbacks: Iterable[Callable[[Record], Any]] = (),
    log: Callable[[dict[str, float], int], Any] | None = None,
    progress: bool = True,
    start_epoch: int = 0,
) -> list[Record]:
    """Train a model: a step a batch, a record an epoch.

    A step is what one would write by hand: ``optimizer.zero_grad()``, ``loss(model(x), y)`` plus
    ``penalty(model)``, ``backward()``, ``clip(parameters)``, ``optimizer.step()``. After the steps
    of an epoch come ``evaluate``, ``schedule.step()`` and the callbacks, in this order.

    Parameters
    ----------
    model : Module
        In training mode during steps, in evaluation mode (recording nothing) in ``evaluate``.
    loader : DataLoader, or list of batches
        Batches (x, y), or (x1, x2, …, y) for a model of several inputs.
    loss : callable
        (output, y) → scalar tensor, a mean over the batch.
    optimizer : Optimizer
        Of the model's parameters, or some of them.
    epochs : int
        The number of the last epoch; they count from 1.
    schedule : LRScheduler, optional
        Its ``step()`` is called after each epoch, or each step. `ReduceLROnPlateau`, which looks at
        a metric, is a callback: ``lambda record: plateau.step(record["loss"])``.
    schedule_per : {"epoch", "step"}
    clip : callable, optional
        Called with the list of the optimiser's parameters between ``backward`` and ``step``, such
        as ``lambda params: tg.optim.clip_grad_norm_(params, 1.0)``. A number that it returns is
        recorded as the norm of the gradient.
    penalty : callable, optional
        Of the model; added to the loss.
    evaluate : callable, optional
        Of the model; the entries of the mapping that it returns join the record.
    callbacks : iterable of callable
        Each is called with the record of every epoch. Training ends if one returns a true value.
        ``records.append`` of a list keeps the records where ``fit`` ends in an exception.
    log : callable, optional
        Called after every step with its "loss", "lr" (and, if clipped, "grad_norm",
        "clip_coefficient") and the number of steps taken so far.
    progress : bool
        Show a bar with the time left, if rich is installed and stderr is a terminal or a notebook.
    start_epoch : int
        The number of epochs that are behind: to go on from a checkpoint.

    Returns
    -------
    list of dict
        For each epoch "epoch", "loss" (penalty included; the mean over examples), "lr" (of the
        first parameter group, in the last step), "seconds" (of the steps); if clipped, "grad_norm"
        and "grad_norm_max", the mean and the largest norm before clipping; and what ``evaluate``
        returned.

    Raises
    ------
    ArgumentError, DtypeError, ShapeError
        An argument that cannot do its part; said before training starts, where that can be known.
    NonFiniteError
        The loss, or the norm that ``clip`` returned, is NaN or infinite. The parameters are those
        before this step.

    Notes
    -----
    Ctrl-C waits for the end of the step, so that parameters, optimiser, schedule and running
    statistics belong together; a second Ctrl-C does not wait.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x, y = tg.datasets.digits().features(), tg.datasets.digits().labels
    >>> model = tg.nn.Sequential(tg.nn.Linear(64, 32, rng=0), tg.nn.ReLU(), tg.nn.Linear(32, 10))
    >>> history = tg.training.fit(
    ...     model,
    ...     tg.training.DataLoader(x, y, batch_size=32, shuffle=True, rng=0),
    ...     tg.nn.CrossEntropyLoss(),
    ...     tg.optim.SGD(model.parameters(), lr=0.5),
    ...     epochs=3,
    ...     evaluate=lambda model: {"accuracy": tg.training.accuracy(model, x, y)},
    ... )
    >>> history[-1]["epoch"], history[-1]["accuracy"] > 0.9
    (3, True)
    """
    callbacks = list(callbacks)
    _check(model, loader, optimizer, schedule, schedule_per, callbacks, epochs, start_epoch)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def step(batch: Any, place: str) -> dict[str, float]:
        *inputs, target = batch
        optimizer.zero_grad()
        value = loss(model(*inputs), target)
        if penalty is not None:
            value = value + penalty(model)
        measured = {"loss": _scalar(value), "lr": float(optimizer.param_groups[0]["lr"])}
        _check_finite("loss", measured["loss"], place)
        value.backward(retain="leaves")
        if clip is not None and (norm := clip(parameters)) is not None:
            measured["grad_norm"] = float(norm)
            measured["clip_coefficient"] = float(getattr(norm, "coefficient", 1.0))
            _check_finite("norm of the gradient", measured["grad_norm"], place)
        optimizer.step()
        if schedule is not None and schedule_per == "step":
            schedule.step()
        return measured

    history: list[Record] = []
    with _bar(progress, (epochs - start_epoch) * len(loader)) as advance:
        for epoch in range(start_epoch + 1, epochs + 1):
            model.train()
            started, steps, sizes = time.perf_counter(), [], []
            for i, batch in enumerate(loader, start=1):
                _check_batch(batch)
                with _undivided():
                    steps.append(step(batch, f"epoch {epoch}, step {i}"))
                sizes.append(len(batch[-1]))
                if log is not None:
                    log(steps[-1], (epoch - 1) * len(loader) + i)
                advance(f"epoch {epoch}/{epochs}  loss {steps[-1]['loss']:.4g}")
            record: Record = {
                "epoch": epoch,
                "loss": float(np.average([s["loss"] for s in steps], weights=sizes)),
                "lr": steps[-1]["lr"],
                "seconds": time.perf_counter() - started,
            }
            if "grad_norm" in steps[-1]:
                norms = [s["grad_norm"] for s in steps]
                record |= {"grad_norm": float(np.mean(norms)), "grad_norm_max": max(norms)}
            if evaluate is not None:
                with _evaluation(model):
                    record |= _new_entries(evaluate(model), record)
            if schedule is not None and schedule_per == "epoch":
                schedule.step()
            history.append(record)
            stops = [callback(record) for callback in callbacks]  # all of them are called
            if any(stops):
                break
    return history


def accuracy(model: Module, x: Any, y: Any, batch_size: int = 1000) -> float:
    """Share of examples whose largest output is that of their class.

    Parameters
    ----------
    model : Module
        Maps inputs to outputs of shape (n, classes, …); put into evaluation mode for the time.
    x : array_like of shape (n, …)
    y : array_like of int, shape (n, …)
        Classes, from 0.
    batch_size : int
        How many examples are computed at once; it bounds the memory, no graph being kept.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ArgumentError
        No examples, or not as many classes in ``y`` as examples in ``x``.
    ShapeError
        The outputs have no axis of at least 2 classes, or what is left does not have y's shape.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> outputs = np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])
    >>> tg.training.accuracy(tg.nn.Sequential(), outputs, [0, 1, 1]) * 3
    2.0
    """
    correct = count = 0
    with _evaluation(model):
        for inputs, labels in DataLoader(x, y, batch_size=batch_size):
            out = model(inputs)
            shape = np.shape(out)
            if len(shape) < 2 or shape[1] < 2 or shape[:1] + shape[2:] != labels.shape:
                raise ShapeError(
                    f"accuracy: needs outputs (n, classes, …), at least 2 classes, and a class "
                    f"each; received outputs {shape} for labels {labels.shape}. Labels are "
                    f"numbers from 0, not one-hot rows"
                )
            values = out.data if isinstance(out, Tensor) else np.asarray(out)
            correct += int(np.sum(values.argmax(axis=1) == labels))
            count += labels.size
    return correct / count


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
        if mode not in ("min", "max"):
            raise ArgumentError(f'EarlyStopping: mode is "min" or "max"; received {mode!r}')
        _check_count("EarlyStopping", "patience", patience, 1)
        if not (isinstance(min_delta, int | float) and 0 <= min_delta < math.inf):
            raise ArgumentError(
                f"EarlyStopping: min_delta is a number of at least 0; received {min_delta!r}"
            )
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
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateDictError(
                f"load_state_dict: needs the state of an EarlyStopping; received {state!r:.200} "
                f"({error}). Was it made by its state_dict()?"
            ) from error
        self.best, self.best_epoch, self.bad_epochs = best, epoch, bad
        self.best_state = best_state


# --- what the loop stands on


@contextmanager
def _evaluation(model: Module) -> Iterator[None]:
    """Evaluation mode, recording nothing; every module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _undivided() -> Iterator[None]:
    """A block that Ctrl-C does not cut in two: it is raised at the end; at once the second time."""
    # Only the main thread may set handlers; and somebody else's handler knows what it is for.
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = False

    def hold(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt


@contextmanager
def _bar(wanted: bool, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar of so many steps, where one can be seen; yields what moves it by a step."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft
    except ImportError:  # the engine alone is installed
        wanted = False
    console = Console(stderr=True) if wanted else None
    if console is None or not (console.is_terminal or console.is_jupyter):
        yield lambda text: None
        return
    text = TextColumn("{task.description}")
    with Progress(text, BarColumn(), MofNCompleteColumn(), TimeLeft(), console=console) as bar:
        task = bar.add_task("", total=total)
        yield lambda text: bar.update(task, advance=1, description=text)


def _scalar(value: Any) -> float:
    """The number that is to be made small."""
    if not isinstance(value, Tensor) or value.ndim:
        raise ShapeError(
            f"fit: loss(output, y) is a scalar tensor; received {describe(value)}. Return the "
            f'tensor itself, not its item(), and reduce it: reduction="mean", or .mean()'
        )
    return float(value.item())


def _check_finite(what: str, value: float, place: str) -> None:
    if not math.isfinite(value):
        raise NonFiniteError(
            f"fit: the {what} must be finite; it is {value} at {place}. The parameters are those "
            f"before this step. Lower the learning rate, clip the gradient, or find the operation "
            f"with tg.detect_anomaly()"
        )


def _check_count(who: str, name: str, value: Any, least: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ArgumentError(f"{who}: {name} is an integer of at least {least}; received {value!r}")


def _check_batch(batch: Any) -> None:
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise ArgumentError(
            f"fit: a batch is (x, y), inputs and then targets; received {describe(batch)}. Give "
            f"the DataLoader both arrays, x twice if the target is the input"
        )


def _new_entries(measured: Any, record: Record) -> Mapping[str, float]:
    """What ``evaluate`` returned, if it can join the record."""
    if not isinstance(measured, Mapping) or not record.keys().isdisjoint(measured):
        raise ArgumentError(
            f"fit: evaluate(model) returns a mapping of names, other than {', '.join(record)}, to "
            f"numbers; received {measured!r:.60}. Return {{'test_loss': …}}, for example"
        )
    return measured


def _check(
    model: Any, loader: Any, optimizer: Any, schedule: Any, schedule_per: Any,
    callbacks: list[Any], epochs: Any, start_epoch: Any,
) -> None:  # fmt: skip
    """Refuse, before anything is changed, what cannot be trained with."""
    for name, value, kind in (("model", model, Module), ("optimizer", optimizer, Optimizer)):
        if not isinstance(value, kind):
            raise DtypeError(
                f"fit: {name} is of class {kind.__name__}; received a {type(value).__name__}. The "
                f"order is model, loader, loss, optimizer"
            )
    if not hasattr(loader, "__len__") or len(loader) == 0:
        raise ArgumentError(
            f"fit: loader is a DataLoader, or a list of at least one batch, to go through every "
            f"epoch; received {loader!r:.60}. A generator could be gone through once"
        )
    if schedule is not None and not isinstance(schedule, LRScheduler):
        raise DtypeError(
            f"fit: schedule is of class LRScheduler; received a {type(schedule).__name__}. One "
            f"that looks at a metric is a callback: lambda record: plateau.step(record['loss'])"
        )
    _check_count("fit", "epochs", epochs, 0)
    _check_count("fit", "start_epoch", start_epoch, 0)
    if schedule_per not in ("epoch", "step"):
        raise ArgumentError(f'fit: schedule_per is "epoch" or "step"; received {schedule_per!r}')
    if wrong := [callback for callback in callbacks if not callable(callback)]:
        raise DtypeError(f"fit: callbacks are called with a record; received {wrong[0]!r:.60}")
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if moved.isdisjoint(id(p) for p in model.parameters()):
        raise ArgumentError(
            "fit: the optimizer must move parameters of the model; it has none of them. Make it "
            "from this model's parameters()"
        )
