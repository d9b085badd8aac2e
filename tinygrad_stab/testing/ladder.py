"""Differences that choose their own step: down a ladder of steps, and down another to be sure."""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from .neighbourhood import Lines, Neighbourhood

_EPS = float(np.finfo(float).eps)
_RUNGS = 14  # steps on a ladder
_ABSOLUTE = 8  # of them on the scale max(|x|, 1), before those on the scale |x|
_NUMBERS = 1 << 21  # lines × outputs that are held at once
# Where a ladder starts, and by what its steps shrink. No powers of two: a function with such a
# period would look straight. Ladders are asked in turn until two agree.
_LADDERS = ((1 / 611, 3.7), (1 / 977, 2.9), (1 / 1543, 5.3))


class Estimate(NamedTuple):
    """Derivatives with respect to the elements of one argument; all arrays are flat."""

    value: ndarray  # the derivative
    error: ndarray  # how far off it may be: truncation and round-off
    scale: ndarray  # size of the slopes seen; an error counts in proportion to this
    left: ndarray  # derivative from below ...
    right: ndarray  # ... and from above
    side: ndarray  # how far off left and right may be
    kink: ndarray  # whether these two differ beyond their errors, at every fine enough step
    hidden: ndarray  # how steep outputs that never moved may be, below their last place
    unit: ndarray  # the last place of the outputs that do move
    step: ndarray  # where the value was read off
    steepest: ndarray  # the largest slope seen at any step

    def some(self, which: Any) -> "Estimate":
        """Those that an index or mask picks."""
        return Estimate(*(field[which] for field in self))


def differences(
    near: Neighbourhood,
    v: ndarray,
    lines: Lines,
    expected: ndarray | None,
    noise: ndarray,
    precision: float,
    rungs: int = _RUNGS,
) -> Estimate:
    """Derivatives of ⟨v, f⟩ along lines; see `central_differences`.

    Where an expected derivative is not confirmed, one ladder is not believed: the outcome is that
    on which two ladders agree, and otherwise nothing is known. With fewer ``rungs`` there is one
    ladder only: an answer to be taken if it confirms what was expected.
    """
    size = max(1, _NUMBERS // max(len(v), 1))
    if len(lines.size) > size:
        parts = [
            differences(
                near, v, lines.some(slice(i, i + size)),
                None if expected is None else expected[i : i + size], noise, precision, rungs,
            )
            for i in range(0, len(lines.size), size)
        ]  # fmt: skip
        return Estimate(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))
    first = _Descent(near, v, lines, expected, noise, precision, rungs, *_LADDERS[0]).estimate()
    if rungs < _RUNGS:
        return first
    doubtful = np.ones(len(lines.size), bool)
    if expected is not None:
        doubtful = ~confirms(first, expected)
    open_ = np.flatnonzero(doubtful)
    opinions = [first.some(open_)]
    for ladder in _LADDERS[1:]:
        if not len(open_):
            break
        wanted = None if expected is None else expected[open_]
        descent = _Descent(near, v, lines.some(open_), wanted, noise, precision, rungs, *ladder)
        opinions.append(descent.estimate())
        last = opinions[-1]
        settled = np.zeros(len(open_), bool)
        for other in opinions[:-1]:
            agree = _agree(other, last) & ~settled
            better = np.where(last.kink, last.side < other.side, last.error < other.error)
            for field, a, b in zip(first, other, last, strict=True):
                field[open_[agree]] = np.where(better, b, a)[agree]
            settled |= agree
        opinions = [opinion.some(~settled) for opinion in opinions]
        open_ = open_[~settled]
    first.error[open_], first.kink[open_] = np.inf, False
    return first


def confirms(estimate: Estimate, expected: ndarray) -> ndarray:
    """Whether an estimate agrees with what was expected, to rounding and its own error."""
    with np.errstate(all="ignore"):
        off = np.abs(expected - estimate.value)
        return ~estimate.kink & (off <= 3 * estimate.error + 1000 * _EPS * estimate.scale)


def _agree(a: Estimate, b: Estimate) -> ndarray:
    """Whether two ladders say the same: both a kink, or both the same slope."""
    with np.errstate(all="ignore"):
        same = np.abs(a.value - b.value) <= 3 * (a.error + b.error) + 1000 * _EPS * a.scale
        same &= np.isfinite(a.error) & np.isfinite(b.error) & ~a.kink & ~b.kink
        # Two estimates of which one knows next to nothing agree with anything.
        rough, sharp = np.fmax(a.error, b.error), np.fmin(a.error, b.error)
        same &= (rough <= 1e-3 * np.fmax(a.scale, b.scale)) | (rough <= 10 * sharp)
    return np.asarray((a.kink & b.kink) | same)


class _Descent:
    """One way down a ladder, for many lines at once."""

    def __init__(
        self, near: Neighbourhood, v: ndarray, lines: Lines, expected: ndarray | None,
        noise: ndarray, precision: float, rungs: int, start: float, shrink: float,
    ) -> None:  # fmt: skip
        n = len(lines.size)
        self.near, self.v, self.lines, self.expected = near, v, lines, expected
        self.noise, self.precision, self.rungs = noise, precision, rungs
        self.here = np.where(near.lost, 0, near.here)
        self.steps = _steps(lines.size, start, shrink)
        # Of each rung: the step, slopes to both sides, and how far extrapolation moved these.
        self.h, self.right, self.left, self.central = np.full((4, _RUNGS, n), np.nan)
        self.right_error, self.left_error, self.extrapolated = np.full((3, _RUNGS, n), np.nan)
        self.rough = np.full((_RUNGS, n), np.nan)  # ... what noise may do to a slope
        self.last_place = np.full((_RUNGS, n), np.nan)  # ... and the last place alone
        self.slopes = np.zeros((_RUNGS, n))  # ... how steep the outputs are, taken together
        self.stuck = np.zeros((_RUNGS, n), bool)  # ... if an output that had moved no longer does
        self.steep = np.zeros((n, len(v)))  # of each output the steepest slope so far
        self.puzzling = np.zeros(n, bool)  # flat at a step where noise cannot be the reason
        self.value, self.left_slope, self.right_slope = np.full((3, n), np.nan)
        self.error, self.side = np.full((2, n), np.inf)
        self.scale, self.kink, self.step = np.zeros(n), np.zeros(n, bool), np.full(n, np.inf)

    def estimate(self) -> Estimate:
        """What the whole ladder says."""
        active = np.arange(len(self.value))
        with np.errstate(all="ignore"):
            for k in range(self.rungs):
                # Steps that x + t can represent: what is divided by is how far x has moved.
                size = self.lines.size[active]
                self.h[k, active] = (size + self.steps[k, active]) - size
                self._measure(k, active)
                if k:
                    active = active[~self._weigh(k, active)]
                if not len(active):
                    break
            self._doubt_what_diverges(active)
            unconfirmed = np.ones(len(self.value), bool)
            half = _EPS / 2 * np.abs(self.here) + np.finfo(float).smallest_subnormal
            hidden = ((self.steep == 0) @ (np.abs(self.v) * half)) / self.h[0]
            result = Estimate(
                self.value, self.error, self.scale, self.left_slope, self.right_slope, self.side,
                self.kink, hidden, self.last_place[0] * self.h[0], self.step,
                np.max(self.slopes, axis=0),
            )  # fmt: skip
            if self.expected is not None:
                unconfirmed = ~confirms(result, self.expected)
        self.error[self.puzzling & unconfirmed] = np.inf
        unknown = np.isinf(self.error)
        self.scale[unknown] = np.max(self.slopes, axis=0)[unknown]
        return result

    def _measure(self, k: int, active: ndarray) -> None:
        """Slopes of ⟨v, f⟩ to both sides at one rung, what noise may do to them, their size."""
        h, v = self.h[k, active], self.v
        some = self.lines.some(active)
        twice = Lines(*(np.concatenate([part, part]) for part in some))
        both = self.near.at(twice, np.concatenate([h, -h]))
        if not self.near.finite:  # an output that is infinite or NaN anyway says nothing
            both[:, self.near.lost] = 0
        above, below = both[: len(h)], both[len(h) :]
        # Differences first, output by output, and the sum over outputs after: less is rounded.
        forward, backward = above - self.here, self.here - below
        self.right[k, active], self.left[k, active] = (forward @ v) / h, (backward @ v) / h
        self.central[k, active] = (self.right[k, active] + self.left[k, active]) / 2
        moved = np.fmax(np.abs(forward), np.abs(backward))
        steep = self.steep[active] = np.fmax(self.steep[active], moved / h[:, None])
        # An output that does not depend on x has no noise; one that has stopped moving has.
        unit = np.where(steep > 0, self.near.eps * np.fmax(np.abs(above), np.abs(below)), 0)
        self.last_place[k, active] = (unit @ np.abs(v)) / h
        unit = np.where(steep > 0, np.fmax(self.noise, unit), 0)
        self.rough[k, active] = (unit @ np.abs(v)) / h
        self.stuck[k, active] = np.any((moved == 0) & (steep > 0), axis=1)
        self.slopes[k, active] = (moved @ np.abs(v)) / h

    def _weigh(self, k: int, active: ndarray) -> ndarray:
        """Extrapolate from one rung and those above it; say which lines are done."""
        # As h shrinks by r, the error of a central difference shrinks by r², of others by r.
        r = self.h[k - 1, active] / self.h[k, active]
        c, floor = self.central[k, active], self.rough[k, active]
        first = c + (c - self.central[k - 1, active]) / (r**2 - 1)
        self.extrapolated[k, active] = first
        value, error = first, np.abs(first - c)
        if k > 1:
            moved = np.abs(first - self.extrapolated[k - 1, active])
            second = first + (first - self.extrapolated[k - 1, active]) / (r**4 - 1)
            smooth = moved <= error  # so the extrapolation works, and once more is better
            error = np.where(smooth, np.abs(second - first), np.fmax(error, moved))
            value = np.where(smooth, second, first)
        error = error + 2 * floor
        from_right, right_error = self._one_side(self.right, self.right_error, k, active, r)
        from_left, left_error = self._one_side(self.left, self.left_error, k, active, r)
        side = right_error + left_error + 4 * floor
        scale = np.fmax(np.abs(value), self.slopes[k, active])
        gap = np.abs(from_right - from_left)
        split = gap > 4 * side + self.precision * scale  # the sides do not meet ...
        kink = split & (gap > 20 * side)  # ... and each has a slope of its own
        # One side only, as at the end of a domain: the derivative from the other, if it settles.
        for other, slope, errors in (
            (self.left, from_right, self.right_error), (self.right, from_left, self.left_error)
        ):  # fmt: skip
            one = ~np.isfinite(other[k, active]) & np.isfinite(slope)
            settles = errors[k, active] <= errors[k - 1, active] / 1.5
            value = np.where(one, slope, value)
            own = np.where(settles, 4 * errors[k, active] + 2 * floor, np.inf)
            error = np.where(one, own, error)
        # Flat, where a larger step saw a slope: either the step is lost in round-off, or the
        # larger one has met something else, or f rounds on the way. If it is beyond the last
        # place, who knows; a refusal must not rest on it.
        before = np.abs(self.value[active])
        flat = self.stuck[k, active] & (before > 3 * self.error[active])
        flat &= np.abs(value) < before / 2
        known = floor if self.expected is None else self.last_place[k, active]
        self.puzzling[active] |= flat & (np.abs(self.value[active]) > 10 * known)
        sound = np.isfinite(value) & np.isfinite(error) & ~split & ~flat
        error = np.where(sound, error, np.inf)
        resolved = ~split & (error <= self.precision * scale + 1e-300)
        better = error < self.error[active]
        step = self.h[k, active]
        for field, new in (
            (self.value, value), (self.error, error), (self.scale, scale), (self.step, step)
        ):  # fmt: skip
            field[active] = np.where(better, new, field[active])
        # A kink stands until a finer step shows the function smooth.
        self.kink[active] = kink | (self.kink[active] & ~resolved)
        sharper = side < self.side[active]
        for field, new in (
            (self.left_slope, from_left), (self.right_slope, from_right), (self.side, side)
        ):  # fmt: skip
            field[active] = np.where(sharper, new, field[active])
        if self.expected is None:
            return np.asarray(resolved)
        off = np.abs(self.expected[active] - value)
        return np.asarray(resolved & (off <= 3 * error + 1000 * _EPS * scale))

    def _one_side(
        self, slope: ndarray, errors: ndarray, k: int, active: ndarray, r: ndarray
    ) -> tuple[ndarray, ndarray]:
        """A one-sided slope at step 0, and how far the extrapolation moved it."""
        fine = slope[k, active]
        value = fine + (fine - slope[k - 1, active]) / (r - 1)
        errors[k, active] = np.abs(value - fine)
        return value, errors[k, active]

    def _doubt_what_diverges(self, active: ndarray) -> None:
        """Slopes that keep growing at the last rungs, faster and faster, have no limit."""
        if self.rungs < _RUNGS:
            return
        changes = np.diff(self.extrapolated[self.rungs - 5 : self.rungs, active], axis=0)
        grows = np.abs(changes[1:]) > 1.2 * np.abs(changes[:-1])
        one_way = np.abs(np.sum(np.sign(changes), axis=0)) == len(changes)
        beyond = np.abs(changes[-1]) > 100 * self.last_place[self.rungs - 1, active]
        self.error[active[np.all(grows, axis=0) & one_way & beyond]] = np.inf


def _steps(size: ndarray, start: float, shrink: float) -> ndarray:
    """The steps of each line, (rungs, n), from coarse to fine."""
    coarse = np.maximum(size, 1) * start * shrink ** -np.arange(float(_ABSOLUTE))[:, None]
    largest = coarse[-1] / shrink
    first = np.where(size > 0, np.minimum(size / 7, largest), largest)
    fine = first * shrink ** -np.arange(float(_RUNGS - _ABSOLUTE))[:, None]
    return np.concatenate([coarse, fine])
