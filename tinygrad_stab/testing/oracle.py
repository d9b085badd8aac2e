"""What a derivative is, from values of the function alone.

Three oracles, none of which knows a rule: central differences that choose their own step and say
how far they can be trusted, one-sided differences for kinks, and the complex step, exact to
round-off where the function is analytic. Each gives ∂⟨v, f⟩/∂x, element by element of one
argument x, for a cotangent v of f's output.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.operand import Operand
from ..core.primitive import Primitive
from ..errors import ArgumentError, DtypeError, NotAnalyticError, ShapeError, describe
from .ladder import Estimate, differences
from .neighbourhood import Function, Lines, Neighbourhood, along_elements, measured_noise

_EPS = float(np.finfo(float).eps)
_TINY = float(np.finfo(float).tiny)
_NUMBERS = 1 << 21  # lines × outputs that are held at once


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

    Each element goes down a ladder of steps h, each 3.7 times smaller than the last, from
    max(|x|, 1)/611 on, later on the scale of |x| itself. Neighbouring steps are extrapolated,
    (r²·D(h/r) − D(h))/(r² − 1) for the central difference D (Richardson 1911), and once more. How
    far the result moved under extrapolation, and how far the noise of f reaches at this step, is
    its error; the step with the smallest error wins. Unless it is what was expected, another
    ladder must say the same. Noise is measured, not assumed (Moré & Wild 2011, "Estimating
    computational noise", SIAM J. Sci. Comput. 33).

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
        ``value`` ± ``error``, ``left`` and ``right`` ± ``side``, whether there is a ``kink``; where
        nothing can be said, ``error`` is infinite.

    Notes
    -----
    Costs 22 evaluations of f, and an element 4 to 28, twice or three times where it is not what was
    expected; where f takes a stack of points, 65 536 numbers at a time.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> slope = tg.testing.central_differences(np.exp, [np.array([-12.0, 0.0, 3.0])])
    >>> bool(np.all(abs(slope.value - np.exp([-12.0, 0.0, 3.0])) <= slope.error))
    True
    >>> tg.testing.central_differences(np.abs, [np.array([0.0])]).kink
    array([ True])
    """
    near, v, lines = _prepared("central_differences", f, args, argnum, cotangent, elements)
    wanted = None if expected is None else np.ravel(expected)
    seen = differences(near, v, lines, wanted, measured_noise(f, near.args), precision)
    # Where no output moved, they may still depend on x, below their last place.
    error = np.where(seen.scale == 0, np.fmax(seen.error, seen.hidden), seen.error)
    return seen._replace(error=error)


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

    def guarded(*arrays: ndarray) -> Any:
        if any(a.dtype.kind == "c" for a in arrays):
            return f(*(Analytic(a) if a.dtype.kind in "fc" else a for a in arrays))
        return f(*arrays)

    near, v, lines = _prepared("complex_step", guarded, args, argnum, cotangent, elements)
    estimate = imaginary(near, v, lines)
    if not cauchy_riemann(near, v, lines, estimate.value):
        raise NotAnalyticError(
            "complex step: the derivative along i·h must be that along h; central differences "
            "give another. Use central_differences"
        )
    return estimate


def _prepared(
    name: str, f: Function, args: Any, argnum: int, cotangent: Any, elements: Any
) -> tuple[Neighbourhood, ndarray, Lines]:
    """What an oracle was called with, checked."""
    if not callable(f) or not isinstance(args, list | tuple):
        raise DtypeError(
            f"{name}: takes a function and a list of its arguments; received "
            f"{type(f).__name__} and {type(args).__name__}. Write {name}(f, [x])"
        )
    arrays = [np.asarray(a) for a in args]
    if not -len(arrays) <= argnum < len(arrays) or arrays[argnum].dtype.kind != "f":
        raise ArgumentError(
            f"{name}: argnum is the place of an array of floats; received {argnum} for "
            f"{', '.join(map(describe, arrays)) or 'no arguments'}. Use np.asarray(…, float)"
        )
    near = Neighbourhood(f, arrays, argnum)
    if near.here.dtype.kind != "f":
        raise DtypeError(
            f"{name}: f returns real floating-point numbers; received {near.here.dtype}. Is a "
            f"return missing?"
        )
    v = np.ones(len(near.here)) if cotangent is None else np.ravel(cotangent)
    if v.shape != near.here.shape:
        raise ShapeError(
            f"{name}: a cotangent has as many numbers as f has outputs, {len(near.here)}; "
            f"received {len(v)}"
        )
    wanted = np.arange(near.x.size) if elements is None else np.asarray(elements)
    if wanted.dtype == bool:
        wanted = np.flatnonzero(wanted)
    if np.any((wanted < 0) | (wanted >= near.x.size)):
        raise ArgumentError(
            f"{name}: elements are flat indices below {near.x.size}; received "
            f"{wanted.tolist()!r:.60}"
        )
    return near, v, along_elements(near.x, wanted.astype(int))


def imaginary(near: Neighbourhood, v: ndarray, lines: Lines) -> Estimate:
    """The complex step along lines in a neighbourhood; the function takes complex arrays."""
    n = len(lines.size)
    h = np.where(lines.size == 0, 1.0, np.maximum(lines.size, 1e-150)) * 1e-140
    value, scale, error = np.empty((3, n))
    try:
        with np.errstate(all="ignore"):
            size = max(1, _NUMBERS // len(v))
            for i in range(0, n, size):
                at = slice(i, i + size)
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
    zero = np.zeros(n)
    no = np.zeros(n, bool)
    return Estimate(value, error, scale, value, value, zero, no, zero, zero, zero, scale)


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
    tolerance = 3 * seen.error[0] + 1e-6 * max(seen.scale[0], np.sum(np.abs(terms)))
    if seen.kink[0] or not np.isfinite(tolerance + wanted[0]):
        return True  # differences cannot tell: the guard's word stands
    return bool(np.abs(seen.value[0] - wanted[0]) <= tolerance)
