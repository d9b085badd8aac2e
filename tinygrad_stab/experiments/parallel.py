"""Work for many processes or machines: executors, and a gradient in shards of a batch."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
)
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError, UnsupportedError
from ..nn import Module


def processes(workers: int | None = None) -> Executor:
    """Worker processes on this machine, each with one BLAS thread; dead ones are replaced.

    Workers import what they need (none is forked), so a script that calls this does so under
    ``if __name__ == "__main__":``. They leave Ctrl-C to the process that started them, and end
    with it.

    Parameters
    ----------
    workers : int, optional
        At least 1. Default: as many as there are processors.

    Returns
    -------
    concurrent.futures.Executor
        Also a context manager, which ends the workers.

    Raises
    ------
    ArgumentError
        ``workers`` out of range.

    Examples
    --------
    >>> from tinygrad_stab.experiments.parallel import processes
    >>> with processes(1) as pool:
    ...     pool.submit(divmod, 7, 2).result()
    (3, 1)
    """
    if workers is not None and (
        not isinstance(workers, int) or isinstance(workers, bool) or workers < 1
    ):
        raise ArgumentError(f"processes: workers is a whole number ≥ 1; received {workers!r}")
    return _Processes(workers)


def each(
    function: Callable[..., Any], names: Sequence[str], workers: int, *arguments: Any
) -> Iterator[tuple[str, Any]]:
    """``function(name, *arguments)`` for every name, in so many processes, as they are done.

    Parameters
    ----------
    function : callable
        At the top level of a module, if there is more than one worker.
    names : sequence of str
        Those that take longest come first, or a worker would be left with one at the end.
    workers : int
        1: in this process, one after the other.

    Yields
    ------
    name, result
    """
    if workers == 1:
        for name in names:
            yield name, function(name, *arguments)
        return
    with processes(workers) as executor:
        waiting = {executor.submit(function, name, *arguments): name for name in names}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


class _Processes(Executor):
    """A pool of processes that is followed by another when it breaks."""

    def __init__(self, workers: int | None) -> None:
        self._workers = workers
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._workers, _PinnedContext(), _start_worker)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        try:
            return self._pool.submit(fn, *args, **kwargs)
        except BrokenExecutor:
            self._pool = self._new()
            return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_environment = threading.Lock()


class _PinnedProcess(SpawnProcess):
    """Has one BLAS thread, which must be in its environment before NumPy is loaded."""

    def start(self) -> None:
        with _environment:
            before = {name: os.environ.get(name) for name in _THREADS}
            os.environ.update(dict.fromkeys(_THREADS, "1"))
            try:
                super().start()
            finally:
                for name, value in before.items():
                    if value is None:
                        del os.environ[name]
                    else:
                        os.environ[name] = value


class _PinnedContext(SpawnContext):
    Process = _PinnedProcess


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers, which would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def dask(address: str) -> Iterator[Executor]:
    """``with dask("tcp://10.0.0.1:8786") as executor:`` connects to a Dask scheduler.

    The workers must be able to import what they are to call. How many threads their BLAS uses is
    set where they are started.

    Parameters
    ----------
    address : str
        Of the scheduler.

    Raises
    ------
    UnsupportedError
        Dask is not installed.
    OSError
        No scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UnsupportedError(
            "dask: needs the package distributed, which is not installed. "
            "Run pip install 'tinygrad_stab[dask]'"
        ) from error
    with Client(address) as client:
        # Not pure: what is called again is to run again, not to be looked up.
        yield client.get_executor(pure=False)


def data_parallel_gradient(
    model: Module,
    loss: Callable[[Any, Any], Any],
    x: Any,
    y: Any,
    executor: Executor,
    shards: int,
) -> tuple[float, dict[str, np.ndarray]]:
    """The gradient of a batch's mean loss, from shards of the batch computed side by side.

    L = Σₖ (nₖ/n)·Lₖ with Lₖ the mean loss of the nₖ examples of shard k, so ∇L = Σₖ (nₖ/n)·∇Lₖ:
    the whole batch's gradient, but for the rounding of sums in another order. The shares are
    added in the order of the shards, whichever is done first, so equal shards give equal bits.

    Each shard works on a copy of the model; the model itself is left alone, gradients included.
    What couples the examples of a batch sees its shard only: in training mode, batch
    normalisation takes its mean and variance from the shard (the gradient is not the whole
    batch's then) and its running averages do not move. Dropout draws the same mask in each shard.

    Parameters
    ----------
    model : Module
        Must pickle, as layers do.
    loss : callable
        ``loss(model(x), y)`` → a scalar, the *mean* over examples. Must pickle: a module, or a
        function at the top level of a file.
    x, y : array_like of shapes (n, …)
        Inputs and targets.
    executor : concurrent.futures.Executor
        See `processes` and `dask`.
    shards : int
        From 1 to n; sizes differ by one at most.

    Returns
    -------
    loss : float
    gradients : dict of str to ndarray
        By parameter, as in ``named_parameters``; of those that have one.

    Raises
    ------
    ShapeError
        x and y are of different lengths, or of none.
    ArgumentError
        ``shards`` out of range.
    GraphError
        Not a scalar loss, or none that requires grad.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> from tinygrad_stab.experiments.parallel import data_parallel_gradient, processes
    >>> model, mse = tg.nn.Linear(1, 1, bias=False), tg.nn.functional.mse_loss
    >>> model.weight.data[...] = 1
    >>> x, y = np.array([[1.0], [2.0], [3.0]]), np.zeros((3, 1))
    >>> with processes(2) as pool:
    ...     loss, gradients = data_parallel_gradient(model, mse, x, y, pool, 2)
    >>> loss, gradients  # of (1 + 4 + 9)·w²/3
    (4.666666666666666, {'weight': array([[9.33333333]])})
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or not len(x):
        raise ShapeError(
            f"data_parallel_gradient: x and y hold a row for each example, at least one; received "
            f"shapes {x.shape} and {y.shape}"
        )
    if not isinstance(shards, int) or isinstance(shards, bool) or not 1 <= shards <= len(x):
        raise ArgumentError(
            f"data_parallel_gradient: shards is a whole number from 1 to the number of examples, "
            f"{len(x)}; received {shards!r}"
        )
    work = pickle.dumps((model, loss))  # once for all shards, and a copy for each
    parts = list(zip(np.array_split(x, shards), np.array_split(y, shards), strict=True))
    futures = [executor.submit(_shard_gradient, work, *part) for part in parts]
    value = 0.0
    total: dict[str, np.ndarray] = {}
    for (inputs, _), future in zip(parts, futures, strict=True):
        share = len(inputs) / len(x)
        shard_value, gradients = future.result()
        value += share * shard_value
        for name, gradient in gradients.items():
            total[name] = total.get(name, 0) + share * gradient
    return value, total


def _shard_gradient(
    work: bytes, x: np.ndarray, y: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    model, loss = pickle.loads(work)
    model.zero_grad()
    value = loss(model(x), y)
    value.backward(retain="leaves")
    named = model.named_parameters()
    return value.item(), {name: p.grad for name, p in named if p.grad is not None}
