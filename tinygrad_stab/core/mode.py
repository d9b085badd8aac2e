"""What the engine is doing in this thread: whether it records, and which module is at work."""

import threading
from contextlib import ContextDecorator
from typing import Any

# One call of a module, inside the call that made it: (outer scope or None, module). A plain
# tuple, for one is made at every call; `scope_path` turns it into a name when someone asks.
Scope = tuple[Any, Any]


class _Mode(threading.local):
    # False: no; True: yes; an observer: yes, and it is called with every result that is recorded.
    # One with a method `observe` is told of each contribution of a backward pass too (`sweep`), and
    # one with a method `finish` when it has ended.
    recording: Any = True
    scope: Scope | None = None
    stack: Any = None  # (below, recording) for each block that this thread is in

    def observer(self) -> Any:
        """Who observes the innermost block in which someone does."""
        stack = self.stack
        while stack is not None:
            stack, recording = stack
            if recording not in (True, False):
                return recording
        return None


mode = _Mode()


class Recording(ContextDecorator):
    """Sets whether this thread records; the former setting comes back, also after an exception.

    Parameters
    ----------
    on : bool or callable
        An observer is called with every result; True leaves one that is there.
    """

    def __init__(self, on: Any) -> None:
        self._on = on

    def __enter__(self) -> None:
        # On the thread's own stack, for one object may decorate a function that many threads call.
        mode.stack = (mode.stack, mode.recording)
        if self._on is True:
            mode.recording = mode.recording or mode.observer() or True
        else:
            mode.recording = self._on

    def __exit__(self, *_: object) -> None:
        mode.stack, mode.recording = mode.stack


def no_grad() -> Recording:
    """``with no_grad():`` records nothing: results are constants that hold no graph.

    The setting is per thread and nests. It also decorates functions.

    >>> import tinygrad_stab as tg
    >>> w = tg.tensor(2.0, requires_grad=True)
    >>> with tg.no_grad():
    ...     (w * w).requires_grad
    False
    """
    return Recording(False)


def enable_grad() -> Recording:
    """``with enable_grad():`` records again inside a :func:`no_grad` block."""
    return Recording(True)


# Of modules, by their id, what they call the modules inside them, by theirs.
Names = dict[int, dict[int, str]]


def name_inside(outer: Any, module: Any, known: Names) -> str:
    """What a module calls another that it called: its path or, if it is not inside, its class.

    ``known`` keeps all that a module calls them, for when many names are asked for.
    """
    if id(outer) not in known:
        known[id(outer)] = {id(found): path for path, found in outer.named_modules()}
    return known[id(outer)].get(id(module), type(module).__name__)


def scope_path(scope: Scope | None, known: Names) -> str:
    """The path of a module call from the outermost module, such as ``blocks.3.linear``.

    Each module names the one that it called, so a module used in two places has a name for each.
    ``known`` as for `name_inside`.
    """
    names: list[str] = []
    while scope is not None and scope[0] is not None:
        outer, module = scope
        names.append(name_inside(outer[1], module, known))
        scope = outer
    return ".".join(reversed(names))
