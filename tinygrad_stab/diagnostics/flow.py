"""Gradient flow: what every layer receives, step by step, while a network trains."""

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..checks import check_integers, check_numbers
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
    sample,
    sizes_of,
)
from .plots import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..nn.module import Module
    from ..optim.base import Optimizer


class _Seen(NamedTuple):
    """What a layer held when its pass ended, to be compared with what the optimiser makes of it."""

    gradient: float  # the norm of samples of the weights' gradients
    weights: list[ndarray]  # samples


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
        check_integers("GradientFlow", 1, every=every, capacity=capacity)
        check_numbers("GradientFlow", "finite, at least 0", lambda s: s >= 0, saturation=saturation)
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
        self._held, self._standing = layers_of(model)
        self._paths: Names = {}  # what modules call one another, found once
        self._swept: list[tuple[Tensor, Any]] = []  # (result, its gradient), output first
        self._recording: Recording | None = None
        self._file: IO[bytes] | None = None
        self._open: Record | None = None  # waits for the optimiser's step
        self._seen: dict[str, _Seen] = {}

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
        with np.errstate(all="ignore"):
            for name, layer in self._open.layers.items():
                grads = [w.grad for w in self._weights(name) if w.grad is not None]
                seen, now = self._seen[name].gradient, joint_norm([sample(g) for g in grads])
                clipped = layer.weight_grad.norm * (now / seen if seen else 1.0)
                self._open.layers[name] = layer._replace(clipped=clipped)

    def after_step(self) -> None:
        """The parameters have moved."""
        if self._open is None:
            return
        with np.errstate(all="ignore"):
            for name, layer in self._open.layers.items():
                before = self._seen[name].weights
                now = [sample(w._value) for w in self._weights(name)]
                moved = joint_norm([b - a for a, b in zip(before, now, strict=True)])
                size = joint_norm(before)
                ratio = moved / size if size else math.nan
                self._open.layers[name] = layer._replace(update=ratio)
        self._close()

    def _weights(self, name: str) -> list[Tensor]:
        """The parameters of a layer, whichever of its calls is named."""
        return self._held[name.partition("#")[0]]

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
        groups: dict[str, list[list[Any]]] = {}  # of a layer: δ, and its weights' gradients
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
                    grads = [w.grad for w in self._held[path] if w.grad is not None]
                    groups[name] = [[g], grads]
                    self.latest[f"δ {name}"] = sample(g)
                # Of an image (N, C, H, W) a unit is a channel; of (N, …, features) a feature.
                self.units[name] = node.shape[1 if node.ndim == 4 else -1] if node.ndim else 1
            sizes = sizes_of([arrays for group in groups.values() for arrays in group])
            layers, self._seen = {}, {}
            for i, (name, (_, grads)) in enumerate(groups.items()):
                weights = [sample(w._value).copy() for w in self._weights(name)]
                self._seen[name] = _Seen(joint_norm([sample(g) for g in grads]), weights)
                size = joint_norm(weights) / math.sqrt(sum(map(len, weights)))
                layers[name] = LayerFlow(sizes[2 * i], sizes[2 * i + 1], size)
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

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        predicted: Sequence[float] | None = None,
    ) -> "Figure":
        """Draw it: see `tinygrad_stab.diagnostics.plot`."""
        return plot(self, path, predicted=predicted)

    def __str__(self) -> str:
        if not self.records:
            return "nothing was recorded"
        record = self.records[-1]
        sizes = [layer.delta.rms for layer in record.layers.values()]
        logs = [math.log10(size) for size in sizes if 0 < size < math.inf] or [0.0]
        low, high = math.floor(min(logs)), math.floor(max(logs)) + 1
        low = min(low, high - 4)  # so that what keeps its size looks flat
        wide = max(5, *map(len, record.layers))
        lines = [f"{'layer':{wide}}  RMS δ    RMS ∂L/∂W  ‖ΔW‖/‖W‖  δ from 1e{low} to 1e{high}"]
        for name, layer in record.layers.items():
            size = layer.delta.rms
            bar = "exactly 0" if size == 0 else "not finite"
            if 0 < size < math.inf:
                eighths = round(8 * 24 * (math.log10(size) - low) / (high - low))
                whole, rest = divmod(max(1, eighths), 8)
                bar = "█" * whole + " ▏▎▍▌▋▊▉"[rest].strip()
            update = "–" if layer.update is None else f"{layer.update:.1e}"
            lines.append(
                f"{name:{wide}}  {size:.1e}  {layer.weight_grad.rms:9.1e}  {update:>9}  {bar}"
            )
        lines.append(f"step {record.step}, loss {record.loss:.4g}, {len(self.records)} records")
        return "\n".join(lines)


def watch(model: "Module", optimizer: "Optimizer | None" = None, **options: Any) -> GradientFlow:
    """A `GradientFlow` of a model: ``with watch(model, optimizer) as flow:`` around training.

    ``options`` are those of `GradientFlow`: ``every``, ``saturation``, ``capacity``, ``path``,
    ``log``.
    """
    return GradientFlow(model, optimizer, **options)


def read_flow(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The records in a file that `GradientFlow` wrote, or is writing; a last line that is not
    whole is left out.
    """
    with Path(path).open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def layers_of(model: "Module") -> tuple[dict[str, list[Tensor]], dict[int, str]]:
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
