"""A trace as boxes and links to draw: node by node, or with whole modules and chains as one box."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..arrays import rms
from ..core.mode import Names, Scope, name_inside
from ..errors import ArgumentError
from .trace import Node, Trace

Home = tuple[str, ...]  # the modules around a node, outermost first: ("1", "1.inner")
Call = tuple[str, Scope | None]  # the path of a module call, and the call; None: several such


class Item(NamedTuple):
    """A box."""

    title: str
    kind: str  # "leaf", "operation", "constant" or "folded"
    what: str  # the operation; of a folded box, how much is in it
    shape: tuple[int, ...]  # of the result
    value: ndarray
    grad: ndarray | None
    nodes: tuple[int, ...]  # ids; none of a constant
    home: Home


class Link(NamedTuple):
    """From an item to one that uses it."""

    start: int
    end: int
    place: int
    argument: str  # what the operation calls it
    size: float | None  # RMS of the contribution that flows back; the largest, of several


class View(NamedTuple):
    """What is drawn. An item stands before those that use it."""

    items: tuple[Item, ...]
    links: tuple[Link, ...]
    loss: int  # which item holds it


class Part(NamedTuple):
    """Nodes that are drawn as one box; a single one is drawn as itself."""

    title: str
    nodes: tuple[int, ...]
    home: Home


def calls(trace: Trace) -> list[list[Call]]:
    """The module calls around each node, outermost first; those that have a path.

    A parameter counts to the call of the module that uses and owns it; where there are several,
    to what is around them all.
    """
    known: dict[int, list[Call]] = {}
    paths: Names = {}
    owned: dict[int, set[int]] = {}

    def around(scope: Scope | None) -> list[Call]:
        if scope is None or scope[0] is None:  # the outermost module has no path
            return []
        if id(scope) not in known:
            (_, outer), module = scope[0], scope[1]
            before = around(scope[0])
            step = name_inside(outer, module, paths)
            path = f"{before[-1][0]}.{step}" if before else step
            known[id(scope)] = [*before, (path, scope)]
        return known[id(scope)]

    def owns(module: Any, node: Node) -> bool:
        if id(module) not in owned:
            owned[id(module)] = {id(parameter) for parameter in module.parameters()}
        return id(node.tensor) in owned[id(module)]

    found = [around(node.tensor.scope) for node in trace.nodes]
    users: dict[int, list[list[Call]]] = {}
    for node in trace.nodes:
        for argument in node.arguments:
            if argument.node is None or trace.nodes[argument.node].op is not None:
                continue
            chain = found[node.id]
            for depth in range(len(chain), 0, -1):
                call = chain[depth - 1][1]
                if call and owns(call[1], trace.nodes[argument.node]):
                    users.setdefault(argument.node, []).append(chain[:depth])
                    break
    for leaf, chains in users.items():
        depth = len(common([_home(chain) for chain in chains]))
        found[leaf] = [
            (path, call if all(chain[i][1] is call for chain in chains) else None)
            for i, (path, call) in enumerate(chains[0][:depth])
        ]
    return found


def common(lists: Sequence[Any]) -> Any:
    """The longest beginning that lists (or tuples) share."""
    first, *others = lists
    for other in others:
        same = 0
        while same < min(len(first), len(other)) and first[same] == other[same]:
            same += 1
        first = first[:same]
    return first


def homes(trace: Trace) -> list[Home]:
    """The paths of the modules around each node, outermost first."""
    return [_home(chain) for chain in calls(trace)]


def _home(chain: Sequence[Call]) -> Home:
    return tuple(path for path, _ in chain)


def collapsed(trace: Trace, which: "int | Sequence[str]") -> View:
    """The view in which some modules are one box for each call.

    Parameters
    ----------
    trace : Trace
    which : int or sequence of str
        Paths of modules; or the depth of those that are folded: 1 for the outermost.

    Raises
    ------
    ArgumentError
        Nothing in the graph was made by such a module.
    """
    around = calls(trace)
    if isinstance(which, int):
        if which < 1:
            raise ArgumentError(
                f"collapse: a depth is at least 1, for the outermost modules; received {which}"
            )
        deep = which
        return view(trace, _modules(trace, around, lambda chain: deep))
    which = [which] if isinstance(which, str) else list(which)
    known = list(dict.fromkeys(path for chain in around for path, _ in chain))
    for path in which:
        if path not in known:
            near = get_close_matches(str(path), known) or known[:5]
            raise ArgumentError(
                f"collapse: needs paths of modules that made something here; received {path!r}"
                + (f". Is {' or '.join(near)} meant?" if near else ", and no module did")
            )
    depth = {path: i for i, path in enumerate(which)}
    return view(trace, _modules(trace, around, lambda chain: _first(chain, depth)))


def _first(chain: Sequence[Call], wanted: dict[str, int]) -> int:
    """How deep the outermost of the wanted modules is; 0 if there is none."""
    return next((i for i, (path, _) in enumerate(chain, 1) if path in wanted), 0)


def shrunk(trace: Trace, fits: Callable[[View], bool]) -> View:
    """The most open view that fits.

    Modules are folded first, the deepest before the outer; then plain chains, in ever longer
    pieces; at last, stretches of the forward pass, in ever fewer pieces.
    """
    around = calls(trace)
    parts = _modules(trace, around, lambda chain: 0)
    best = view(trace, parts)
    for depth in range(max(map(len, around), default=0), 0, -1):
        if fits(best):
            return best
        parts = _modules(trace, around, lambda chain, depth=depth: depth)  # type: ignore[misc]
        best = view(trace, parts)
    piece, count = 2, len(parts) + 1
    while not fits(best) and len(chains := _chains(trace, parts, piece)) < count:
        best, piece, count = view(trace, chains), 2 * piece, len(chains)
    pieces = 62  # halved at once: 31 boxes have 465 links at most
    while not fits(best) and (pieces := pieces // 2):
        best = view(trace, _stretches(trace, parts, pieces))
    return best


def _modules(
    trace: Trace, around: list[list[Call]], depth: Callable[[Sequence[Call]], int]
) -> list[Part]:
    """Parts: one for each call as deep as ``depth`` says of the calls around a node."""
    bundles: dict[Any, list[int]] = {}
    chains: dict[Any, list[Call]] = {}
    for node, chain in zip(trace.nodes, around, strict=True):
        level = depth(chain)
        deep = 0 < level <= len(chain)
        call = chain[level - 1][1] if deep else None
        key = id(call) if call else ("node", node.id)
        bundles.setdefault(key, []).append(node.id)
        # What several folded calls share stands beside them.
        chains[key] = chain if not deep else chain[: level if call else level - 1]
    times: dict[str, int] = {}
    parts = []
    for key, nodes in bundles.items():
        chain, title = chains[key], ""
        if len(nodes) > 1:
            path = chain[-1][0]
            times[path] = times.get(path, 0) + 1
            title = path if times[path] == 1 else f"{path}#{times[path]}"
            chain = chain[:-1]
        parts.append(Part(title, tuple(nodes), _home(chain)))
    return parts


def _ordered(trace: Trace, parts: list[Part]) -> list[Part] | None:
    """The parts, each before those that use it; None if two use each other."""
    # A call's operations are made without others in between, so their last one tells its place.
    parts = sorted(parts, key=lambda part: max(part.nodes))
    owner = _owners(parts)
    for node in trace.nodes:
        if any(a.node is not None and owner[a.node] > owner[node.id] for a in node.arguments):
            return None
    return parts


def _owners(parts: list[Part]) -> dict[int, int]:
    return {node: i for i, part in enumerate(parts) for node in part.nodes}


def _neighbours(trace: Trace, parts: list[Part]) -> tuple[list[set[int]], list[set[int]]]:
    """Of each part, the parts that it uses and those that use it."""
    owner = _owners(parts)
    above: list[set[int]] = [set() for _ in parts]
    below: list[set[int]] = [set() for _ in parts]
    for node in trace.nodes:
        for argument in node.arguments:
            if argument.node is not None and owner[argument.node] != owner[node.id]:
                above[owner[node.id]].add(owner[argument.node])
                below[owner[argument.node]].add(owner[node.id])
    return above, below


def _chains(trace: Trace, parts: list[Part], piece: int) -> list[Part]:
    """Fold operations that follow one another with nothing beside, and what only they use."""
    ordered = _ordered(trace, parts)
    if ordered is None:
        return parts
    above, below = _neighbours(trace, ordered)
    runs: list[list[int]] = []
    run_of: dict[int, int] = {}
    own: dict[int, list[int]] = {}  # leaves that one part alone uses
    for i in range(len(ordered)):
        if not above[i] and len(below[i]) == 1:
            own.setdefault(min(below[i]), []).append(i)
            continue
        before = [u for u in above[i] if above[u] or len(below[u]) > 1]
        u = before[0] if len(before) == 1 else -1
        if u in run_of and len(below[u]) == 1 and len(runs[run_of[u]]) < piece and above[u]:
            runs[run_of[u]].append(i)
        else:
            runs.append([i])
        run_of[i] = len(runs) - 1
    folded = []
    for run in runs:
        inside = [ordered[j] for i in run for j in [*own.get(i, []), i]]
        if len(run) == 1:
            folded += inside
        else:
            folded.append(_merged(trace, inside, ordered[run[0]], ordered[run[-1]]))
    return folded


def _stretches(trace: Trace, parts: list[Part], pieces: int) -> list[Part]:
    """Cut the forward pass into pieces, each with the leaves that it is the first to use."""
    ordered = _ordered(trace, parts) or [Part("", (node.id,), ()) for node in trace.nodes]
    above, below = _neighbours(trace, ordered)
    made = [i for i in range(len(ordered)) if above[i] or not below[i]]
    length = -(-len(made) // pieces)
    place = {i: count // length for count, i in enumerate(made)}
    bundles: dict[int, list[Part]] = {}
    for i, part in enumerate(ordered):
        piece = place[i] if i in place else min(place[j] for j in below[i] if j in place)
        bundles.setdefault(piece, []).append(part)
    return [
        _merged(trace, bundle, ordered[made[piece * length]],
                ordered[made[min((piece + 1) * length, len(made)) - 1]])
        for piece, bundle in sorted(bundles.items())
    ]  # fmt: skip


def _merged(trace: Trace, parts: list[Part], first: Part, last: Part) -> Part:
    names = [part.title or trace.nodes[part.nodes[-1]].name for part in (first, last)]
    nodes = tuple(sorted(node for part in parts for node in part.nodes))
    return Part(" … ".join(dict.fromkeys(names)), nodes, common([part.home for part in parts]))


def view(trace: Trace, parts: list[Part]) -> View:
    """Boxes and links of parts; parts that use each other are drawn node by node."""
    ordered = _ordered(trace, parts)
    if ordered is None:
        around = homes(trace)
        ordered = [Part("", (node.id,), around[node.id]) for node in trace.nodes]
    items: list[Item] = []
    constants: dict[int, int] = {}  # which array -> which item
    for part in ordered:
        for node in map(trace.nodes.__getitem__, part.nodes if len(part.nodes) == 1 else ()):
            for place, argument in enumerate(node.arguments):
                value = argument.value
                if argument.node is None and np.ndim(value) and id(value) not in constants:
                    constants[id(value)] = len(items)
                    name = getattr(node.tensor.args[place], "name", None) or argument.name
                    array = np.asarray(value)
                    items.append(
                        Item(name, "constant", "constant", array.shape, array, None, (), ())
                    )
    shift = len(items)
    items += [_item(trace, part) for part in ordered]
    owner = {node: i + shift for node, i in _owners(ordered).items()}
    sizes = {(s.node, t.place): rms(np.abs(t.contribution)) for s in trace.steps for t in s.terms}
    links: dict[Any, Link] = {}
    for node in trace.nodes:
        end = owner[node.id]
        for place, argument in enumerate(node.arguments):
            if argument.node is None:
                start = constants.get(id(argument.value)) if items[end].kind != "folded" else None
                if start is None:
                    continue
                size = None
            else:
                start = owner[argument.node]
                size = sizes.get((node.id, place))
            if start == end:
                continue
            folds = "folded" in (items[start].kind, items[end].kind)
            # Several wires between two folded boxes are one.
            key = (start, end) if folds else (start, end, place)
            if folds and key in links:
                before = links[key]
                both = [s for s in (before.size, size) if s is not None]
                links[key] = before._replace(size=float(np.max(both)) if both else None)
            else:
                name = "" if folds else argument.name
                links[key] = Link(start, end, place, name, size)
    return View(tuple(items), tuple(links.values()), owner[trace.loss])


def _item(trace: Trace, part: Part) -> Item:
    node = trace.nodes[max(part.nodes)]
    if len(part.nodes) == 1:
        kind = "leaf" if node.op is None else "operation"
        return Item(
            node.name, kind, node.op or "leaf", node.value.shape, node.value, node.grad,
            part.nodes, part.home,
        )  # fmt: skip
    made = sum(trace.nodes[i].op is not None for i in part.nodes)
    what = f"{made} operation{'s' * (made != 1)}"
    return Item(
        part.title, "folded", what, node.value.shape, node.value, node.grad, part.nodes, part.home
    )
