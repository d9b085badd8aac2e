"""The training loop: forward, backward, clip, step; and what is measured and decided each epoch."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..checks import check_choice, check_integers
from ..core.tensor import Tensor
from ..errors import ArgumentError, DtypeError, NonFiniteError, ShapeError, describe
from ..nn import Module
from ..optim import LRScheduler, Optimizer
from .evaluation import evaluation
from .loader import DataLoader
from .progress import progress_bar

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
    >>> model = tg.nn.Sequential(
    ...     tg.nn.Linear(64, 32, rng=0), tg.nn.ReLU(), tg.nn.Linear(32, 10, rng=1)
    ... )
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
    given = [function for function in (clip, penalty, evaluate, log) if function is not None]
    functions = [loss, *given, *callbacks]
    _check(model, loader, optimizer, schedule, schedule_per, functions, epochs, start_epoch)
    history: list[Record] = []
    with progress_bar(progress, (epochs - start_epoch) * len(loader)) as advance:
        for epoch in range(start_epoch + 1, epochs + 1):
            model.train()
            started, steps, sizes = time.perf_counter(), [], []
            for i, batch in enumerate(loader, start=1):
                place = f"epoch {epoch}, step {i}"
                with _undivided():
                    steps.append(_step(model, batch, loss, optimizer, penalty, clip, place))
                    if schedule is not None and schedule_per == "step":
                        schedule.step()
                sizes.append((*np.shape(batch[-1]), 1)[0])  # without axes it is one example
                if log is not None:
                    log(steps[-1], (epoch - 1) * len(loader) + i)
                advance(f"epoch {epoch}/{epochs}  loss {steps[-1]['loss']:.4g}")
            record = _record(epoch, steps, sizes) | {"seconds": time.perf_counter() - started}
            if evaluate is not None:
                with evaluation(model):
                    record |= _new_entries(evaluate(model), record)
            if schedule is not None and schedule_per == "epoch":
                schedule.step()
            history.append(record)
            stops = [callback(record) for callback in callbacks]  # all of them are called
            if any(stops):
                break
    return history


def _step(
    model: Module, batch: Any, loss: Any, optimizer: Optimizer, penalty: Any, clip: Any, place: str
) -> dict[str, float]:
    """Forward, backward, clip, step; what was measured. The graph ends with it."""
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise ArgumentError(
            f"fit: a batch is (x, y), inputs and then targets; received {describe(batch)}. Give "
            f"the DataLoader both arrays, x twice if the target is the input"
        )
    *inputs, target = batch
    optimizer.zero_grad()
    value = loss(model(*inputs), target)
    if penalty is not None:
        value = value + penalty(model)
    if not isinstance(value, Tensor) or value.ndim:
        raise ShapeError(
            f"fit: loss(output, y) is a scalar tensor; received {describe(value)}. Return the "
            f'tensor itself, not its item(), and reduce it: reduction="mean", or .mean()'
        )
    measured = {"loss": float(value.item()), "lr": float(optimizer.param_groups[0]["lr"])}
    _check_finite("loss", measured["loss"], place)
    value.backward(retain="leaves")
    if clip is not None:
        norm = clip([p for group in optimizer.param_groups for p in group["params"]])
        if norm is not None:
            measured["grad_norm"] = float(norm)
            measured["clip_coefficient"] = float(getattr(norm, "coefficient", 1.0))
            _check_finite("norm of the gradient", measured["grad_norm"], place)
    optimizer.step()
    return measured


def _record(epoch: int, steps: list[dict[str, float]], sizes: list[int]) -> Record:
    """What the steps of an epoch come to."""
    loss = float(np.average([step["loss"] for step in steps], weights=sizes))
    record: Record = {"epoch": epoch, "loss": loss, "lr": steps[-1]["lr"]}
    if "grad_norm" in steps[-1]:
        norms = [step["grad_norm"] for step in steps]
        record |= {"grad_norm": float(np.mean(norms)), "grad_norm_max": max(norms)}
    return record


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


def _check_finite(what: str, value: float, place: str) -> None:
    if not math.isfinite(value):
        raise NonFiniteError(
            f"fit: the {what} must be finite; it is {value} at {place}. The parameters are those "
            f"before this step. Lower the learning rate, clip the gradient, or find the operation "
            f"with tg.detect_anomaly()"
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
    functions: list[Any], epochs: Any, start_epoch: Any,
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
    check_integers("fit", 0, epochs=epochs, start_epoch=start_epoch)
    check_choice("fit", ("epoch", "step"), schedule_per=schedule_per)
    if wrong := [function for function in functions if not callable(function)]:
        raise DtypeError(
            f"fit: loss, clip, penalty, evaluate, log and the callbacks are functions; received "
            f"{wrong[0]!r:.60}"
        )
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if moved.isdisjoint(id(p) for p in model.parameters()):
        raise ArgumentError(
            "fit: the optimizer must move parameters of the model; it has none of them. Make it "
            "from this model's parameters()"
        )
