"""What a derivative is, from values of the function alone.

Three oracles, none of which knows a rule: central differences that choose their own step and say
how far they can be trusted, one-sided differences for kinks, and the complex step, exact to
round-off where the function is analytic. Each gives ∂⟨v, f⟩/∂x, element by element of one
argument x, for a cotangent v of f's output.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..core.operand import Operand
from ..core.primitive import Primitive
from ..errors import NotAnalyticError

Function = Callable[..., Any]  # arrays in, an array or a tuple of arrays out

RUNGS = 14  # steps on the ladder of differences
_SHRINK = 4.0  # from one step to the next
_ABSOLUTE = 8  # rungs on the scale max(|x|, 1), before those on the scale |x|
_BATCH = 1 << 16  # numbers that a function is given at once
_EPS = float(np.finfo(float).eps)
_TINY = float(np.finfo(float).tiny)


class Estimate(NamedTuple):
    """Derivatives with respect to the elements of one argument; all arrays are flat."""

    value: ndarray  # the derivative
    error: ndarray  # how far off it may be: truncation and round-off
    scale: ndarray  # size of the slopes seen; an error counts in proportion to this
    left: ndarray  # derivative from below ...
    right: ndarray  # ... and from above
    kink: ndarray  # whether these two differ beyond their errors
    hidden: ndarray  # how steep outputs that never moved may be, below their last place


class Analytic(Operand):
    """A complex value on its way through a function, which refuses what is not analytic.

    Parameters
    ----------
    value : ndarray of complex

    Raises
    ------
    NotAnalyticError
        An operation has no complex derivative (abs, max, a comparison), or its kink is here.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> np.exp(tg.testing.Analytic(np.array(1e-30j))).value.imag
    array(1.e-30)
    """

    __slots__ = ()

    def __init__(self, value: Any) -> None:
        self._value = np.asarray(value)

    value = property(lambda self: self._value, doc="The complex value.")

    @staticmethod
    def apply(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> "Analytic":
        """Compute the value, where the operation is analytic."""
        values = [a._value if isinstance(a, Operand) else a for a in args]
        if not (primitive.analytic and primitive.rules):
            raise NotAnalyticError(
                f"complex step: every operation must be analytic; {primitive.name} is not. "
                f"Use central_differences"
            )
        for kink in primitive.kinks:
            if np.min(np.abs(kink.where(*values, **params)), initial=np.inf) < 1e-100:
                raise NotAnalyticError(
                    f"complex step: there must be no kink nearby; {primitive.name} has one here "
                    f"({kink.convention}). Use central_differences"
                )
        return Analytic(primitive.evaluate(values, params))


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
            rows[i] = flat(self.f(*args))
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


def central_differences(
    f: Function,
    args: Sequence[Any],
    argnum: int = 0,
    cotangent: Any = None,
    *,
    elements: Any = None,
    expected: Any = None,
    precision: float = 1e-9,
) -> Estimate:
    """∂⟨v, f⟩/∂x by differences that choose their step element by element.

    Each element goes down a ladder of steps h, each a quarter of the last, from max(|x|, 1)/512
    on, later on the scale of |x| itself. Neighbouring steps are extrapolated,
    (16·D(h/4) − D(h))/15 for the central difference D (Richardson 1911), and once more. How far
    the result moved under extrapolation, and how far the noise of f reaches at this step, is its
    error; the step with the smallest error wins. Noise is measured, not assumed (Moré & Wild
    2011, "Estimating computational noise", SIAM J. Sci. Comput. 33).

    Parameters
    ----------
    f : callable
        Takes the arrays, returns an array or a tuple of arrays of any shapes.
    args : sequence of array_like
        The argument in question is of real numbers.
    argnum : int
        Which of them to differentiate with respect to.
    cotangent : array_like, optional
        v, of all outputs one after the other, flat. Default: ones.
    elements : sequence of int, optional
        Flat indices of the elements of x that are wanted. Default: all.
    expected : array_like, optional
        A supposed derivative for each of these. Where it is confirmed to ``precision``, no
        further steps are taken; where it is not, all are, so that a refusal is well-founded.
    precision : float
        Relative error at which an element is done.

    Returns
    -------
    Estimate
        ``value`` ± ``error``, ``left`` and ``right`` derivatives, whether there is a ``kink``.

    Notes
    -----
    Costs 15 evaluations of f, and 4 an element that is smooth at the first steps, at most 28; where
    f takes a stack of points, 65 536 numbers at a time.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> slope = tg.testing.central_differences(np.exp, [np.array([-12.0, 0.0, 3.0])])
    >>> bool(np.all(abs(slope.value - np.exp([-12.0, 0.0, 3.0])) <= slope.error))
    True
    >>> tg.testing.central_differences(np.abs, [np.array([0.0])]).kink
    array([ True])
    """
    args = [np.asarray(a) for a in args]
    near = Neighbourhood(f, args, argnum)
    wanted = np.arange(near.x.size) if elements is None else np.asarray(elements, int)
    return differences(
        near,
        np.ones(len(near.here)) if cotangent is None else np.ravel(cotangent),
        along_elements(near.x, wanted),
        None if expected is None else np.ravel(expected),
        measured_noise(f, args),
        precision,
    )


def measured_noise(f: Function, args: Sequence[ndarray]) -> ndarray:
    """The size of the rounding errors of each output of f, from fourteen evaluations.

    On so short a line a smooth function is a polynomial of low degree, whose third and higher
    differences vanish; what is left of them is noise (Moré & Wild 2011, algorithm ECnoise).
    """
    noise: Any = 0.0
    for step, order in ((2.0**-36, 3), (2.0**-26, 4)):  # finer and coarser grains
        values = []
        for i in range(7):
            grown = 1 + i * step  # in proportion, so that zeros, ties and signs stay as they are
            values.append(flat(f(*(a * grown if a.dtype.kind == "f" else a for a in args))))
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


def differences(
    near: Neighbourhood,
    v: ndarray,
    lines: Lines,
    expected: ndarray | None,
    noise: ndarray,
    precision: float,
    rungs: int = RUNGS,
) -> Estimate:
    """The ladder of `central_differences`, along lines in a neighbourhood."""
    n = len(lines.size)
    steps = _ladder(lines.size)
    # Of each rung: the step, central, right and left slope, what noise may do, size of slopes,
    # whether an output that has moved before no longer does.
    h, central, right, left, rough, slopes, stuck = np.full((7, RUNGS, n), np.nan)
    unknown = np.full(n, np.nan)
    best = Estimate(
        unknown.copy(), np.full(n, np.inf), np.zeros(n), unknown.copy(), unknown.copy(),
        np.zeros(n, bool), np.zeros(n),
    )  # fmt: skip
    steep = np.zeros((n, len(v)))  # of each output the steepest slope along each line so far
    sharpest = np.full(n, np.inf)  # error of the slopes on both sides of a kink
    extrapolated = np.full((RUNGS, n), np.nan)
    active = np.arange(n)
    for k in range(rungs):
        # Steps that x + t can represent: what is divided by must be how far x has moved.
        up = (lines.size[active] + steps[k, active]) - lines.size[active]
        h[k, active] = up
        with np.errstate(all="ignore"):
            _slopes(near, v, noise, lines.some(active), up, k, active,
                    (central, right, left, rough, slopes, stuck, steep))  # fmt: skip
            if k == 0:
                continue
            # As h shrinks by r, the error of a central difference shrinks by r², of others by r.
            r = h[k - 1, active] / h[k, active]
            c, floor = central[k, active], rough[k, active]
            first = c + (c - central[k - 1, active]) / (r**2 - 1)
            extrapolated[k, active] = first
            value, error = first, np.abs(first - c)
            if k > 1:
                moved = np.abs(first - extrapolated[k - 1, active])
                second = first + (first - extrapolated[k - 1, active]) / (r**4 - 1)
                smooth = moved <= error  # so the extrapolation works, and once more is better
                error = np.where(smooth, np.abs(second - first), np.fmax(error, moved))
                value = np.where(smooth, second, first)
            error = error + 2 * floor
            from_right, right_error = _extrapolate(right, k, active, r)
            from_left, left_error = _extrapolate(left, k, active, r)
            side_error = right_error + left_error + 4 * floor
            scale = np.fmax(np.abs(value), slopes[k, active])
            gap = np.abs(from_right - from_left)
            split = gap > 4 * side_error + precision * scale  # the sides do not meet ...
            kink = split & (gap > 20 * side_error)  # ... and each has a slope of its own
            # One side only, as at the end of a domain: the derivative from the other.
            for other, side, its in ((left, from_right, right_error),
                                     (right, from_left, left_error)):  # fmt: skip
                one = ~np.isfinite(other[k, active]) & np.isfinite(side)
                value = np.where(one, side, value)
                error = np.where(one, 4 * its + 2 * floor, error)
            # Flat, where a larger step saw a slope: the step is lost in round-off, not the slope.
            gap = np.abs(value - best.value[active])
            flat_now = (stuck[k, active] > 0) & (gap > 3 * (error + best.error[active]))
        sound = np.isfinite(value) & np.isfinite(error) & ~split & ~flat_now
        error = np.where(sound, error, np.inf)
        resolved = ~split & (error <= precision * scale + 1e-300)
        if k == 2:  # two steps may agree by chance: what was not confirmed starts anew
            best.error[active] = np.inf
        better = error < best.error[active]
        for field, new in ((best.value, value), (best.error, error), (best.scale, scale)):
            field[active] = np.where(better, new, field[active])
        # A kink stands until a finer step shows the function smooth.
        best.kink[active] = kink | (best.kink[active] & ~resolved)
        sharper = kink & (side_error < sharpest[active])
        for field, new in (
            (best.left, from_left), (best.right, from_right), (sharpest, side_error)
        ):  # fmt: skip
            field[active] = np.where(sharper, new, field[active])
        if expected is None:
            done = resolved
        else:
            confirmed = np.abs(expected[active] - value) <= 3 * error + 1000 * _EPS * scale
            done = resolved & confirmed
        active = active[~done]
        if not len(active):
            break
    best.scale[:] = np.where(
        np.isinf(best.error), np.max(slopes, 0, initial=0, where=slopes > 0), best.scale
    )
    best.hidden[:] = ((steep == 0) @ (np.abs(v) * noise)) / h[0]
    return best


def _ladder(size: ndarray) -> ndarray:
    """The steps of each line, (RUNGS, n), from coarse to fine."""
    coarse = np.maximum(size, 1) / 512 * _SHRINK ** -np.arange(float(_ABSOLUTE))[:, None]
    start = np.where(size > 0, np.minimum(size / 8, coarse[-1] / _SHRINK), coarse[-1] / _SHRINK)
    fine = start * _SHRINK ** -np.arange(float(RUNGS - _ABSOLUTE))[:, None]
    return np.concatenate([coarse, fine])


def _slopes(
    near: Neighbourhood,
    v: ndarray,
    noise: ndarray,
    lines: Lines,
    h: ndarray,
    k: int,
    active: ndarray,
    into: tuple[ndarray, ...],
) -> None:
    """Fill in one rung: slopes of ⟨v, f⟩ to both sides, what noise may do to them, their size."""
    central, right, left, rough, slopes, stuck, steep = into
    here, weight = np.where(near.lost, 0, near.here), np.abs(v)
    for i in range(0, len(h), 4096):  # a bound on memory: (lines, outputs)
        t, to = h[i : i + 4096], active[i : i + 4096]
        some = lines.some(slice(i, i + 4096))
        twice = Lines(*(np.concatenate([part, part]) for part in some))
        both = near.at(twice, np.concatenate([t, -t]))
        if not near.finite:  # an output that is infinite or NaN anyway says nothing
            both[:, near.lost] = 0
        above, below = both[: len(t)], both[len(t) :]
        # Differences first, output by output, and the sum over outputs after: less is rounded.
        forward, backward = above - here, here - below
        right[k, to], left[k, to] = (forward @ v) / t, (backward @ v) / t
        central[k, to] = (right[k, to] + left[k, to]) / 2
        moved = np.fmax(np.abs(forward), np.abs(backward))
        steep[to] = np.fmax(steep[to], moved / t[:, None])
        # An output that does not depend on x has no noise; one that has stopped moving has.
        unit = np.fmax(noise, _EPS * np.fmax(np.abs(above), np.abs(below))) / t[:, None]
        rough[k, to] = np.where(steep[to] > 0, unit, 0) @ weight
        stuck[k, to] = np.any((moved == 0) & (steep[to] > 0), axis=1)
        slopes[k, to] = (moved @ weight) / t


def _extrapolate(slope: ndarray, k: int, active: ndarray, r: ndarray) -> tuple[ndarray, ndarray]:
    """One-sided slopes at step 0, and how far the extrapolation moved them."""
    fine = slope[k, active]
    value = fine + (fine - slope[k - 1, active]) / (r - 1)
    return value, np.abs(value - fine)


def complex_step(
    f: Function,
    args: Sequence[Any],
    argnum: int = 0,
    cotangent: Any = None,
    *,
    elements: Any = None,
) -> Estimate:
    """∂⟨v, f⟩/∂x by the complex step, Im⟨v, f(x + ih)⟩/h: exact to round-off.

    Nothing is subtracted, so h may be as small as 1e-140·|x|, and then nothing is truncated
    (Squire & Trapp 1998, "Using complex variables to estimate derivatives of real functions",
    SIAM Review 40). The function must be analytic. This is made sure of twice: it is called with
    operands that refuse every operation that is not (abs, max, comparisons), and along one random
    direction the result must agree with central differences (the Cauchy-Riemann equations).

    Parameters
    ----------
    f, args, argnum, cotangent, elements
        As for `central_differences`; f is made of NumPy's or this engine's functions.

    Returns
    -------
    Estimate
        ``error`` is round-off alone. There are no kinks, and left = right = value.

    Raises
    ------
    NotAnalyticError
        The function is not analytic here, or does not run on complex numbers.

    Notes
    -----
    Costs one evaluation an element, and some ten more; stacked as in `central_differences`.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.testing.complex_step(np.exp, [np.array([-12.0])]).value == np.exp([-12.0])
    array([ True])
    >>> try:
    ...     tg.testing.complex_step(np.abs, [np.array([-12.0])])
    ... except ValueError as error:
    ...     print(error)
    complex step: every operation must be analytic; abs is not. Use central_differences
    """
    args = [np.asarray(a) for a in args]

    def guarded(*arrays: ndarray) -> Any:
        if any(a.dtype.kind == "c" for a in arrays):
            return f(*(Analytic(a) if a.dtype.kind in "fc" else a for a in arrays))
        return f(*arrays)

    near = Neighbourhood(guarded, args, argnum)
    v = np.ones(len(near.here)) if cotangent is None else np.ravel(cotangent)
    wanted = np.arange(near.x.size) if elements is None else np.asarray(elements, int)
    lines = along_elements(near.x, wanted)
    estimate = imaginary(near, v, lines)
    if not cauchy_riemann(near, v, lines, estimate.value):
        raise NotAnalyticError(
            "complex step: the derivative along i·h must be that along h; central differences "
            "give another. Use central_differences"
        )
    return estimate


def imaginary(near: Neighbourhood, v: ndarray, lines: Lines) -> Estimate:
    """The complex step along lines in a neighbourhood; the function takes complex arrays."""
    n = len(lines.size)
    h = np.where(lines.size == 0, 1.0, np.maximum(lines.size, 1e-150)) * 1e-140
    value, scale, error = np.empty((3, n))
    try:
        with np.errstate(all="ignore"):
            for i in range(0, n, 4096):
                at = slice(i, i + 4096)
                rows = near.at(lines.some(at), 1j * h[at])
                if not near.finite:
                    rows[:, near.lost] = 0
                value[at] = (rows.imag @ v) / h[at]
                scale[at] = (np.abs(rows.imag) @ np.abs(v)) / h[at]
                # Complex arithmetic that gets the real part wrong is not to be trusted.
                here = np.where(near.lost, 0, near.here)
                doubt = np.abs(rows.real - here) / np.fmax(np.abs(here), 1e-300)
                worst = np.max(np.where(rows.imag != 0, doubt, 0), axis=-1, initial=0)
                # What underflows on the way is lost; and where f′ is 0, h²·f‴/6 is all there is.
                least = np.fmax(_TINY / h[at], h[at]) * np.sum(np.abs(v))
                error[at] = scale[at] * (4 * _EPS + worst) + least
    except NotAnalyticError:
        raise
    except Exception as problem:  # whatever a function says to numbers it was not made for
        raise NotAnalyticError(
            f"complex step: the function must run on complex numbers; it raised "
            f"{type(problem).__name__}: {problem}. Use central_differences"
        ) from problem
    scale = np.fmax(scale, np.abs(value))
    return Estimate(value, error, scale, value, value, np.zeros(n, bool), np.zeros(n))


def cauchy_riemann(near: Neighbourhood, v: ndarray, lines: Lines, values: ndarray) -> bool:
    """Whether derivatives along lines agree with differences along a random sum of these lines.

    The lines move different elements.
    """
    share = np.random.default_rng(0).uniform(0.5, 1.5, len(values))
    share *= np.where(lines.size == 0, 1, lines.size)  # so that none leaves its domain first
    total = (share[:, None] * lines.weights).reshape(1, -1)
    line = Lines(lines.elements.reshape(1, -1), total, np.ones(1))
    terms = share * values
    wanted = np.array([np.sum(terms)])
    seen = differences(near, v, line, wanted, measured_noise(near.f, near.args), 1e-6)
    if not np.isfinite(seen.error[0]) or not np.isfinite(wanted[0]):
        return True  # differences cannot tell: the guard's word stands
    off = np.abs(seen.value[0] - wanted[0])
    return bool(off <= 3 * seen.error[0] + 1e-6 * max(seen.scale[0], np.sum(np.abs(terms))))
