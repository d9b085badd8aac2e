"""What a user names on the command line: MODULE:NAME, a function that makes a loss."""

import importlib
import linecache
import sys
from typing import Any

from ..core.tensor import Tensor
from ..errors import ArgumentError, StabError
from ..inspection import provenance
from ..nn import Module

# What `explore` shows where nothing else is asked for.
_EXAMPLE = """\
import tinygrad_stab as tg


class Net(tg.nn.Module):
    def __init__(self):
        self.first = tg.nn.Linear(64, 16, rng=0)
        self.second = tg.nn.Linear(16, 16, rng=1)
        self.last = tg.nn.Linear(16, 10, rng=2)

    def forward(self, x):
        h = tg.tanh(self.first(x))
        h = h + tg.tanh(self.second(h))  # h goes two ways: its gradient is a sum of two
        return self.last(h)


def run():
    digits = tg.datasets.digits()
    net = Net()
    logits = net(digits.features()[:16])
    return tg.nn.functional.cross_entropy(logits, digits.labels[:16]), net
"""


def load(target: str) -> Any:
    """What a MODULE:NAME stands for, with the working directory on the path."""
    module, _, name = target.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # it stays there, for a function may import its neighbours
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever a module does when it is imported
        raise ArgumentError(
            f"{target}: must be MODULE:NAME of something that can be imported; "
            f"{type(error).__name__}: {error}. Run this where the module lies"
        ) from error
    if not callable(found) and not isinstance(found, tuple):
        raise ArgumentError(
            f"{target}: must be a function, a pair (function, gradient) or a record; it is a "
            f"{type(found).__name__}"
        )
    return found


def example() -> Any:
    """The example's function, from text: so that the page can show its lines as a user's."""
    file = "example.py"
    linecache.cache[file] = (len(_EXAMPLE), None, _EXAMPLE.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(_EXAMPLE, file, "exec"), names)
    return names["run"]


def run(name: str, function: Any) -> tuple[Tensor, Any]:
    """The loss and the model, if any, that a function returns."""
    if not callable(function):
        raise ArgumentError(f"{name}: must be a function; it is a {type(function).__name__}")
    try:
        with provenance.record():
            result = function()
    except StabError:
        raise
    except Exception as error:
        trail = error.__traceback__
        while trail is not None and trail.tb_next is not None:
            trail = trail.tb_next
        where = f"{trail.tb_frame.f_code.co_filename}:{trail.tb_lineno}" if trail else "start"
        raise ArgumentError(
            f"{name}: must run without arguments; it raised {type(error).__name__}: {error} "
            f"({where}). Call it from a function that takes nothing"
        ) from error
    loss, model = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(loss, Tensor) or not (model is None or isinstance(model, Module)):
        given = type(loss).__name__ + ("" if model is None else f" and {type(model).__name__}")
        raise ArgumentError(
            f"{name}: must return a loss (a tensor), or a loss and its model; it returned {given}"
        )
    return loss, model
