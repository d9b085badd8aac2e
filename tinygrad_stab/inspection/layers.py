"""The layers of a drawn graph, and the order within each: the first two steps of Sugiyama's method.

Between the boxes stand invisible items: points where a long wire passes a layer, and the two
borders of each module. They take part in the order, so that a wire goes around boxes and nothing
foreign comes to stand inside a module.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from .folding import Home, common

GAP = 20.0  # between neighbours in a layer, in CSS pixels
MANY = 6  # a node with more consumers than this has one wire that branches, not one for each
BUDGET = 12_000  # points on long wires; beyond, the longest wires go straight


def prefixes(home: Home) -> list[Home]:
    """The groups around a node, outermost first."""
    return [home[:depth] for depth in range(len(home) + 1) if depth]


def _ranks(
    parents: list[list[int]], consumers: list[list[int]], homes: Sequence[Home]
) -> list[int]:
    """The layer of each node: below all its parents, above all its consumers.

    Parameters stand right above their consumer, in a row of their own if the consumer's other
    input comes from outside their module, so that a module's box ends where the next one begins.
    """

    def gap(u: int, v: int) -> int:
        outside = any(homes[u][: len(homes[p])] != homes[p] for p in parents[v] if not parents[p])
        return 2 if outside else 1

    n = len(parents)
    rank = [0] * n
    for v in range(n):
        rank[v] = max((rank[u] + gap(u, v) for u in parents[v]), default=0)
    for v in reversed(range(n)):
        # Down to the consumers, where that does not stretch more wires than it shortens.
        if sum(len(consumers[u]) > 1 for u in parents[v]) <= len(consumers[v]) > 0:
            rank[v] = min(rank[c] - gap(v, c) for c in consumers[v])
    dense = {r: i for i, r in enumerate(sorted(set(rank)))}
    return [dense[r] for r in rank]


class Net:
    """The boxes, and the invisible items between them: points of long wires, borders of groups."""

    def __init__(
        self,
        sizes: Sequence[tuple[float, float]],
        wires: Sequence[tuple[int, int, int]],
        homes: Sequence[Home],
    ) -> None:
        n = self.n = len(sizes)
        self.sizes, self.wires = sizes, wires
        self.parents: list[list[int]] = [[] for _ in range(n)]
        self.consumers: list[list[int]] = [[] for _ in range(n)]
        for u, v, _ in wires:
            if u not in self.parents[v]:
                self.parents[v].append(u)
                self.consumers[u].append(v)
        # Per item; boxes first.
        self.rank = _ranks(self.parents, self.consumers, homes)
        self.home: list[Home] = list(homes)
        self.width = [w for w, _ in sizes]
        self.chain = [-1] * n  # of a point on a long wire: which wire
        self.border: dict[int, int] = {}  # item -> -1 (left border of its home) or 1 (right)
        self.up: list[list[int]] = [[] for _ in range(n)]
        self.down: list[list[int]] = [[] for _ in range(n)]
        self.depth = max(self.rank) + 1
        self.groups: dict[Home, tuple[int, int]] = {}  # first and last layer
        for i, home in enumerate(homes):
            for prefix in prefixes(home):
                first, last = self.groups.get(prefix, (self.depth, 0))
                self.groups[prefix] = min(first, self.rank[i]), max(last, self.rank[i])
        # (parent, consumer) -> the points of their wire, and how many of them lie between the two
        self.via: dict[tuple[int, int], tuple[list[int], int]] = {}
        self._lay_wires()
        self.sides: dict[Home, tuple[list[int], list[int]]] = {}
        for home, (first, last) in self.groups.items():
            left = [self._item(r, home) for r in range(first, last + 1)]
            right = [self._item(r, home) for r in range(first, last + 1)]
            self.border |= dict.fromkeys(left, -1) | dict.fromkeys(right, 1)
            self.sides[home] = left, right

    def _item(self, rank: int, home: Home, chain: int = -1) -> int:
        self.rank.append(rank)
        self.home.append(home)
        self.width.append(0.0)
        self.chain.append(chain)
        self.up.append([])
        self.down.append([])
        return len(self.rank) - 1

    def _lay_wires(self) -> None:
        """Give long wires a point in every layer that they pass."""
        rank = self.rank
        bundles: list[tuple[int, int, list[int]]] = []  # length, parent, consumers
        for merge in (MANY, 0):
            bundles = []
            for u, users in enumerate(self.consumers):
                lots = [users] if len(users) > merge else [[v] for v in users]
                bundles += [
                    (max(rank[v] for v in lot) - rank[u] - 1, u, lot) for lot in lots if lot
                ]
            if sum(length for length, _, _ in bundles) <= BUDGET:
                break
        bundles.sort(key=lambda bundle: bundle[0])  # stable
        spent = 0
        for number, (length, u, users) in enumerate(bundles):
            spent += length
            points: list[int] = []
            if spent <= BUDGET:
                points = self._points(u, users, length, number)
            for a, b in pairwise([u, *points]):
                self._join(a, b)
            for v in users:
                between = rank[v] - rank[u] - 1
                self.via[u, v] = (points, min(between, len(points)))
                if between <= len(points):
                    self._join(points[between - 1] if between else u, v)

    def _points(self, u: int, users: list[int], length: int, number: int) -> list[int]:
        """The points of one long wire, from its end to its beginning, in the groups around it."""
        ending: dict[int, list[int]] = {}
        for v in users:
            ending.setdefault(self.rank[v], []).append(v)
        later: dict[Home, int] = {}  # one consumer of each home further down
        points = []
        for r in range(self.rank[u] + length, self.rank[u], -1):
            later |= {self.home[v]: v for v in ending.get(r + 1, ())}
            home = common([self._home_between(u, v, r) for v in later.values()])
            points.append(self._item(r, home, number))
        return points[::-1]

    def _join(self, a: int, b: int) -> None:
        self.down[a].append(b)
        self.up[b].append(a)

    def reach(self, a: int, b: int) -> int:
        """How many layers the wire through a and b passes."""
        while a >= self.n:
            a = self.up[a][0]
        while b >= self.n:
            b = self.down[b][0]
        return self.rank[b] - self.rank[a]

    def _home_between(self, u: int, v: int, r: int) -> Home:
        """The group that a wire from u to v goes through at layer r."""
        both = len(common((self.home[u], self.home[v])))
        for prefix in reversed(prefixes(self.home[v])[both:]):
            if self.groups[prefix][0] <= r:
                return prefix
        for prefix in reversed(prefixes(self.home[u])[both:]):
            if self.groups[prefix][1] >= r:
                return prefix
        return self.home[v][:both]

    def order(self) -> None:
        """Choose the order within each layer that crosses the fewest wires among a few tried."""
        count = len(self.rank)
        self.tie = self._first_order()
        key = [float(t) for t in self.tie]
        units = self._units()
        centre = {unit: fmean(key[i] for i in inside) for unit, (inside, _) in units.items()}
        self.layers: list[list[int]] = [[] for _ in range(self.depth)]
        for i in range(count):
            self.layers[self.rank[i]].append(i)
        self._sort(range(self.depth), key, centre)
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        position = [0.0] * count
        for turn in range(6):
            if fewest == 0:
                break
            self._positions(range(self.depth), position)
            for unit, (inside, outside) in units.items():
                centre[unit] = fmean(position[i] for i in outside or inside)
            downwards = turn % 2 == 0
            order = range(self.depth) if downwards else range(self.depth - 1, -1, -1)
            neighbours = self.up if downwards else self.down
            for r in order:
                for i in self.layers[r]:
                    near = neighbours[i]
                    key[i] = fmean(position[j] for j in near) if near else position[i]
                self._sort([r], key, centre)
                self._positions([r], position)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers = best
        self.index = [0] * count
        for layer in self.layers:
            for place, i in enumerate(layer):
                self.index[i] = place

    def _first_order(self) -> list[int]:
        """When a walk up from the loss, leaves on both sides of the rest, meets each item."""
        met: dict[int, int] = {}
        stack = [i for i in range(self.n - 1, -1, -1) if not self.down[i]]
        while stack:
            i = stack.pop()
            if i in met:
                continue
            met[i] = len(met)
            # Long wires to the right, away from the names of the groups that they pass.
            above = sorted(self.up[i], key=lambda j: (self.reach(j, i), self._place_of(j, i)))
            leaves = [j for j in above if j < self.n and not self.up[j]]
            others = [j for j in above if j not in leaves]
            half = (len(leaves) + 1) // 2 if others else 0
            stack += reversed(leaves[:half] + others + leaves[half:])
        return [met.get(i, i) for i in range(len(self.rank))]

    def _place_of(self, item: int, consumer: int) -> int:
        """Among which argument of the consumer an item stands."""
        while item >= self.n:
            item = self.up[item][0]
        above = self.parents[consumer] if consumer < self.n else []
        return above.index(item) if item in above else 0

    def _units(self) -> dict[Any, tuple[list[int], list[int]]]:
        """What keeps its side over several layers, a group or a long wire: its items, and those
        beside it.
        """
        units: dict[Any, tuple[list[int], list[int]]] = {}
        around = [self._units_of(i) for i in range(len(self.rank))]
        for i, mine in enumerate(around):
            for unit in mine if i not in self.border else ():
                units.setdefault(unit, ([], []))[0].append(i)
            for j in (*self.up[i], *self.down[i]):
                for unit in mine:
                    if unit not in around[j]:
                        units[unit][1].append(j)
        return units

    def _units_of(self, i: int) -> list[Any]:
        groups: list[Any] = list(prefixes(self.home[i]))
        return [*groups, (self.home[i], self.chain[i])] if self.chain[i] >= 0 else groups

    def _sort(self, ranks: Iterable[int], key: list[float], centre: dict[Any, float]) -> None:
        """Order layers by key, keeping the items of a group together."""
        outer: dict[Home, tuple[Any, ...]] = {}

        def sort_key(i: int) -> tuple[Any, ...]:
            home = self.home[i]
            if home not in outer:
                outer[home] = tuple((centre[p], -1, p) for p in prefixes(home))
            if i in self.border:
                return (*outer[home], (self.border[i] * float("inf"), 0))
            own = key[i] if self.chain[i] < 0 else centre[home, self.chain[i]]
            return (*outer[home], (own, self.tie[i]))

        for r in ranks:
            self.layers[r].sort(key=sort_key)

    def _positions(self, ranks: Iterable[int], position: list[float]) -> None:
        """Where items would be if each layer were packed tight, about a common middle."""
        for r in ranks:
            x = 0.0
            for i in self.layers[r]:
                position[i] = x + self.width[i] / 2
                x += self.width[i] + GAP
            for i in self.layers[r]:
                position[i] -= x / 2

    def _crossings(self) -> int:
        total = 0
        for upper, lower in pairwise(self.layers):
            index = {i: place for place, i in enumerate(lower)}
            ends: list[int] = []
            for i in upper:
                new = [index[j] for j in self.down[i]]
                for j in new:
                    total += len(ends) - bisect_right(ends, j)
                for j in new:
                    insort(ends, j)
        return total
