"""What stands beside arrays in a formula: tensors and symbols, and how NumPy calls reach them.

An operand is an array with a story. Its operators and methods, and every NumPy function called
on it, become calls of a primitive; what such a call does with the story is up to the subclass
(`Tensor` records it for the backward pass, `Symbol` writes it down as a formula).
"""

import difflib
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from ..errors import UnsupportedError, refusal

if TYPE_CHECKING:
    from .primitive import Primitive

O = TypeVar("O", bound="Operand")  # noqa: E741 - of an operand, its own class
F = TypeVar("F", bound=Callable[..., Any])

# NumPy function -> what answers for it when one of its arguments is an operand.
HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x, axis=None: x.size if axis is None else x.shape[axis],
}


def implements(*numpy_functions: Callable[..., Any], method: bool = False) -> Callable[[F], F]:
    """Decorate the function that answers for NumPy's on tensors and symbols; as a method too."""

    def register(function: F) -> F:
        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except (ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
                places = [f"argument {i}" for i in range(len(args))]
                raise refusal(function.__name__, "", places, args, kwargs, error) from error

        HANDLERS.update(dict.fromkeys(numpy_functions, guarded))
        if method:
            setattr(Operand, function.__name__, guarded)
        return cast(F, guarded)

    return register


def _unary(self: O) -> O:
    raise UnsupportedError("operators come with the records in `ops`: import tinygrad_stab")


def _binary(self: O, other: Any) -> O:
    raise UnsupportedError("operators come with the records in `ops`: import tinygrad_stab")


class Operand:
    """Base of `Tensor` and `Symbol`: a value, the attributes of an array, NumPy's protocols."""

    __slots__ = ("_value",)
    _value: np.ndarray

    # Each is replaced by the record of its primitive; here they are declared, for type checkers.
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _binary
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _binary
    __mod__ = __rmod__ = _binary
    __lt__ = __le__ = __gt__ = __ge__ = __getitem__ = _binary
    __neg__ = __pos__ = __abs__ = _unary
    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # methods: t.exp(), t.sum(axis=0), …

    @staticmethod
    def apply(primitive: "Primitive", args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Call ``primitive`` on arguments of which one at least is of this class."""
        raise UnsupportedError("apply: each kind of operand says itself what a call does")

    shape = property(lambda self: self._value.shape, doc="The length of each axis.")
    ndim = property(lambda self: self._value.ndim, doc="The number of axes.")
    size = property(lambda self: self._value.size, doc="The number of elements.")
    dtype = property(lambda self: self._value.dtype, doc="The type of the elements.")
    T = property(lambda self: np.transpose(self), doc="All axes reversed.")
    mT = property(lambda self: np.swapaxes(self, -1, -2), doc="The last two axes exchanged.")  # noqa: N815 - NumPy's name

    def __len__(self) -> int:
        return len(self._value)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """NumPy's elementwise functions (NEP 13): ``np.exp(t)``, ``ndarray * t``."""
        if method != "__call__" or "out" in kwargs:
            how = f".{method}" if method != "__call__" else " into an array (out=, or array += t)"
            raise UnsupportedError(
                f"np.{ufunc.__name__}: a tensor's operations must be recorded to have a gradient; "
                f"np.{ufunc.__name__}{how} cannot be. Write array = array + t, or np.sum, np.max"
            )
        return _handler(ufunc)(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """All other NumPy functions (NEP 18): ``np.sum(t, axis=0)``, ``np.stack([t, u])``."""
        return _handler(function)(*args, **kwargs)


def _handler(function: Callable[..., Any]) -> Callable[..., Any]:
    """What answers for a NumPy function; never a silent fall back to plain arrays."""
    if function in HANDLERS:
        return HANDLERS[function]
    near = difflib.get_close_matches(function.__name__, [f.__name__ for f in HANDLERS], n=1)
    raise UnsupportedError(
        f"np.{function.__name__}: has no derivative rule, and a tensor is never silently turned "
        f"into an array. {f'Is np.{near[0]} meant? ' if near else ''}Use .data for a value without "
        f"gradient, or define the rule with tg.primitive"
    )
