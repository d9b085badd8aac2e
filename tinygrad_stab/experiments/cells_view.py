"""The cells of a sweep as a table: a row a combination, the median over its repeats."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from .sweep import Cell


def table(cells: Sequence[Cell]) -> Table:
    """Decay of the gradient at the start, in powers of ten, and accuracy where it was trained."""
    varied = [
        name for name in cells[0].config if len({str(cell.config[name]) for cell in cells}) > 1
    ]
    trained = any(cell.config["epochs"] for cell in cells)
    measured = ["decay", "accuracy"] if trained else ["decay"]
    result = Table(box=SIMPLE, pad_edge=False, header_style="bold")
    for name in varied:
        number = isinstance(cells[0].config[name], int)
        result.add_column(name, justify="right" if number else "left", no_wrap=True)
    for heading in measured:
        result.add_column(heading, justify="right", no_wrap=True)
    for _, group in groupby(cells, key=lambda cell: cell.config):
        repeats = list(group)
        row = [str(repeats[0].config[name]) for name in varied]
        found = [cell.result for cell in repeats if cell.result is not None]
        row += [_spread([r[what] for r in found], percent=what == "accuracy") for what in measured]
        result.add_row(*row)
    return result


def _spread(values: Sequence[float], percent: bool) -> str:
    """The median and half the range."""
    if not values:
        return "failed"
    low, middle, high = np.quantile(values, [0, 0.5, 1]) * (100 if percent else 1)
    spread = f" ± {(high - low) / 2:.1f}" if len(values) > 1 else ""
    return f"{middle:.1f}{spread}" + (" %" if percent else "")
