"""A backward pass as one web page: no server, no network, nothing but the file.

The page shows a `Trace`; this file turns it into JSON and puts it between the page's markup, style
and script. Nothing of the user's ever becomes markup: it travels as data, and the script makes text
of it. The content security policy names the two blocks that may run by their hashes.
"""

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..arrays import rms
from ..core.tensor import Tensor
from ..errors import ArgumentError
from ..files import replace_file
from .formula import term_formula
from .layout import Layout, layout
from .trace import Argument, Node, Step, Term, Trace, trace

if TYPE_CHECKING:
    from ..nn.module import Module

MOST_NODES = 10_000  # a page of so many opens in seconds, but nobody finds the way in it
BUDGET = 6_000_000  # bytes of numbers in a page, if it can be done
_SCRIPTS = ("page_data.js", "page_graph.js", "page_panel.js", "page.js")
_MANY = 150  # a graph of more nodes opens with its modules collapsed
_WHOLE_NET = 0.75  # a module that holds more of the nodes than this is a wrapper: open it


class _Level(NamedTuple):
    """How much of an array a page holds."""

    whole: int  # elements of the largest array that is kept whole
    heat: int  # cells of a heat map, along each axis
    corner: int  # rows and columns of what is kept of larger ones


_LEVELS = (
    _Level(16_384, 64, 16), _Level(4_096, 64, 16), _Level(1_024, 64, 16), _Level(256, 32, 16),
    _Level(256, 16, 8), _Level(64, 8, 4),
)  # fmt: skip


def page(
    loss: Tensor,
    path: str | os.PathLike[str],
    model: "Module | None" = None,
    gradient: Any = None,
) -> Path:
    """Write the backward pass from a loss as a page to step through, in one HTML file.

    Parameters
    ----------
    loss : Tensor
        Computed under ``with tg.inspection.record():``, the page also shows the lines of code.
    path : str or Path
        The file to write; one that is there is replaced.
    model : Module, optional
        Gives parameters their names.
    gradient : array_like, optional
        ∂L/∂loss, of its shape. May be left out for a scalar, where it is 1.

    Returns
    -------
    Path
        Where it was written. The file needs no network, and opens in any browser of today.

    Raises
    ------
    ArgumentError
        A path that is a directory, or lies in none; a graph of more than 10 000 nodes.
    GraphError, ShapeError
        As `trace`.

    Notes
    -----
    Arrays are kept whole up to 16 384 elements, in a page of up to 6 MB of numbers; beyond, the
    limit is lowered. What is larger is shown by its statistics, a heat map of block means and its
    first rows and columns, and the page says so.

    Examples
    --------
    >>> import tempfile, pathlib, tinygrad_stab as tg
    >>> x = tg.tensor(3.0, requires_grad=True, name="x")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = tg.inspection.page(tg.exp(x * x), pathlib.Path(folder) / "page.html")
    ...     path.read_text(encoding="utf-8")[:15]
    '<!DOCTYPE html>'
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        what = "a directory" if path.is_dir() else "no regular file"
        raise ArgumentError(f"page: needs a file to write to; {path} is {what}")
    if not path.parent.is_dir():
        raise ArgumentError(f"page: the directory of the file must exist; {path.parent} does not")
    whole = trace(loss, model, gradient)
    if len(whole.nodes) > MOST_NODES:
        raise ArgumentError(
            f"page: shows at most {MOST_NODES} nodes; the graph has {len(whole.nodes)}. Take fewer "
            f"layers, time steps or examples"
        )
    replace_file(path, lambda file: file.write(_assemble(_content(whole))))
    return path


def _assemble(content: dict[str, Any]) -> bytes:
    """Markup, style, script and data, put together."""
    style, script = _resource("page.css"), "".join(map(_resource, _SCRIPTS))
    parts = {
        "policy": "; ".join(
            [
                "default-src 'none'", f"script-src '{_digest(script)}'",
                f"style-src '{_digest(style)}'", "base-uri 'none'", "form-action 'none'",
            ]
        ),
        "style": style,
        "script": script,
        "data": _json(content),
    }  # fmt: skip
    # In one pass, so that what is put in is not searched for placeholders again.
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _resource("page.html"))
    # A lone surrogate, which UTF-8 has no place for, becomes the escape that JSON has for it.
    return text.encode("utf-8", "backslashreplace")


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()


def _json(content: Any) -> str:
    """Strict JSON that can stand in a script element: nothing in it closes or opens a tag."""
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _content(whole: Trace) -> dict[str, Any]:
    """All that the page shows."""
    pool = _Pool()
    places = layout(whole)
    groups = _groups(places)
    return {
        "loss": whole.loss,
        "nodes": [_node(node, pool) for node in whole.nodes],
        "steps": [_step(whole, step, pool) for step in whole.steps],
        "boxes": [_rounded(box) for box in places.boxes],
        "wires": [
            {
                "start": wire.start,
                "end": wire.end,
                "place": wire.place,
                "points": [_rounded(point) for point in wire.points],
            }
            for wire in places.wires
        ],
        "groups": groups,
        "collapsed": _collapsed(groups, len(whole.nodes)),
        "arrays": pool.dump(),  # last: the others have filled it
    }


def _rounded(numbers: Iterable[float]) -> list[float]:
    return [round(x, 1) for x in numbers]


def _groups(places: Layout) -> list[dict[str, Any]]:
    """Modules that hold more than one node, and not just the same as another; outer ones first."""
    groups: list[dict[str, Any]] = []
    seen: set[tuple[int, ...]] = set()
    for group in places.groups:
        if len(group.members) > 1 and group.members not in seen:
            seen.add(group.members)
            rectangle = _rounded((group.x, group.y, group.width, group.height))
            groups.append({"path": group.path, "members": group.members, "rectangle": rectangle})
    return groups


def _collapsed(groups: list[dict[str, Any]], count: int) -> list[int]:
    """Which groups are closed when the page opens: of a large graph all but its wrappers."""
    if count <= _MANY:
        return []
    return [i for i, group in enumerate(groups) if len(group["members"]) <= _WHOLE_NET * count]


def _node(node: Node, pool: "_Pool") -> dict[str, Any]:
    made = node.tensor.op
    return {
        "name": node.name,
        "op": node.op,
        "sign": made.operator if made else None,
        "module": node.module,
        "arguments": [_argument(argument, pool) for argument in node.arguments],
        "params": [[name, f"{value!r:.80}"] for name, value in node.params.items()],
        "value": pool.add(node.value),
        "grad": None if node.grad is None else pool.add(node.grad),
        "source": None
        if node.source is None
        else {
            "where": f"{Path(node.source.file).name}:{node.source.line}, in {node.source.function}",
            "code": node.source.code,
        },
    }


def _argument(argument: Argument, pool: "_Pool") -> dict[str, Any]:
    """A node, or a constant: an array, or anything else as Python writes it."""
    value = argument.value
    array = None
    if argument.node is None and isinstance(value, ndarray | np.number | float | int):
        array = pool.add(np.asarray(value))
    text = f"{value!r:.80}" if argument.node is None and array is None else None
    return {"name": argument.name, "node": argument.node, "array": array, "text": text}


def _step(whole: Trace, step: Step, pool: "_Pool") -> dict[str, Any]:
    return {
        "node": step.node,
        "upstream": pool.add(step.upstream),
        "terms": [_term(whole, step, term, pool) for term in step.terms],
    }


def _term(whole: Trace, step: Step, term: Term, pool: "_Pool") -> dict[str, Any]:
    return {
        "parent": term.parent,
        "place": term.place,
        "argument": term.argument,
        "contribution": pool.add(term.contribution),
        "total": pool.add(term.total),
        "formula": term_formula(whole, step, term, "mathml"),
        "numbers": term_formula(whole, step, term, "mathml", numbers=True),
    }


class _Pool:
    """The arrays of a page, each once: a gradient is often passed on as it is."""

    def __init__(self) -> None:
        self._arrays: list[ndarray] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def add(self, value: ndarray) -> int:
        """The number under which the page finds an array."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))  # the former makes 0-d 1-d
        key = (array.shape, array.dtype.str, hashlib.sha256(array.tobytes()).digest())
        if key not in self._known:
            self._known[key] = len(self._arrays)
            self._arrays.append(array)
        return self._known[key]

    def dump(self) -> list[dict[str, Any]]:
        """All arrays, with as much of each as the budget allows."""
        for level in _LEVELS:
            if sum(_bytes(array, level) for array in self._arrays) <= BUDGET:
                break
        return [_encode(array, level) for array in self._arrays]


def _bytes(array: ndarray, level: _Level) -> int:
    """What an array takes in a page, nearly."""
    if array.size <= level.whole:
        return array.nbytes
    return level.heat**2 + array.itemsize * level.corner**2


def _encode(array: ndarray, level: _Level) -> dict[str, Any]:
    table = _as_table(array)
    kept = table if array.size <= level.whole else table[: level.corner, : level.corner]
    kind = "f4" if array.dtype == np.float32 else "f8"
    encoded = {
        "shape": array.shape,
        "dtype": str(array.dtype),
        **_statistics(array),
        "rows": kept.shape[0],
        "columns": kept.shape[1],
        "kind": kind,
        "numbers": _base64(kept.astype(f"<{kind}")),
    }
    if kept.size < table.size or max(table.shape) > level.heat:
        encoded["heat"] = _heat(table, level.heat)
    return encoded


def _as_table(array: ndarray) -> ndarray:
    """Any array as rows and columns: the last axis runs along a row."""
    columns = array.shape[-1] if array.ndim else 1
    return array.reshape(math.prod(array.shape[:-1]), columns)


def _statistics(array: ndarray) -> dict[str, Any]:
    if not array.size:
        return {"rms": 0.0, "min": None, "max": None, "zeros": 0.0}
    with np.errstate(all="ignore"):
        return {
            "rms": _number(rms(array)),
            "min": _number(np.min(array)),
            "max": _number(np.max(array)),
            "zeros": float(np.mean(array == 0)),
        }


def _number(x: Any) -> float | str:
    """A number as JSON can hold it: "NaN", "Infinity" and "-Infinity" as words."""
    x = float(x)
    if math.isfinite(x):
        return x
    return "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"


def _base64(array: ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _heat(table: ndarray, most: int) -> dict[str, Any]:
    """A heat map of block means in bytes: 127 is 0, 0 and 254 are ∓scale, 255 is not finite."""
    with np.errstate(all="ignore"):
        means = table.astype(np.float64)
        for axis in (0, 1):
            count = means.shape[axis]
            starts = np.arange(min(count, most)) * count // min(count, most)
            sizes = np.diff(np.append(starts, count))
            # Divided before they are summed: numbers near the largest must not overflow.
            shape = (-1, 1) if axis == 0 else (1, -1)
            means = np.add.reduceat(means / np.repeat(sizes, sizes).reshape(shape), starts, axis)
        finite = np.isfinite(means)
        scale = float(np.max(np.abs(means[finite]), initial=0.0))
        levels = np.rint(127 + 127 * (means / scale if scale else 0 * means))
    return {
        "rows": means.shape[0],
        "columns": means.shape[1],
        "scale": scale,
        "cells": _base64(np.where(finite, levels, 255).astype(np.uint8)),
    }
