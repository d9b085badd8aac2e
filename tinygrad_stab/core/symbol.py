"""Symbol: a value with a name. A rule that is called with symbols returns its own formula.

A symbol carries a sample value beside its name, so that whatever a rule asks of its arguments
(a shape, a number of axes) has an answer, and the formula is the one of the branch that ran.
`inspection.formula` writes it as text.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .operand import Operand
from .primitive import Primitive


class Symbol(Operand):
    """A named value, or an expression of such values.

    Parameters
    ----------
    name : str
        What it is called in formulas.
    value : array_like
        A sample value; decides shapes, and any branch that a rule takes.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> a, b = tg.Symbol("a", 2.0), tg.Symbol("b", 3.0)
    >>> y = (a + b) * np.exp(-a)
    >>> tg.inspection.formula(y), y.value.round(3)
    ('(a + b)·exp(−a)', np.float64(0.677))
    """

    __slots__ = ("args", "name", "op", "params")

    def __init__(self, name: str, value: Any) -> None:
        self._value = np.asarray(value)
        self.name = name
        self.op: Primitive | None = None
        self.args: Sequence[Any] = ()
        self.params: dict[str, Any] = {}

    @staticmethod
    def apply(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> "Symbol":
        """Write down the call, and carry its value along."""
        values = [a._value if isinstance(a, Operand) else a for a in args]
        out = Symbol(primitive.name, primitive.evaluate(values, params))
        out.op, out.args, out.params = primitive, args, params
        return out

    value = property(lambda self: self._value, doc="The sample value.")

    def __repr__(self) -> str:
        return f"Symbol({self.name!r}, shape={self.shape})"
