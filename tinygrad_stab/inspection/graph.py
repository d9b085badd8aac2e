"""The graph as a picture: SVG, Mermaid, Graphviz, and what a notebook shows of a tensor."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.backward import graph
from ..core.tensor import Tensor
from .drawing import draw, number, paint, scale_of, short, size_of, text_of
from .folding import Home, View, collapsed, shrunk
from .layers import prefixes
from .trace import Trace, trace

if TYPE_CHECKING:
    from ..nn.module import Module

_OPEN = 60  # boxes that a notebook shows before it folds
_DISPLAYED = 4000  # tensors of a graph that a notebook draws at all
MERMAID_EDGES = 500  # what Mermaid draws at most, unless it is configured
MERMAID_CHARACTERS = 50_000


def svg(
    loss: Tensor | Trace, model: "Module | None" = None, collapse: int | Sequence[str] = ()
) -> str:
    """The graph as one SVG image, coloured by the size of the gradient.

    Parameters
    ----------
    loss : Tensor or Trace
        Of a tensor that is no scalar, values are shown but no gradients.
    model : Module, optional
        Gives parameters their names.
    collapse : int or sequence of str
        Modules that are drawn as one box: their paths, such as ``["blocks.0"]``, or the depth at
        which to fold, 1 for the outermost modules.

    Returns
    -------
    str
        Self-contained: no scripts, nothing to load. Hovering over a box or a wire tells more.

    Raises
    ------
    GraphError
        The tensor has no graph.
    ArgumentError
        No module of such a path made anything here.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor(3.0, requires_grad=True, name="x")
    >>> picture = tg.inspection.svg(tg.exp(x * x))
    >>> picture[:4], "value 3 · grad" in picture
    ('<svg', True)
    """
    whole = _traced(loss, model)
    return draw(collapsed(whole, collapse))


def to_mermaid(loss: Tensor | Trace, model: "Module | None" = None) -> str:
    """The graph as a Mermaid flowchart, for Markdown that renders it.

    A graph beyond Mermaid's limits (500 edges, 50 000 characters) is folded until it fits:
    modules first, the deepest before the outer, then plain chains.

    Parameters
    ----------
    loss : Tensor or Trace
    model : Module, optional
        Gives parameters their names.

    Returns
    -------
    str

    Raises
    ------
    GraphError
        The tensor has no graph.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor(3.0, requires_grad=True, name="x")
    >>> print(tg.inspection.to_mermaid(tg.exp(x)))
    flowchart TD
      n0(["x<br>leaf · scalar<br>value 3 · grad 20.1"]):::g10
      n1["exp<br>scalar<br>value 20.1 · grad 1"]:::g0
      n0 -->|"20.1"| n1
      classDef g10 fill:#880230,stroke:#888,color:#fff
      classDef g0 fill:#a1dafc,stroke:#888,color:#000
    """

    def fits(view: View) -> bool:
        return len(view.links) <= MERMAID_EDGES and len(_mermaid(view)) <= MERMAID_CHARACTERS

    return _mermaid(shrunk(_traced(loss, model), fits))


def to_dot(loss: Tensor | Trace, model: "Module | None" = None) -> str:
    r"""The graph in Graphviz's language, a cluster for each module.

    Parameters
    ----------
    loss : Tensor or Trace
    model : Module, optional
        Gives parameters their names.

    Returns
    -------
    str

    Raises
    ------
    GraphError
        The tensor has no graph.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor(3.0, requires_grad=True, name="x")
    >>> print(tg.inspection.to_dot(tg.exp(x)))
    digraph {
      node [shape=box, style="filled,rounded", fontname="sans-serif", fontsize=11]
      edge [fontname="sans-serif", fontsize=9]
      n0 [label="x\nleaf · scalar\nvalue 3 · grad 20.1", fillcolor="#880230", fontcolor="#fff"]
      n1 [label="exp\nscalar\nvalue 20.1 · grad 1", fillcolor="#a1dafc", fontcolor="#000"]
      n0 -> n1 [label="20.1"]
    }
    """
    view = collapsed(_traced(loss, model), ())
    scale = scale_of(view)
    lines = [
        "digraph {",
        '  node [shape=box, style="filled,rounded", fontname="sans-serif", fontsize=11]',
        '  edge [fontname="sans-serif", fontsize=9]',
    ]

    def box(i: int) -> str:
        fill, ink = paint(scale.of(size_of(view.items[i].grad)))
        label = "\\n".join(_dot_text(line) for line in text_of(view.items[i]))
        return f'n{i} [label="{label}", fillcolor="{fill}", fontcolor="{ink}"]'

    def opening(number: int, home: Home) -> str:
        return f'subgraph "cluster_{number}" {{ label="{_dot_text(home[-1])}"'

    lines += _nested(view, box, opening, "}")
    for link in view.links:
        label = "" if link.size is None else f' [label="{number(link.size)}"]'
        lines.append(f"  n{link.start} -> n{link.end}{label}")
    return "\n".join([*lines, "}"])


def _traced(loss: Tensor | Trace, model: "Module | None") -> Trace:
    """A trace; without gradients if there is no one number to differentiate."""
    if isinstance(loss, Trace):
        return loss
    if not isinstance(loss, Tensor) or not loss.requires_grad or not loss.ndim:
        return trace(loss, model)  # which refuses what has no graph
    whole = trace(loss, model, gradient=np.zeros(loss.shape))
    return Trace(tuple(replace(node, grad=None) for node in whole.nodes), (), whole.loss)


def _nested(
    view: View, box: Callable[[int], str], opening: Callable[[int, Home], str], closing: str
) -> list[str]:
    """Boxes, indented inside the groups that they belong to."""
    within = Counter(home for item in view.items for home in prefixes(item.home))
    inside: dict[Home, list[int | Home]] = {(): []}
    for i, item in enumerate(view.items):
        # A group of one box says no more than the box.
        homes = [(), *(home for home in prefixes(item.home) if within[home] > 1)]
        for outer, home in pairwise(homes):
            if home not in inside:
                inside[home] = []
                inside[outer].append(home)
        inside[homes[-1]].append(i)
    numbers = {home: number for number, home in enumerate(inside)}

    def lines(home: Home, indent: str) -> Iterator[str]:
        for entry in inside[home]:
            if isinstance(entry, int):
                yield indent + box(entry)
            else:
                yield indent + opening(numbers[entry], entry)
                yield from lines(entry, indent + "  ")
                yield indent + closing

    return list(lines((), "  "))


def _mermaid(view: View) -> str:
    scale = scale_of(view)
    used: dict[str, None] = {}
    shapes = {"leaf": ('(["', '"])'), "constant": ('(["', '"])'), "folded": ('[["', '"]]')}

    def box(i: int) -> str:
        item = view.items[i]
        left, right = shapes.get(item.kind, ('["', '"]'))
        name = scale.of(size_of(item.grad))
        used[name] = None
        text = "<br>".join(_mermaid_text(line) for line in text_of(item))
        return f"n{i}{left}{text}{right}:::{name}"

    def opening(number: int, home: Home) -> str:
        return f'subgraph m{number}["{_mermaid_text(short(home[-1], 60))}"]'

    lines = ["flowchart TD", *_nested(view, box, opening, "end")]
    for link in view.links:
        label = "" if link.size is None else f'|"{number(link.size)}"|'
        lines.append(f"  n{link.start} -->{label} n{link.end}")
    for name in used:
        fill, ink = paint(name)
        dashed = ",stroke-dasharray:4" if name == "zero" else ""
        lines.append(f"  classDef {name} fill:{fill},stroke:#888,color:{ink}{dashed}")
    return "\n".join(lines)


def _mermaid_text(text: str) -> str:
    """With every sign that Mermaid or HTML could read as something else as its number."""
    # At the beginning, digits and dashes would be read as a Markdown list.
    suspicious = r"[^\w .,·×…−+/=-]|(?<=\d)\.(?=\s|$)|^[+-]"
    return re.sub(suspicious, lambda m: f"#{ord(m[0])};", text)


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _display(tensor: Tensor, include: Any = None, exclude: Any = None) -> dict[str, str]:
    """What a notebook shows: the graph, if there is one. It never raises, and touches no grad."""
    bundle = {"text/plain": repr(tensor)}
    with suppress(Exception):  # a picture that cannot be drawn is none; the value still shows
        if tensor.requires_grad and tensor.op is not None and len(graph(tensor)) <= _DISPLAYED:
            whole = _traced(tensor, None)
            picture = draw(shrunk(whole, lambda view: len(view.items) <= _OPEN))
            bundle["text/html"] = f'<div style="overflow:auto;max-height:40em">{picture}</div>'
    return bundle


# The engine does not know that it can be drawn.
Tensor._repr_mimebundle_ = _display  # type: ignore[attr-defined]
