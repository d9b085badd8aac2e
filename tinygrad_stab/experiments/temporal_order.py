"""The temporal order problem: which of two symbols, seen long ago, came first?

Hochreiter & Schmidhuber 1997, "Long short-term memory", §5.6, as Pascanu, Mikolov & Bengio 2013
have it ("On the difficulty of training recurrent neural networks", §4.1.1), but shorter. What must
be known at the end was seen early, so the gradient has to come all the way back through time.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..checks import check_integers, check_numbers
from ..core.mode import no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError
from ..nn import RNN, CrossEntropyLoss, Linear, Module
from ..optim import SGD, clip_grad_norm_
from .published import Measured, row

SYMBOLS = 6  # A, B, and four that mean nothing
CLASSES = 4  # AA, AB, BA, BB
SOLVED = 0.99  # of unseen sequences answered rightly, as in the paper
_TESTED = 1000  # unseen sequences
_EVERY = 25  # steps between tests


def sequences(
    number: int, length: int, rng: np.random.Generator, dtype: Any = np.float64
) -> tuple[ndarray, ndarray]:
    """Draw sequences of the temporal order problem.

    An A or a B stands at one place within [T/10, 2T/10], another within [4T/10, 5T/10]; at all
    other places stands one of four symbols that mean nothing.

    Parameters
    ----------
    number : int
        N, how many.
    length : int
        T, at least 3, so that the two places differ.
    rng : numpy.random.Generator
    dtype : dtype
        Of the inputs.

    Returns
    -------
    inputs : ndarray of shape (T, N, 6)
        One-hot: A, B, and the four others.
    labels : ndarray of shape (N,)
        0 for AA, 1 for AB, 2 for BA, 3 for BB.

    Raises
    ------
    ArgumentError
        ``length`` below 3.

    Examples
    --------
    >>> import numpy as np
    >>> inputs, labels = sequences(2, 10, np.random.default_rng(0))
    >>> ["".join("ABcdef"[i] for i in inputs[:, n].argmax(axis=-1)) for n in range(2)]
    ['fAdccBefee', 'edBcAfeeef']
    >>> labels
    array([1, 2])
    """
    if length < 3:
        raise ArgumentError(
            f"sequences: length is at least 3, so that the two symbols stand apart; "
            f"received {length}"
        )
    symbols = rng.integers(2, SYMBOLS, (length, number))
    first = rng.integers(length // 10, 2 * length // 10 + 1, number)
    second = rng.integers(4 * length // 10, 5 * length // 10 + 1, number)
    before, after = rng.integers(0, 2, (2, number))
    symbols[first, np.arange(number)] = before
    symbols[second, np.arange(number)] = after
    return np.eye(SYMBOLS, dtype=dtype)[symbols], 2 * before + after


class Reader(Module):
    """A tanh network over time, and a linear layer that reads its last state.

    Parameters
    ----------
    hidden_size : int
    spectral_radius : float
        Magnitude of the largest eigenvalue of W_hh, to which the usual weights are scaled.
    rng : numpy.random.Generator
    dtype : dtype
    """

    def __init__(
        self, hidden_size: int, spectral_radius: float, rng: np.random.Generator, dtype: Any
    ) -> None:
        self.rnn = RNN(SYMBOLS, hidden_size, rng=rng, dtype=dtype)
        self.output = Linear(hidden_size, CLASSES, rng=rng, dtype=dtype)
        weight = dict(self.rnn.named_parameters())["weight_hh_l0"]
        weight.data *= spectral_radius / np.abs(np.linalg.eigvals(weight.data)).max()

    def forward(self, x: Any) -> Tensor:
        """Of sequences, (length, batch, 6), to logits (batch, 4)."""
        _, last = self.rnn(x)
        return self.output(last[0])


class Learnt(NamedTuple):
    """How it went.

    Attributes
    ----------
    solved : bool
        Whether 99 % of unseen sequences were answered rightly.
    steps : int
        After how many steps of training, or how many were tried.
    accuracy : float
        On unseen sequences, at the end.
    """

    solved: bool
    steps: int
    accuracy: float


def learn(
    seed: int,
    *,
    lr: float = 0.3,
    clip_norm: float | None = 1.0,
    length: int = 20,
    steps: int = 1500,
    hidden_size: int = 50,
    spectral_radius: float = 1.2,
    batch_size: int = 20,
) -> Learnt:
    """Train on ever new sequences, in float32, until the problem is solved or the steps are over.

    Parameters
    ----------
    seed : int
        Of weights and sequences; the sequences for the test are the same for all.
    lr : float
        Of gradient descent without momentum.
    clip_norm : float, optional
        Largest norm of the gradient; None for no clipping.
    length, steps, hidden_size, batch_size : int
    spectral_radius : float
        Of W_hh at the start.

    Returns
    -------
    Learnt

    Raises
    ------
    ArgumentError
        An argument outside its range.

    Examples
    --------
    >>> from tinygrad_stab.experiments.temporal_order import learn
    >>> learn(0, length=10, steps=300).solved
    True
    """
    check_integers("learn", 0, seed=seed, steps=steps)
    check_integers("learn", 1, batch_size=batch_size)
    check_numbers("learn", "above 0 and finite", lambda r: r > 0, spectral_radius=spectral_radius)
    rng = np.random.default_rng(seed)
    net = Reader(hidden_size, spectral_radius, rng, np.float32)
    parameters, loss_of = list(net.parameters()), CrossEntropyLoss()
    optimizer = SGD(parameters, lr)
    unseen, answers = sequences(_TESTED, length, np.random.default_rng(2**32), np.float32)
    accuracy = 0.0
    for step in range(1, steps + 1):
        x, labels = sequences(batch_size, length, rng, np.float32)
        optimizer.zero_grad()
        loss_of(net(x), labels).backward(retain="leaves")
        if clip_norm is not None:
            clip_grad_norm_(parameters, clip_norm)
        optimizer.step()
        if step % _EVERY == 0 or step == steps:
            with no_grad():
                accuracy = float(np.mean(net(unseen).data.argmax(axis=-1) == answers))
            if accuracy >= SOLVED:
                return Learnt(True, step, accuracy)
    return Learnt(False, steps, accuracy)


def _compare(seeds: int, **options: Any) -> tuple[str, list[Learnt], list[Learnt]]:
    """The same seeds with and without clipping, and how many solved the problem."""
    clipped = [learn(seed, clip_norm=1.0, **options) for seed in range(seeds)]
    plain = [learn(seed, clip_norm=None, **options) for seed in range(seeds)]
    text = f"clipped {sum(r.solved for r in clipped)}/{seeds}, "
    return text + f"plain {sum(r.solved for r in plain)}/{seeds}", clipped, plain


def _share(runs: list[Learnt]) -> float:
    return sum(run.solved for run in runs) / len(runs)


_SECTION = "5 · Exploding, and clipping"
_SOURCE = "Pascanu et al. 2013 §4.1.1, reduced"


@row(
    "temporal-order-clipping",
    section=_SECTION,
    claim="clipping learns what plain gradient descent cannot (T = 20, lr .3)",
    source=_SOURCE,
    published="clipped 6/6, plain 0/6",
    tolerance="≥ 5/6 against ≤ 1/6 of the seeds",
)
def _clipping(quick: bool) -> Measured:
    text, clipped, plain = _compare(3, steps=450) if quick else _compare(6)
    passed = _share(clipped) >= 5 / 6 and _share(plain) <= 1 / 6
    return Measured(text, passed, {"clipped": clipped, "plain": plain})


@row(
    "temporal-order-small-steps",
    section=_SECTION,
    claim="with small steps both learn it (T = 20, lr .03)",
    source=_SOURCE,
    published="clipped 6/6, plain 6/6",
    tolerance="≥ 5/6 of the seeds each",
    quick=False,
)
def _small_steps(quick: bool) -> Measured:
    text, clipped, plain = _compare(2 if quick else 6, lr=0.03)
    passed = min(_share(clipped), _share(plain)) >= 5 / 6
    return Measured(text, passed, {"clipped": clipped, "plain": plain})


@row(
    "temporal-order-long",
    section=_SECTION,
    claim="clipping does not help against gradients that vanish (T = 50)",
    source=_SOURCE,
    published="clipped 0/4, plain 0/4",
    tolerance="≤ 1/4 of the seeds each",
    quick=False,
)
def _long(quick: bool) -> Measured:
    text, clipped, plain = _compare(1 if quick else 4, length=50)
    passed = max(_share(clipped), _share(plain)) <= 1 / 4
    return Measured(text, passed, {"clipped": clipped, "plain": plain})
