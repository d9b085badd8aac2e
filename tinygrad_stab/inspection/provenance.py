"""Which line of the user's code made a tensor; recorded on request only."""

import linecache
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ..core.mode import Recording, mode
from ..core.tensor import Tensor

_HERE = str(Path(__file__).parent.parent) + os.sep


class Source(NamedTuple):
    """A place in a program."""

    file: str
    line: int
    function: str

    @property
    def code(self) -> str:
        """The line itself; empty if it cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        code = f": {self.code}" if self.code else ""
        return f"{Path(self.file).name}:{self.line}, in {self.function}{code}"


def calling_line() -> Source:
    """The innermost line that is being executed outside this package."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return Source(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def note_source(result: Tensor) -> None:
    """Keep the calling line with a result."""
    result.source = calling_line()


def record() -> Recording:
    """``with record():`` every result keeps the line of the user's code that made it.

    Ordinary runs pay nothing for it; inside, an operation takes a few microseconds more.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.inspection.record():
    ...     y = x * x
    >>> tg.inspection.source(y).function
    '<module>'
    """
    # Whoever observes already (`detect_anomaly`) keeps the lines too.
    observing = mode.recording not in (True, False)
    return Recording(mode.recording if observing else note_source)


def source(tensor: Tensor) -> Source | None:
    """Where a tensor was made, if that was recorded."""
    return getattr(tensor, "source", None)
