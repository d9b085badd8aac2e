"""The networks of the experiments: deep stacks of one kind of layer, and LeNet-5."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from ..core.tensor import Tensor
from ..nn import (
    ELU,
    GELU,
    SELU,
    BatchNorm1d,
    Conv2d,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    init,
)

Activation = Literal[
    "sigmoid", "tanh", "relu", "leaky-relu", "elu", "selu", "gelu", "silu", "softplus"
]
Initialisation = Literal[
    "xavier", "xavier-normal", "he", "he-uniform", "lecun", "lecun-uniform", "orthogonal",
    "normal", "pytorch",
]  # fmt: skip
Normalisation = Literal["none", "batch", "layer"]
Dtype = Literal["float64", "float32"]

ACTIVATIONS: dict[str, type[Module]] = {
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky-relu": LeakyReLU,
    "elu": ELU,
    "selu": SELU,
    "gelu": GELU,
    "silu": SiLU,
    "softplus": Softplus,
}
_INITIALISERS: dict[str, Any] = {
    "xavier": init.xavier_uniform_,
    "xavier-normal": init.xavier_normal_,
    "he": init.kaiming_normal_,
    "he-uniform": init.kaiming_uniform_,
    "lecun": init.lecun_normal_,
    "lecun-uniform": init.lecun_uniform_,
    "orthogonal": init.orthogonal_,
    "normal": init.normal_,
}
_NORMS: dict[str, type[BatchNorm1d] | type[LayerNorm]] = {"batch": BatchNorm1d, "layer": LayerNorm}


def initialise(linear: Linear, scheme: str, rng: np.random.Generator) -> None:
    """Draw the weights of a layer anew and set its biases to 0; "pytorch" leaves both."""
    if scheme != "pytorch":
        _INITIALISERS[scheme](linear.weight, rng=rng)
        if linear.bias is not None:
            init.zeros_(linear.bias)


class Block(Module):
    """h = x + scale·φ(norm(W x + b)), where norm, φ (of the last layer) and skip may be absent."""

    def __init__(
        self,
        linear: Linear,
        activation: Module | None,
        skip: bool = False,
        norm: Module | None = None,
        scale: float = 1.0,
    ) -> None:
        self.linear = linear
        self.norm = norm
        self.activation = activation
        self.skip = skip
        self.scale = scale

    def forward(self, x: Any) -> Tensor:
        """Of shape (batch, in) to (batch, out)."""
        z = self.linear(x)
        if self.norm is not None:
            z = self.norm(z)
        h = z if self.activation is None else self.activation(z)
        if not self.skip:
            return h
        return x + (h if self.scale == 1.0 else self.scale * h)


class Stack(Module):
    """Linear layers with an activation after each but the last.

    Parameters
    ----------
    inputs, classes : int
    hidden : sequence of int
        Units of each hidden layer.
    activation, init, norm : str
        One of `Activation`, `Initialisation` (biases are 0, but for "pytorch"), `Normalisation`
        (before the activation).
    residual : bool
        Hidden layers that keep the number of units, but for the first, add their input to their
        output.
    scale : float
        Of what such a layer adds.
    weight_variance : float, optional
        σ_w²: the weights are normal with variance σ_w²/fan_in, and ``init`` is not used.
    rng : numpy.random.Generator
    dtype : str
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        classes: int,
        rng: np.random.Generator,
        *,
        activation: Activation = "relu",
        init: Initialisation = "he",
        norm: Normalisation = "none",
        residual: bool = False,
        scale: float = 1.0,
        weight_variance: float | None = None,
        dtype: Dtype = "float64",
    ) -> None:
        sizes = [inputs, *hidden, classes]
        self.layers = []
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            linear = Linear(fan_in, fan_out, rng=rng, dtype=dtype)
            if weight_variance is None:
                initialise(linear, init, rng)
            else:
                initialise(linear, "lecun", rng)
                linear.weight.data *= np.sqrt(weight_variance)
            if i == len(hidden):
                block = Block(linear, None)
            else:
                normed = _NORMS[norm](fan_out, dtype=dtype) if norm in _NORMS else None
                skip = residual and i > 0 and fan_in == fan_out
                block = Block(linear, ACTIVATIONS[activation](), skip, normed, scale)
            self.layers.append(block)

    def forward(self, x: Any) -> Any:
        """Logits of shape (batch, classes)."""
        for layer in self.layers:
            x = layer(x)
        return x


class LeNet5(Module):
    """Two convolutions and three linear layers on 28×28 images, with ReLU and maximum pooling.

    The sizes are those of LeCun et al. 1998, "Gradient-based learning applied to document
    recognition", figure 2; its scaled tanh, trained pooling and radial output units are not.

    Parameters
    ----------
    rng : numpy.random.Generator
    dtype : str
    """

    def __init__(self, rng: np.random.Generator, dtype: Dtype = "float64") -> None:
        self.conv1 = Conv2d(1, 6, 5, padding=2, rng=rng, dtype=dtype)
        self.conv2 = Conv2d(6, 16, 5, rng=rng, dtype=dtype)
        self.pool = MaxPool2d(2)
        self.fc1 = Linear(16 * 5 * 5, 120, rng=rng, dtype=dtype)
        self.fc2 = Linear(120, 84, rng=rng, dtype=dtype)
        self.fc3 = Linear(84, 10, rng=rng, dtype=dtype)
        self.relu = ReLU()

    def forward(self, x: Any) -> Tensor:
        """Of images as rows, (batch, 784), to logits (batch, 10)."""
        x = np.reshape(x, (-1, 1, 28, 28))
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = np.reshape(x, (-1, 400))
        return self.fc3(self.relu(self.fc2(self.relu(self.fc1(x)))))
