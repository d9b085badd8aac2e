"""Cures for a sick network, alone and in pairs, each measured against the same network untreated.

Every treatment sees the same data, the same batches in the same order and, where it does not draw
them otherwise, the same first weights, seed by seed: so differences between treatments are paired.

Learning rates: a cure must not be judged by a rate that suits another. Each treatment, the
untreated network included, tries all rates of its optimiser's grid (`RATES`) on the first seeds
(`TUNED`), and goes on, on all seeds, with the one of least training loss. The test set has no part
in the choice.

Verdicts come from a bootstrap interval of the paired difference in test accuracy (`bootstrap`,
`judge`), and from a healthy network for comparison: one hidden layer, ReLU, He, Adam, otherwise
the same.
"""

import json
import math
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ..arrays import plain
from ..checks import check_integers, check_numbers
from ..errors import ArgumentError, StabError
from .cures import CURES, PAIRS, OptimizerName, Setting, examples, measure
from .cures import Data as Data  # a part of the configuration, named with it
from .network import Activation, Initialisation
from .parallel import processes
from .sweep import sweep

Preset = Literal["vanishing", "exploding", "deep-relu"]
Verdict = Literal["cures", "helps", "does nothing", "harms", "uncertain"]

PRESETS: dict[Preset, Setting] = {
    "vanishing": Setting(depth=10, activation="sigmoid", init="xavier"),
    "exploding": Setting(depth=20, activation="relu", weight_variance=4.0),
    "deep-relu": Setting(depth=25, activation="relu", init="xavier"),
}

# The learning rates that are tried, a power of ten apart.
RATES: dict[OptimizerName, tuple[float, ...]] = {
    "sgd": (0.001, 0.01, 0.1, 1.0),
    "momentum": (0.001, 0.01, 0.1, 1.0),
    "rmsprop": (0.0001, 0.001, 0.01),
    "adam": (0.0001, 0.001, 0.01),
}
TUNED = 2  # seeds on which they are tried

# A layer can learn if one step of gradient descent with lr = 1 would change its weights by at
# least this share of their size: within hundreds of steps they then move by percents.
CAN_LEARN = 1e-4
# Coverage of the intervals. Some thirty treatments are judged at once: at 95 % one or two would
# seem to help, or to harm, by chance.
LEVEL = 0.99
# A change of accuracy of at most so much is taken for none.
MATTERS = 0.05
# A cure closes more than this part of the gap between the sick and the healthy network.
CLOSED = 0.9


@dataclass(frozen=True)
class Config:
    """A sick network, and how thoroughly it is treated.

    Parameters
    ----------
    preset : {"vanishing", "exploding", "deep-relu"}
        A sigmoid net of 10 layers with Xavier's initialisation; a ReLU net of 20 with σ_w² = 4,
        twice what keeps its signal; a ReLU net of 25 with Xavier's. All with gradient descent.
    depth : int, optional
        Number of weight layers, at least 3; None for the preset's.
    width : int
        Units of a hidden layer, at least 2.
    activation, init : str, optional
        One of `Activation`, `Initialisation`; None for the preset's.
    data : {"digits", "spirals", "mnist"}
    steps : int
        Of training, at least 1; batches of 64.
    seeds : int
        Runs of each treatment, at least 3.
    pairs : bool
        Whether pairs of cures are tried as well.
    workers : int, optional
        Processes; 1 for this one alone. Default: as many as there are processors.

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> from tinygrad_stab.experiments.remedies import Config
    >>> Config(depth=6).sick.depth, Config(preset="exploding", init="he").sick.weight_variance
    (6, None)
    """

    preset: Preset = "vanishing"
    depth: int | None = None
    width: int = 64
    activation: Activation | None = None
    init: Initialisation | None = None
    data: Data = "digits"
    steps: int = 300
    seeds: int = 6
    pairs: bool = True
    workers: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ("preset", Preset),
            ("activation", Activation),
            ("init", Initialisation),
            ("data", Data),
        ):
            value = getattr(self, name)
            left_out = value is None and name in ("activation", "init")
            if not left_out and value not in get_args(choices):
                raise ArgumentError(
                    f"{name} is one of {', '.join(get_args(choices))}; received {value!r:.60}"
                )
        for name, least in (("depth", 3), ("width", 2), ("steps", 1), ("seeds", 3), ("workers", 1)):
            if getattr(self, name) is not None or name not in ("depth", "workers"):
                check_integers("remedies", least, **{name: getattr(self, name)})
        if not isinstance(self.pairs, bool):
            raise ArgumentError(f"pairs is True or False; received {self.pairs!r:.60}")

    @property
    def sick(self) -> Setting:
        """The untreated network."""
        given = {"depth": self.depth, "activation": self.activation, "init": self.init}
        changes: dict[str, Any] = {k: value for k, value in given.items() if value is not None}
        if self.init is not None:
            changes["weight_variance"] = None
        return replace(
            PRESETS[self.preset], width=self.width, data=self.data, steps=self.steps, **changes
        )

    @property
    def healthy(self) -> Setting:
        """What the same data, width and steps give without depth."""
        return Setting(self.data, 2, self.width, "relu", "he", optimizer="adam", steps=self.steps)


# For a first look: some twenty seconds.
QUICK: dict[str, Any] = {"steps": 120, "seeds": 4, "pairs": False}


class Interval(NamedTuple):
    """A mean, and the interval that its true value is likely to lie in."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Sequence[float] | np.ndarray, level: float = LEVEL, draws: int = 10_000
) -> Interval:
    """The mean of independent values, and a percentile interval for it.

    The values are drawn from with replacement, as many as there are, and averaged; again and again.
    The interval is what the middle ``level`` of these averages spans: Efron & Tibshirani 1993, "An
    Introduction to the Bootstrap", §13.3. For paired measurements pass their differences, one a
    pair: what the two have in common, such as an easy seed, then cancels.

    Few values make the interval too narrow, by about √((n − 1)/n) and because their own spread is
    uncertain: of six normal values a 99 % interval holds the true mean some 93 times in 100. It
    knows nothing of what was the same for all values, such as the test set.

    Parameters
    ----------
    values : sequence of float
        At least 2, all finite.
    level : float
        Between 0 and 1.
    draws : int
        At least 100; always the same ones, so that equal values give equal intervals.

    Returns
    -------
    Interval

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> from tinygrad_stab.experiments.remedies import bootstrap
    >>> mean, low, high = bootstrap([0.5, 0.7, 0.6, 0.6])
    >>> round(mean, 9), 0.5 <= low < 0.56, 0.64 < high <= 0.7
    (0.6, True, True)
    """
    array = np.asarray(values, float)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise ArgumentError(
            f"bootstrap: values is a list of at least 2 finite numbers; received {values!r:.80}"
        )
    check_integers("bootstrap", 100, draws=draws)
    check_numbers("bootstrap", "between 0 and 1", lambda p: 0 < p < 1, level=level)
    chosen = np.random.default_rng(0).integers(len(array), size=(draws, len(array)))
    low, high = np.quantile(array[chosen].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(array.mean()), float(low), float(high))


def judge(effect: Interval, shortfall: Interval, gap: float) -> Verdict:
    """What a treatment does to the test accuracy, from intervals of paired differences.

    ============  ==============================================================================
    cures         it helps, and the shortfall's interval lies below 1/10 of the gap
    helps         the effect's interval lies above 0, and its mean above 5 points
    harms         the effect's interval lies below 0, and its mean below −5 points
    does nothing  the effect's interval lies between −5 and 5 points
    uncertain     anything else: it may do nothing, and it may do much
    ============  ==============================================================================

    Parameters
    ----------
    effect : Interval
        Accuracy with the treatment minus that of the sick network, from −1 to 1.
    shortfall : Interval
        Accuracy of the healthy network minus that with the treatment.
    gap : float
        Mean accuracy of the healthy network minus that of the sick one.

    Returns
    -------
    str

    Examples
    --------
    >>> from tinygrad_stab.experiments.remedies import Interval, judge
    >>> judge(Interval(0.85, 0.8, 0.9), Interval(0.02, 0.0, 0.04), gap=0.87)
    'cures'
    >>> judge(Interval(0.1, -0.1, 0.3), Interval(0.77, 0.6, 0.9), gap=0.87)
    'uncertain'
    """
    if effect.low >= -MATTERS and effect.high <= MATTERS:
        return "does nothing"
    if effect.low > 0 and effect.mean > MATTERS:
        return "cures" if shortfall.high < (1 - CLOSED) * gap else "helps"
    return "harms" if effect.high < 0 and effect.mean < -MATTERS else "uncertain"


@dataclass(frozen=True)
class Flow:
    """How the gradients of a network fare, for one batch; medians over seeds.

    Attributes
    ----------
    deltas : list of float
        RMS of δ = ∂L/∂(pre-activation), by layer from input to output.
    shares : list of float
        RMS of ∂L/∂W over RMS of W, by layer.
    """

    deltas: list[float]
    shares: list[float]

    @property
    def ratio(self) -> float:
        """log10 of δ at the first layer over δ at the last; NaN if neither is finite."""
        return _log10(self.deltas[0]) - _log10(self.deltas[-1])

    @property
    def size(self) -> float:
        """log10 of δ at the first layer."""
        return _log10(self.deltas[0])

    @property
    def learning(self) -> float:
        """Share of the layers that can learn by gradient descent: see `CAN_LEARN`."""
        return fmean(CAN_LEARN <= share < math.inf for share in self.shares)

    def to_dict(self) -> dict[str, Any]:
        """Numbers by name."""
        return asdict(self) | {
            "log10_ratio": self.ratio, "log10_size": self.size, "learning": self.learning,
        }  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What came of a treatment.

    Attributes
    ----------
    name : str
    cures : tuple of str
        One, or a pair; none for the sick and the healthy network.
    setting : Setting
        With the chosen learning rate.
    rates : dict of float to float
        Learning rates that were tried → training loss; infinite where a run diverged.
    accuracies : list of float
        On the test set, seed by seed, after the last step; a run that diverged counts with the
        weights that it had got to.
    diverged : int
        Runs in which the loss was no longer finite.
    start, end : Flow
        Before and after training.
    accuracy : Interval
    effect : Interval
        Accuracy minus that of the sick network, paired by seed.
    shortfall : Interval
        Accuracy of the healthy network minus this one's, paired by seed.
    verdict : str
    """

    name: str
    cures: tuple[str, ...]
    setting: Setting
    rates: dict[float, float]
    accuracies: list[float]
    diverged: int
    start: Flow
    end: Flow
    accuracy: Interval
    effect: Interval
    shortfall: Interval
    verdict: str

    @property
    def at_edge(self) -> bool:
        """Whether the chosen rate is the smallest or largest: a better one may lie beyond."""
        return self.setting.lr in (min(self.rates), max(self.rates))

    def to_dict(self) -> dict[str, Any]:
        """All of it by name."""
        return asdict(self) | {
            "rates": [{"lr": lr, "loss": loss} for lr, loss in self.rates.items()],
            "lr_at_edge": self.at_edge,
            "start": self.start.to_dict(), "end": self.end.to_dict(),
            "accuracy": self.accuracy._asdict(), "effect": self.effect._asdict(),
            "shortfall": self.shortfall._asdict(),
        }  # fmt: skip


@dataclass(frozen=True)
class Result:
    """Treatments in the order of their effect, the best first.

    Attributes
    ----------
    config : Config
    sick, healthy : Outcome
    treated : list of Outcome
    present : list of str
        Cures that are part of the sick network already.
    """

    config: Config
    sick: Outcome
    healthy: Outcome
    treated: list[Outcome]
    present: list[str]

    @property
    def gap(self) -> float:
        """Mean accuracy of the healthy network minus that of the sick one."""
        return self.healthy.accuracy.mean - self.sick.accuracy.mean

    @property
    def summary(self) -> list[str]:
        """The finding in plain words, a sentence each."""
        sick, healthy = self.sick, self.healthy
        lines = [
            f"Untreated, the network gets {sick.accuracy.mean:.1%} of the test set right after "
            f"{self.config.steps} steps; a healthy one {healthy.accuracy.mean:.1%}."
        ]
        if self.gap <= MATTERS:
            lines.append("So it was not sick: there is nothing to cure.")
        if sick.diverged:
            lines.append(f"Untreated, {sick.diverged} of {self.config.seeds} runs diverged.")
        for verdict, words in (
            ("cures", "Cured"), ("helps", "Helped"), ("does nothing", "Did nothing"),
            ("harms", "Harmed"), ("uncertain", "Uncertain, it depends on the seed"),
        ):  # fmt: skip
            found = [x.name for x in self.treated if x.verdict == verdict]
            if found:
                lines.append(f"{words}: {', '.join(found)}.")
        if self.present:
            lines.append(f"Part of the network already: {', '.join(self.present)}.")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Configuration, findings and all numbers, for JSON: what is not finite becomes None."""
        return plain(
            {
                "config": asdict(self.config),
                "summary": self.summary,
                "interval": {"level": LEVEL, "method": "percentile bootstrap over seeds"},
                "thresholds": {
                    "can_learn": CAN_LEARN, "matters": MATTERS, "closed": CLOSED,
                },
                "cures": [asdict(cure) for cure in CURES],
                "present": self.present,
                "sick": self.sick.to_dict(),
                "healthy": self.healthy.to_dict(),
                "treated": [outcome.to_dict() for outcome in self.treated],
            }
        )  # fmt: skip


def remedies(config: Config = Config(), progress: bool = True) -> Result:
    """Treat a sick network with every cure, and with pairs of them.

    With more than one worker, a script calls this under ``if __name__ == "__main__":``, as
    `processes` says. The numbers do not depend on the workers, as long as BLAS has one thread.

    Parameters
    ----------
    config : Config
    progress : bool
        Show bars on stderr, if that is a terminal: one for the rates, one for the other seeds.

    Returns
    -------
    Result

    Raises
    ------
    DataNotFoundError, DataError
        MNIST is not at hand, or damaged.
    StabError
        A run failed, other than by diverging.

    Examples
    --------
    >>> from tinygrad_stab.experiments.remedies import Config, remedies
    >>> config = Config(depth=3, width=8, steps=3, seeds=3, pairs=False, workers=1)
    >>> result = remedies(config, progress=False)
    >>> len(result.treated), result.present
    (16, ['Xavier'])
    """
    examples(config.data)  # what is missing is missed here, not in every worker
    treatments = _treatments(config)
    settings = {name: setting for name, (_, setting) in treatments.items()}
    seeds = list(range(config.seeds))
    executor = nullcontext() if config.workers == 1 else processes(config.workers)
    with executor as pool:
        tried = {
            (name, lr): replace(setting, lr=lr)
            for name, setting in settings.items()
            for lr in RATES[setting.optimizer]
        }
        tuning = _measure_all(list(tried.values()), seeds[:TUNED], pool, progress)
        rates: dict[str, dict[float, float]] = {name: {} for name in settings}
        for (name, lr), setting in tried.items():
            rates[name][lr] = _mean_loss(tuning[setting])
        chosen = {
            name: replace(setting, lr=min(rates[name], key=rates[name].__getitem__))
            for name, setting in settings.items()
        }
        others = _measure_all(list(chosen.values()), seeds[TUNED:], pool, progress)
    runs = {name: tuning[setting] + others[setting] for name, setting in chosen.items()}

    accuracies = {name: [run["accuracy"] for run in found] for name, found in runs.items()}
    gap = fmean(accuracies["healthy"]) - fmean(accuracies["sick"])
    outcomes = {}
    for name, (cures, _) in treatments.items():
        treated = np.array(accuracies[name])
        effect = bootstrap(treated - accuracies["sick"])
        shortfall = bootstrap(accuracies["healthy"] - treated)
        outcomes[name] = Outcome(
            name, cures, chosen[name], rates[name], accuracies[name],
            sum(run["diverged"] for run in runs[name]),
            _median_flow(runs[name], "start"), _median_flow(runs[name], "end"),
            bootstrap(treated), effect, shortfall,
            judge(effect, shortfall, gap) if cures else name,
        )  # fmt: skip
    ranked = sorted(
        (outcome for outcome in outcomes.values() if outcome.cures),
        key=lambda outcome: -outcome.effect.mean,
    )
    present = [cure.name for cure in CURES if replace(config.sick, **cure.changes) == config.sick]
    return Result(config, outcomes["sick"], outcomes["healthy"], ranked, present)


def _treatments(config: Config) -> dict[str, tuple[tuple[str, ...], Setting]]:
    """Name → cures and setting; what makes no difference to an earlier one is left out."""
    by_name = {cure.name: cure for cure in CURES}
    tried: list[tuple[str, ...]] = [(cure.name,) for cure in CURES]
    if config.pairs:
        tried += PAIRS
    treatments: dict[str, tuple[tuple[str, ...], Setting]] = {
        "sick": ((), config.sick),
        "healthy": ((), config.healthy),
    }
    seen = {config.sick}
    for names in tried:
        setting = config.sick
        for name in names:
            setting = replace(setting, **by_name[name].changes)
        if setting not in seen:
            seen.add(setting)
            treatments[" + ".join(names)] = names, setting
    return treatments


def _measure_all(
    settings: list[Setting], seeds: list[int], executor: Executor | None, progress: bool
) -> dict[Setting, list[dict[str, Any]]]:
    """Each setting's runs, a seed each."""
    texts = [json.dumps(asdict(setting)) for setting in settings]
    cells = sweep(measure, {"setting": texts, "seed": seeds}, executor=executor, progress=progress)
    runs = []
    for cell in cells:
        if cell.result is None:
            raise StabError(f"remedies: every run must end; {cell.config} ended in {cell.error}")
        runs.append(cell.result)
    n = len(seeds)
    return {setting: runs[i * n : (i + 1) * n] for i, setting in enumerate(settings)}


def _mean_loss(runs: list[dict[str, Any]]) -> float:
    """The mean training loss; infinite if a run diverged, so that another rate is preferred."""
    losses = [math.inf if run["diverged"] else run["loss"] for run in runs]
    return fmean(losses) if all(map(math.isfinite, losses)) else math.inf


def _median_flow(runs: list[dict[str, Any]], when: str) -> Flow:
    """Medians over runs; what is no number has overflown, and counts as infinite."""
    found = np.array([run[when] for run in runs])
    found[np.isnan(found)] = np.inf
    deltas, shares = np.median(found, axis=0).tolist()
    return Flow(deltas, shares)


def _log10(value: float) -> float:
    return math.log10(value) if value > 0 else -math.inf
