"""Formulas as text, read off the rules that run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.primitive import Primitive
from ..core.symbol import Symbol
from ..domain import Case

# How tightly an operator binds; a part that binds less tightly gets parentheses.
_BINDING = {"<": 1, "<=": 1, ">": 1, ">=": 1, "==": 1, "!=": 1}
_BINDING |= {"+": 2, "-": 2, "*": 3, "/": 3, "@": 3, "%": 3, "neg": 4, "**": 5}
_ATOM = 9
_SIGNS = {"*": "·", "<=": "≤", ">=": "≥", "==": "=", "!=": "≠", "-": "−", "**": "^", "%": "mod"}
_FULL_TABLE = 8  # a longer table of numbers is not written out


def formula(symbol: Symbol) -> str:
    """The formula of a symbol, with as few parentheses as precedence allows.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> a, b = tg.Symbol("a", 2.0), tg.Symbol("b", 3.0)
    >>> tg.inspection.formula(a - (b - a) * 2)
    'a − (b − a)·2'
    """
    return _text(symbol)[0]


def formulas(
    primitive: Primitive, case: Case | None = None, rng: np.random.Generator | None = None
) -> dict[str, str]:
    """The formula of each rule of a primitive.

    Parameters
    ----------
    primitive : Primitive
    case : Case, optional
        How to call it. Default: the record's first case.
    rng : numpy.random.Generator, optional
        Where sample values come from.

    Returns
    -------
    dict of str to str
        Argument name -> ∂L/∂argument as text.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.inspection.formulas(tg.tanh)
    {'x': '(1 − out·out)·∂L/∂out'}
    """
    case = case or primitive.cases[0]
    values = primitive.sample(case, rng or np.random.default_rng(0))
    names: Sequence[str] = primitive.arg_names
    if primitive.variadic:
        names = [f"{names[0]}[{i}]" for i in range(len(values))]
    args = [Symbol(name, value) for name, value in zip(names, values, strict=False)]
    out = Symbol("out", primitive.evaluate(values, case.params))
    g = Symbol("∂L/∂out", np.ones(out.shape))
    result = {}
    with np.errstate(all="ignore"):
        for arg, rule in zip(args, primitive.rules_of_each(len(args)), strict=True):
            if rule is not None:
                result[arg.name] = _part(rule(g, out, *args, **case.params), 0)
    return result


def _text(symbol: Symbol) -> tuple[str, int]:
    """The formula, and how tightly its outermost operator binds."""
    if symbol.op is None:
        return symbol.name, _ATOM
    sign, args = symbol.op.operator, symbol.args
    if sign == "neg":
        return "−" + _part(args[0], _BINDING["neg"]), _BINDING["neg"]
    if sign == "abs":
        return f"|{_part(args[0], 0)}|", _ATOM
    if sign in _BINDING:
        binding = _BINDING[sign]
        # (a^b)^c, a − (b − c): the side that does not associate needs its parentheses; so does
        # a product of another kind, for (a / b)·c and a·(b @ c) read better than they parse.
        left = _part(args[0], binding + (sign == "**" or _mixes(args[0], sign, "/")))
        right = _part(args[1], binding + (sign not in ("+", "*", "**") or _mixes(args[1], sign)))
        written = _SIGNS.get(sign, sign)
        return left + (written if sign in ("*", "**") else f" {written} ") + right, binding
    if symbol.op.name in ("transpose", "swapaxes") and symbol.ndim == 2:
        return _part(args[0], _ATOM) + "ᵀ", _ATOM
    if symbol.op.name == "getitem":
        return f"{_part(args[0], _ATOM)}[{_subscript(symbol.params['index'])}]", _ATOM
    inside = [_part(arg, 0) for arg in args]
    inside += [f"{key}={_part(value, 0)}" for key, value in symbol.params.items()]
    return f"{symbol.op.name}({', '.join(inside)})", _ATOM


def _mixes(part: Any, sign: str, reads_on: str = "") -> bool:
    """Whether a part is a product of another kind; ``a·b / c`` reads on without parentheses."""
    if not (isinstance(part, Symbol) and part.op is not None):
        return False
    inner = part.op.operator
    products = ("*", "/", "@", "%")
    if inner == "*" and sign == reads_on:
        return False
    return inner in products and sign in products and inner != sign


def _part(part: Any, binding: int) -> str:
    """An argument as text, in parentheses if it binds less tightly than its surroundings."""
    if isinstance(part, Symbol):
        text, own = _text(part)
        return f"({text})" if own < binding else text
    if isinstance(part, np.ndarray):  # a table that the rule made itself, such as np.arange
        if part.ndim == 0:
            return f"{part:.6g}"
        if not np.any(part):
            return "0"
        if np.all(part == 1):
            return f"ones{part.shape}"
        if part.size > _FULL_TABLE:
            return f"table{part.shape}"
        return np.array2string(part, separator=", ", precision=4)
    if isinstance(part, int | float) and part < 0 and binding > _BINDING["+"]:
        return f"({part!r})"
    return f"{part!r:.40}"


def _subscript(index: Any) -> str:
    """An index as it is typed between brackets."""
    if isinstance(index, tuple):
        return ", ".join(map(_subscript, index))
    if isinstance(index, slice):
        ends = ["" if end is None else str(end) for end in (index.start, index.stop)]
        return ":".join(ends) + ("" if index.step is None else f":{index.step}")
    return "…" if index is Ellipsis else _part(index, 0)
