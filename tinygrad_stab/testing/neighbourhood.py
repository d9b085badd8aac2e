"""A function near a point: its values along lines, many at a time, and the noise in them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..core.operand import Operand
from ..errors import StabError

Function = Callable[..., Any]  # arrays in, an array or a tuple of arrays out

_EPS = float(np.finfo(float).eps)
_BATCH = 1 << 16  # numbers that a function is given at once


def flat(outputs: Any, batch: int | None = None) -> ndarray:
    """Outputs of a function one after the other as a vector (or as one row a batch entry)."""
    parts = outputs if isinstance(outputs, tuple | list) else (outputs,)
    lead = (-1,) if batch is None else (batch, -1)
    rows = [
        np.reshape(part._value if isinstance(part, Operand) else np.asarray(part), lead)
        for part in parts
    ]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=-1)


class Lines(NamedTuple):
    """Straight lines through x, x + t·direction; each moves a few elements."""

    elements: ndarray  # (lines, moved): flat indices of the elements that move ...
    weights: ndarray  # (lines, moved): ... and how far they do when t grows by 1
    size: ndarray  # (lines,): how large x is on the scale of t

    def some(self, which: Any) -> "Lines":
        """Those that an index or mask picks."""
        return Lines(self.elements[which], self.weights[which], self.size[which])


def along_elements(x: ndarray, elements: ndarray) -> Lines:
    """A line for each element, that moves it alone."""
    alone = elements[:, None]
    return Lines(alone, np.ones(alone.shape), np.abs(x.reshape(-1)[elements]).astype(float))


def along_blocks(x: ndarray, elements: ndarray, rng: np.random.Generator) -> Lines:
    """A line for each row of elements, that moves all of the row by random shares."""
    share = rng.uniform(0.5, 1.5, elements.shape) * rng.choice([-1.0, 1.0], elements.shape)
    weights = share * np.maximum(np.abs(x.reshape(-1)[elements]), 1)
    return Lines(elements, weights, np.ones(len(elements)))


class Neighbourhood:
    """A function near a point: its values along lines in one argument.

    Where the function allows it, many points are evaluated in one call, stacked along a new first
    axis of that argument. That it does is not believed but tried: rows of a stack must be what
    the function gives for them alone.
    """

    def __init__(self, f: Function, args: Sequence[ndarray], argnum: int) -> None:
        self.f, self._argnum = f, argnum
        self.args = [np.array(a, order="C") for a in args]  # so that reshape(-1) is a view
        self.x = self.args[argnum]
        self.here = flat(f(*self.args))  # f(x), a vector
        self.eps = float(np.finfo(self.here.dtype).eps) if self.here.dtype.kind == "f" else _EPS
        self.lost = ~np.isfinite(self.here)  # outputs that say nothing
        self.finite = not np.any(self.lost)
        self._stacks: dict[str, bool] = {}

    def at(self, lines: Lines, t: ndarray) -> ndarray:
        """f(x + t·direction), a row for each line, of all outputs; t may be imaginary."""
        n, kind = len(t), t.dtype.kind
        values = self.x.reshape(-1)[lines.elements] + t[:, None] * lines.weights
        if n >= 16 and kind not in self._stacks:
            self._stacks[kind] = self._try_stack(values.dtype)
        if n >= 16 and self._stacks[kind]:
            try:
                return self._stacked(lines, values)
            except Exception:  # what worked at the points that were tried does not here
                self._stacks[kind] = False
        args = list(self.args)
        rows = np.empty((n, len(self.here)), complex if kind == "c" else float)
        args[self._argnum] = moved = self.x.astype(values.dtype)
        line, before = moved.reshape(-1), self.x.reshape(-1)
        for i, (elements, value) in enumerate(zip(lines.elements, values, strict=True)):
            line[elements] = value
            try:
                rows[i] = flat(self.f(*args))
            except (ValueError, ArithmeticError) as error:  # outside its domain, as math.log says
                if isinstance(error, StabError):
                    raise
                rows[i] = np.nan
            line[elements] = before[elements]
        return rows

    def _stacked(self, lines: Lines, values: ndarray) -> ndarray:
        """The same, many points a call."""
        args, parts = list(self.args), []
        size = max(1, _BATCH // max(self.x.size, len(self.here)))
        for i in range(0, len(values), size):
            some, at = values[i : i + size], lines.elements[i : i + size]
            stack = np.repeat(self.x[None].astype(values.dtype), len(some), axis=0)
            stack.reshape(len(some), -1)[np.arange(len(some))[:, None], at] = some
            args[self._argnum] = stack
            parts.append(flat(self.f(*args), len(some)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _try_stack(self, dtype: np.dtype) -> bool:
        rng = np.random.default_rng(0)
        lengths = {n for a in self.args for n in a.shape}
        count = next(n for n in (3, 5, 7, 11, *range(13, 99)) if n not in lengths)
        stack = self.x * (1 + 0.01 * rng.uniform(-1, 1, (count, *self.x.shape))).astype(dtype)
        stack += (1e-3 * rng.uniform(-1, 1, stack.shape)) * (self.x == 0)
        args = list(self.args)
        try:
            args[self._argnum] = stack
            together = flat(self.f(*args), count)
            for row, x in zip(together[:3], stack, strict=False):
                args[self._argnum] = x
                alone = flat(self.f(*args))
                if alone.shape != row.shape or not np.allclose(
                    row, alone, rtol=1e-12, atol=1e-14 * np.max(np.abs(alone)), equal_nan=True
                ):
                    return False
        except Exception:  # whatever a function says to a shape that it was not made for
            return False
        return True


def measured_noise(f: Function, args: Sequence[ndarray]) -> ndarray:
    """The size of the rounding errors of each output of f, from 21 evaluations.

    On so short a line a smooth function is a polynomial of low degree, whose third and higher
    differences vanish; what is left of them is noise (Moré & Wild 2011, algorithm ECnoise).
    """
    noise: Any = 0.0
    nothing_grows = not any(np.any(a) for a in args if a.dtype.kind == "f")
    for step, order in ((2.0**-36, 3), (2.0**-26, 4), (2.0**-19, 5)):  # finer and coarser grains
        values = []
        for i in range(7):
            # In proportion, so that zeros, ties and signs stay as they are; unless all are zero.
            moved = [
                a * (1 + i * step) + i * step * nothing_grows if a.dtype.kind == "f" else a
                for a in args
            ]
            values.append(flat(f(*moved)))
        table = np.where(np.isfinite(values[0]), values, 0)
        noise = np.fmax(noise, 4 * noise_in(table, order))
    unit = np.finfo(values[0].dtype).eps if values[0].dtype.kind == "f" else _EPS
    smallest = np.finfo(float).smallest_subnormal
    return np.fmax(np.fmax(unit * np.max(np.abs(table), axis=0), noise), smallest)


def noise_in(table: ndarray, order: int = 3) -> ndarray:
    """The noise of each column of seven values at equal steps: what high differences leave."""
    noise = np.zeros(table.shape[1])
    for k in range(1, 7):
        table = np.diff(table, axis=0)
        if k >= order:
            gamma = math.factorial(k) ** 2 / math.factorial(2 * k)
            noise = np.fmax(noise, np.sqrt(gamma * np.mean(table**2, axis=0)))
    return noise
