"""What a gradient check found, as numbers and in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from ..arrays import plain
from .hints import hint

CORRECT, WRONG, KINK, INCONCLUSIVE = VERDICTS = ("correct", "wrong", "kink", "inconclusive")


@dataclass
class InputReport:
    """What a check found about one input; all arrays are flat, one entry an element checked.

    Attributes
    ----------
    name : str
    shape, dtype
        Of the input.
    elements : ndarray of int
        Flat indices of the elements that were checked.
    x : ndarray
        Their values.
    analytic : ndarray
        The gradient under test.
    numeric : ndarray
        By central differences; NaN where the complex step had settled the matter.
    complex_step : ndarray
        By the complex step; NaN where it does not apply.
    tolerance : ndarray
        How far analytic and reference may be apart: what the oracle's own error explains.
    left, right : ndarray
        At a kink, the one-sided derivatives; else NaN.
    power : ndarray
        The smallest relative error that would have been seen; infinite where inconclusive.
    verdict : ndarray of str
        ``correct``, ``wrong``, ``kink`` or ``inconclusive``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    elements: ndarray
    x: ndarray
    analytic: ndarray
    numeric: ndarray
    complex_step: ndarray
    tolerance: ndarray
    left: ndarray
    right: ndarray
    power: ndarray
    verdict: ndarray

    @property
    def reference(self) -> ndarray:
        """The best that the oracles know: the complex step, else central differences.

        Where only the sum over a block was looked at, and agreed, it is the gradient itself.
        """
        alone = np.where(np.isnan(self.complex_step), self.numeric, self.complex_step)
        return np.where(np.isnan(alone) & (self.verdict == CORRECT), self.analytic, alone)

    def count(self, verdict: str) -> int:
        """How many elements got a verdict."""
        return int(np.sum(self.verdict == verdict))

    def index(self, i: int) -> tuple[int, ...]:
        """Where in the input the i-th checked element is."""
        return tuple(int(n) for n in np.unravel_index(self.elements[i], self.shape))

    @property
    def worst(self) -> int:
        """Which checked element is furthest off, in units of its tolerance; wrong ones first."""
        with np.errstate(all="ignore"):
            off = np.abs(self.analytic - self.reference) / np.fmax(self.tolerance, 1e-300)
        off = np.where(np.isnan(off), np.inf, off)
        return int(np.argmax(np.where(self.verdict == WRONG, off, -1)))


@dataclass
class GradientReport:
    """The outcome of `check_gradients`: ``str()`` reads it out, `inputs` holds the numbers.

    Attributes
    ----------
    name : str
        Of the function.
    inputs : list of InputReport
    notes : list of str
        What a reader should know: which oracle, what was left out.
    call : str
        A line of Python that repeats the check.
    second : GradientReport or None
        On the derivatives of the gradient, if order 2 was asked for.
    """

    name: str
    inputs: list[InputReport]
    notes: list[str]
    call: str
    second: "GradientReport | None" = None

    def count(self, verdict: str) -> int:
        """How many elements got a verdict."""
        return sum(one.count(verdict) for one in self.inputs)

    @property
    def passed(self) -> bool:
        """Whether no element is wrong (nor any of the second derivatives)."""
        return not self.count(WRONG) and (self.second is None or self.second.passed)

    @property
    def power(self) -> float:
        """The smallest relative error that would have been seen at every correct element."""
        seen = [one.power[one.verdict == CORRECT] for one in self.inputs]
        return float(np.max(np.concatenate(seen), initial=0.0)) if self.count(CORRECT) else np.inf

    def __str__(self) -> str:
        total = sum(len(one.verdict) for one in self.inputs)
        wrong = self.count(WRONG)
        headline = f"is right: {_counts(self)} of {total} elements"
        if wrong:
            headline = f"is wrong at {wrong} of {total} elements"
        elif self.count(INCONCLUSIVE) == total:
            headline = "could not be checked"
        lines = [f"the gradient of {self.name} {headline}"]
        for one in self.inputs:
            if one.count(WRONG):
                lines += ["", *_failure(one)]
        lines.append("")
        for one in self.inputs:
            lines.append(f"  {one.name} {one.shape} {one.dtype}: {_counts(one)}{_power(one)}")
        lines += [f"  note: {note}" for note in self.notes]
        if wrong:
            lines += ["", f"  again: {self.call}"]
        if self.second is not None:
            lines += ["", str(self.second)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and strings; what is not finite is None."""
        return {
            "name": self.name,
            "passed": self.passed,
            "power": plain(self.power),
            "counts": {verdict: self.count(verdict) for verdict in VERDICTS},
            "notes": self.notes,
            "inputs": [
                {
                    "name": one.name,
                    "shape": list(one.shape),
                    "dtype": str(one.dtype),
                    **{
                        field: plain(getattr(one, field))
                        for field in ("elements", "x", "analytic", "numeric", "complex_step",
                                      "tolerance", "left", "right", "power", "verdict")
                    },
                }
                for one in self.inputs
            ],
            "second": None if self.second is None else self.second.to_dict(),
        }  # fmt: skip


def _counts(report: GradientReport | InputReport) -> str:
    counts = [f"{report.count(v)} {v}" for v in VERDICTS if report.count(v)]
    return ", ".join(counts)


def _power(one: InputReport) -> str:
    """How small an error would have been seen, in words."""
    correct = one.verdict == CORRECT
    zeros = one.tolerance[correct & (one.power == 0) & (one.tolerance > 0)]
    nothing = f"; zeros to within {np.max(zeros):.0e}" if len(zeros) else ""
    seen = one.power[correct & (one.power > 0)]
    if not len(seen):  # of zero there are no relative errors
        return nothing
    worst, median = f"{np.max(seen):.0e}", f"{np.median(seen):.0e}"
    half = f" (of {median} at half of them)" if median != worst else ""
    return f"; an error of {worst} would be seen{half}{nothing}"


def _failure(one: InputReport) -> Iterator[str]:
    """The worst element of an input, and what is wrong with the whole."""
    i = one.worst
    at = one.index(i)
    where = f"{one.name}[{', '.join(map(str, at))}]" if at else one.name
    analytic, best = one.analytic[i], one.reference[i]
    yield f"  worst at {where} = {one.x[i]:.16g}"
    yield f"    analytic            {analytic:.16g}"
    if not np.isnan(one.numeric[i]):
        yield f"    central differences {one.numeric[i]:.16g}"
    if not np.isnan(one.complex_step[i]):
        yield f"    complex step        {one.complex_step[i]:.16g}"
    if not np.isnan(one.left[i]):
        yield f"    from left, right    {one.left[i]:.10g}, {one.right[i]:.10g}"
    yield f"    allowed difference  {one.tolerance[i]:.2g}"
    if best:
        yield f"    analytic / numeric  {analytic / best:.8g}"
    whole = len(one.elements) == np.prod(one.shape, dtype=int)
    if whole:
        right = np.where(one.verdict == CORRECT, one.analytic, one.reference).reshape(one.shape)
        received = one.analytic.reshape(one.shape)
        guess = hint(received, right, 1e-10) or hint(received, right)
        if guess:
            yield f"  in the whole of {one.name}: {guess}"
