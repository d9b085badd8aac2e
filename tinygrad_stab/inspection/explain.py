"""The chain rule from the loss to one tensor: as symbols, as numbers, and who made it small.

Every path from the tensor to the loss goes through certain nodes; between two of these lies one
operation, or a bundle of paths that part and meet again (a skip connection). So the gradient is a
product of factors, one for each stretch, and a bundle's factor is a sum over its paths.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from ..arrays import norm, rms
from ..core.backward import contribution
from ..core.tensor import Tensor
from ..errors import GraphError
from .formula import latex_name
from .trace import Node, Trace, trace

if TYPE_CHECKING:
    from ..nn.module import Module

_MOST_PATHS = 8  # of a bundle, to be listed one by one
_FEWEST_REPEATS = 4  # of a stretch, to be folded
_SMALL = 4  # arrays of so few elements are written out
_WEIGHTED = ("linear", "matmul", "einsum", "unfold")


@dataclass(frozen=True)
class Path:
    """One way through a bundle.

    Attributes
    ----------
    nodes : tuple of str
        From the upper node down to the lower.
    operations : tuple of str
        That made them, but for the lower.
    gradient : ndarray
        What arrives by this way alone.
    gain : float
        Its size over that of the upstream gradient (root mean squares).
    """

    nodes: tuple[str, ...]
    operations: tuple[str, ...]
    gradient: ndarray
    gain: float

    @property
    def symbols(self) -> str:
        """Such as ``(∂c/∂b)·(∂b/∂a)``."""
        pairs = zip(self.nodes, self.nodes[1:], strict=False)
        return "·".join(f"(∂{upper}/∂{lower})" for upper, lower in pairs)


@dataclass(frozen=True)
class Factor:
    """One factor of the chain rule, from a node down to the next that every path goes through.

    Attributes
    ----------
    upper, lower : str
        The nodes.
    kind : str
        ``activation``, ``weights``, ``skip``, ``branches`` or ``other``.
    operation : str
        Of the upper node.
    gradient : ndarray
        ∂L/∂lower: the product of all factors so far.
    size : float
        Its root mean square.
    gain : float
        Its norm over that of ∂L/∂upper; the gains multiply out to ‖∂L/∂wrt‖ / ‖∂L/∂loss‖.
    paths : tuple of Path
        Of a bundle, if there are at most 8.
    count : int
        Of paths in all.
    """

    upper: str
    lower: str
    kind: str
    operation: str
    gradient: ndarray
    size: float
    gain: float
    paths: tuple[Path, ...]
    count: int

    @property
    def log10(self) -> float:
        """What it adds to log10 ‖gradient‖."""
        return _log10(self.gain)

    @property
    def symbol(self) -> str:
        """Such as ``∂tanh/∂linear``; of a bundle, the sum over its paths."""
        if self.count == 1:
            return f"(∂{self.upper}/∂{self.lower})"
        if not self.paths:
            return f"(∂{self.upper}/∂{self.lower}, over {self.count} paths)"
        return f"[{' + '.join(path.symbols for path in self.paths)}]"


@dataclass(frozen=True)
class Explanation:
    """∂L/∂wrt as a product of factors; printed, the chain rule in symbols and in numbers.

    Attributes
    ----------
    loss, wrt : str
    seed : ndarray
        ∂L/∂loss, where it begins.
    factors : tuple of Factor
        From the loss down.
    gradient : ndarray
        Their product: ∂L/∂wrt.
    """

    loss: str
    wrt: str
    seed: ndarray
    factors: tuple[Factor, ...]
    gradient: ndarray

    @property
    def attribution(self) -> dict[str, float]:
        """By kind of factor, what it adds to log10 ‖gradient‖; the sum is that of the whole."""
        total: dict[str, float] = {}
        for factor in self.factors:
            total[factor.kind] = total.get(factor.kind, 0.0) + factor.log10
        return total

    @property
    def symbols(self) -> str:
        """The chain rule: ``∂L/∂w = (∂L/∂z)·(∂z/∂w)``, repetitions folded."""
        parts = []
        for first, period, repeats in _folded(self.factors):
            run = self.factors[first : first + period]
            parts += [factor.symbol for factor in run]
            if repeats > 1:
                gains = _gains(self.factors, first, period, repeats)
                parts.append(f"… × {repeats - 1} more such{_spread(gains[1:])} …")
        return f"∂L/∂{self.wrt} = " + " · ".join([f"(∂L/∂{self.loss})", *parts])

    def __str__(self) -> str:
        lines = [self.symbols, "", *self._table(), ""]
        total, seed = (_log10(norm(g)) for g in (self.gradient, self.seed))
        by_kind = [f"{seed:+.2f} ∂L/∂{self.loss}"] if seed else []
        by_kind += [f"{value:+.2f} {kind}" for kind, value in self.attribution.items()]
        lines.append(f"log10 ‖∂L/∂{self.wrt}‖ = {total:.2f}: {', '.join(by_kind)}")
        return "\n".join(lines)

    def _table(self) -> list[str]:
        rows: list[tuple[str, ...]] = [
            ("", "factor", "kind", "‖gradient‖ ×", "log10", "∂L/∂ so far")
        ]
        rows.append(("", f"∂L/∂{self.loss}", "", "", "", _brief(self.seed)))
        for first, period, repeats in _folded(self.factors):
            for factor in self.factors[first : first + period]:
                rows.append(_row(factor))
                for path in factor.paths if factor.count > 1 else ():
                    rows.append(("", f"  + {path.symbols}", "", f"({path.gain:.3g})", "", ""))
            if repeats > 1:
                gains = _gains(self.factors, first, period, repeats)
                loss = sum(f.log10 for f in self.factors[first + period : first + period * repeats])
                last = self.factors[first + period * repeats - 1]
                rows.append(
                    ("", f"… {repeats - 1} more such …", "", _spread(gains[1:]).strip(", "),
                     f"{loss:+.2f}", _brief(last.gradient))
                )  # fmt: skip
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]

    def to_markdown(self) -> str:
        """The formula in LaTeX, and the table, as Markdown."""
        lines = [f"$$\n{self.to_latex()}\n$$", "", "| factor | kind | ×‖gradient‖ | log10 |",
                 "|---|---|---|---|"]  # fmt: skip
        for factor in self.factors:
            symbol = f"$\\frac{{\\partial {_tex(factor.upper)}}}{{\\partial {_tex(factor.lower)}}}$"
            lines.append(f"| {symbol} | {factor.kind} | {factor.gain:.4g} | {factor.log10:+.2f} |")
        return "\n".join(lines)

    def to_latex(self) -> str:
        """The chain rule, repetitions folded, for a LaTeX display."""
        parts = [_fraction("L", self.loss)]
        for first, period, repeats in _folded(self.factors):
            parts += [_latex(factor) for factor in self.factors[first : first + period]]
            if repeats > 1:
                parts.append(rf"\underbrace{{\cdots}}_{{{repeats - 1}\ \text{{more}}}}")
        return f"{_fraction('L', self.wrt)} = " + r" \cdot ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and strings."""
        return {
            "loss": self.loss,
            "wrt": self.wrt,
            "symbols": self.symbols,
            "gradient": self.gradient.tolist(),
            "attribution": self.attribution,
            "factors": [
                {
                    "upper": f.upper, "lower": f.lower, "kind": f.kind, "operation": f.operation,
                    "size": f.size, "gain": f.gain, "log10": f.log10, "paths": f.count,
                }
                for f in self.factors
            ],
        }  # fmt: skip


def explain(
    loss: Tensor, wrt: Tensor | str, model: "Module | None" = None, gradient: Any = None
) -> Explanation:
    """The chain rule from a loss to any tensor that it was computed from.

    Parameters
    ----------
    loss : Tensor
    wrt : Tensor or str
        The tensor, or its name (`intermediates`).
    model : Module, optional
        Gives parameters their names.
    gradient : array_like, optional
        ∂L/∂loss; may be left out for a scalar.

    Returns
    -------
    Explanation

    Raises
    ------
    GraphError
        There is no such tensor in the graph, or no gradient reaches it.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> w = tg.tensor(0.5, requires_grad=True, name="w")
    >>> print(tg.inspection.explain(tg.tanh(w * 3.0), w).symbols)
    ∂L/∂w = (∂L/∂tanh) · (∂tanh/∂multiply) · (∂multiply/∂w)
    """
    whole = trace(loss, model, gradient)
    target = whole.find(wrt)
    below = _between(whole, target.id)
    if target.id not in below:
        raise GraphError(
            f"explain: a gradient must reach the tensor; none does {target.name}, though it is in "
            f"the graph. Is there an operation without derivative on the way?"
        )
    cuts = _cuts(whole, below)
    g = whole.nodes[whole.loss].grad
    assert g is not None  # it is where the sweep began
    seed, factors, order = g, [], list(below)
    place = {node: i for i, node in enumerate(order)}
    with np.errstate(all="ignore"):
        for upper, lower in zip(reversed(cuts), reversed(cuts[:-1]), strict=False):
            inside = order[place[lower] : place[upper] + 1]
            factor = _factor(whole, upper, lower, inside, below, g)
            factors.append(factor)
            g = factor.gradient
    return Explanation(whole.nodes[whole.loss].name, target.name, seed, tuple(factors), g)


def _between(whole: Trace, target: int) -> dict[int, set[int]]:
    """Of each node between target and loss, the consumers through which it reaches the loss."""
    consumers: dict[int, set[int]] = {}
    for step in whole.steps:
        for term in step.terms:
            consumers.setdefault(term.parent, set()).add(step.node)
    reachable = {target}
    for node in range(target, whole.loss + 1):
        if node in reachable:
            reachable |= consumers.get(node, set())
    if whole.loss not in reachable:
        return {}
    return {node: consumers.get(node, set()) & reachable for node in sorted(reachable)}


def _cuts(whole: Trace, below: dict[int, set[int]]) -> list[int]:
    """The nodes that every path goes through: no edge of the way jumps over them."""
    cuts, reach = [], -1
    for node, consumers in below.items():  # in the order of the forward pass
        if reach <= node:
            cuts.append(node)
        reach = max([reach, *consumers])
    return cuts


def _factor(
    whole: Trace, upper: int, lower: int, inside: list[int], below: dict[int, set[int]], g: ndarray
) -> Factor:
    """The stretch between two cuts: ∂L/∂lower from ∂L/∂upper, along every path."""
    grads: dict[int, Any] = {upper: g}
    paths_from: dict[int, int] = {upper: 1}
    for node in reversed(inside[:-1]):
        parts = [
            contribution(whole.nodes[c].tensor, place, grads[c])
            for c in sorted(below[node], reverse=True)
            for place in _places(whole.nodes[c], node)
        ]
        grads[node] = np.asarray(sum(parts[1:], parts[0]))
        paths_from[node] = sum(paths_from[c] for c in below[node])
    count = paths_from[lower]
    gradient = grads[lower]
    top, bottom = whole.nodes[upper], whole.nodes[lower]
    paths: tuple[Path, ...] = ()
    if 1 < count <= _MOST_PATHS:
        paths = tuple(_paths(whole, upper, lower, below, g))
    return Factor(
        top.name, bottom.name, _kind(top, lower, count, below), top.op or "", gradient,
        rms(gradient), _gain(gradient, g), paths, count,
    )  # fmt: skip


def _places(consumer: Node, node: int) -> list[int]:
    """The arguments of a consumer that are this node."""
    return [i for i, argument in enumerate(consumer.arguments) if argument.node == node]


def _paths(
    whole: Trace, upper: int, lower: int, below: dict[int, set[int]], g: ndarray
) -> list[Path]:
    """Every way through a bundle, and what arrives by it."""
    found = []
    ways: list[tuple[list[int], Any]] = [([upper], g)]
    while ways:
        way, arrived = ways.pop()
        if way[-1] == lower:
            names = tuple(whole.nodes[n].name for n in way)
            made_by = tuple(whole.nodes[n].op or "" for n in way[:-1])
            found.append(Path(names, made_by, np.asarray(arrived), _gain(arrived, g)))
            continue
        consumer = whole.nodes[way[-1]]
        for node in [n for n in below if lower <= n < way[-1] and way[-1] in below[n]]:
            parts = [contribution(consumer.tensor, p, arrived) for p in _places(consumer, node)]
            ways.append(([*way, node], np.asarray(sum(parts[1:], parts[0]))))
    return sorted(found, key=lambda path: len(path.nodes))


def _kind(top: Node, lower: int, count: int, below: dict[int, set[int]]) -> str:
    if count > 1:
        return "skip" if top.id in below[lower] and top.op in ("add", "subtract") else "branches"
    if top.op in _WEIGHTED:
        return "weights"
    op: Any = top.tensor.op
    alone = op.arity == 1 and op.elementwise
    return "activation" if alone else "other"


def _log10(size: float) -> float:
    """−∞ of 0, and NaN of NaN."""
    return math.log10(size) if size > 0 else (-math.inf if size == 0 else math.nan)


def _gain(after: Any, before: Any) -> float:
    """How much larger the norm is."""
    size = norm(before)
    return norm(after) / size if size else math.nan


def _folded(factors: tuple[Factor, ...]) -> list[tuple[int, int, int]]:
    """The factors as runs (first, period, repeats): a stretch that repeats is one run."""
    labels = [
        (
            f.kind,
            f.operation,
            f.count,
            f.gradient.shape,
            tuple(sorted(p.operations for p in f.paths)),
        )
        for f in factors
    ]
    runs, at = [], 0
    while at < len(labels):
        best = (1, 1)
        for period in range(1, 9):
            repeats = 1
            unit = labels[at : at + period]
            while labels[at + repeats * period : at + (repeats + 1) * period] == unit:
                repeats += 1
            if repeats >= _FEWEST_REPEATS and period * repeats > best[0] * best[1]:
                best = (period, repeats)
        runs.append((at, *best))
        at += best[0] * best[1]
    return runs


def _gains(factors: tuple[Factor, ...], first: int, period: int, repeats: int) -> ndarray:
    """The gain of each repetition of a folded stretch."""
    gains = [f.gain for f in factors[first : first + period * repeats]]
    return np.prod(np.reshape(gains, (repeats, period)), axis=1)


def _spread(gains: ndarray) -> str:
    return f", each × {np.mean(gains):.3g} ± {np.std(gains):.1g}"


def _row(factor: Factor) -> tuple[str, ...]:
    symbol = f"∂{factor.upper}/∂{factor.lower}"
    if factor.count > 1:
        symbol += f" ({factor.count} paths)"
    return (
        "·", symbol, factor.kind, f"{factor.gain:.4g}", f"{factor.log10:+.2f}",
        _brief(factor.gradient),
    )  # fmt: skip


def _brief(array: ndarray) -> str:
    if array.size <= _SMALL:
        return np.array2string(array, precision=5, separator=", ").replace("\n", "")
    return f"{array.shape}, RMS {rms(array):.3g}"


def _tex(name: str) -> str:
    """A name in math mode, and within a table of Markdown."""
    return latex_name(name).replace("|", r"\vert{}").replace("\n", " ")


def _fraction(upper: str, lower: str) -> str:
    return rf"\frac{{\partial {_tex(upper)}}}{{\partial {_tex(lower)}}}"


def _latex(factor: Factor) -> str:
    if factor.count == 1 or not factor.paths:
        return _fraction(factor.upper, factor.lower)
    ways = [
        r" \cdot ".join(_fraction(u, d) for u, d in zip(p.nodes, p.nodes[1:], strict=False))
        for p in factor.paths
    ]
    return rf"\left[{' + '.join(ways)}\right]"
