"""One forward and one backward pass through a deep stack, measured layer by layer."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from .. import datasets
from ..arrays import plain, rms
from ..core.tensor import Tensor
from ..diagnostics import LayerStatistics, predict_factors
from ..errors import ArgumentError
from ..inspection.names import intermediates
from ..nn import CrossEntropyLoss, Linear
from .network import ACTIVATIONS, Activation, Dtype, Initialisation, Stack

Data = Literal["digits", "mnist", "spirals"]

# A layer counts as not learning if a step of gradient descent with lr = 1 would change its
# weights by less than this share of their size: with a usual lr, thousands of steps do nothing.
STILL = 1e-6
# A mean factor a layer within these bounds counts as flat: over 50 layers He-ReLU nets of width
# 64 scatter by about a factor e either way (Hanin & Nica 2018), that is 2 % a layer.
FLAT = (0.9, 1.1)
# And over the whole depth no more than this, either way: 300 factors of 0.95 are not flat.
_FLAT_IN_ALL = 100.0


@dataclass(frozen=True)
class Config:
    """A stack of ``depth`` linear layers with an activation after each but the last.

    Parameters
    ----------
    depth : int
        Number of weight layers, at least 2.
    width : int
        Units of a hidden layer, at least 1.
    activation, init, data, dtype : str
        One of `Activation`, `Initialisation` (biases are 0, but for "pytorch"), `Data`, `Dtype`.
    residual : bool
        Layers between the first and the last compute h + φ(W h + b).
    batch_size : int
        Examples in the batch, at least 1 and at most as many as there are.
    seed : int
        Of weights and batch, at least 0.
    """

    depth: int = 50
    width: int = 64
    activation: Activation = "sigmoid"
    init: Initialisation = "xavier"
    residual: bool = False
    data: Data = "digits"
    batch_size: int = 64
    seed: int = 0
    dtype: Dtype = "float64"

    def __post_init__(self) -> None:
        for name, least in (("depth", 2), ("width", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name} is at least {least}; received {getattr(self, name)}")
        for name, choices in (
            ("activation", Activation),
            ("init", Initialisation),
            ("data", Data),
            ("dtype", Dtype),
        ):
            if getattr(self, name) not in get_args(choices):
                raise ArgumentError(
                    f"{name} is one of {', '.join(get_args(choices))}; "
                    f"received {getattr(self, name)!r}"
                )


@dataclass(frozen=True)
class Layer:
    """What was measured at one layer.

    Attributes
    ----------
    name : str
        Path of its linear map in the model.
    delta_rms, weight_grad_rms, activation_rms : float
        RMS of δ = ∂L/∂(pre-activation), of ∂L/∂W, and of the layer's output.
    factor : float or None
        delta_rms divided by that of the next layer towards the output; None for the last layer,
        and where both are 0.
    predicted_factor : float or None
        The same by mean-field theory, from the variance of this net's own weights.
    weight_rms : float
    """

    name: str
    delta_rms: float
    weight_grad_rms: float
    activation_rms: float
    factor: float | None
    predicted_factor: float | None
    weight_rms: float

    @property
    def still(self) -> bool:
        """Whether its gradient is too small to move its weights."""
        return self.weight_grad_rms < STILL * self.weight_rms


@dataclass(frozen=True)
class Result:
    """Measurements from input to output, and what they mean."""

    config: Config
    loss: float
    layers: list[Layer]

    @property
    def factor(self) -> float:
        """Geometric mean of the factors a layer: what one layer does to δ on its way down."""
        return _mean_factor([layer.factor for layer in self.layers])

    @property
    def predicted_factor(self) -> float:
        """The same of the predicted factors."""
        return _mean_factor([layer.predicted_factor for layer in self.layers])

    @property
    def underflow(self) -> int | None:
        """Number (from 1, at the input) of the first layer on the way down whose δ is exactly 0."""
        zero = [i for i, layer in enumerate(self.layers, 1) if layer.delta_rms == 0]
        return max(zero) if zero else None

    @property
    def still(self) -> list[int]:
        """Numbers of the layers that do not learn."""
        return [i for i, layer in enumerate(self.layers, 1) if layer.still]

    @property
    def regime(self) -> Literal["vanishing", "flat", "exploding", "not finite"]:
        """What happens to δ on its way from output to input."""
        if not all(math.isfinite(layer.delta_rms) for layer in self.layers):
            return "not finite"
        in_all = self.factor ** (len(self.layers) - 1)
        if self.factor < FLAT[0] or self.underflow or in_all < 1 / _FLAT_IN_ALL:
            return "vanishing"
        return "exploding" if self.factor > FLAT[1] or in_all > _FLAT_IN_ALL else "flat"

    @property
    def verdict(self) -> str:
        """The finding in words."""
        depth = len(self.layers)
        if self.regime == "not finite":
            bad = [i for i, x in enumerate(self.layers, 1) if not math.isfinite(x.delta_rms)]
            return f"The gradient overflows: from layer {max(bad)} down it is not finite."
        if self.underflow:
            size = f", until it underflows to exactly 0 at layer {self.underflow}"
        else:
            share = self.layers[0].delta_rms / self.layers[-1].delta_rms
            size = f"; {depth - 1} layers down it is {share:.1g} of the output's"
        if self.regime == "exploding":
            worst = max(x.weight_grad_rms / x.weight_rms for x in self.layers if x.weight_rms)
            return (
                f"The gradient grows {self.factor:.2g}× a layer{size}; a step with lr = 0.01 "
                f"would change a layer's weights by {0.01 * worst:.1g} times their size."
            )
        change = f"shrinks {1 / self.factor:.2g}× a layer"
        if self.factor > FLAT[0]:
            change = f"shrinks, × {self.factor:.3f} a layer"
        if self.regime == "flat":
            change = f"keeps its size, × {self.factor:.2f} a layer"
        return f"The gradient {change}{size}; {_learning(self.still, depth)}."

    def to_dict(self) -> dict[str, Any]:
        """The configuration, the verdict and the layers, for JSON: numbers that are not finite
        become None.
        """
        return plain(
            {
                "config": asdict(self.config),
                "loss": self.loss,
                "verdict": {
                    "regime": self.regime,
                    "sentence": self.verdict,
                    "factor": self.factor,
                    "predicted_factor": self.predicted_factor,
                    "underflow_layer": self.underflow,
                    "still_layers": self.still,
                },
                "layers": [asdict(layer) for layer in self.layers],
            }
        )


def vanish(config: Config = Config()) -> Result:
    """Measure the gradient of every layer of a deep stack at initialisation.

    Parameters
    ----------
    config : Config

    Returns
    -------
    Result

    Raises
    ------
    ArgumentError
        A batch larger than the data.
    DataNotFoundError, DataError
        MNIST is not at hand, or damaged.

    Examples
    --------
    >>> from tinygrad_stab.experiments.vanishing import Config, vanish
    >>> result = vanish(Config(depth=20))
    >>> result.regime, len(result.layers)
    ('vanishing', 20)
    """
    rng = np.random.default_rng(config.seed)
    data = _load(config.data, rng)
    if config.batch_size > len(data.labels):
        raise ArgumentError(
            f"batch_size is at most the number of examples, {len(data.labels)} for {config.data}; "
            f"received {config.batch_size}"
        )
    batch = rng.choice(len(data.labels), config.batch_size, replace=False)
    x, target = data.features(config.dtype)[batch], data.labels[batch]
    model = Stack(
        x.shape[1],
        [config.width] * (config.depth - 1),
        int(data.labels.max()) + 1,
        rng,
        activation=config.activation,
        init=config.init,
        residual=config.residual,
        dtype=config.dtype,
    )

    with np.errstate(all="ignore"):  # overflow is what some configurations are there to show
        loss = CrossEntropyLoss()(model(x), target)
        loss.backward()
        named = intermediates(loss, model)
        deltas = [rms(named[f"layers.{i}.linear"].grad) for i in range(config.depth)]
        predicted: list[float | None] = [
            *predict_factors(
                ACTIVATIONS[config.activation](),
                [_statistics(block.linear) for block in model.layers],
                rms(x) ** 2,
                config.residual,
            ),
            None,
        ]
        layers = [
            Layer(
                name=f"layers.{i}.linear",
                delta_rms=deltas[i],
                weight_grad_rms=rms(block.linear.weight.grad),
                activation_rms=rms(_output(named, i)),
                factor=_ratio(deltas, i),
                predicted_factor=predicted[i],
                weight_rms=rms(block.linear.weight.data),
            )
            for i, block in enumerate(model.layers)
        ]
    return Result(config, loss.item(), layers)


def _load(name: Data, rng: np.random.Generator) -> datasets.Dataset:
    if name == "digits":
        return datasets.digits()
    if name == "spirals":
        return datasets.spirals(1000, rng=rng)
    return datasets.mnist()[0]


def _output(named: dict[str, Tensor], i: int) -> np.ndarray:
    """What a layer hands on: the last thing that was made in it."""
    return [t for name, t in named.items() if name.startswith(f"layers.{i}.")][-1].data


def _statistics(linear: Linear) -> LayerStatistics:
    bias = 0.0 if linear.bias is None else rms(linear.bias.data) ** 2
    return LayerStatistics(
        linear.in_features, linear.out_features, rms(linear.weight.data) ** 2, bias
    )


def _ratio(sizes: list[float], i: int) -> float | None:
    if i + 1 == len(sizes) or sizes[i + 1] == 0:
        return None
    return sizes[i] / sizes[i + 1]


def _mean_factor(factors: list[float | None]) -> float:
    known = [factor for factor in factors if factor is not None and factor > 0]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else math.nan


def _learning(still: list[int], depth: int) -> str:
    """Which layers do not learn, in words."""
    if not still:
        return "every layer learns"
    if len(still) == depth:
        return "no layer learns"
    if still == list(range(still[0], still[-1] + 1)):
        which = f"layer {still[0]} does" if len(still) == 1 else f"layers {still[0]}–{still[-1]} do"
        return f"{which} not learn"
    return f"{len(still)} of {depth} layers do not learn"
