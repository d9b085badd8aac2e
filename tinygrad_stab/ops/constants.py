"""NumPy functions whose results carry no gradient: they return plain arrays.

What they are asked about is a value (an order, a truth, a shape), and no small change of it
changes the answer.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.operand import Operand, implements


def _value(x: Any) -> Any:
    if isinstance(x, Operand):
        return x._value
    return type(x)(map(_value, x)) if isinstance(x, list | tuple) else x


def _constant(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function, on the values of tensors."""

    def on_values(*args: Any, **kwargs: Any) -> Any:
        return function(*map(_value, args), **{k: _value(v) for k, v in kwargs.items()})

    on_values.__name__ = function.__name__
    on_values.__doc__ = f"``np.{function.__name__}`` of values: a plain array, without gradient."
    return on_values


argmax = implements(np.argmax, method=True)(_constant(np.argmax))
argmin = implements(np.argmin, method=True)(_constant(np.argmin))
argsort = implements(np.argsort, method=True)(_constant(np.argsort))
all = implements(np.all, method=True)(_constant(np.all))
any = implements(np.any, method=True)(_constant(np.any))
for _function in (
    np.allclose, np.array_equal, np.array_repr, np.array_str, np.array2string,
    np.count_nonzero, np.empty_like, np.floor_divide, np.full_like, np.isclose, np.iscomplexobj,
    np.isrealobj, np.logical_not, np.logical_xor, np.nonzero, np.ones_like, np.result_type,
    np.searchsorted, np.shares_memory, np.signbit, np.zeros_like,
):  # fmt: skip
    implements(_function)(_constant(_function))
