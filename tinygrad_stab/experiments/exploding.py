"""A recurrent net: its gradient on the way back through time, training with and without clipping.

∂L/∂h_t = W_hhᵀ·(φ′ ⊙ ∂L/∂h_{t+1}): the same matrix at every step. Pascanu, Mikolov & Bengio 2013,
"On the difficulty of training recurrent neural networks".
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy import ndarray

from ..arrays import plain, rms
from ..checks import check_choice, check_integers, check_numbers
from ..core.tensor import Tensor
from ..diagnostics import recurrent_bound
from ..nn import CrossEntropyLoss, Linear, Module, init
from ..ops.activations import relu, sigmoid
from ..ops.elementwise import tanh
from ..optim import SGD, clip_grad_norm_
from .published import Measured, row
from .temporal_order import CLASSES, SYMBOLS, sequences

Activation = Literal["tanh", "sigmoid", "relu", "linear"]

# Each with γ, its largest slope.
_ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "tanh": (tanh, 1.0),
    "sigmoid": (sigmoid, 0.25),
    "relu": (relu, 1.0),
    "linear": (lambda z: z, 1.0),
}
# Inputs this weak leave tanh near 0, where its slope is 1; strong ones saturate it.
_INPUT_STD = 0.01
# The gradient counts as flat if it changes by less than this over the whole sequence.
_FLAT = 10.0
# A loss counts as a spike if it is more than twice that of a blind guess.
GUESS = math.log(CLASSES)
_SPIKE = 2 * GUESS


@dataclass(frozen=True)
class Config:
    """A recurrent net that learns the temporal order problem.

    Parameters
    ----------
    hidden_size : int
        Units of the state h, at least 1.
    length : int
        Steps of time T, at least 3.
    activation : str
        φ, one of `Activation`.
    spectral_radius : float
        Magnitude of the largest eigenvalue of W_hh at the start, above 0.
    batch_size : int
        Sequences in a batch, at least 1.
    seed : int
        Of weights and sequences, at least 0.
    steps : int
        Of training; 0 for the gradient at the start alone.
    lr, clip_norm : float
        Of gradient descent, and the largest norm of the gradient in the run that is clipped; above
        0.

    Raises
    ------
    ArgumentError
        A value outside its range.
    """

    hidden_size: int = 50
    length: int = 20
    activation: Activation = "tanh"
    spectral_radius: float = 1.2
    batch_size: int = 20
    seed: int = 0
    steps: int = 300
    lr: float = 0.3
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        check_integers("explode", 0, seed=self.seed, steps=self.steps)
        check_integers("explode", 1, hidden_size=self.hidden_size, batch_size=self.batch_size)
        check_integers("explode", 3, length=self.length)
        check_numbers(
            "explode", "above 0 and finite", lambda value: value > 0,
            spectral_radius=self.spectral_radius, lr=self.lr, clip_norm=self.clip_norm,
        )  # fmt: skip
        check_choice("explode", get_args(Activation), activation=self.activation)


class Network(Module):
    """h_t = φ(W_ih x_t + W_hh h_{t−1}), and logits from h_T.

    W_hh is normal, scaled to its spectral radius; W_ih is normal with standard deviation .01. A
    bias would add nothing: inputs are one-hot, so what all columns of W_ih share is one.

    Parameters
    ----------
    config : Config
    rng : numpy.random.Generator
    """

    def __init__(self, config: Config, rng: np.random.Generator) -> None:
        size = config.hidden_size
        self.input = Linear(SYMBOLS, size, bias=False, rng=rng)
        self.recurrent = Linear(size, size, bias=False, rng=rng)
        self.output = Linear(size, CLASSES, rng=rng)
        self.activation, self.slope = _ACTIVATIONS[config.activation]
        init.normal_(self.input.weight, std=_INPUT_STD, rng=rng)
        weight = init.normal_(self.recurrent.weight, rng=rng)
        weight.data *= config.spectral_radius / np.abs(np.linalg.eigvals(weight.data)).max()

    def forward(self, x: Any) -> tuple[Tensor, list[Tensor]]:
        """Of sequences, (length, batch, 6), to logits (batch, 4) and the states h_1 … h_T."""
        h: Any = np.zeros((x.shape[1], self.recurrent.in_features))
        states = []
        for step in x:
            h = self.activation(self.input(step) + self.recurrent(h))
            states.append(h)
        return self.output(h), states


@dataclass(frozen=True)
class Passage:
    """The gradient on its way back through time, in one backward pass.

    Attributes
    ----------
    norms : list of float
        ‖∂L/∂h_t‖ for t = 1 … T, over all sequences of the batch.
    bound : float
        ‖W_hh‖₂·γ, with γ = max |φ′|: no step of time can multiply the norm by more.
    """

    norms: list[float]
    bound: float

    @property
    def factors(self) -> list[float | None]:
        """‖∂L/∂h_t‖/‖∂L/∂h_{t+1}‖ for t = 1 … T − 1; None where the gradient has become 0."""
        return [a / b if b else None for a, b in zip(self.norms, self.norms[1:], strict=False)]

    @property
    def factor(self) -> float:
        """Their geometric mean, as far back as the gradient is not 0; 0 if it is so at once."""
        known = [math.log(factor) for factor in self.factors if factor]
        return math.exp(sum(known) / len(known)) if known else 0.0

    @property
    def bounds(self) -> list[float]:
        """What the last norm could at most become, for t = 1 … T."""
        back = np.arange(len(self.norms))[::-1]
        with np.errstate(over="ignore", under="ignore"):
            return (self.norms[-1] * np.power(self.bound, back, dtype=np.float64)).tolist()

    @property
    def underflow(self) -> int | None:
        """The latest t at which the norm is exactly 0."""
        zero = [t for t, norm in enumerate(self.norms, 1) if norm == 0]
        return max(zero) if zero else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"factor": self.factor, "factors": self.factors}


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes
    ----------
    losses, norms : list of float
        Of each step: the loss, and the norm of the gradient of all parameters, before clipping.
    steepest_step : int
        The step, from 0, at which that norm was the largest.
    steepest : Passage
        The gradient through time at that step.
    """

    losses: list[float]
    norms: list[float]
    steepest_step: int
    steepest: Passage

    @property
    def diverged(self) -> bool:
        """Whether the last loss or gradient is NaN or infinite: there the run was stopped."""
        return not (math.isfinite(self.losses[-1]) and math.isfinite(self.norms[-1]))

    @property
    def spikes(self) -> list[int]:
        """Steps, from 0, whose loss was more than twice that of a blind guess, ln 4, or NaN."""
        return [step for step, loss in enumerate(self.losses) if not loss <= _SPIKE]

    @property
    def last_loss(self) -> float:
        """Median of the last 20 steps; NaN if the run diverged."""
        return math.nan if self.diverged else float(np.median(self.losses[-20:]))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "diverged": self.diverged,
            "spikes": self.spikes,
            "last_loss": self.last_loss,
            "losses": self.losses,
            "norms": self.norms,
            "steepest_step": self.steepest_step,
            "steepest": self.steepest.to_dict(),
        }


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes
    ----------
    config : Config
    start : Passage
        The gradient through time before any training.
    plain, clipped : Run or None
        From the same weights on the same sequences, without and with clipping; None if no training
        was asked for.
    """

    config: Config
    start: Passage
    plain: Run | None
    clipped: Run | None

    @property
    def regime(self) -> Literal["vanishing", "flat", "exploding", "not finite"]:
        """What happens to the gradient at the start on its way back, over the whole sequence."""
        first, last = self.start.norms[0], self.start.norms[-1]
        if not all(map(math.isfinite, self.start.norms)):
            return "not finite"
        if first <= last / _FLAT:
            return "vanishing"
        return "exploding" if first >= last * _FLAT else "flat"

    @property
    def verdict(self) -> str:
        """The finding in words."""
        text = _of_gradient(self.start, self.regime)
        if self.plain is not None and self.clipped is not None:
            text += (
                f" Trained without clipping, {_of_run(self.plain)}; clipped at "
                f"{self.config.clip_norm:g}, {_of_run(self.clipped)}. (A blind guess has "
                f"{GUESS:.2f}, a spike more than twice that.)"
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        """Configuration, verdict, gradients and runs, for JSON: numbers that are not finite
        become None.
        """
        return plain(
            {
                "config": asdict(self.config),
                "verdict": {"regime": self.regime, "sentence": self.verdict},
                "start": self.start.to_dict(),
                "plain": self.plain and self.plain.to_dict(),
                "clipped": self.clipped and self.clipped.to_dict(),
            }
        )


def explode(config: Config = Config()) -> Result:
    """Follow the gradient of a recurrent net back through time; train it with and without clipping.

    Parameters
    ----------
    config : Config

    Returns
    -------
    Result

    Examples
    --------
    >>> from tinygrad_stab.experiments.exploding import Config, explode
    >>> result = explode(Config(activation="linear", steps=0))
    >>> result.regime, round(result.start.factor, 1)
    ('exploding', 1.2)
    """
    with np.errstate(all="ignore"):  # overflow is what some configurations are there to show
        rng = np.random.default_rng(config.seed)
        net = Network(config, rng)
        _, grads = back_through_time(net, *sequences(config.batch_size, config.length, rng))
        start = _passage(net, grads)
        if config.steps == 0:
            return Result(config, start, None, None)
        return Result(config, start, _train(config, math.inf), _train(config, config.clip_norm))


def back_through_time(net: Network, x: ndarray, labels: ndarray) -> tuple[float, ndarray]:
    """One backward pass: the loss, and ∂L/∂h_t of shape (length, batch, hidden_size)."""
    logits, states = net(x)
    loss = CrossEntropyLoss()(logits, labels)
    loss.backward()
    return loss.item(), np.array([h.grad for h in states])


def _passage(net: Network, grads: ndarray) -> Passage:
    norms = [rms(g) * math.sqrt(g.size) for g in grads]  # no square over- or underflows
    return Passage(norms, recurrent_bound(net.recurrent.weight, 1, net.slope))


def _train(config: Config, clip_norm: float) -> Run:
    rng = np.random.default_rng(config.seed)  # so that every run sees the same
    net = Network(config, rng)
    parameters = list(net.parameters())
    optimizer = SGD(parameters, config.lr)
    losses: list[float] = []
    norms: list[float] = []
    steepest_step = 0
    for step in range(config.steps):
        optimizer.zero_grad()
        loss, grads = back_through_time(net, *sequences(config.batch_size, config.length, rng))
        losses.append(loss)
        norms.append(float(clip_grad_norm_(parameters, clip_norm)))
        if step == 0 or norms[steepest_step] < norms[step] < math.inf:
            steepest_step, steepest = step, _passage(net, grads)
        if not (math.isfinite(loss) and math.isfinite(norms[-1])):
            break
        optimizer.step()
    return Run(losses, norms, steepest_step, steepest)


def _of_gradient(start: Passage, regime: str) -> str:
    """What happens to the gradient, in words."""
    if regime == "not finite":
        return "The gradient is not finite: on the way through time, numbers overflow."
    if start.underflow:
        size = f"it underflows to exactly 0 at step {start.underflow}"
    else:
        share = start.norms[0] / start.norms[-1]
        size = f"{len(start.norms) - 1} steps back it is {share:.2g} times the last"
    change = {"vanishing": "vanishes", "flat": "keeps its size", "exploding": "explodes"}[regime]
    return (
        f"The gradient {change}: × {start.factor:.3g} a step of time, of at most × "
        f"{start.bound:.3g} (‖W‖₂·γ); {size}."
    )


def _of_run(run: Run) -> str:
    """How a run went, in words."""
    if run.diverged:
        return f"it diverges at step {len(run.losses) - 1}"
    spikes = "never spikes"
    if run.spikes:
        spikes = f"spikes at {len(run.spikes)} of {len(run.losses)} steps, "
        spikes += f"up to {max(run.losses):.3g},"
    return f"the loss {spikes} and ends at {run.last_loss:.3g}"


@row(
    "vanishing-bound",
    section="5 · Exploding, and clipping",
    claim="if ‖W‖₂ < 1/γ the gradient of a recurrent net falls at every step of time, in every "
    "sequence (n = 50, T = 50; tanh γ = 1, sigmoid γ = ¼)",
    source="Pascanu et al. 2013 §2.1",
    published="every factor ≤ ‖W‖₂γ = .99",
    tolerance="exact",
)
def _vanishing_bound(quick: bool) -> Measured:
    largest: dict[str, float] = {}
    seeds = range(10 if quick else 100)
    for activation in ("tanh", "sigmoid"):
        for seed in seeds:
            rng = np.random.default_rng(seed)
            net = Network(Config(activation=activation), rng)
            weight = net.recurrent.weight
            weight.data *= 0.99 / recurrent_bound(weight, 1, net.slope)
            _, grads = back_through_time(net, *sequences(20, 50, rng))
            norms = np.linalg.norm(grads, axis=-1)  # (length, batch)
            factor = float(np.max(norms[:-1] / norms[1:]))
            largest[activation] = max(factor, largest.get(activation, 0.0))
    text = ", ".join(f"{name} ≤ {factor:.3f}" for name, factor in largest.items())
    return Measured(
        f"{text} ({len(seeds)} seeds)", max(largest.values()) <= 0.99, {"largest factor": largest}
    )
