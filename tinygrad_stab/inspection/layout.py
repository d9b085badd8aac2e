"""Where everything goes when a graph is drawn: layers from the inputs down to the loss.

Sugiyama's method. Layers first; then an order within each layer that crosses few wires; then
coordinates. Two things beyond the textbook: modules are rectangles with borders that take part as
invisible neighbours, so that nothing foreign is drawn inside; and what lies on one vertical (a
chain of operations, a long wire, a border) is one rigid block, so that straight is straight.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

from .folding import Home, homes
from .layers import GAP, Net, prefixes
from .trace import Trace

HEIGHT = 58.0  # of a box
MARGIN = 16.0  # around the picture
LAYER_GAP = 32.0  # between the boxes of one layer and the next
PAD = 10.0  # between a group's border and what is in it
LABEL = 16.0  # height of the line in which a group's name stands


class Box(NamedTuple):
    """Centre and size of a node, in CSS pixels."""

    x: float
    y: float
    width: float
    height: float


class Wire(NamedTuple):
    """From a node to an operation that uses it: one for each place among its arguments."""

    start: int  # id of the parent
    end: int  # id of the consumer
    place: int  # which argument of the consumer
    points: tuple[tuple[float, float], ...]  # from parent to consumer


class Group(NamedTuple):
    """A rectangle around what a module made, its parameters included."""

    path: str
    members: tuple[int, ...]  # ids, those of inner groups included
    x: float  # left
    y: float  # top
    width: float
    height: float


class Layout(NamedTuple):
    """Where everything goes; ``boxes[i]`` is the node with id ``i``. Outer groups come first."""

    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    groups: tuple[Group, ...]
    width: float
    height: float


def layout(trace: Trace) -> Layout:
    """Place every node of a trace; the same trace always gets the same picture.

    Parameters
    ----------
    trace : Trace

    Returns
    -------
    Layout
        Inputs on top. Boxes do not overlap; every wire goes down.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor(3.0, requires_grad=True, name="x")
    >>> places = tg.inspection.layout(tg.inspection.trace(tg.exp(x * x)))
    >>> [box.y for box in places.boxes], len({box.x for box in places.boxes})
    ([45.0, 135.0, 225.0], 1)
    """
    wires = [
        (argument.node, node.id, place)
        for node in trace.nodes
        for place, argument in enumerate(node.arguments)
        if argument.node is not None
    ]
    return arrange([(box_width(node.name), HEIGHT) for node in trace.nodes], wires, homes(trace))


def box_width(title: str) -> float:
    """Room for a title of 13 pixels, and for two lines of about 22 characters of 11 pixels."""
    return max(148.0, min(24 + 7.4 * len(title), 260.0))


def arrange(
    sizes: Sequence[tuple[float, float]],
    wires: Sequence[tuple[int, int, int]],
    homes: Sequence[Home],
) -> Layout:
    """Place any graph.

    Parameters
    ----------
    sizes : sequence of (width, height)
        Of the boxes.
    wires : sequence of (parent, consumer, place)
        A parent stands before its consumers in ``sizes``.
    homes : sequence of tuple of str
        The groups around each box, outermost first.

    Returns
    -------
    Layout
    """
    if not sizes:
        return Layout((), (), (), 2 * MARGIN, 2 * MARGIN)
    members: dict[Home, list[int]] = {}
    for i, home in enumerate(homes):
        for depth in range(1, len(home) + 1):
            members.setdefault(home[:depth], []).append(i)
    # A group of one box is only a frame around it: it needs no room of its own.
    inner = [max((h for h in prefixes(x) if len(members[h]) > 1), default=()) for x in homes]
    net = _Picture(sizes, wires, inner)
    net.order()
    net.place()
    return net.picture(members)


class _Row(NamedTuple):
    """Of a layer: where its groups' borders begin, its boxes begin and end, its borders end.

    Wires change their x only between one row and the next.
    """

    start: float
    top: float
    bottom: float
    end: float


class _Picture(Net):
    """Coordinates for a net whose order is known."""

    def place(self) -> None:
        """Choose coordinates: rigid blocks, as near to their neighbours as the order allows."""
        block = self._blocks()
        count = max(block) + 1
        apart: list[dict[int, float]] = [{} for _ in range(count)]  # left block -> right: distance
        for layer in self.layers:
            for a, b in pairwise(layer):
                self._keep_apart(apart, block[a], block[b], self._distance(a, b))
        for home, (left, right) in self.sides.items():
            room = max(2 * PAD, 18 + 6.6 * len(home[-1]))  # at least, for the label
            self._keep_apart(apart, block[left[0]], block[right[0]], room)
        side = [0] * count
        for i, which in self.border.items():
            side[block[i]] = which
        pulls: list[list[int]] = [[] for _ in range(count)]
        for a, below in enumerate(self.down):
            for b in below:
                if block[a] != block[b]:
                    pulls[block[a]].append(block[b])
                    pulls[block[b]].append(block[a])
        x = _compact(apart, pulls, side)
        self.x = [x[b] for b in block]

    @staticmethod
    def _keep_apart(apart: list[dict[int, float]], a: int, b: int, distance: float) -> None:
        apart[a][b] = max(apart[a].get(b, 0.0), distance)

    def _distance(self, a: int, b: int) -> float:
        """How far apart the middles of two neighbours must be."""
        gap = GAP
        if a in self.border or b in self.border:
            gap = PAD
        return gap + (self.width[a] + self.width[b]) / 2

    def _blocks(self) -> list[int]:
        """Number of the vertical on which each item stands; verticals do not cross."""
        link: dict[int, int] = {}  # upper -> lower
        taken: set[int] = set()
        accepted: list[list[tuple[int, int]]] = [[] for _ in range(self.depth)]

        def offer(a: int, b: int) -> None:
            pair = self.index[a], self.index[b]
            others = accepted[self.rank[a]]
            at = bisect_left(others, pair)
            crosses = (at and others[at - 1][1] >= pair[1]) or (
                at < len(others) and others[at][1] <= pair[1]
            )
            if a not in link and b not in taken and not crosses:
                link[a] = b
                taken.add(b)
                others.insert(at, pair)

        for sides in self.sides.values():
            for column in sides:
                for a, b in pairwise(column):
                    offer(a, b)
        pairs = [(a, b) for a, below in enumerate(self.down) for b in below]
        for a, b in pairs:
            if self.chain[a] >= 0 and self.chain[a] == self.chain[b]:
                offer(a, b)
        best_up = [self._best(self.up[i], i, True) for i in range(len(self.rank))]
        best_down = [self._best(self.down[i], i, False) for i in range(len(self.rank))]
        for a, b in pairs:
            if best_up[b] == a and best_down[a] == b:
                offer(a, b)
        for a, b in pairs:  # else, a long wire is straight at one end at least
            if (best_up[b] == a and b >= self.n) or (best_down[a] == b and a >= self.n):
                offer(a, b)
        block = [-1] * len(self.rank)
        count = 0
        for layer in self.layers:
            for i in layer:
                if block[i] < 0:
                    block[i], count = count, count + 1
                if i in link:
                    block[link[i]] = block[i]
        return block

    def _best(self, near: list[int], i: int, upwards: bool) -> int:
        """The one neighbour to stand in line with; −1 if two are as good."""
        if not near:
            return -1
        if upwards:
            leaf = [j < self.n and not self.up[j] for j in near]
            ranked = sorted((last, self.reach(j, i), j) for j, last in zip(near, leaf, strict=True))
        else:
            ranked = sorted((False, self.reach(i, j), j) for j in near)
        tie = len(ranked) > 1 and (ranked[0][0] or ranked[0][:2] == ranked[1][:2])
        return -1 if tie else ranked[0][2]

    def picture(self, members: dict[Home, list[int]]) -> Layout:
        """Everything in pixels."""
        rows, height = self._rows()
        left = min(self.x[i] - self.width[i] / 2 for i in range(len(self.x))) - MARGIN
        right = max(self.x[i] + self.width[i] / 2 for i in range(len(self.x))) + MARGIN
        self.x = [x - left for x in self.x]
        boxes = tuple(
            Box(self.x[i], (rows[self.rank[i]].top + rows[self.rank[i]].bottom) / 2, *self.sizes[i])
            for i in range(self.n)
        )
        groups = []
        nesting = self._nesting()
        for home, inside in members.items():
            if home in self.sides:
                first, last = self.groups[home]
                x0, x1 = (self.x[side[0]] for side in self.sides[home])
                above, below = nesting[home]
                y0 = rows[first].top - above * (PAD + LABEL)
                y1 = rows[last].bottom + below * PAD
            else:
                box = boxes[inside[0]]
                x0, x1 = box.x - box.width / 2 - PAD / 2, box.x + box.width / 2 + PAD / 2
                y0, y1 = box.y - box.height / 2 - PAD / 2, box.y + box.height / 2 + PAD / 2
            groups.append(Group(home[-1], tuple(inside), x0, y0, x1 - x0, y1 - y0))
        groups.sort(key=lambda group: (-len(group.members), group.members))
        return Layout(boxes, self._polylines(boxes, rows), tuple(groups), right - left, height)

    def _nesting(self) -> dict[Home, tuple[int, int]]:
        """How many borders, a group's own included, lie above its first row and below its last."""
        nesting: dict[Home, tuple[int, int]] = {}
        for home in sorted(self.groups, key=len, reverse=True):
            first, last = self.groups[home]
            inner = [h for h in nesting if h[:-1] == home]
            above = max((nesting[h][0] for h in inner if self.groups[h][0] == first), default=0)
            below = max((nesting[h][1] for h in inner if self.groups[h][1] == last), default=0)
            nesting[home] = above + 1, below + 1
        return nesting

    def _rows(self) -> tuple[list["_Row"], float]:
        """Where each layer lies, and the height of it all."""
        before, after, tall = ([0.0] * self.depth for _ in range(3))
        for home, (above, below) in self._nesting().items():
            first, last = self.groups[home]
            before[first] = max(before[first], above * (PAD + LABEL))
            after[last] = max(after[last], below * PAD)
        for i in range(self.n):
            tall[self.rank[i]] = max(tall[self.rank[i]], self.sizes[i][1])
        y, rows = MARGIN - LAYER_GAP, []
        for r in range(self.depth):
            y += LAYER_GAP
            top = y + before[r]
            rows.append(_Row(y, top, top + tall[r], top + tall[r] + after[r]))
            y = rows[-1].end
        return rows, y + MARGIN

    def _polylines(self, boxes: tuple[Box, ...], rows: list["_Row"]) -> tuple[Wire, ...]:
        """The wires. Where several meet at a box, each has a place of its own on its edge."""
        leaving: dict[int, dict[Any, tuple[float, list[int]]]] = {}
        arriving: dict[int, dict[Any, tuple[float, list[int]]]] = {}
        for number, (u, v, _) in enumerate(self.wires):
            points, count = self.via[u, v]
            # Branches of one wire leave by one port.
            key, x = (points[0], self.x[points[0]]) if count else (-1 - number, self.x[v])
            leaving.setdefault(u, {}).setdefault(key, (x, []))[1].append(number)
            x = self.x[points[count - 1]] if count else self.x[u]
            arriving.setdefault(v, {})[number] = (x, [number])
        first = {k: x for i, ends in leaving.items() for k, x in _ports(boxes[i], ends)}
        last = {k: x for i, ends in arriving.items() for k, x in _ports(boxes[i], ends)}
        columns: dict[int, list[tuple[int, int, float]]] = {}
        wires = []
        for number, (u, v, place) in enumerate(self.wires):
            via, count = self.via[u, v]
            if count and via[0] not in columns:
                columns[via[0]] = self._columns(via)
            x, row = first[number], rows[self.rank[u]]
            path = [(x, boxes[u].y + boxes[u].height / 2)]
            path += [(x, row.end)] if row.end > path[0][1] else []
            for start, end, x in columns[via[0]] if count else ():
                if start < count:
                    path.append((x, rows[self.rank[via[start]]].start))
                    path.append((x, rows[self.rank[via[min(end, count) - 1]]].end))
            x, row = last[number], rows[self.rank[v]]
            tip = (x, boxes[v].y - boxes[v].height / 2)
            path += [(x, row.start), tip] if row.start < tip[1] else [tip]
            wires.append(Wire(u, v, place, tuple(path)))
        return tuple(wires)

    def _columns(self, points: list[int]) -> list[tuple[int, int, float]]:
        """The straight pieces of a long wire: first point, one past the last, x."""
        x = [self.x[i] for i in points]
        bends = [0, *(k for k in range(1, len(x)) if x[k] != x[k - 1]), len(x)]
        return [(start, end, x[start]) for start, end in pairwise(bends)]


def _ports(box: Box, ends: dict[Any, tuple[float, list[int]]]) -> Iterable[tuple[int, float]]:
    """Where on an edge of a box wires end: if they can, below or above their other end."""
    ordered = sorted(ends.values())
    reach = box.width / 2 - 16
    step = min(18.0, 2 * reach / max(len(ordered) - 1, 1))
    # What comes from beyond the box's sides meets it well inside its corners.
    ports = [
        x if abs(x - box.x) <= reach else box.x + math.copysign(0.7 * reach, x - box.x)
        for x, _ in ordered
    ]
    same = all(port == ports[0] for port in ports)
    if same:  # several from one place: side by side about it
        start = min(max(ports[0] - step * (len(ordered) - 1) / 2, box.x - reach), box.x + reach)
        ports = [start + step * i for i in range(len(ordered))]
    middle = min(range(len(ports)), key=lambda i: abs(ports[i] - box.x))
    for i in range(middle + 1, len(ports)):
        ports[i] = max(ports[i], ports[i - 1] + step)
    for i in range(middle - 1, -1, -1):
        ports[i] = min(ports[i], ports[i + 1] - step)
    left, right = box.x - reach, box.x + reach
    ports = [  # and none over a corner
        min(max(port, left + step * i), right - step * (len(ports) - 1 - i))
        for i, port in enumerate(ports)
    ]
    return [(n, port) for (_, wires), port in zip(ordered, ports, strict=True) for n in wires]


def _compact(apart: list[dict[int, float]], pulls: list[list[int]], side: list[int]) -> list[float]:
    """Where blocks stand: at least so far apart, and near to what they are wired to."""
    count = len(apart)
    before: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    for a, rest in enumerate(apart):
        for b, distance in rest.items():
            before[b].append((a, distance))
    after = [list(rest.items()) for rest in apart]
    waiting = [len(left) for left in before]
    order = [b for b in range(count) if not waiting[b]]
    for a in order:
        for b, _ in after[a]:
            waiting[b] -= 1
            if not waiting[b]:
                order.append(b)

    x = [0.0] * count

    def low(b: int, otherwise: float) -> float:
        return max((x[a] + d for a, d in before[b]), default=otherwise)

    def high(b: int, otherwise: float) -> float:
        return min((x[c] - d for c, d in after[b]), default=otherwise)

    # Between all to the left and all to the right: both keep distance, so the mean does.
    for b in order:
        x[b] = low(b, 0.0)
    leftmost, width = list(x), max(x)
    for b in reversed(order):
        x[b] = high(b, width)
    x = [(a + b) / 2 for a, b in zip(leftmost, x, strict=True)]
    free = [b for b in order if pulls[b]]
    left_borders = [b for b in order if side[b] < 0]
    right_borders = [b for b in order if side[b] > 0]
    for turn in range(12):
        # Borders give way, the rest moves, borders close in again.
        for b in left_borders:
            x[b] = low(b, x[b] - width)
        for b in reversed(right_borders):
            x[b] = high(b, x[b] + width)
        for b in free if turn % 2 else reversed(free):
            want = fmean(x[j] for j in pulls[b])
            x[b] = min(max(want, low(b, -math.inf)), high(b, math.inf))
        for b in reversed(left_borders):
            x[b] = high(b, x[b])
        for b in right_borders:
            x[b] = low(b, x[b])
    return x
