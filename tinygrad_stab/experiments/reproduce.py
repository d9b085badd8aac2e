"""All published results, measured again: importing this file fills the table of rows."""

import time
from collections.abc import Iterator

from ..errors import ArgumentError
from . import (  # noqa: F401  # each enters its rows
    clipping,
    exploding,
    initialisation,
    nielsen,
    normalisation,
    propagation,
    residual,
    temporal_order,
    training,
)
from .parallel import each
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
    order = sorted(names, key=lambda name: ROWS[name].quick)  # the long ones first
    for name, found in each(measure, order, workers, quick):
        yield Outcome(ROWS[name], *found)


def measure(name: str, quick: bool) -> tuple[Measured, float]:
    """A row, by name, and the seconds that it took."""
    start = time.perf_counter()
    measured = ROWS[name].measure(quick)
    return measured, time.perf_counter() - start
