"""Gradient flow: what every layer receives, step by step, while a network trains."""

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from ..core.mode import Names, Recording
from ..core.tensor import Tensor
from ..errors import ArgumentError, DtypeError
from .measure import (
    QUANTILES,
    ActivationFlow,
    LayerFlow,
    Record,
    Size,
    activation_of,
    joint_norm,
    rms_of,
    sample,
    sizes_of,
)

if TYPE_CHECKING:
    from ..nn.module import Module
    from ..optim.base import Optimizer


class GradientFlow:
    """Records, at every k-th backward pass, what each layer of a model receives.

    Inside the ``with`` block every ``loss.backward()`` whose graph goes through the model is
    seen; nothing else in the training loop changes.

    Parameters
    ----------
    model : Module
        A layer is a module without modules inside that holds a parameter of two axes or more, or
        an operation that takes such a parameter directly.
    optimizer : Optimizer, optional
        Its steps are measured too: ‖ΔW‖/‖W‖, and the gradients after clipping.
    every : int
        Record the passes 0, k, 2k, …
    saturation : float
        An element counts as saturated where |φ′| is below this. The default, 0.02, is tanh beyond
        ±0.99 and the sigmoid beyond 0.02 and 0.98.
    capacity : int
        So many records are kept in memory, the latest.
    path : path, optional
        Each record is appended to this file as a line of JSON, at once: a crash loses no more than
        the line that is being written, and others can read along.
    log : callable, optional
        ``log(metrics, step)`` is called with each record's main numbers: what the clients of
        TensorBoard and the like take.

    Attributes
    ----------
    records : deque of Record
    latest : dict of str to ndarray
        Up to 2048 elements of each δ (under ``δ`` and its name) and each activation's output, of
        the last record, for histograms.
    units : dict of str to int
        How many units (of images: channels) each layer and each activation of the last record
        has, in the order of the forward pass.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> net = tg.nn.Sequential(tg.nn.Linear(4, 8, rng=0), tg.nn.Tanh(), tg.nn.Linear(8, 3, rng=1))
    >>> sgd = tg.optim.SGD(net.parameters(), lr=0.1)
    >>> with tg.diagnostics.watch(net, sgd) as flow:
    ...     for _ in range(3):
    ...         sgd.zero_grad()
    ...         loss = tg.nn.functional.cross_entropy(net(np.eye(4)), np.array([0, 1, 2, 0]))
    ...         loss.backward()
    ...         sgd.step()
    >>> len(flow.records), list(flow.records[0].layers), list(flow.records[0].activations)
    (3, ['0', '2'], ['1.tanh'])
    >>> flow.series("delta", "rms").shape
    (3, 2)
    """

    def __init__(
        self,
        model: "Module",
        optimizer: "Optimizer | None" = None,
        every: int = 1,
        *,
        saturation: float = 0.02,
        capacity: int = 10_000,
        path: str | os.PathLike[str] | None = None,
        log: Callable[[dict[str, float], int], Any] | None = None,
    ) -> None:
        for name, value in (("every", every), ("capacity", capacity)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"GradientFlow: {name} is a whole number from 1; got {value!r}")
        if not saturation >= 0:
            raise ArgumentError(f"GradientFlow: saturation is at least 0; received {saturation}")
        if not hasattr(model, "named_modules"):
            raise DtypeError(
                f"GradientFlow: watches a module; received a {type(model).__name__}. Pass the "
                f"model first: watch(model, optimizer)"
            )
        self.model = model
        self.optimizer = optimizer
        self.every = every
        self.saturation = saturation
        self.path = None if path is None else Path(path)
        self.log = log
        self.records: deque[Record] = deque(maxlen=capacity)
        self.latest: dict[str, ndarray] = {}
        self.units: dict[str, int] = {}
        self.step = 0
        self._held, self._standing = _layers_of(model)
        self._paths: Names = {}  # what modules call one another, found once
        self._swept: list[tuple[Tensor, Any]] = []  # (result, its gradient), output first
        self._recording: Recording | None = None
        self._file: IO[bytes] | None = None
        self._open: Record | None = None  # waits for the optimiser's step
        self._before: dict[str, tuple[list[ndarray], float]] = {}

    def __enter__(self) -> "GradientFlow":
        if self._recording is not None:
            raise ArgumentError(
                "GradientFlow: watches in one block at a time; this is inside its own. Leave it "
                "first"
            )
        if self.path is not None:
            self._file = _appendable(self.path)
        if self.optimizer is not None:
            self.optimizer.observers.append(self)
        self._recording = Recording(self)
        self._recording.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._recording is not None
        self._recording.__exit__(*exception)
        self._recording = None
        if self.optimizer is not None:
            self.optimizer.observers.remove(self)
        self._close()
        self._swept.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    # What the engine calls, as an observer of the recording (`core/mode.py`).

    def __call__(self, result: Tensor) -> None:
        """A result was recorded: nothing is measured on the way forward."""

    def observe(self, node: Tensor, index: int, g: Any, part: Any, total: Any) -> None:
        """A contribution was made: ``g`` is the gradient of the result ``node``, complete."""
        swept = self._swept
        if not (swept and swept[-1][0] is node) and self.step % self.every == 0:
            swept.append((node, g))

    def finish(self, loss: Tensor) -> None:
        """A backward pass has ended."""
        swept, self._swept = self._swept, []
        if self.step % self.every == 0:
            self._close()
            layers, activations = self._measure(swept)
            if not layers:
                return  # a pass that did not go through the model
            value = float(loss._value.sum())
            self._open = Record(self.step, value, layers, activations)
            if self.optimizer is None:
                self._close()
        self.step += 1

    # What the optimiser calls, around a step.

    def before_step(self) -> None:
        """The gradients are what the optimiser will use: they may have been clipped."""
        if self._open is None:
            return
        self._before = {}
        with np.errstate(all="ignore"):
            for name, layer in self._open.layers.items():
                held = self._held[name.partition("#")[0]]
                clipped = joint_norm([w.grad for w in held if w.grad is not None])
                self._open.layers[name] = layer._replace(clipped=clipped)
                before = [sample(w._value).copy() for w in held]
                self._before[name] = (before, joint_norm(before))

    def after_step(self) -> None:
        """The parameters have moved."""
        if self._open is None:
            return
        with np.errstate(all="ignore"):
            for name, (before, size) in self._before.items():
                held = self._held[name.partition("#")[0]]
                moved = [sample(w._value) - b for w, b in zip(held, before, strict=True)]
                ratio = joint_norm(moved) / size if size else math.nan
                self._open.layers[name] = self._open.layers[name]._replace(update=ratio)
        self._close()

    def _close(self) -> None:
        """Hand out a record that is complete."""
        record, self._open = self._open, None
        if record is None:
            return
        self.records.append(record)
        if self._file is not None:
            self._file.write(json.dumps(record.to_dict(), allow_nan=False).encode() + b"\n")
        if self.log is not None:
            self.log(record.metrics(), record.step)

    def _measure(
        self, swept: list[tuple[Tensor, Any]]
    ) -> tuple[dict[str, LayerFlow], dict[str, ActivationFlow]]:
        """Layers and activations of a pass, from input to output."""
        outputs: dict[int, tuple[str, Tensor, Any]] = {}  # of a call or a node: the last result
        for node, g in swept:
            scope = node.scope
            if scope is not None and (path := self._standing.get(id(scope[1]))) is not None:
                outputs.setdefault(id(scope), (path, node, g))
            else:
                for arg in node.args:
                    if (path := self._standing.get(id(arg))) is not None:
                        outputs[id(node)] = (path, node, g)
            op: Any = node.op
            if op.elementwise and op.arity == 1 and node.ndim > 1:
                outputs.setdefault(id(node), (node.path_among(self._paths), node, None))
        groups: dict[str, list[Any]] = {}  # of a layer: δ, then its weights' gradients
        activations: dict[str, ActivationFlow] = {}
        self.latest, self.units = {}, {}
        with np.errstate(all="ignore"):
            for path, node, g in reversed(outputs.values()):
                if g is None:
                    name = _numbered(path, activations)
                    activations[name] = activation_of(node, self.saturation)
                    self.latest[name] = sample(node._value)
                else:
                    name = _numbered(path, groups)
                    weights = self._held[path]
                    groups[name] = [[g], [w.grad for w in weights], [w._value for w in weights]]
                    self.latest[f"δ {name}"] = sample(g)
                shape = node.shape or (1,)
                self.units[name] = shape[1] if len(shape) == 4 else shape[-1]
            sizes = iter(sizes_of([arrays for group in groups.values() for arrays in group[:2]]))
            layers = {
                name: LayerFlow(next(sizes), next(sizes), rms_of(weights))
                for name, (_, _, weights) in groups.items()
            }
        return layers, activations

    # What was recorded.

    @property
    def watched(self) -> list[str]:
        """Paths of all layers of the model, also of those that no pass has gone through."""
        return list(self._held)

    @property
    def layers(self) -> list[str]:
        """Names of the layers, from input to output, of the latest record."""
        return list(self.records[-1].layers) if self.records else []

    @property
    def activations(self) -> list[str]:
        """Names of the activations, from input to output, of the latest record."""
        return list(self.records[-1].activations) if self.records else []

    @property
    def steps(self) -> ndarray:
        """Numbers of the recorded steps."""
        return np.array([record.step for record in self.records], dtype=int)

    @property
    def losses(self) -> ndarray:
        """The loss at each recorded step."""
        return np.array([record.loss for record in self.records])

    def series(self, what: str, part: str | None = None) -> ndarray:
        """One number over time: of shape (records, layers), or (records, activations).

        Parameters
        ----------
        what : str
            A field of `LayerFlow` or `ActivationFlow`: "delta", "weight_grad", "update", …
        part : str, optional
            For "delta" and "weight_grad", the field of `Size`: "norm", "rms", …

        Returns
        -------
        ndarray
            NaN where a layer did not take part, or nothing was measured.
        """
        of_layers = what in LayerFlow._fields
        if not of_layers and what not in ActivationFlow._fields:
            known = LayerFlow._fields + ActivationFlow._fields
            raise ArgumentError(f"series: knows {', '.join(known)}; received {what!r}")
        if (what in ("delta", "weight_grad")) != (part in Size._fields):
            raise ArgumentError(
                f"series: delta and weight_grad have the parts {', '.join(Size._fields)}, others "
                f"have none; received {what!r}, {part!r}"
            )
        nothing = (math.nan,) * len(QUANTILES) if part == "quantiles" else math.nan
        rows = []
        for record in self.records:
            found: Any = record.layers if of_layers else record.activations
            row = []
            for name in self.layers if of_layers else self.activations:
                value = getattr(found[name], what) if name in found else None
                value = getattr(value, part) if part and value is not None else value
                row.append(nothing if value is None else value)
            rows.append(row)
        return np.array(rows, dtype=float)

    def __str__(self) -> str:
        if not self.records:
            return "nothing was recorded"
        record = self.records[-1]
        logs = [
            math.log10(layer.delta.rms) if layer.delta.rms else -math.inf
            for layer in record.layers.values()
        ]
        finite = [value for value in logs if math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
        wide = max(5, *map(len, record.layers))
        lines = [f"{'layer':{wide}}  RMS δ    RMS ∂L/∂W  ‖ΔW‖/‖W‖  δ on a log scale"]
        for (name, layer), value in zip(record.layers.items(), logs, strict=True):
            share = (value - low) / (high - low) if high > low else 1.0
            bar = "█" * round(1 + 23 * share) if math.isfinite(value) else ""
            update = "–" if layer.update is None else f"{layer.update:.1e}"
            lines.append(
                f"{name:{wide}}  {layer.delta.rms:.1e}  {layer.weight_grad.rms:9.1e}  "
                f"{update:>8}  {bar}"
            )
        lines.append(f"step {record.step}, loss {record.loss:.4g}, {len(self.records)} records")
        return "\n".join(lines)


def watch(model: "Module", optimizer: "Optimizer | None" = None, **options: Any) -> GradientFlow:
    """A `GradientFlow` of a model: ``with watch(model, optimizer) as flow:`` around training."""
    return GradientFlow(model, optimizer, **options)


def read_flow(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The records in a file that `GradientFlow` wrote, or is writing; a last line that is not
    whole is left out.
    """
    with Path(path).open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def _layers_of(model: "Module") -> tuple[dict[str, list[Tensor]], dict[int, str]]:
    """The layers of a model: path → parameters; id of what stands for a layer → path.

    That is a module without modules inside, or a parameter that is held elsewhere.
    """
    held: dict[str, list[Tensor]] = {}
    standing: dict[int, str] = {}
    taken: set[Tensor] = set()
    for path, module in model.named_modules():
        weights = [p for p in module.parameters() if p.ndim > 1 and p.requires_grad]
        alone = len(list(module.modules())) == 1 and (module is not model or len(weights) == 1)
        if weights and alone:
            path = path or type(module).__name__
            held[path], standing[id(module)] = weights, path
            taken.update(weights)
    for path, parameter in model.named_parameters():
        if parameter.ndim > 1 and parameter.requires_grad and parameter not in taken:
            held[path], standing[id(parameter)] = [parameter], path
    return held, standing


def _numbered(path: str, taken: Any) -> str:
    """The path or, if it is taken, the path with the first free number."""
    name, number = path, 1
    while name in taken:
        number += 1
        name = f"{path}#{number}"
    return name


def _appendable(path: Path) -> IO[bytes]:
    """A file to append lines to; what a crash left of a last line is cut off."""
    file = path.open("a+b", buffering=0)  # each line goes out in one write
    file.seek(0)
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)
    return file
