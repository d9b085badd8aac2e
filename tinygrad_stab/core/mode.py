"""What the engine is doing in this thread: whether it records, and which module is at work."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

# One call of a module, inside the call that made it: (outer scope or None, module). A plain
# tuple, for one is made at every call; `scope_path` turns it into a name when someone asks.
Scope = tuple[Any, Any]


class _Mode(threading.local):
    recording: bool = True
    scope: Scope | None = None


mode = _Mode()


@contextmanager
def _recording(on: bool) -> Iterator[None]:
    before, mode.recording = mode.recording, on
    try:
        yield
    finally:
        mode.recording = before


def no_grad() -> AbstractContextManager[None]:
    """``with no_grad():`` records nothing: results are constants that hold no graph.

    The setting is per thread and nests; the former one comes back also after an exception.

    >>> import tinygrad_stab as tg
    >>> w = tg.tensor(2.0, requires_grad=True)
    >>> with tg.no_grad():
    ...     (w * w).requires_grad
    False
    """
    return _recording(False)


def enable_grad() -> AbstractContextManager[None]:
    """``with enable_grad():`` records again inside a :func:`no_grad` block."""
    return _recording(True)


def scope_path(scope: Scope | None) -> str:
    """The path of a module call from the outermost module, such as ``blocks.3.linear``.

    Each module names the one that it called, so a module used in two places has a name for each.
    """
    names: list[str] = []
    while scope is not None and scope[0] is not None:
        outer, module = scope
        names.append(outer[1].path_to(module))
        scope = outer
    return ".".join(reversed(names))
