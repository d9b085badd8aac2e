"""A view of a graph as one SVG image; what its boxes say, and the colours of gradients."""

import math
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from ..arrays import rms
from .folding import Item, Link, View
from .layout import LABEL, MARGIN, Box, Layout, arrange

# Colours of gradients from small to large: equal steps of lightness in OKLCH, so that order shows
# without hue too, from blue to crimson; the large ones stand out from the paper, light or dark.
_LIGHT = (
    "#a1dafc", "#96c7f8", "#92b4f3", "#939fea", "#9689dc", "#9a73ca", "#9d5db3", "#9f4697",
    "#9d2d77", "#990553", "#880230",
)  # fmt: skip
_DARK = (
    "#284972", "#415284", "#5a5b95", "#7563a2", "#916cac", "#ad74b2", "#c87eb5", "#e388b3",
    "#fd94ae", "#ffb0b1", "#ffc9be",
)  # fmt: skip
_CLASSES = len(_LIGHT)


class Scale(NamedTuple):
    """Sizes of gradients to classes of colour, by their logarithm."""

    low: float  # of log10
    high: float
    seen: frozenset[str]  # which special classes occur: "zero", "bad"

    def of(self, size: float | None) -> str:
        """``g0`` … ``g10``, or ``none``, ``zero``, ``bad``."""
        if size is None:
            return "none"
        if size == 0:
            return "zero"
        if not math.isfinite(size):
            return "bad"
        share = (math.log10(size) - self.low) / (self.high - self.low)
        return f"g{min(max(round(share * (_CLASSES - 1)), 0), _CLASSES - 1)}"


def draw(view: View) -> str:
    """The SVG of a view."""
    titles = [text_of(item) for item in view.items]
    sizes = [_box_size(item, lines) for item, lines in zip(view.items, titles, strict=True)]
    places = arrange(
        sizes,
        [(link.start, link.end, link.place) for link in view.links],
        [item.home for item in view.items],
    )
    scale = scale_of(view)
    gradients = any(item.grad is not None for item in view.items)
    legend, legend_width, legend_height = _legend(scale) if gradients else ("", 0.0, 0.0)
    width = max(places.width, legend_width + 2 * MARGIN)
    height = places.height + legend_height
    left = (width - places.width) / 2
    tensors = sum(len(item.nodes) for item in view.items)
    about = f"Graph of {tensors} tensors that ends in {view.items[view.loss].title}"
    if gradients:
        about += ", coloured by the size of the gradient"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tg-graph" role="img" '
        f'aria-label="{escape(short(about, 200))}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}">',
        f"<title>{escape(short(about, 200))}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}" rx="8"/>',
        legend,
        f'<g transform="translate({left:.1f} {legend_height:.1f})">',
        *_groups(view, places),
        *(
            _wire(view, link, wire.points, scale)
            for link, wire in zip(view.links, places.wires, strict=True)
        ),
        *(
            _box(view, i, places.boxes[i], titles[i], scale.of(size_of(item.grad)))
            for i, item in enumerate(view.items)
        ),
        "</g></svg>",
    ]
    return "\n".join(part for part in parts if part)


def _box_size(item: Item, lines: list[str]) -> tuple[float, float]:
    width = max(8.0 * len(lines[0]), *(6.4 * len(line) for line in lines[1:])) + 22
    return max(width, 96.0), 13.0 + 15 * len(lines)


def _groups(view: View, places: Layout) -> Iterator[str]:
    for group in places.groups:
        if len(group.members) == 1:
            continue  # its box says the same
        around = f'x="{group.x:.1f}" y="{group.y:.1f}"'
        tensors = sum(len(view.items[i].nodes) for i in group.members)
        yield (
            f'<g class="group"><title>{escape(short(group.path, 200))}: {tensors} tensors</title>'
            f'<rect {around} width="{group.width:.1f}" height="{group.height:.1f}" rx="10"/>'
            f'<text x="{group.x + 10:.1f}" y="{group.y + LABEL - 1:.1f}">'
            f"{escape(short(group.path))}</text></g>"
        )


def _wire(view: View, link: Link, points: Sequence[tuple[float, float]], scale: Scale) -> str:
    (x0, y0), *rest = points
    path, before = f"M{x0:.1f} {y0:.1f}", (x0, y0)
    tip = rest[-1]
    rest[-1] = (tip[0], tip[1] - 6)
    for x, y in rest:
        if abs(x - before[0]) < 0.05:
            path += f"V{y:.1f}"
        else:  # leave and arrive vertically
            middle = (before[1] + y) / 2
            path += f"C{before[0]:.1f} {middle:.1f} {x:.1f} {middle:.1f} {x:.1f} {y:.1f}"
        before = (x, y)
    start, end = view.items[link.start], view.items[link.end]
    words = f"{short(start.title, 80)} → {short(end.title, 80)}"
    if link.argument:
        words += f" (its {link.argument})"
    if link.size is not None:
        words += f"\ncontribution to the gradient of {short(start.title, 80)}: "
        words += f"{'at most ' if not link.argument else ''}RMS {number(link.size)}"
    elif start.kind == "constant":
        words += "\na constant: no gradient flows back"
    arrow = f"M{tip[0] - 4:.1f} {tip[1] - 7:.1f}h8l-4 7z"
    return (
        f'<g class="wire {scale.of(link.size)}"><title>{escape(words)}</title>'
        f'<path class="hit" d="{path}"/><path class="line" d="{path}"/>'
        f'<path class="tip" d="{arrow}"/></g>'
    )


def _box(view: View, i: int, box: Box, lines: list[str], colour: str) -> str:
    item = view.items[i]
    x, y = box.x - box.width / 2, box.y - box.height / 2
    radius = 18.0 if item.kind in ("leaf", "constant") else 5.0
    kinds = f"box {item.kind} {colour}" + (" loss" if i == view.loss else "")
    frame = f'width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius:.1f}"'
    shapes = f'<rect x="{x:.1f}" y="{y:.1f}" {frame}/>'
    if item.kind == "folded":  # a pile
        shapes = f'<rect x="{x + 4:.1f}" y="{y + 4:.1f}" {frame}/>' + shapes
    styles = [' class="name"', "", ""]
    texts = "".join(
        f'<text{styles[row]} x="{box.x:.1f}" y="{y + 19 + 15 * row:.1f}">{escape(line)}</text>'
        for row, line in enumerate(lines)
    )
    return f'<g class="{kinds}"><title>{escape(_tooltip(item))}</title>{shapes}{texts}</g>'


def _tooltip(item: Item) -> str:
    words = [
        short(item.title, 200),
        f"{short(item.what)}, {_shape(item.shape)}, {item.value.dtype}",
    ]
    if item.kind == "folded":
        words.append("what is shown is its result")
    for name, array in (("value", item.value), ("gradient", item.grad)):
        if array is None or not array.size or array.dtype.kind not in "fiu":
            continue
        text = f"{name}: RMS {rms(array):.4g}"
        if array.size > 1:
            text += f", from {array.min():.4g} to {array.max():.4g}"
            zeros = array.size - np.count_nonzero(array)
            text += f", {zeros} of {array.size} exactly 0" if zeros else ""
        words.append(text)
    if item.grad is None and item.kind != "constant":
        words.append("no gradient")
    return "\n".join(words)


def _legend(scale: Scale) -> tuple[str, float, float]:
    """The scale of colours: its SVG, width and height."""
    cell, top, x0 = 24.0, MARGIN + 20, MARGIN
    parts = [f'<text class="head" x="{x0}" y="{MARGIN + 12}">size of the gradient (RMS)</text>']
    for i in range(_CLASSES):
        parts.append(
            f'<rect class="g{i}" x="{x0 + cell * i:.1f}" y="{top}" width="{cell}" height="12"/>'
        )
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        size = 10 ** min(scale.low + share * (scale.high - scale.low), 308.0)
        parts.append(
            f'<text x="{x0 + cell * _CLASSES * share:.1f}" y="{top + 26}" '
            f'text-anchor="{anchor}">{number(float(f"{size:.1e}"))}</text>'
        )
    x = x0 + cell * _CLASSES + 24
    marks = [("zero", "exactly 0"), ("bad", "NaN or ∞"), ("none", "none")]
    for name, words in [mark for mark in marks if mark[0] in scale.seen | {"none"}]:
        parts.append(
            f'<rect class="mark {name}" x="{x}" y="{top - 1}" width="22" height="14" rx="4"/>'
        )
        parts.append(f'<text x="{x + 28}" y="{top + 10}">{words}</text>')
        x += 28 + 6.6 * len(words) + 18
    return f'<g class="legend">{"".join(parts)}</g>', x - MARGIN, top + 34


def _style() -> str:
    """Of every SVG the same, so that several on one page agree."""

    def theme(colours: Sequence[str], paper: str, ink: str, soft: str, none: str, tint: str) -> str:
        rules = [
            f".paper{{fill:{paper}}}",
            f"text{{fill:{ink}}}",
            f".group rect{{fill:{tint};stroke:{soft}}}",
            f".group text{{fill:{ink};opacity:.75}}",
            f".box rect{{stroke:{soft}}}",
            f".box.loss rect{{stroke:{ink}}}",
            f".none rect,rect.none{{fill:{none}}}",
            f".none .line{{stroke:{soft}}}.none .tip{{fill:{soft}}}",
            f".zero rect,rect.zero{{fill:{paper};stroke:{ink}}}",
            f".zero .line{{stroke:{ink}}}.zero .tip{{fill:{ink}}}",
        ]
        for i, colour in enumerate(colours):
            rules.append(
                f".g{i} rect,rect.g{i}{{fill:{colour}}}.g{i} text{{fill:{_ink(colour)}}}"
                f".g{i} .line{{stroke:{colour}}}.g{i} .tip{{fill:{colour}}}"
            )
        return _scoped(rules)

    fixed = _scoped([
        "text{font:11px system-ui,'Segoe UI','DejaVu Sans',sans-serif}",
        ".box text{text-anchor:middle}",
        ".box .name{font-size:13px;font-weight:600}",
        ".head{font-weight:600}",
        ".group text{font-weight:600}",
        ".group rect{stroke-width:1}",
        ".box rect{stroke-width:1}",
        ".box.loss rect{stroke-width:3}",
        ".wire path{fill:none}.wire .line{stroke-width:2.5}",
        ".wire .hit{stroke:transparent;stroke-width:12}",
        ".wire:hover .line{stroke-width:5}.box:hover rect{stroke-width:3}",
        ".zero rect,rect.zero{stroke-dasharray:5 3;stroke-width:2}",
        ".zero .line{stroke-dasharray:2 4}",
        ".bad rect,rect.bad{fill:#fff200;stroke:#d00000;stroke-width:3}.bad text{fill:#000}",
        ".bad .line{stroke:#d00000;stroke-dasharray:8 3}.bad .tip{fill:#d00000}",
    ])  # fmt: skip
    light = theme(_LIGHT, "#ffffff", "#18181b", "#a1a1aa", "#e4e4e7", "#7171790f")
    dark = theme(_DARK, "#16161a", "#f4f4f5", "#71717a", "#3f3f46", "#a1a1aa14")
    return f"{light}@media(prefers-color-scheme:dark){{{dark}}}{fixed}"


def _scoped(rules: list[str]) -> str:
    """Rules that hold inside a picture only: a page's other pictures are none of its business."""
    whole = "".join(rules)
    return re.sub(
        r"([^{}]+)\{",
        lambda m: ",".join(f".tg-graph {selector}" for selector in m[1].split(",")) + "{",
        whole,
    )


def size_of(array: ndarray | None) -> float | None:
    """RMS of a gradient, if there is one."""
    return None if array is None else rms(np.abs(array))


def number(x: float) -> str:
    """Three digits, the exponent without leading zeros."""
    return f"{x:.3g}".replace("e-0", "e-").replace("e+0", "e+")


def _measure(array: ndarray) -> str:
    """A single number as it is, more as their root mean square."""
    if array.size == 1 and array.dtype.kind != "c":
        return number(array.item())
    return number(rms(np.abs(array)))


def _shape(shape: tuple[int, ...]) -> str:
    if len(shape) < 2:
        return f"length {shape[0]}" if shape else "scalar"
    return " × ".join(map(str, shape))


def short(text: str, length: int = 32) -> str:
    """On one line, of printable characters, the middle left out if it is long."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in str(text))
    if len(text) <= length:
        return text
    return f"{text[: length // 2 - 1]}…{text[len(text) - length // 2 :]}"


def text_of(item: Item) -> list[str]:
    """What stands in a box."""
    told = item.kind == "operation" and item.what in re.split(r"[.#]", str(item.title))
    made = "" if told else f"{short(item.what)} · "
    text = [short(item.title), made + _shape(item.shape)]
    numbers = []
    if item.value.dtype.kind in "fc":
        numbers.append(f"value {_measure(item.value)}")
    if item.grad is not None:
        numbers.append(f"grad {_measure(item.grad)}")
    return [*text, " · ".join(numbers)] if numbers else text


def scale_of(view: View) -> Scale:
    """The scale on which all gradients of a view find their place."""
    sizes = [size_of(item.grad) for item in view.items] + [link.size for link in view.links]
    known = [size for size in sizes if size is not None]
    logs = [math.log10(size) for size in known if size and math.isfinite(size)] or [0.0]
    seen = {"zero"} if 0 in known else set()
    seen |= {"bad"} if not all(map(math.isfinite, known)) else set()
    # At least a decade, lest small differences look large.
    return Scale(min(min(logs), max(logs) - 1), max(logs), frozenset(seen))


def _ink(fill: str) -> str:
    """Black or white, whichever is read better on a colour."""
    channels = [int(fill[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if luminance > 0.179 else "#fff"


def paint(name: str) -> tuple[str, str]:
    """Fill and ink of a class on light paper."""
    special = {
        "none": ("#e4e4e7", "#3f3f46"),
        "zero": ("#ffffff", "#000"),
        "bad": ("#fff200", "#000"),
    }
    if name in special:
        return special[name]
    fill = _LIGHT[int(name[1:])]
    return fill, _ink(fill)
