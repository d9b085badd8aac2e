"""Common claims about gradients, each put to a test: the frame, and what the claims share.

A claim has two halves. ``measure`` runs networks and returns numbers, a list over seeds under each
name. ``verdict`` sees these numbers alone, so that other numbers would give another verdict. The
claims themselves stand in `claims_depth` and `claims_training`.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import datasets
from ..arrays import plain, rms
from ..errors import ArgumentError
from ..inspection.names import intermediates
from ..nn import CrossEntropyLoss
from ..optim import SGD, Optimizer
from ..training import accuracy
from .network import Stack
from .steps import descend

Numbers = dict[str, list[float]]
Word = Literal["supported", "refuted", "depends"]

# Percent of test digits: half-way between guessing (10) and what one linear layer learns (over 90).
LEARNT = 50.0
# Ways in which a difference of no account would come out as large as this one or larger.
SIGNIFICANCE = 0.05
TRAINING_DIGITS = 1400  # of 1 797; the others are the test
CLASSES = 10


class Verdict(NamedTuple):
    """What the numbers say of a claim.

    Attributes
    ----------
    word : {"supported", "refuted", "depends"}
    reason : str
        In a sentence or two, with the numbers that decided.
    depends_on : str
        What it depends on; empty if on nothing that was varied.
    """

    word: Word
    reason: str
    depends_on: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement, and how it is put to the test.

    Attributes
    ----------
    name : str
    statement, chinese : str
        As it is found in the literature of the trade, in English and in Chinese.
    setting : str
        What is run.
    earlier : str
        What a separate measurement, by scripts without this package, gave: to compare with.
    measure : callable
        ``measure(quick)`` returns numbers; ``quick`` asks for fewer seeds, steps and rates.
    judge : callable
        ``judge(numbers)`` returns the verdict.
    """

    name: str
    statement: str
    chinese: str
    setting: str
    earlier: str
    measure: Callable[[bool], Numbers]
    judge: Callable[[Numbers], Verdict]


class Audit(NamedTuple):
    """A claim, what was measured, what follows, and the seconds it took."""

    claim: Claim
    numbers: Numbers
    verdict: Verdict
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.claim.name,
            "statement": self.claim.statement,
            "chinese": self.claim.chinese,
            "setting": self.claim.setting,
            "verdict": self.verdict._asdict(),
            "numbers": plain(self.numbers),
            "earlier": self.claim.earlier,
            "seconds": round(self.seconds, 2),
        }


CLAIMS: dict[str, Claim] = {}


def claim(
    name: str,
    *,
    statement: str,
    chinese: str,
    setting: str,
    earlier: str,
    judge: Callable[[Numbers], Verdict],
) -> Callable[[Callable[[bool], Numbers]], Callable[[bool], Numbers]]:
    """Enter the measurement below into `CLAIMS`, under a name of its own."""

    def enter(measure: Callable[[bool], Numbers]) -> Callable[[bool], Numbers]:
        if name in CLAIMS:
            raise ArgumentError(f"claim: each name once; {name!r} is taken. Choose another")
        CLAIMS[name] = Claim(name, statement, chinese, setting, earlier, measure, judge)
        return measure

    return enter


def run(claim: Claim, quick: bool) -> Audit:
    """Put a claim to the test, and take the time."""
    start = time.perf_counter()
    numbers = claim.measure(quick)
    return Audit(claim, numbers, claim.judge(numbers), time.perf_counter() - start)


# --- how verdicts weigh numbers


def exceeds(
    a: Sequence[float] | float,
    b: Sequence[float] | float,
    *,
    times: float = 1.0,
    margin: float = 0.0,
) -> bool:
    """Whether a > times·b + margin, beyond the spread over seeds.

    One-sided signed-rank test on the differences, seed by seed: their sizes are ranked, the ranks
    of the positive ones summed, and the share of all 2ⁿ ways to give them signs whose sum is as
    large must be at most 5 %. That needs 5 seeds at least, all agreeing; among more, some may
    differ. Ranks, because gradients spread over orders of magnitude.

    Wilcoxon 1945, "Individual comparisons by ranking methods".

    Parameters
    ----------
    a, b : sequence of float, or float
        One number a seed, 5 to 16, of the same seeds; one of the two may be a fixed bound.
    times, margin : float

    Returns
    -------
    bool

    Raises
    ------
    ArgumentError
        Fewer than 5 seeds, which could never show a difference; too many, or unlike counts.

    Examples
    --------
    >>> from tinygrad_stab.experiments.claims import exceeds
    >>> exceeds([3, 4, 5, 6, 7], [1, 2, 3, 4, 5]), exceeds([3, 4, 5, 6, 7], [1, 2, 3, 4, 8])
    (True, False)
    >>> exceeds([3, 4, 5, 6, 7], 2, margin=2)
    False
    """
    values, bound = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    shapes = {values.shape, bound.shape} - {()}
    if shapes not in [{(n,)} for n in range(5, 17)]:
        raise ArgumentError(
            f"exceeds: compares 5 to 16 seeds with as many, or with one number; received "
            f"{values.shape} and {bound.shape}. Run each setting with the same 5 seeds"
        )
    with np.errstate(invalid="ignore"):  # ∞ − ∞, which counts as no difference, as does NaN
        differences = values - times * bound - margin
    differences[np.isnan(differences)] = 0
    sizes = np.abs(differences)
    # Equal sizes share the mean of their ranks; a difference of 0 counts for neither side.
    smaller = np.sum(sizes[:, None] > sizes, axis=1)
    alike = np.sum(sizes[:, None] == sizes, axis=1)
    ranks = (smaller + (alike + 1) / 2) * (sizes > 0)
    found = ranks @ np.sign(differences)
    signs = np.array(list(itertools.product((-1, 1), repeat=len(ranks))))
    return bool(np.mean(signs @ ranks >= found) <= SIGNIFICANCE)


def learns(accuracies: Sequence[float]) -> bool:
    """Whether accuracies, in percent, are those of a net that has learnt, whatever the seed."""
    return exceeds(accuracies, LEARNT)


# --- how numbers are written


def spread(values: Sequence[float]) -> str:
    """Numbers over seeds: mean ± standard deviation; or median (least … largest), if the largest is
    more than 3 times the least; or the one number that they all are, but for rounding. Of yes or
    no, how many yes.
    """
    if all(isinstance(value, bool) for value in values):
        return f"{sum(values)} of {len(values)}"
    least, largest = min(values), max(values)
    if math.isclose(least, largest, rel_tol=1e-6):
        return number(largest)
    if least >= 0 and 3 * least < largest:
        return f"{number(float(np.median(values)))} ({number(least)} … {number(largest)})"
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    if not 1e-3 <= abs(mean) < 1e5:
        return f"{mean:.2e} ± {deviation:.0e}"
    decimals = max(0, 1 - math.floor(math.log10(deviation)))  # two digits of the deviation
    return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"


def about(values: Sequence[float]) -> str:
    """The median, in a few digits: for a sentence."""
    return number(float(np.median(values)))


def percent(values: Sequence[float]) -> str:
    """The median, in whole percent: for a sentence."""
    return f"{np.median(values):.0f}%"


def number(value: float) -> str:
    """Three digits at most, or powers of ten where a reader would count zeros."""
    if value != 0 and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


# --- networks on digits, for the claims to measure


def seeds(quick: bool) -> range:
    """The seeds of a measurement: the fewest that decide, or some more."""
    return range(5 if quick else 8)


def rates(quick: bool) -> tuple[float, ...]:
    """Learning rates of gradient descent to choose from; quick, the one that is mostly the best."""
    return (0.2,) if quick else (0.02, 0.2, 2.0)


class Split(NamedTuple):
    """Digits in a seed's order, float32, and the generator that goes on to draw the network."""

    rng: np.random.Generator
    x: np.ndarray
    labels: np.ndarray
    x_test: np.ndarray
    labels_test: np.ndarray


def digits(seed: int) -> Split:
    """The handwritten digits, split at random into training and test set."""
    rng, data = np.random.default_rng(seed), datasets.digits()
    order = rng.permutation(len(data.labels))
    x, labels = data.features(np.float32)[order], data.labels[order]
    n = TRAINING_DIGITS
    return Split(rng, x[:n], labels[:n], x[n:], labels[n:])


def stack(split: Split, depth: int = 6, width: int = 64, **options: Any) -> Stack:
    """A stack of so many weight layers for the digits; sigmoid and Xavier unless said otherwise."""
    options = {"activation": "sigmoid", "init": "xavier", "dtype": "float32"} | options
    hidden = [width] * (depth - 1)
    return Stack(split.x.shape[1], hidden, CLASSES, split.rng, **options)


class Trained(NamedTuple):
    """A network, its test accuracy in percent, its mean loss over the last 20 steps (infinite if it
    diverged), and at how many of the rates training diverged.
    """

    model: Stack
    accuracy: float
    loss: float
    diverged: int


def train(
    seed: int,
    steps: int,
    lrs: Sequence[float],
    *,
    optimizer: type[Optimizer] = SGD,
    clip_norm: float | None = None,
    **options: Any,
) -> Trained:
    """Train a stack on digits, batch 64: of several learning rates, the one with the least loss.

    Each rate starts from the same weights and sees the same batches. A run ends when its loss is no
    longer finite.
    """
    runs: list[Trained] = []
    diverged = 0
    for lr in lrs:
        split = digits(seed)
        model = stack(split, **options)
        moved: Any = optimizer
        with np.errstate(all="ignore"):  # divergence is what some claims are about
            steps_taken = descend(
                model, moved(model.parameters(), lr=lr), split.x, split.labels, steps,
                batch_size=64, rng=split.rng, clip_norm=clip_norm,
            )  # fmt: skip
            loss = float(np.mean(list(steps_taken)[-20:]))
            percent = 100 * accuracy(model, split.x_test, split.labels_test)
        diverged += not math.isfinite(loss)
        runs.append(Trained(model, percent, loss if math.isfinite(loss) else math.inf, 0))
    return min(runs, key=lambda trained: trained.loss)._replace(diverged=diverged)


def weight_gradients(model: Stack, split: Split) -> list[float]:
    """‖∂L/∂W‖ of every layer, input first: cross-entropy of all training digits."""
    model.zero_grad()
    with np.errstate(all="ignore"):  # of a net that has diverged
        CrossEntropyLoss()(model(split.x), split.labels).backward(retain="leaves")
        gradients: list[Any] = [block.linear.weight.grad for block in model.layers]
        return [float(np.linalg.norm(gradient)) for gradient in gradients]


def deltas(model: Stack, split: Split) -> list[float]:
    """RMS of δ = ∂L/∂(pre-activation) of every layer, input first, on the first 128 digits."""
    loss = CrossEntropyLoss()(model(split.x[:128]), split.labels[:128])
    loss.backward()
    named = intermediates(loss, model)
    return [rms(named[f"layers.{i}.linear"].grad) for i in range(len(model.layers))]
