"""Stop where numbers go bad: at the first NaN, infinity or silent zero, forward or backward."""

import warnings
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.backward import contribution
from ..core.mode import Recording
from ..core.tensor import Tensor
from ..errors import AnomalyError, BroadcastWarning
from .provenance import note_source, source

_ADVICE = "To leave bad elements out, choose twice: where(ok, f(where(ok, x, 1)), 0)"


def detect_anomaly() -> Recording:
    """``with detect_anomaly():`` an operation whose numbers go bad is an error that names it.

    Checked are every result that is recorded and, if ``backward()`` is called inside, every
    contribution to a gradient: NaN, infinity, and underflow to exactly zero; of what is not
    elementwise (a softmax) only if all of it vanishes. An infinity in a constant (a mask of −inf)
    is taken as meant. A result of shape (n, n) from arguments of shapes (n, 1) and (n,) is warned
    of. Results keep their source lines, as under `record`.

    Raises
    ------
    AnomalyError
        In the operation or in ``backward()``: what went wrong where, and the ranges of the
        inputs. No gradient is changed.

    Warns
    -----
    BroadcastWarning
        Of a broadcast that was probably not meant.

    Notes
    -----
    Forward underflow is found by computing once more in a longer type (float64 for float32,
    ``np.longdouble`` for float64, where the platform has a longer one).

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> x = tg.tensor([-1.0, 4.0], requires_grad=True, name="x")
    >>> try:
    ...     with tg.detect_anomaly(), np.errstate(all="ignore"):
    ...         tg.sqrt(x)
    ... except tg.errors.AnomalyError as error:
    ...     print(str(error).split(", at ")[0])
    sqrt: a result must be finite; NaN at 1 of 2 elements
    """
    return Recording(_Detector())


class _Detector:
    """Looks at every result, and at every contribution of a backward pass."""

    def __call__(self, result: Tensor) -> None:
        note_source(result)
        op: Any = result.op
        _warn_of_broadcast(result)
        problem = _not_finite(result._value)
        # A mask of −inf is what it is for: an infinity that came in as a constant may go on.
        given = [v for a, v in zip(result.args, result.values, strict=True) if a is v]
        meant = any(isinstance(v, ndarray | float) and np.any(np.isinf(v)) for v in given)
        masked = any(np.any(np.isneginf(v)) for v in result.values if isinstance(v, ndarray))
        if problem and not ((meant or masked) and not np.any(np.isnan(result._value))):
            raise AnomalyError(
                f"{op.name}: a result must be finite; {problem}{_where(result)}. "
                f"{_ranges(result)}. {_ADVICE}"
            )
        lost = _lost(result)
        if lost:
            raise AnomalyError(
                f"{op.name}: a result must not vanish in silence; {lost} of {result.size} elements "
                f"underflow to exactly 0{_where(result)}. {_ranges(result)}. Compute in "
                f"logarithms, or scale up"
            )

    def observe(self, node: Tensor, index: int, g: Any, part: Any, total: Any) -> None:
        """Look at what argument ``index`` of a node receives."""
        op: Any = node.op
        g, part, total = _plain(g), _plain(part), _plain(total)
        name = op.argument_name(index)
        problem = _not_finite(part) or _not_finite(total)
        if problem:
            raise AnomalyError(
                f"{op.name}, backward: the gradient for {name} must be finite; {problem}"
                f"{_where(node)}. ∂L/∂out {_range(g)}, {_ranges(node)}. {_ADVICE}"
            )
        if np.all(part):
            return
        with np.errstate(all="ignore"):
            # A rule is linear in g, so that a factor changes nothing but the range.
            room = np.finfo(g.dtype).maxexp // 2
            used = np.max(np.frexp(g)[1], initial=-room, where=np.isfinite(g) & (g != 0))
            larger = contribution(node, index, np.ldexp(g, max(0, min(room, room - int(used)))))
        lost = int(np.sum((part == 0) & (larger != 0) & np.isfinite(larger)))
        if lost:
            raise AnomalyError(
                f"{op.name}, backward: the gradient for {name} must not vanish in silence; {lost} "
                f"of {part.size} elements underflow to exactly 0{_where(node)}. ∂L/∂out "
                f"{_range(g)}, {_ranges(node)}. Scale the loss up, or compute in float64"
            )


def _plain(array: Any) -> Any:
    return array._value if isinstance(array, Tensor) else array


def _not_finite(array: ndarray) -> str:
    """How many elements are NaN or infinite, in words."""
    if np.all(np.isfinite(array)):
        return ""
    nans, infinities = int(np.sum(np.isnan(array))), int(np.sum(np.isinf(array)))
    return f"{'NaN' if nans else 'inf'} at {nans or infinities} of {array.size} elements"


def _lost(result: Tensor) -> int:
    """How many elements are zero only because the type has no smaller numbers."""
    zeros = result._value == 0
    op: Any = result.op
    longer: Any = np.float64 if result.dtype == np.float32 else np.longdouble
    if not np.any(zeros) or np.finfo(longer).tiny >= np.finfo(result.dtype).tiny:
        return 0
    values = [
        v.astype(longer) if isinstance(v, ndarray) and v.dtype.kind == "f" else v
        for v in result.values
    ]
    try:
        with np.errstate(all="ignore"):
            exact = op.forward(*values, **result.params)
    except TypeError:  # LAPACK's functions take no longer type
        return 0
    # Not zero, yet below the smallest number that there is: else it was cancellation or rounding.
    below = np.abs(exact) < np.finfo(result.dtype).smallest_subnormal
    lost = zeros & (exact != 0) & below
    # Beside others of a normal size a vanishing number is negligible, in a softmax or a product of
    # matrices; elementwise, each counts.
    if not op.elementwise and np.any(np.abs(result._value) > np.finfo(result.dtype).tiny):
        return 0
    return int(np.sum(lost))


def _warn_of_broadcast(result: Tensor) -> None:
    op: Any = result.op
    if not (op.broadcasts and op.elementwise):
        return
    shapes = [np.shape(v) for v in result.values]
    columns = [s for s in shapes if len(s) == 2 and s[1] == 1 and s[0] > 1]
    rows = [s for s in shapes if len(s) == 1 and s[0] > 1]
    if any(column[0] == row[0] for column in columns for row in rows):
        warnings.warn(
            f"{op.name}: shapes {' and '.join(map(str, shapes))} broadcast to {result.shape}"
            f"{_where(result)}. Is an element by element result meant? Then reshape one of them",
            BroadcastWarning,
            stacklevel=2,
        )


def _where(result: Tensor) -> str:
    """The path of a result and the line that made it."""
    line = source(result)
    return f", at {result.path}" + (f" ({line})" if line else "")


def _range(array: ndarray) -> str:
    """From the smallest to the largest number, and how many are not finite."""
    finite = array[np.isfinite(array)]
    odd = array.size - finite.size
    words = f"from {np.min(finite):.3g} to {np.max(finite):.3g}" if finite.size else "with"
    return words + (f" and {odd} not finite" if finite.size else f" {odd} not finite") * bool(odd)


def _ranges(result: Tensor) -> str:
    op: Any = result.op
    parts = []
    for i, (arg, value) in enumerate(zip(result.args, result.values, strict=True)):
        if value is not None:
            called = f" ({arg.path})" if isinstance(arg, Tensor) else ""
            array = np.asarray(value)
            parts.append(f"{op.argument_name(i)}{called} {array.shape} {_range(array)}")
    return ", ".join(parts)
