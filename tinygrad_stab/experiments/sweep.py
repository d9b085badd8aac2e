"""Parameter sweeps: a function on every cell of a grid, here, in processes, or on a Dask cluster.

What a cell computes depends on the cell alone: its random numbers come from its configuration and
the sweep's seed, so neither the executor, nor the order, nor the rest of the grid changes them.
Results go to a file line by line as they come, so that a sweep that was killed goes on later.
"""

import copy
import hashlib
import itertools
import json
import math
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    as_completed,
    wait,
)
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import ArgumentError, DataError
from .output import check_output

Function = Callable[[dict[str, Any], np.random.Generator], Mapping[str, Any]]


class Cell(NamedTuple):
    """One point of the grid, and what came of it.

    Attributes
    ----------
    config : dict
        Name → value.
    repeat : int
        From 0.
    result : dict or None
        What the function returned; None if it failed.
    error : str or None
        Type and message, if it failed.
    seconds : float or None
        How long the function took, where it ran; None if it did not come back.
    """

    config: dict[str, Any]
    repeat: int
    result: dict[str, Any] | None = None
    error: str | None = None
    seconds: float | None = None

    @property
    def key(self) -> str:
        """Configuration and repeat as text: the same for the same cell, whatever the grid."""
        return _json({"config": _encoded(self.config), "repeat": self.repeat})


def sweep(
    function: Function,
    grid: Mapping[str, Iterable[Any]],
    *,
    seed: int = 0,
    repeats: int = 1,
    executor: Executor | None = None,
    path: str | Path | None = None,
    retries: int = 1,
    progress: bool = True,
    in_flight: int | None = None,
) -> list[Cell]:
    """Call a function on every combination of the grid's values.

    Every call gets a Generator of its own, from the sweep's seed and the SHA-256 of the cell's
    configuration and repeat. So results are the same bit for bit whichever executor ran them (if
    the machines compute alike: BLAS may add in another order with another number of threads).

    Ctrl-C cancels the cells that have not started, and keeps those that are done or running.

    Parameters
    ----------
    function : callable
        ``function(config, rng)`` → mapping of str to number, str, None, or lists of these. Defined
        at the top level of a module that the workers can import.
    grid : mapping of str to iterable
        Name → values, each a number, str, None, or a list of these, each once. The last name
        varies fastest.
    seed : int
        At least 0.
    repeats : int
        How often each combination is called, with other random numbers each time; at least 1.
    executor : concurrent.futures.Executor, optional
        Default: this process. See `processes` and `dask`.
    path : path, optional
        A file of JSON lines to append results to as they come. Cells that are already there are
        not called again, failed ones are.
    retries : int
        How often a failed cell is called again, with the same random numbers; then its error is
        its outcome. A worker that dies is a failure of the cell that it ran alone; if it may have
        been one of many, all are called again.
    progress : bool
        Show a bar on stderr, if that is a terminal.
    in_flight : int, optional
        At most so many cells are with the executor at once; twice its workers keep them busy.
        Default: twice the processors of this machine.

    Returns
    -------
    list of Cell
        In the order of the grid, repeats of a combination side by side.

    Raises
    ------
    ArgumentError
        An argument outside its range; a function that workers could not import.
    DataError
        The file belongs to another sweep (function, seed or names differ), or is damaged.
    concurrent.futures.BrokenExecutor
        A pool that cannot replace its workers, as `processes` can, lost one. What is done is kept.

    Examples
    --------
    >>> from tinygrad_stab.experiments.sweep import sweep
    >>> def mean(config, rng):
    ...     return {"mean": rng.normal(config["loc"], size=config["n"]).mean()}
    >>> cells = sweep(mean, {"loc": [0.0, 5.0], "n": [100]}, repeats=2)
    >>> [(cell.config["loc"], cell.repeat, round(cell.result["mean"])) for cell in cells]
    [(0.0, 0, 0), (0.0, 1, 0), (5.0, 0, 5), (5.0, 1, 5)]
    """
    for name, value, least in (
        ("seed", seed, 0),
        ("repeats", repeats, 1),
        ("retries", retries, 0),
        ("in_flight", 1 if in_flight is None else in_flight, 1),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ArgumentError(f"sweep: {name} is a whole number ≥ {least}; received {value!r}")
    name = _importable_name(function)
    cells = _cells(grid, repeats)
    order = [cell.key for cell in cells]
    outcomes: dict[str, Cell] = {}
    header = {"sweep": name, "seed": seed, "names": sorted(map(str, grid))}
    with _opened(path, header, outcomes) as keep:
        missing = [
            cell
            for cell, key in zip(cells, order, strict=True)
            if key not in outcomes or outcomes[key].error is not None
        ]
        with _progress(progress, len(cells), len(cells) - len(missing)) as advance:

            def tell(cell: Cell, final: bool) -> None:
                keep(cell)
                outcomes[cell.key] = cell
                if final:
                    advance()

            if executor is None:
                executor, in_flight = _Here(), 1
            in_flight = in_flight or 2 * (os.cpu_count() or 1)
            _run(function, missing, seed, executor, retries, in_flight, tell)
    # A file may hold a cell's names in another order.
    pairs = zip(cells, order, strict=True)
    return [outcomes[key]._replace(config=cell.config) for cell, key in pairs]


def canonical_json(cells: Sequence[Cell]) -> bytes:
    """Cells as JSON, one a line, without the times: the same bytes for the same results.

    Floats are written so that they read back exactly; those that are not finite as
    ``{"float": "nan"}``, for which JSON has no number.

    Examples
    --------
    >>> from tinygrad_stab.experiments.sweep import Cell, canonical_json
    >>> print(canonical_json([Cell({"n": 1}, 0, {"x": 0.5}, seconds=2.0)]).decode(), end="")
    [
    {"config":{"n":1},"error":null,"repeat":0,"result":{"x":0.5}}
    ]
    """
    lines = ",\n".join(_json(_record(cell)) for cell in cells)
    return f"[\n{lines}\n]\n".encode()


def _importable_name(function: Any) -> str:
    """The name by which a worker, or a later run, finds the same function."""
    if not isinstance(function, FunctionType) or "<" in function.__qualname__:
        raise ArgumentError(
            f"sweep: a worker must be able to import the function; received {function!r:.80}. "
            f"Define it with def at the top level of a module"
        )
    return f"{function.__module__}.{function.__qualname__}"


def _cells(grid: Mapping[str, Iterable[Any]], repeats: int) -> list[Cell]:
    """The cells of a grid, in order."""
    if not isinstance(grid, Mapping) or not all(isinstance(name, str) for name in grid):
        raise ArgumentError(f"sweep: grid maps names to values; received {grid!r:.80}")
    values = {}
    for name, given in grid.items():
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ArgumentError(
                f"sweep: grid maps each name to a list of values; received {name}={given!r:.60}"
            )
        values[name] = [_plain(f"sweep: grid[{name!r}]", value) for value in given]
        texts = [_json(_encoded(value)) for value in values[name]]
        if len(set(texts)) < len(texts):
            raise ArgumentError(
                f"sweep: each value of {name} once; received {values[name]!r:.80}. "
                f"For more calls of the same cell pass repeats="
            )
    return [
        Cell(dict(zip(values, combination, strict=True)), repeat)
        for combination in itertools.product(*values.values())
        for repeat in range(repeats)
    ]


def _call(function: Function, cell: Cell, seed: int) -> Cell:
    """What comes of a cell. An exception becomes text, for not every one can be pickled."""
    start = time.perf_counter()
    try:
        returned = function(copy.deepcopy(cell.config), _generator(cell, seed))
        if not isinstance(returned, Mapping) or not all(isinstance(k, str) for k in returned):
            raise ArgumentError(
                f"a result maps names to numbers or strings; received {returned!r:.80}"
            )
        result = {name: _plain(name, value) for name, value in returned.items()}
    except (Exception, SystemExit) as error:
        return cell._replace(error=_message(error), seconds=time.perf_counter() - start)
    return cell._replace(result=result, seconds=time.perf_counter() - start)


def _generator(cell: Cell, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(cell.key.encode()).digest()
    words = tuple(int(word) for word in np.frombuffer(digest, "<u4"))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=words))


def _message(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class _Here(Executor):
    """Calls at once, in this process."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _run(
    function: Function,
    cells: Iterable[Cell],
    seed: int,
    executor: Executor,
    retries: int,
    in_flight: int,
    tell: Callable[[Cell, bool], None],
) -> None:
    """Tell each outcome as it comes, and whether it is final or will be tried again."""
    waiting = deque(cells)
    running: dict[Future, Cell] = {}
    failures: Counter[str] = Counter()
    crashes: Counter[str] = Counter()  # how often a worker died while a cell was in flight

    def judge(cell: Cell) -> None:
        again = False
        if cell.error is not None:
            failures[cell.key] += 1
            again = failures[cell.key] <= retries
        if again:
            waiting.append(Cell(cell.config, cell.repeat))
        tell(cell, not again)

    def room() -> int:
        # What was in flight when workers died twice runs alone, to see who it is that kills them.
        suspect = any(crashes[cell.key] > 1 for cell in (waiting[0], *running.values()))
        return 1 if suspect else in_flight

    try:
        while waiting or running:
            while waiting and len(running) < room():
                running[executor.submit(_call, function, waiting[0], seed)] = waiting[0]
                waiting.popleft()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(_failure(future), BrokenExecutor) for future in done):
                done, _ = wait(running)  # a pool breaks as a whole
            lost = []
            for future in done:
                cell, error = running.pop(future), _failure(future)
                if error is None:
                    judge(future.result())
                elif isinstance(error, BrokenExecutor):
                    lost.append(cell._replace(error=_message(error)))
                elif isinstance(error, CancelledError):
                    raise error  # not by us: a cluster has gone, say
                else:
                    judge(cell._replace(error=_message(error)))
            if len(lost) == 1:
                judge(lost[0])
            else:
                crashes.update(cell.key for cell in lost)
                waiting.extendleft(Cell(cell.config, cell.repeat) for cell in lost)
    except (KeyboardInterrupt, BrokenExecutor):
        started = [future for future in running if not future.cancel()]
        for future in as_completed(started):
            if _failure(future) is None:
                tell(future.result(), True)
        raise
    finally:
        for future in running:
            future.cancel()


def _failure(future: Future) -> BaseException | None:
    """What went wrong in a future that is done, its cancellation included."""
    return CancelledError() if future.cancelled() else future.exception()


@contextmanager
def _opened(
    path: str | Path | None, header: dict[str, Any], outcomes: dict[str, Cell]
) -> Iterator[Callable[[Cell], None]]:
    """Read what a file knows into ``outcomes``; give what appends to it."""
    if path is None:
        yield lambda cell: None
        return
    path = Path(path)
    check_output(path, force=True)
    with path.open("a+b") as file:
        _read(path, file, header, outcomes)
        yield lambda cell: _append(file, _record(cell) | {"seconds": cell.seconds})


def _read(path: Path, file: BinaryIO, header: dict[str, Any], outcomes: dict[str, Cell]) -> None:
    """Check a file's first line, take in the others, drop a last one that is torn."""
    file.seek(0)
    *lines, torn = file.read().split(b"\n")
    if not lines and _json(header, sort=False).encode().startswith(
        torn
    ):  # new, or killed at the very start
        file.truncate(0)
        _append(file, header)
        return
    first = lines[0] if lines else torn
    if first != _json(header, sort=False).encode():
        raise DataError(
            f"{path}: a file to go on with begins with {_json(header, sort=False)}; this one with "
            f"{first[:200].decode(errors='replace')!r}. It is of another sweep: pass another path"
        )
    for number, line in enumerate(lines[1:], 2):
        try:
            record = json.loads(line)
            cell = Cell(
                _decoded(record["config"]), record["repeat"], _decoded(record["result"]),
                record["error"], record["seconds"],
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: each line is the record of a cell; line {number} is "
                f"{line[:80].decode(errors='replace')!r}. Delete that line"
            ) from error
        outcomes[cell.key] = cell
    file.truncate(sum(len(line) + 1 for line in lines))


def _append(file: BinaryIO, record: dict[str, Any]) -> None:
    """Add a line, and do not return before it is on the disk."""
    file.write(_json(record, sort=False).encode() + b"\n")  # in the order of the function's names
    file.flush()
    os.fsync(file.fileno())


def _record(cell: Cell) -> dict[str, Any]:
    """All of a cell but the time, which is not the same twice."""
    return {
        "config": _encoded(cell.config),
        "repeat": cell.repeat,
        "result": _encoded(cell.result),
        "error": cell.error,
    }


def _json(value: Any, sort: bool = True) -> str:
    return json.dumps(value, sort_keys=sort, separators=(",", ":"), allow_nan=False)


def _plain(what: str, value: Any) -> Any:
    """A value that JSON can hold, with NumPy's scalars turned into Python's."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_plain(what, item) for item in value]
    if value is not None and type(value) not in (bool, int, float, str):
        raise ArgumentError(
            f"{what}: is a number, a string, None, or a list of these; received "
            f"{type(value).__name__} {value!r:.60}. Use .item() or .tolist()"
        )
    return value


def _encoded(value: Any) -> Any:
    """A plain value, or names and plain values, with what JSON has no number for written out."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if isinstance(value, dict):
        return {name: _encoded(item) for name, item in value.items()}
    return value


def _decoded(value: Any) -> Any:
    """The inverse of `_encoded`, for names and plain values."""
    if value is None:
        return None
    return {name: _decoded_plain(item) for name, item in value.items()}


def _decoded_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return float(value["float"])
    return [_decoded_plain(item) for item in value] if isinstance(value, list) else value


@contextmanager
def _progress(wanted: bool, total: int, done: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, and what moves it on by one."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console  # a sweep without a terminal does without rich
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("sweeping", total=total, completed=done)
        yield lambda: bar.advance(task)
