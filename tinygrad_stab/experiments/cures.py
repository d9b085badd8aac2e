"""Cures of sick networks: what each changes and why, and one run of a network so treated."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np

from .. import datasets
from ..core.mode import no_grad
from ..core.tensor import Tensor
from ..diagnostics.flow import GradientFlow
from ..errors import NonFiniteError
from ..nn import CrossEntropyLoss, Module
from ..optim import (
    SGD,
    AdamW,
    Optimizer,
    RMSprop,
    WarmupLR,
    clip_grad_norm_,
    clip_grad_value_,
    decay_groups,
    l1_penalty,
    l2_penalty,
)
from ..training import accuracy, fit
from . import training
from .network import Activation, Initialisation, Normalisation, Stack

Data = Literal["digits", "spirals", "mnist"]
OptimizerName = Literal["sgd", "momentum", "rmsprop", "adam"]

BATCH_SIZE = 64
JUDGED = 2000  # training examples, at most, whose loss decides on the rate


@dataclass(frozen=True)
class Setting:
    """All that decides on a run, but for its seed.

    Attributes
    ----------
    data : str
    depth, width : int
        Weight layers, and units of a hidden layer.
    activation, init, norm : str
    weight_variance : float or None
        σ_w² of weights with variance σ_w²/fan_in; ``init`` is not used then.
    residual : bool
        Hidden layers add their input to their output, scaled by 1/√L with L their number.
    optimizer : str
    lr : float
    warmup : bool
        The rate rises over the first tenth of the steps.
    weight_decay, l1, l2 : float
        The optimiser's decay (decoupled for Adam); coefficients of λ·Σ|w|, or else of ½λ·Σw², in
        the loss. Biases excluded.
    clip_norm, clip_value : float or None
    steps : int
    """

    data: Data = "digits"
    depth: int = 10
    width: int = 64
    activation: Activation = "sigmoid"
    init: Initialisation = "xavier"
    weight_variance: float | None = None
    norm: Normalisation = "none"
    residual: bool = False
    optimizer: OptimizerName = "sgd"
    lr: float = 0.1
    warmup: bool = False
    weight_decay: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    steps: int = 300


@dataclass(frozen=True)
class Cure:
    """One change to a network or to its training.

    Attributes
    ----------
    name : str
    changes : dict
        Fields of `Setting` → values.
    why : str
        Why it should help, and who says so.
    """

    name: str
    changes: dict[str, Any]
    why: str


CURES = (
    Cure(
        "Xavier",
        {"init": "xavier", "weight_variance": None},
        "Var(w) = 2/(fan_in + fan_out) keeps signal and gradient where φ′ ≈ 1 (Glorot & Bengio "
        "2010, §4.2.1).",
    ),
    Cure(
        "He",
        {"init": "he", "weight_variance": None},
        "Var(w) = 2/fan_in makes up for the half that ReLU cuts off (He et al. 2015, §2.2).",
    ),
    Cure(
        "orthogonal",
        {"init": "orthogonal", "weight_variance": None},
        "All singular values are 1: a linear map that keeps every length (Saxe et al. 2014, §3).",
    ),
    Cure(
        "ReLU",
        {"activation": "relu"},
        "Its slope is 1 wherever it is active; it does not saturate (Glorot, Bordes & Bengio "
        "2011, §3.1).",
    ),
    Cure(
        "LeakyReLU",
        {"activation": "leaky-relu"},
        "As ReLU, with a slope of .01 where that is cut off (Maas, Hannun & Ng 2013, §2).",
    ),
    Cure(
        "residual",
        {"residual": True},
        "The sum hands the gradient on unchanged (He et al. 2016); 1/√L keeps its size at any "
        "depth (Hanin & Rolnick 2018).",
    ),
    Cure(
        "batch norm",
        {"norm": "batch"},
        "Pre-activations of mean 0 and variance 1 over the batch do not saturate (Ioffe & Szegedy "
        "2015, §3).",
    ),
    Cure(
        "layer norm",
        {"norm": "layer"},
        "The same over the units of one example, whatever the batch (Ba, Kiros & Hinton 2016, §3).",
    ),
    Cure(
        "clip by norm",
        {"clip_norm": 1.0},
        "Bounds the step where the gradient explodes, and keeps its direction (Pascanu et al. "
        "2013, §3.2).",
    ),
    Cure(
        "clip by value",
        {"clip_value": 0.1},
        "Bounds each entry of the gradient (Mikolov 2012, §3.2.2).",
    ),
    Cure(
        "momentum",
        {"optimizer": "momentum"},
        "Small gradients that agree add up, to 10 times their size (Polyak 1964; Sutskever et al. "
        "2013).",
    ),
    Cure(
        "RMSprop",
        {"optimizer": "rmsprop"},
        "Divides each gradient by its own size, however small (Tieleman & Hinton 2012).",
    ),
    Cure(
        "Adam",
        {"optimizer": "adam"},
        "RMSprop with momentum (Kingma & Ba 2015, algorithm 1).",
    ),
    Cure(
        "warm-up",
        {"warmup": True},
        "Small steps first, while the gradient is largest (Goyal et al. 2017, §2.2).",
    ),
    Cure(
        "weight decay",
        {"weight_decay": 1e-3},
        "Small weights keep units out of saturation, some say; its purpose is to generalise "
        "(Krogh & Hertz 1992).",
    ),
    Cure(
        "L1",
        {"l1": 1e-4},
        "As weight decay, with sparse weights (Tibshirani 1996).",
    ),
    Cure(
        "L2",
        {"l2": 1e-3},
        "For plain gradient descent the same as weight decay (Loshchilov & Hutter 2019, "
        "proposition 1).",
    ),
)

# What is used together in practice. Cures of a pair change different things.
PAIRS = (
    ("ReLU", "He"),
    ("ReLU", "orthogonal"),
    ("ReLU", "residual"),
    ("ReLU", "batch norm"),
    ("ReLU", "Adam"),
    ("He", "batch norm"),
    ("He", "momentum"),
    ("He", "Adam"),
    ("orthogonal", "Adam"),
    ("residual", "batch norm"),
    ("residual", "layer norm"),
    ("residual", "Adam"),
    ("batch norm", "Adam"),
    ("layer norm", "Adam"),
    ("clip by norm", "momentum"),
    ("clip by norm", "Adam"),
    ("warm-up", "momentum"),
    ("weight decay", "Adam"),
)


@cache
def examples(data: Data) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Inputs as rows and their classes, to train on and to test with.

    MNIST comes with a test set; of digits and of 1800 points on three spirals it is every fifth.

    Parameters
    ----------
    data : {"digits", "spirals", "mnist"}

    Returns
    -------
    (x, labels), (x, labels) : ndarray
        In float32 and int64, for training and for testing.

    Raises
    ------
    DataNotFoundError, DataError
        MNIST is not at hand, or damaged.

    Examples
    --------
    >>> from tinygrad_stab.experiments.cures import examples
    >>> (x, _), (x_test, _) = examples("digits")
    >>> x.shape, x_test.shape
    ((1438, 64), (359, 64))
    """
    if data == "spirals":
        points = datasets.spirals(1800, rng=0)
        tested = np.arange(1800) % 5 == 4
        x = points.features("float32")
        return (x[~tested], points.labels[~tested]), (x[tested], points.labels[tested])
    train, test = training.sets(training.Config(data=data))
    return (train.features("float32"), train.labels), (test.features("float32"), test.labels)


def measure(config: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """One run, as a cell of a `sweep`: a network, its gradients, its training, its accuracy.

    Parameters
    ----------
    config : dict
        "setting", a `Setting` as JSON, and "seed", from which weights and batches are drawn.
    rng : numpy.random.Generator
        Not used: treatments are to share their random numbers, not to differ in them.

    Returns
    -------
    dict
        "accuracy" on the test set; "loss", the cross-entropy of up to 2000 training examples;
        "diverged"; "start" and "end", each a list of δ and a list of shares as in `Flow`.

    Examples
    --------
    >>> import json
    >>> from dataclasses import asdict
    >>> import numpy as np
    >>> from tinygrad_stab.experiments.cures import Setting, measure
    >>> setting = json.dumps(asdict(Setting(depth=2, steps=5)))
    >>> run = measure({"setting": setting, "seed": 0}, np.random.default_rng(0))
    >>> run["diverged"], len(run["start"][0])
    (False, 2)
    """
    setting = Setting(**json.loads(config["setting"]))
    (x, labels), (x_test, labels_test) = examples(setting.data)
    weights, order = np.random.default_rng(config["seed"]).spawn(2)
    model = Stack(
        x.shape[1], [setting.width] * (setting.depth - 1), int(labels.max()) + 1, weights,
        activation=setting.activation, init=setting.init, norm=setting.norm,
        residual=setting.residual, scale=(setting.depth - 1) ** -0.5,
        weight_variance=setting.weight_variance, dtype="float32",
    )  # fmt: skip
    batches = order.integers(len(x), size=(setting.steps, BATCH_SIZE))
    loader = [(x[batch], labels[batch]) for batch in batches]
    groups = decay_groups(model, setting.weight_decay)
    optimizer = _OPTIMIZERS[setting.optimizer](groups, lr=setting.lr)
    warmup = WarmupLR(optimizer, max(1, setting.steps // 10)) if setting.warmup else None
    diverged = False
    with np.errstate(all="ignore"):  # overflow is what some settings are there to show
        start = _flow(model, *loader[0])
        try:
            fit(
                model, loader, CrossEntropyLoss(), optimizer, schedule=warmup, schedule_per="step",
                clip=_clip(setting), penalty=_penalty(setting), progress=False,
            )  # fmt: skip
        except NonFiniteError:
            diverged = True
        end = _flow(model, *loader[0])
        right = accuracy(model, x_test, labels_test)
        model.eval()
        with no_grad():
            loss = CrossEntropyLoss()(model(x[:JUDGED]), labels[:JUDGED]).item()
    return {"accuracy": right, "loss": loss, "diverged": diverged, "start": start, "end": end}


_OPTIMIZERS: dict[OptimizerName, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "rmsprop": RMSprop,
    "adam": AdamW,
}


def _clip(setting: Setting) -> Callable[[list[Tensor]], None]:
    def clip(parameters: list[Tensor]) -> None:
        if setting.clip_norm is not None:
            clip_grad_norm_(parameters, setting.clip_norm)
        if setting.clip_value is not None:
            clip_grad_value_(parameters, setting.clip_value)

    return clip


def _penalty(setting: Setting) -> Callable[[Module], Any] | None:
    if setting.l1:
        return lambda model: l1_penalty(model.parameters(), setting.l1, biases=False)
    if setting.l2:
        return lambda model: l2_penalty(model.parameters(), setting.l2, biases=False)
    return None


def _flow(model: Module, x: np.ndarray, labels: np.ndarray) -> list[list[float]]:
    """RMS of δ, and of ∂L/∂W over that of W, layer by layer."""
    model.zero_grad()
    with GradientFlow(model) as flow:
        CrossEntropyLoss()(model(x), labels).backward(retain="leaves")
    layers = list(flow.records[0].layers.values())
    return [
        [layer.delta.rms for layer in layers],
        [layer.weight_grad.rms / layer.weight_rms for layer in layers],
    ]
