"""One cell of a sweep: a deep stack on digits, at its start and trained."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .. import datasets
from ..arrays import rms
from ..errors import ArgumentError, NonFiniteError
from ..inspection.names import intermediates
from ..nn import CrossEntropyLoss
from ..optim import SGD, Adam, clip_grad_norm_
from ..training import DataLoader, accuracy, fit
from .network import Activation, Initialisation, Normalisation, Stack

Remedy = Literal["none", "residual", "batch-norm", "layer-norm", "clip-norm", "momentum", "adam"]

_NORMS: dict[str, Normalisation] = {"batch-norm": "batch", "layer-norm": "layer"}


@dataclass(frozen=True)
class Cell:
    """A stack, what is done for it, and for how long it is trained.

    Parameters
    ----------
    depth : int
        Weight layers, at least 2.
    width : int
    activation, init : str
        As in `network`.
    remedy : str
        One of `Remedy`; a residual stack has its branches scaled by 1/√depth.
    epochs : int
        0: only the gradient at the start.
    """

    depth: int = 20
    width: int = 64
    activation: Activation = "sigmoid"
    init: Initialisation = "xavier"
    remedy: Remedy = "none"
    epochs: int = 0

    def __post_init__(self) -> None:
        for name, least in (("depth", 2), ("width", 1), ("epochs", 0)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name} is at least {least}; received {getattr(self, name)}")
        choices = {"activation": Activation, "init": Initialisation, "remedy": Remedy}
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise ArgumentError(
                    f"{name} is one of {', '.join(get_args(allowed))}; received "
                    f"{getattr(self, name)!r}"
                )


def measure(config: dict[str, Any], rng: np.random.Generator) -> dict[str, float]:
    """One cell of a sweep.

    Parameters
    ----------
    config : dict
        The fields of a `Cell`.
    rng : numpy.random.Generator
        Of weights, batch and order.

    Returns
    -------
    dict
        ``delta_first`` and ``delta_last``, the RMS of ∂L/∂(pre-activation) at both ends of the
        stack at the start; ``decay``, log10 of their ratio; after training ``loss`` and
        ``accuracy`` on digits that were not trained on (NaN if it diverged).
    """
    cell = Cell(**config)
    data = datasets.digits()
    x, labels = data.features(), data.labels
    tested = np.arange(len(labels)) % 5 == 4
    model = Stack(
        64, [cell.width] * (cell.depth - 1), 10, rng,
        activation=cell.activation, init=cell.init,
        norm=_NORMS.get(cell.remedy, "none"),
        residual=cell.remedy == "residual",
        scale=cell.depth**-0.5 if cell.remedy == "residual" else 1.0,
    )  # fmt: skip
    batch = rng.choice(np.flatnonzero(~tested), 64, replace=False)
    with np.errstate(all="ignore"):  # some cells are there to overflow
        loss = CrossEntropyLoss()(model(x[batch]), labels[batch])
        loss.backward()
        named = intermediates(loss, model)
        last, first = (rms(named[f"layers.{i}.linear"].grad) for i in (cell.depth - 1, 0))
        decay = math.log10(first / last) if first > 0 and last > 0 else -math.inf
        result = {"delta_first": first, "delta_last": last, "decay": decay}
        if cell.epochs:
            result |= _trained(cell, model, x, labels, tested, rng)
    return result


def _trained(
    cell: Cell, model: Stack, x: np.ndarray, labels: np.ndarray, tested: np.ndarray, rng: Any
) -> dict[str, float]:
    """Loss and test accuracy after training by gradient descent, or what the remedy puts for it."""
    momentum = 0.9 if cell.remedy == "momentum" else 0.0
    adam = cell.remedy == "adam"
    optimizer = (
        Adam(model.parameters()) if adam else SGD(model.parameters(), lr=0.1, momentum=momentum)
    )
    loader = DataLoader(x[~tested], labels[~tested], batch_size=64, shuffle=True, rng=rng)
    clip = (lambda ps: clip_grad_norm_(ps, 1.0)) if cell.remedy == "clip-norm" else None
    try:
        history = fit(
            model, loader, CrossEntropyLoss(), optimizer, cell.epochs, clip=clip, progress=False
        )
    except NonFiniteError:
        return {"loss": math.nan, "accuracy": math.nan}
    return {
        "loss": history[-1]["loss"],
        "accuracy": accuracy(model, x[tested], labels[tested]),
    }
