"""All published results, measured again: importing this file fills the table of rows."""

import time
from collections.abc import Iterator
from concurrent.futures import as_completed

from ..errors import ArgumentError
from . import initialisation, nielsen, normalisation, propagation, residual, training  # noqa: F401
from .parallel import processes
from .published import ROWS, Measured, Outcome


def chosen(name: str, quick: bool) -> list[str]:
    """Names of the rows to measure: the one that is named, the quick ones, or all.

    Raises
    ------
    ArgumentError
        No row of this name.
    """
    if name:
        found = [row for row in ROWS if name in row]
        if not found:
            raise ArgumentError(
                f"reproduce: NAME is a row, or part of its name; received {name!r}. There are "
                f"{', '.join(ROWS)}"
            )
        return found
    return [name for name, row in ROWS.items() if row.quick or not quick]


def reproduce(names: list[str], quick: bool, workers: int) -> Iterator[Outcome]:
    """Measure rows, in so many processes, and hand out each as it is done."""
    if workers == 1:
        yield from (Outcome(ROWS[name], *measure(name, quick)) for name in names)
        return
    with processes(workers) as executor:
        # Those that take longest come first, or a worker would be left with one at the end.
        order = sorted(names, key=lambda name: ROWS[name].quick)
        waiting = {executor.submit(measure, name, quick): name for name in order}
        for future in as_completed(waiting):
            yield Outcome(ROWS[waiting[future]], *future.result())


def measure(name: str, quick: bool) -> tuple[Measured, float]:
    """A row, by name, and the seconds that it took."""
    start = time.perf_counter()
    measured = ROWS[name].measure(quick)
    return measured, time.perf_counter() - start
