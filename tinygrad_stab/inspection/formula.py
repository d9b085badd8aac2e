"""Formulas as text, LaTeX or MathML, read off the rules that run.

One walk over a formula asks a notation how each thing is written; the notations are tables at the
end of the walk: a template for each construct, and how tightly it binds.
"""

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..core.primitive import Primitive
from ..core.symbol import Symbol
from ..domain import Case
from ..errors import ArgumentError
from .trace import Argument, Node, Step, Term, Trace

_FULL_TABLE = 8  # a longer table of numbers is not written out
_FEW = 4  # up to so many elements a value stands for its name, on request
_GRADIENT = "∂L/∂"  # a name that begins so is a gradient

# How tightly things bind; a part that binds less tightly than its place needs gets parentheses.
_COMPARISON, _SUM, _PRODUCT, _SIGN, _FRACTION, _POWER, _BASE, _INDEXED, _ATOM = range(1, 10)


def formula(symbol: Symbol, style: str = "text") -> str:
    r"""The formula of a symbol, with as few parentheses as precedence allows.

    Parameters
    ----------
    symbol : Symbol
    style : {"text", "latex", "mathml"}
        LaTeX comes without dollar signs, and needs amsmath (or KaTeX, or MathJax); MathML is a
        ``<math>`` element that browsers show as it is.

    Raises
    ------
    ArgumentError
        There is no such style.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> a, b = tg.Symbol("a", 2.0), tg.Symbol("b", 3.0)
    >>> tg.inspection.formula(a - (b - a) * 2)
    'a − (b − a)·2'
    >>> print(tg.inspection.formula(a / (1 + abs(b)) ** 2, style="latex"))
    \frac{a}{(1 + \left|b\right|)^{2}}
    """
    notation = _notation(style)
    return notation.whole(_part(symbol, 0, notation))


def formulas(
    primitive: Primitive,
    case: Case | None = None,
    rng: np.random.Generator | None = None,
    style: str = "text",
) -> dict[str, str]:
    r"""The formula of each rule of a primitive.

    Parameters
    ----------
    primitive : Primitive
    case : Case, optional
        How to call it. Default: the record's first case.
    rng : numpy.random.Generator, optional
        Where sample values come from.
    style : {"text", "latex", "mathml"}

    Returns
    -------
    dict of str to str
        Argument name -> ∂L/∂argument.

    Raises
    ------
    ArgumentError
        There is no such style.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.inspection.formulas(tg.tanh)
    {'x': '(1 − out·out)·∂L/∂out'}
    >>> print(tg.inspection.formulas(tg.sqrt, style="latex")["x"])
    \frac{\frac{\partial L}{\partial \mathrm{out}}}{2 \cdot \mathrm{out}}
    """
    notation = _notation(style)
    case = case or primitive.cases[0]
    values = primitive.sample(case, rng or np.random.default_rng(0))
    names: Sequence[str] = primitive.arg_names
    if primitive.variadic:
        names = [f"{names[0]}[{i}]" for i in range(len(values))]
    args = [Symbol(name, value) for name, value in zip(names, values, strict=False)]
    out = Symbol("out", primitive.evaluate(values, case.params))
    g = Symbol(_GRADIENT + "out", np.ones(out.shape))
    result = {}
    with np.errstate(all="ignore"):
        for arg, rule in zip(args, primitive.rules_of_each(len(args)), strict=True):
            if rule is not None:
                part = rule(g, out, *args, **case.params)
                result[arg.name] = notation.whole(_part(part, 0, notation))
    return result


def term_formula(
    trace: Trace, step: Step, term: Term, style: str = "text", numbers: bool = False
) -> str:
    """The formula that ran for one term of a backward pass, in the names of its nodes.

    Parameters
    ----------
    trace : Trace
    step : Step
        One of ``trace.steps``.
    term : Term
        One of ``step.terms``.
    style : {"text", "latex", "mathml"}
    numbers : bool
        Write the values of this run, to 4 significant digits, for what has 4 elements at most.

    Returns
    -------
    str
        An equation for ∂L/∂parent, with ``=`` if this term is all that the parent receives, else
        with ``+=``. A constant goes by what the operation calls it (after the node's name, where
        a node has that name already). A sum over axes is written out where the operation had
        repeated the parent along them.

    Raises
    ------
    ArgumentError
        There is no such style.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor(0.5, requires_grad=True, name="x")
    >>> t = tg.inspection.trace(tg.tanh(x) * 3.0)
    >>> for step in t.steps:
    ...     print(tg.inspection.term_formula(t, step, step.terms[0]))
    ∂L/∂tanh = ∂L/∂multiply·3.0
    ∂L/∂x = (1 − tanh·tanh)·∂L/∂tanh
    >>> tg.inspection.term_formula(t, step, step.terms[0], numbers=True)
    '∂L/∂x = (1 − 0.4621·0.4621)·3'
    """
    notation = _notation(style)
    parent = trace.nodes[term.parent]
    left, _ = _name(_GRADIENT + parent.name, notation)
    right = _part(_term(trace, step, term, numbers), 0, notation)
    received = trace.received[parent.id]
    equation = notation.operators["=="].template if received == 1 else notation.increment
    return notation.whole(equation % (left, right))


def latex_name(name: str) -> str:
    r"""A node's name as LaTeX sets it in a formula, its special signs escaped.

    >>> print(latex_name("blocks.3.w_1"))
    \mathrm{blocks.3.w\_1}
    """
    return _notation("latex").identifier(name)


class _Shown(Symbol):
    """A symbol that is written as its value."""

    __slots__ = ()


def _term(trace: Trace, step: Step, term: Term, numbers: bool) -> Any:
    """What a rule returns for the symbols of a step."""
    node = trace.nodes[step.node]

    def symbol(name: str, value: Any) -> Symbol:
        return (_Shown if numbers and 0 < np.size(value) <= _FEW else Symbol)(name, value)

    args = [
        # A plain number stays one: it is part of the formula, as the 2 of x² is.
        arg.value
        if arg.value is None or isinstance(arg.value, int | float)
        else symbol(_argument_name(trace, node, arg), arg.value)
        for arg in node.arguments
    ]
    g, out = symbol(_GRADIENT + node.name, step.upstream), symbol(node.name, node.value)
    op: Any = node.tensor.op
    with np.errstate(all="ignore"):
        try:
            part = op.rules_of_each(len(args))[term.place](g, out, *args, **node.params)
            return _summed(part, term.contribution.shape) if isinstance(part, Symbol) else part
        except Exception:  # a rule of the user's that runs on arrays only has no formula
            return Symbol(f"{op.name}′({_GRADIENT}{node.name})", term.contribution)


def _argument_name(trace: Trace, node: Node, argument: Argument) -> str:
    """The name of an argument's node, or the operation's word for a constant."""
    if argument.node is not None:
        return trace.nodes[argument.node].name
    taken = argument.name in trace.names
    return f"{node.name}.{argument.name}" if taken else argument.name


def _summed(part: Symbol, shape: tuple[int, ...]) -> Symbol:
    """The sum over axes along which an argument was repeated; the engine does it for the rules."""
    extra = part.ndim - len(shape)
    if extra:
        part = np.sum(part, axis=tuple(range(extra)) if extra > 1 else 0)
    repeated = tuple(i for i, (n, m) in enumerate(zip(part.shape, shape, strict=True)) if n != m)
    if repeated:
        axis = repeated if len(repeated) > 1 else repeated[0]
        part = np.sum(part, axis=axis, keepdims=True)
    return part


# The walk. What is written comes with how tightly it binds, where that matters.


def _symbol(symbol: Symbol, n: "_Text") -> tuple[str, int]:
    """A symbol's formula."""
    if isinstance(symbol, _Shown):
        if symbol.ndim == 0:
            return _number(f"{symbol.value:.4g}", n)
        return n.table(symbol.value.astype(float), ".4g"), _ATOM
    op, args = symbol.op, symbol.args
    if op is None:
        return _name(symbol.name, n)
    if op.operator in n.operators:
        form = n.operators[op.operator]
        needs = [form.left, form.right][: len(args)]
        return form.template % tuple(_operands(op.operator, args, needs, n)), form.own
    if _is_transpose(symbol):
        return n.transposed.template % _part(args[0], n.transposed.left, n), n.transposed.own
    if op.name == "getitem":
        index = _subscript(symbol.params["index"], n)
        return n.indexed.template % (_part(args[0], n.indexed.left, n), index), n.indexed.own
    inside = [_part(arg, 0, n) for arg in args]
    if op.name in n.functions and len(inside) == 1 and not symbol.params:
        return n.functions[op.name] % inside[0], _ATOM
    for key, value in symbol.params.items():
        inside.append(n.keyword % (n.identifier(key), _part(value, 0, n)))
    return n.call % (n.function(op.name), n.group(n.comma.join(inside))), _ATOM


def _operands(sign: str, args: Sequence[Any], needs: Sequence[int], n: "_Text") -> Iterable[str]:
    """The operands of an operator, in parentheses where they need them."""
    for place, (arg, need) in enumerate(zip(args, needs, strict=True)):
        # Products of different kinds: (a / b)·c and a·(b @ c) read better than they parse.
        mixed = _mixes(arg, sign, n) and not (place == 0 and sign == "/" and _sign(arg) == "*")
        written = _part(arg, need + mixed, n)
        # On paper nobody writes two signs in a row.
        last = place == len(args) - 1 and need >= _SUM and n.operators[sign].own > _COMPARISON
        yield n.group(written) if last and written.startswith(n.minus) else written


def _sign(part: Any) -> str:
    return part.op.operator if isinstance(part, Symbol) and part.op is not None else ""


def _mixes(part: Any, sign: str, n: "_Text") -> bool:
    """Whether a part of a product is itself a product of another kind."""
    inner, outer = n.operators.get(_sign(part)), n.operators[sign]
    return inner is not None and inner.own == outer.own == _PRODUCT and _sign(part) != sign


def _is_transpose(symbol: Symbol) -> bool:
    """Whether a symbol is a matrix with its axes exchanged."""
    name, params = symbol.name, symbol.params
    if symbol.ndim != 2 or name not in ("transpose", "swapaxes"):
        return False
    if name == "swapaxes":
        return bool(params["axis1"] % 2 != params["axis2"] % 2)
    axes = params.get("axes")
    return axes is None or [axis % 2 for axis in axes] == [1, 0]


def _part(part: Any, need: int, n: "_Text") -> str:
    """Anything that occurs in a formula, in parentheses if it binds less tightly than needed."""
    written, own = _value(part, n)
    return n.group(written) if own < need else written


def _value(part: Any, n: "_Text") -> tuple[str, int]:
    if isinstance(part, Symbol):
        return _symbol(part, n)
    if isinstance(part, np.generic):
        part = part.item()
    if isinstance(part, int | float) and not isinstance(part, bool):
        return _number(repr(part), n)
    if isinstance(part, tuple | list):
        return _sequence(part, n), _ATOM
    if not isinstance(part, np.ndarray):
        return n.word(part), _ATOM
    # An array that the rule made itself, such as np.arange.
    if part.ndim == 0:
        return _number(f"{part:.6g}", n)
    if not np.any(part):
        return n.number("0"), _ATOM
    if np.all(part == 1):
        return n.call % (n.function("ones"), _sequence(part.shape, n)), _ATOM
    return _table(part, n), _ATOM


def _name(name: str, n: "_Text") -> tuple[str, int]:
    if name.startswith(_GRADIENT):
        return n.gradient.template % n.identifier(name.removeprefix(_GRADIENT)), n.gradient.own
    return n.identifier(name), _ATOM


def _number(digits: str, n: "_Text") -> tuple[str, int]:
    own = n.negative if digits.startswith("-") else _ATOM
    return n.number(digits), min(own, n.scientific) if "e" in digits else own


def _table(array: np.ndarray, n: "_Text") -> str:
    """An array's elements, or only its shape if they are many."""
    if array.size > _FULL_TABLE:
        return n.call % (n.function("table"), _sequence(array.shape, n))
    return n.table(array)


def _sequence(values: Sequence[Any], n: "_Text") -> str:
    """A tuple or a list, as Python writes it."""
    written = [_part(value, 0, n) for value in values[:_FULL_TABLE]]
    written += [n.dots] * (len(values) > _FULL_TABLE)
    inside = n.comma.join(written)
    if isinstance(values, list):
        return n.group(inside, "[]")
    return n.group(inside + n.comma.rstrip() if len(values) == 1 else inside)


def _subscript(index: Any, n: "_Text") -> str:
    """An index as it is typed between brackets."""
    if isinstance(index, tuple):
        return n.comma.join(_subscript(each, n) for each in index)
    if isinstance(index, slice):
        return n.slice(_colons(index))
    if isinstance(index, np.ndarray) and index.ndim:
        return _table(index, n)  # a[[0, 0]] is not a[0]
    return n.dots if index is Ellipsis else _part(index, 0, n)


def _colons(index: slice) -> str:
    ends = ["" if end is None else str(end) for end in (index.start, index.stop)]
    return ":".join(ends) + ("" if index.step is None else f":{index.step}")


# The notations.


class _Form(NamedTuple):
    """How a construct is written around its operands."""

    template: str
    own: int  # how tightly it binds
    left: int = 0  # ... and how tightly its operands must bind to do without parentheses
    right: int = 0


# Left-associative, but for sums and products, which need parentheses on neither side.
_INFIX = dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), (_COMPARISON, _SUM, _SUM))
_INFIX |= {
    "+": (_SUM, _SUM, _SUM),
    "-": (_SUM, _SUM, _PRODUCT),
    "*": (_PRODUCT, _PRODUCT, _PRODUCT),
    "@": (_PRODUCT, _PRODUCT, _SIGN),
    "%": (_PRODUCT, _PRODUCT, _SIGN),
}


def _infix(*written: str) -> dict[str, _Form]:
    """The operators of ``_INFIX``, written so between their operands."""
    pairs = zip(written, _INFIX.items(), strict=True)
    return {sign: _Form(f"%s{between}%s", *binding) for between, (sign, binding) in pairs}


class _Text:
    """One line of Unicode, near to Python: of the notations the one that all may be read as."""

    operators = _infix(" < ", " ≤ ", " > ", " ≥ ", " = ", " ≠ ", " + ", " − ", "·", " @ ", " mod ")
    operators |= {
        "/": _Form("%s / %s", _PRODUCT, _PRODUCT, _SIGN),
        "neg": _Form("−%s", _SIGN, _SIGN),
        "abs": _Form("|%s|", _ATOM),
        "**": _Form("%s^%s", _POWER, _BASE, _POWER),
    }
    functions: ClassVar[dict[str, str]] = {}  # those of one argument with a sign of their own
    gradient = _Form("∂L/∂%s", _ATOM)
    transposed = _Form("%sᵀ", _ATOM, _ATOM)
    indexed = _Form("%s[%s]", _ATOM, _ATOM)
    increment = "%s += %s"
    call = "%s%s"
    keyword = "%s=%s"
    comma = ", "
    dots = "…"
    negative, scientific = _SUM, _ATOM  # how tightly -2 and 1e-5 bind
    minus: tuple[str, ...] = ()  # what begins so is put in parentheses after another operator

    def identifier(self, name: str) -> str:
        return name

    def function(self, name: str) -> str:
        return name

    def number(self, digits: str) -> str:
        return digits

    def word(self, value: Any) -> str:
        """What is no number: None, True, a string, a dtype."""
        return f"{value!r:.40}"

    def slice(self, colons: str) -> str:
        return colons

    def table(self, array: np.ndarray, digits: str = "") -> str:
        """The elements of an array, in this format if one is given."""
        if digits:
            each: Any = {"all": lambda number: format(number, digits)}
            return np.array2string(array, separator=", ", formatter=each)
        return np.array2string(array, separator=", ", precision=4)

    def group(self, inside: str, ends: str = "()") -> str:
        return ends[0] + inside + ends[1]

    def whole(self, formula: str) -> str:
        return formula


_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ",
    "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "φ", "chi": "χ",
    "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ",
    "Pi": "Π", "Sigma": "Σ", "Upsilon": "Υ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip
_GREEK_WORDS = {sign: word for word, sign in _GREEK.items()}


class _OnPaper(_Text):
    """What LaTeX and MathML share: fractions and exponents that need no parentheses."""

    negative, scientific = _SIGN, _PRODUCT

    def table(self, array: np.ndarray, digits: str = ".4g") -> str:
        if array.ndim == 2:
            return self.matrix([[self._element(x) for x in row] for row in array.tolist()])
        parts = [self.table(x) if np.ndim(x) else self._element(x.item()) for x in array]
        return self.group(self.comma.join(parts), "[]")

    def _element(self, element: Any) -> str:
        return self.word(element) if isinstance(element, bool) else self.number(f"{element:.4g}")

    def matrix(self, rows: list[list[str]]) -> str:
        raise NotImplementedError

    def word(self, value: Any) -> str:
        if isinstance(value, slice):
            value = _colons(value)
        return self.slice(f"{getattr(value, '__name__', value)!s:.40}")


# What would be read as a command, or as an operator, inside a name. The braces stay balanced.
_LATEX_ESCAPES = str.maketrans({sign: "\\" + sign for sign in "#$%&_ "} | {
    "\\": r"{\backslash}", "{": r"{\lbrace}", "}": r"{\rbrace}", "^": r"{\wedge}",
    "~": r"{\sim}", "'": r"{\prime}", "-": "{-}", "−": "{-}", "<": "{<}", ">": "{>}",
    "·": r"{\cdot}", "∂": r"{\partial}", "…": r"{\ldots}",
})  # fmt: skip
_LATEX_COMMANDS = {
    "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "det",
    "max", "min",
}  # fmt: skip


class _Latex(_OnPaper):
    """LaTeX with amsmath, as KaTeX and MathJax read it too."""

    operators = _infix(
        " < ", r" \le ", " > ", r" \ge ", " = ", r" \ne ", " + ", " - ", r" \cdot ", r" \, ",
        r" \bmod ",
    ) | {
        "/": _Form(r"\frac{%s}{%s}", _FRACTION),
        "neg": _Form("-%s", _SIGN, _SIGN),
        "abs": _Form(r"\left|%s\right|", _ATOM),
        "**": _Form("%s^{%s}", _POWER, _BASE),
    }  # fmt: skip
    functions: ClassVar = {
        "sqrt": r"\sqrt{%s}",
        "cbrt": r"\sqrt[3]{%s}",
        "floor": r"\left\lfloor %s \right\rfloor",
        "ceil": r"\left\lceil %s \right\rceil",
    }
    gradient = _Form(r"\frac{\partial L}{\partial %s}", _FRACTION)
    transposed = _Form(r"%s^{\top}", _POWER, _BASE)
    indexed = _Form("%s_{%s}", _INDEXED, _ATOM)
    increment = r"%s \mathrel{+}= %s"
    dots = r"\ldots"
    minus = ("-",)

    def identifier(self, name: str) -> str:
        if name in _GREEK or name in _GREEK_WORDS:
            return "\\" + _GREEK_WORDS.get(name, name)
        if len(name) == 1 and name.isascii() and name.isalpha():
            return name
        return rf"\mathrm{{{_latex(name)}}}"

    def function(self, name: str) -> str:
        if name == "sigmoid":
            return r"\sigma"
        return "\\" + name if name in _LATEX_COMMANDS else rf"\operatorname{{{_latex(name)}}}"

    def number(self, digits: str) -> str:
        mantissa, e, exponent = digits.partition("e")
        if e:
            return rf"{mantissa} \times 10^{{{int(exponent)}}}"
        special = {repr(math.pi): r"\pi", "inf": r"\infty", "-inf": r"-\infty"}
        return r"\mathrm{nan}" if digits == "nan" else special.get(digits, digits)

    def slice(self, colons: str) -> str:
        return rf"\mathrm{{{_latex(colons)}}}"

    def matrix(self, rows: list[list[str]]) -> str:
        lines = r" \\ ".join(map(" & ".join, rows))
        return rf"\begin{{bmatrix}} {lines} \end{{bmatrix}}"

    def group(self, inside: str, ends: str = "()") -> str:
        if r"\frac" in inside or r"\begin" in inside:  # what is higher than a line
            return rf"\left{ends[0]}{inside}\right{ends[1]}"
        return ends[0] + inside + ends[1]


def _latex(name: str) -> str:
    return _printable(name).translate(_LATEX_ESCAPES)


def _printable(name: str) -> str:
    """A name without line breaks and control characters, which XML does not allow."""
    return "".join(sign if sign.isprintable() else " " for sign in name)


_PREFIX_MINUS = '<mo form="prefix">−</mo>'
# A row of one element that holds no other: the templates put rows around all that they are given.
_NEEDLESS_ROW = re.compile(r"<mrow>(<(\w+)[^<>]*>[^<>]*</\2>)</mrow>")


class _MathML(_OnPaper):
    """Presentation MathML, of what browsers have of it (MathML Core)."""

    operators = _infix(
        *(f"<mo>{sign}</mo>" for sign in ("&lt;", "≤", "&gt;", "≥", "=", "≠", "+", "−", "·")),
        '<mo rspace="0.3em">&#x2062;</mo>',  # invisible times
        "<mo>mod</mo>",
    ) | {
        "/": _Form("<mfrac><mrow>%s</mrow><mrow>%s</mrow></mfrac>", _FRACTION),
        "neg": _Form(_PREFIX_MINUS + "%s", _SIGN, _SIGN),
        "abs": _Form("<mrow><mo>|</mo>%s<mo>|</mo></mrow>", _ATOM),
        "**": _Form("<msup><mrow>%s</mrow><mrow>%s</mrow></msup>", _POWER, _BASE),
    }
    functions: ClassVar = {
        "sqrt": "<msqrt>%s</msqrt>",
        "cbrt": "<mroot><mrow>%s</mrow><mn>3</mn></mroot>",
        "floor": "<mrow><mo>⌊</mo>%s<mo>⌋</mo></mrow>",
        "ceil": "<mrow><mo>⌈</mo>%s<mo>⌉</mo></mrow>",
    }
    gradient = _Form(
        "<mfrac><mrow><mi>∂</mi><mi>L</mi></mrow><mrow><mi>∂</mi>%s</mrow></mfrac>", _FRACTION
    )
    transposed = _Form("<msup><mrow>%s</mrow><mo>⊤</mo></msup>", _POWER, _BASE)
    indexed = _Form("<msub><mrow>%s</mrow><mrow>%s</mrow></msub>", _INDEXED, _ATOM)
    increment = "%s<mo>+=</mo>%s"
    call = "%s<mo>&#x2061;</mo>%s"  # function application
    keyword = "%s<mo>=</mo>%s"
    comma = "<mo>,</mo>"
    dots = "<mo>…</mo>"
    minus = (_PREFIX_MINUS,)

    def identifier(self, name: str) -> str:
        return f"<mi>{escape(_printable(_GREEK.get(name, name)))}</mi>"

    def function(self, name: str) -> str:
        return self.identifier("σ" if name == "sigmoid" else name)

    def number(self, digits: str) -> str:
        if digits.startswith("-"):
            return _PREFIX_MINUS + self.number(digits[1:])
        mantissa, e, exponent = digits.partition("e")
        if e:
            power = f"<msup><mn>10</mn><mrow>{self.number(str(int(exponent)))}</mrow></msup>"
            return f"<mn>{mantissa}</mn><mo>×</mo>{power}"
        special = {repr(math.pi): "<mi>π</mi>", "inf": "<mi>∞</mi>", "nan": "<mi>nan</mi>"}
        return special.get(digits, f"<mn>{digits}</mn>")

    def slice(self, colons: str) -> str:
        return f"<mtext>{escape(_printable(colons)).replace('-', '−')}</mtext>"

    def matrix(self, rows: list[list[str]]) -> str:
        lines = ["".join(f"<mtd>{cell}</mtd>" for cell in row) for row in rows]
        return self.group(
            f"<mtable>{''.join(f'<mtr>{line}</mtr>' for line in lines)}</mtable>", "[]"
        )

    def group(self, inside: str, ends: str = "()") -> str:
        high = "<mfrac" in inside or "<mtable" in inside  # than a line
        mo = "<mo>" if high else '<mo stretchy="false">'
        return f"<mrow>{mo}{ends[0]}</mo>{inside}{mo}{ends[1]}</mo></mrow>"

    def whole(self, formula: str) -> str:
        formula = _NEEDLESS_ROW.sub(r"\1", formula)
        namespace = "http://www.w3.org/1998/Math/MathML"
        return f'<math xmlns="{namespace}" display="block">{formula}</math>'


_STYLES = {"text": _Text(), "latex": _Latex(), "mathml": _MathML()}


def _notation(style: str) -> _Text:
    if style not in _STYLES:
        raise ArgumentError(f"formula: style is {', '.join(_STYLES)}; received {style!r:.40}")
    return _STYLES[style]
