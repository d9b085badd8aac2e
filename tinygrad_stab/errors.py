"""What can go wrong, each under the built-in exception that a caller would expect.

Every message has three parts, in this order: the invariant that was broken, what was received
(names, shapes, dtypes), and the likely fix. Nothing that a refused call was given is changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class StabError(Exception):
    """Any error that this package raises on purpose."""


class ShapeError(StabError, ValueError):
    """Shapes, sizes or values that the operation cannot take."""


class IndexingError(StabError, IndexError):
    """An index, axis or class label outside its range."""


class DtypeError(StabError, TypeError):
    """A type of number (or of object) that cannot take part."""


class UnsupportedError(StabError, TypeError):
    """A NumPy function, or a way to call one, that has no derivative rule here."""


class GraphError(StabError, RuntimeError):
    """A backward pass that would give a wrong gradient, or none."""


class NonFiniteError(StabError, FloatingPointError):
    """A NaN or an infinity where a finite number is needed."""


class NotAnalyticError(StabError, ValueError):
    """A function whose derivative the complex step cannot take."""


class GradientCheckError(StabError, AssertionError):
    """A gradient that a check found wrong, or could not vouch for."""


class VacuousCheckError(GradientCheckError):
    """A gradient check that could not have failed, and so proves nothing."""


class PrecisionWarning(UserWarning):
    """Numbers of so low a precision that a check must be more lenient."""


class AnomalyError(StabError, FloatingPointError):
    """A number that has gone bad: NaN, infinite, or zero by underflow alone."""


class BroadcastWarning(UserWarning):
    """Shapes that broadcast, though that was probably not meant."""


class ArgumentError(StabError, ValueError):
    """An argument outside its range."""


class StateDictError(StabError, KeyError):
    """Saved weights that do not fit a module: missing, unexpected or misshapen entries."""

    def __str__(self) -> str:  # KeyError would show the message as a quoted, escaped string
        return str(self.args[0])


class DataError(StabError, ValueError):
    """A data file whose content is not what it must be."""


class CheckpointError(StabError, ValueError):
    """A checkpoint file that is not what it must be."""


class DataNotFoundError(StabError, OSError):
    """A data file that is absent or cannot be read."""


def describe(value: Any) -> str:
    """Shape and dtype of an array or tensor, else the value itself, shortened."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.shape} {value.dtype}"
    return f"{value!r:.60}"


def refusal(
    operation: str,
    expects: str,
    names: Sequence[str],
    values: Sequence[Any],
    params: Mapping[str, Any],
    error: Exception,
) -> StabError:
    """The error for arguments that an operation cannot take.

    Parameters
    ----------
    operation : str
    expects : str
        What must hold of the arguments and, after a full stop, the likely fix; if empty, NumPy's
        own words stand for it.
    names, values
        Of the arguments.
    params : mapping
        The other arguments, by name.
    error : Exception
        What was raised; decides the kind. An error of this package is returned as it is.
    """
    if isinstance(error, StabError):
        return error
    invariant, _, fix = expects.partition(". ")
    received = [f"{n}: {describe(v)}" for n, v in zip(names, values, strict=False)]
    received += [f"{name}={value!r:.60}" for name, value in params.items()]
    kind: type[StabError] = ShapeError
    if isinstance(error, IndexError):
        kind = IndexingError
    elif isinstance(error, TypeError | AttributeError):
        kind = DtypeError
    elif isinstance(error, OverflowError):
        kind = ArgumentError
    return kind(
        f"{operation}: {invariant or error} ({', '.join(received)})" + (f". {fix}" if fix else "")
    )
