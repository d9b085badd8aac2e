"""Residual connections: the size of the signal, how deep a net can be trained, how many paths.

He et al. 2016, "Deep Residual Learning for Image Recognition"; De & Smith 2020, "Batch
Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks"; Veit et al.
2016, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks".
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np

from ..checks import check_integers, check_numbers
from ..core.mode import no_grad
from ..diagnostics import residual_growth
from ..errors import ArgumentError
from ..nn import BatchNorm1d, Linear, Module, ReLU, Residual, Sequential, init
from ..optim import SGD
from .network import Dtype
from .published import Measured, row
from .steps import descend
from .training import Config, Data, sets

Kind = Literal["plain", "normalised", "scaled", "bare"]


def block(
    kind: Kind, width: int, blocks: int, rng: np.random.Generator, dtype: Dtype = "float64"
) -> Module:
    """One of a stack of ``blocks`` blocks, with He's initialisation and without biases.

    Parameters
    ----------
    kind : {"plain", "normalised", "scaled", "bare"}
        relu(BN(W x)), without a skip; x + W relu(BN(x)); x + W relu(x)/√blocks; x + W relu(x).
    width, blocks : int
    rng : numpy.random.Generator
    dtype : {"float64", "float32"}

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_stab.experiments.residual import block
    >>> block("bare", 8, 1, np.random.default_rng(0))
    Residual(
      (inner): Sequential(
        (0): ReLU()
        (1): Linear(in_features=8, out_features=8, bias=False)
      )
    )
    """
    if kind not in get_args(Kind):
        raise ArgumentError(f"kind is one of {', '.join(get_args(Kind))}; received {kind!r:.60}")
    check_integers("block", 1, width=width, blocks=blocks)
    linear = Linear(width, width, bias=False, rng=rng, dtype=dtype)
    init.kaiming_normal_(linear.weight, rng=rng)
    if kind == "plain":
        return Sequential(linear, BatchNorm1d(width, dtype=dtype), ReLU())
    if kind == "normalised":
        return Residual(Sequential(BatchNorm1d(width, dtype=dtype), ReLU(), linear))
    return Residual(Sequential(ReLU(), linear), blocks**-0.5 if kind == "scaled" else 1.0)


def variance_growth(
    kind: Kind, blocks: int = 20, *, width: int = 300, batch_size: int = 128, seed: int = 0
) -> float:
    """Variance of what leaves a stack of blocks over that of its inputs, which are N(0, 1).

    Parameters
    ----------
    kind : {"plain", "normalised", "scaled", "bare"}
        See `block`.
    blocks, width : int
        At least 1.
    batch_size : int
        At least 2.
    seed : int

    Returns
    -------
    float

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> from tinygrad_stab.experiments.residual import variance_growth
    >>> 1.8 < variance_growth("scaled", 4) < 3
    True
    """
    check_integers("variance_growth", 1, blocks=blocks, width=width)
    check_integers("variance_growth", 2, batch_size=batch_size)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch_size, width))
    with no_grad():
        h: Any = x
        for _ in range(blocks):
            h = block(kind, width, blocks, rng)(h)
    return float(np.var(h.data) / np.var(x))


def final_loss(
    kind: Kind,
    blocks: int,
    lr: float,
    steps: int = 400,
    *,
    width: int = 64,
    batch_size: int = 128,
    data: Data = "mnist",
    seed: int = 0,
) -> float:
    """Train a linear map, a stack of blocks, ReLU and a linear map; the loss of the last batches.

    Plain gradient descent in float32. Before the last linear map there is batch normalisation where
    there is any in the blocks.

    Parameters
    ----------
    kind : {"plain", "normalised", "scaled", "bare"}
        See `block`.
    blocks : int
        At least 1.
    lr : float
    steps, width : int
        At least 1.
    batch_size : int
        At least 2.
    data : {"digits", "mnist"}
    seed : int

    Returns
    -------
    float
        Mean over the last eighth of the steps; NaN if a loss on the way was not finite.

    Raises
    ------
    ArgumentError
        A value outside its range.
    DataNotFoundError, DataError
        MNIST is not at hand, or damaged.

    Examples
    --------
    >>> from tinygrad_stab.experiments.residual import final_loss
    >>> final_loss("normalised", 2, 0.1, 100, data="digits") < 0.5
    True
    """
    check_integers("final_loss", 1, steps=steps)
    check_integers("final_loss", 2, batch_size=batch_size)
    check_numbers("final_loss", "above 0", lambda rate: rate > 0, lr=lr)
    check_integers("final_loss", 1, blocks=blocks, width=width)
    rng = np.random.default_rng(seed)
    train, _ = sets(Config(data=data))
    x = train.features("float32")
    ends = [Linear(a, b, rng=rng, dtype="float32") for a, b in ((x.shape[1], width), (width, 10))]
    for linear in ends:
        init.kaiming_normal_(linear.weight, rng=rng)
        assert linear.bias is not None
        init.zeros_(linear.bias)
    middle = [block(kind, width, blocks, rng, "float32") for _ in range(blocks)]
    if kind == "normalised":
        middle.append(BatchNorm1d(width, dtype="float32"))
    model = Sequential(ends[0], *middle, ReLU(), ends[1])
    optimizer = SGD(model.parameters(), lr=lr)
    with np.errstate(all="ignore"):  # overflow is what some are there to show
        losses = list(
            descend(model, optimizer, x, train.labels, steps, batch_size=batch_size, rng=rng)
        )
    if not math.isfinite(losses[-1]):
        return math.nan
    return float(np.mean(losses[-max(1, steps // 8) :]))


def best_loss(losses: Sequence[float]) -> float:
    """The smallest of several losses that is a number; NaN if none is."""
    return min((loss for loss in losses if not math.isnan(loss)), default=math.nan)


def path_share(blocks: int, shortest: int, longest: int) -> Fraction:
    """Share of the paths through a residual net that pass a number of branches.

    A path goes through each of n blocks by its branch or by its skip, so (n choose k) of 2ⁿ paths
    pass k branches (Veit et al. 2016, §4.1).

    Parameters
    ----------
    blocks : int
        n, at least 0.
    shortest, longest : int
        Least and largest k.

    Returns
    -------
    Fraction
        Exact.

    Raises
    ------
    ArgumentError
        A value below 0, or no integer.

    Examples
    --------
    >>> from tinygrad_stab.experiments.residual import path_share
    >>> path_share(3, 1, 2)
    Fraction(3, 4)
    """
    check_integers("path_share", 0, blocks=blocks, shortest=shortest, longest=longest)
    paths = sum(math.comb(blocks, k) for k in range(shortest, longest + 1))
    return Fraction(paths, 2**blocks)


@row(
    "residual-variance",
    section="4 · Depth, and what cures it",
    claim="20 residual blocks with He-initialised ReLU branches, width 300: the signal's variance "
    "bare, with batch normalisation in the branch, with branches scaled by 1/√20",
    source="De & Smith 2020; the last derived",
    published="2²⁰ = 1.05e6; 21; (1 + 1/20)²⁰ = 2.65, → e",
    tolerance="a factor 2; 10 %; 10 % of e",
)
def _variance(quick: bool) -> Measured:
    seeds = range(2 if quick else 5)
    found = {
        kind: float(np.exp(np.mean([np.log(variance_growth(kind, seed=s)) for s in seeds])))
        for kind in ("bare", "normalised", "scaled")
    }
    theory = {
        "bare": residual_growth(20).forward[-1],
        "normalised": residual_growth(20, normalised=True).forward[-1],
        "scaled": residual_growth(20, scale=20**-0.5).forward[-1],
    }
    passed = (
        abs(math.log2(found["bare"] / theory["bare"])) <= 1
        and abs(found["normalised"] / theory["normalised"] - 1) <= 0.1
        and abs(found["scaled"] / math.e - 1) <= 0.1
    )
    return Measured(
        f"{found['bare']:.2e}; {found['normalised']:.2f}; {found['scaled']:.2f}",
        bool(passed),
        {"measured": found, "theory": theory},
    )


_RATES = (0.03, 0.1, 0.3, 1.0)


@row(
    "plain-degrades",
    section="4 · Depth, and what cures it",
    claim="2, 8, 20, 56 blocks of width 64, MNIST, 400 steps, best of 4 learning rates: plain nets "
    "with batch normalisation get worse with depth, residual nets do not",
    source="He 2016, analogue",
    published="56 plain layers are worse than 20; residual nets are not",
    tolerance="loss at 56 blocks: plain above 1.5, residual with batch normalisation or with "
    "branches scaled by 1/√56 below 0.25",
    quick=False,
    mnist=True,
)
def _degrades(quick: bool) -> Measured:
    depths = (2, 8, 20, 56)
    kinds: tuple[Kind, ...] = ("plain", "normalised", "scaled")
    runs = {kind: {n: [final_loss(kind, n, lr) for lr in _RATES] for n in depths} for kind in kinds}
    best = {kind: [best_loss(runs[kind][n]) for n in depths] for kind in kinds}
    words = {"plain": "plain", "normalised": "residual", "scaled": "scaled"}
    return Measured(
        "; ".join(
            f"{words[kind]} {' '.join(f'{loss:.2f}' for loss in best[kind])}" for kind in kinds
        ),
        best["plain"][-1] > 1.5 and best["normalised"][-1] < 0.25 and best["scaled"][-1] < 0.25,
        {"learning_rates": _RATES, "blocks": depths, "losses": runs},
    )


@row(
    "bare-skips-diverge",
    section="4 · Depth, and what cures it",
    claim="20 residual blocks with neither normalisation nor scaling, MNIST: the loss is NaN at "
    "every one of 4 learning rates; with branches scaled by 1/√20 at none",
    source="De & Smith 2020",
    published="the signal's variance grows 2²⁰-fold",
    tolerance="exact",
    mnist=True,
)
def _bare(quick: bool) -> Measured:
    steps = 20 if quick else 400
    runs = {kind: [final_loss(kind, 20, lr, steps) for lr in _RATES] for kind in ("bare", "scaled")}
    failed = {kind: sum(map(math.isnan, losses)) for kind, losses in runs.items()}
    return Measured(
        f"NaN at {failed['bare']} of {len(_RATES)}, scaled at {failed['scaled']}",
        failed == {"bare": len(_RATES), "scaled": 0},
        {"learning_rates": _RATES, "losses": runs},
    )


@row(
    "veit-paths",
    section="4 · Depth, and what cures it",
    claim="54 residual blocks: paths through 5 to 17 of them, of all paths",
    source="Veit 2016",
    published="0.45 %",
    tolerance="exact",
)
def _paths(quick: bool) -> Measured:
    share = path_share(54, 5, 17)
    percent = float(100 * share)
    return Measured(f"{percent:.3f} %", f"{percent:.2f}" == "0.45", {"share": float(share)})
