"""How the cures of a sick network are shown: a ranking in the terminal, and as a picture."""

import math
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .remedies import LEVEL, Outcome, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = {
    "cures": "bold green", "helps": "green", "does nothing": "dim", "harms": "bold red",
    "uncertain": "yellow", "sick": "bold magenta", "healthy": "cyan",
}  # fmt: skip
_COLOURS = {
    "cures": "#1a7f37", "helps": "#7fbf7b", "does nothing": "#8c8c8c", "harms": "#c51b1b",
    "uncertain": "#e08214", "sick": "#8e44ad", "healthy": "#1f5fa8",
}  # fmt: skip
_LEAST_RANGE = 1e4  # of the axis of gradients, so that what keeps its size looks flat


def table(result: Result) -> Table:
    """Every treatment in the order of its effect, among them the sick and the healthy network."""
    rows = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        caption=(
            f"test: accuracy in %. effect: its difference to the sick network's in points, paired "
            f"by seed, with a {LEVEL:.0%} bootstrap interval over {result.config.seeds} seeds. "
            f"δ₁/δ_L: log₁₀ of RMS ∂L/∂(pre-activation) at the first layer over the last, before → "
            f"after training. learn: % of the layers whose weights plain gradient descent can "
            f"move, likewise. *: the smallest or largest rate of those tried."
        ),
        caption_justify="left",
        caption_style="dim",
    )
    rows.add_column("treatment", no_wrap=True)
    for heading in ("lr", "test", "effect", "δ₁/δ_L", "learn"):
        rows.add_column(heading, justify="right", no_wrap=True)
    rows.add_column("verdict", no_wrap=True)
    everything = sorted(
        [result.sick, result.healthy, *result.treated], key=lambda x: -x.accuracy.mean
    )
    for outcome in everything:
        effect, start, end = outcome.effect, outcome.start, outcome.end
        rows.add_row(
            outcome.name,
            f"{outcome.setting.lr:g}{'*' if outcome.at_edge else ' '}",
            f"{100 * outcome.accuracy.mean:.1f}",
            f"{100 * effect.mean:+z.0f} [{100 * effect.low:+z.0f}, {100 * effect.high:+z.0f}]"
            if outcome is not result.sick
            else "",
            f"{_power(start.ratio)} →{_power(end.ratio)}",
            f"{100 * start.learning:.0f} →{100 * end.learning:4.0f}",
            outcome.verdict,
            style=_STYLES[outcome.verdict],
        )
    return rows


def _power(log: float) -> str:
    """A logarithm in five characters, so that columns align."""
    if math.isnan(log):
        return "    –"
    return f"{log:+5.1f}" if math.isfinite(log) else "   +∞" if log > 0 else "   −∞"


def plot(result: Result) -> "Figure":
    """Accuracies with their intervals, ranked; and the gradients of the best few by layer."""
    from matplotlib.figure import Figure  # loads slowly, and is wanted for pictures alone

    shown = sorted([result.sick, result.healthy, *result.treated], key=lambda x: x.accuracy.mean)
    figure = Figure(figsize=(13, max(6.0, 1.5 + 0.24 * len(shown))), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[1.15, 1])
    _dots(figure.add_subplot(grid[:, 0]), result, shown)
    above = figure.add_subplot(grid[0, 1])
    below = figure.add_subplot(grid[1, 1], sharex=above)
    _gradients(above, result, "start")
    _gradients(below, result, "end")
    above.legend(fontsize=8, frameon=False, loc="best")
    sick = result.config.sick
    weights = sick.init if sick.weight_variance is None else f"σ_w² = {sick.weight_variance:g}"
    verdicts = [outcome.verdict for outcome in result.treated]
    figure.suptitle(
        f"{sick.depth} × {sick.width} {sick.activation}, {weights}, on {sick.data}: of "
        f"{len(verdicts)} treatments {verdicts.count('cures')} cure, {verdicts.count('helps')} "
        f"help, {verdicts.count('harms')} harm"
    )
    return figure


def _dots(axes: Any, result: Result, shown: list[Outcome]) -> None:
    """Mean accuracies and their intervals, the best on top."""
    for i, outcome in enumerate(shown):
        mean, low, high = outcome.accuracy
        axes.plot([100 * low, 100 * high], [i, i], color=_COLOURS[outcome.verdict], lw=2)
        axes.plot(100 * mean, i, "o", color=_COLOURS[outcome.verdict])
    for verdict in dict.fromkeys(x.verdict for x in reversed(shown)):
        axes.plot([], [], "o-", color=_COLOURS[verdict], label=verdict)
    axes.axvline(100 * result.sick.accuracy.mean, color=_COLOURS["sick"], lw=1, ls=":")
    axes.axvline(100 * result.healthy.accuracy.mean, color=_COLOURS["healthy"], lw=1, ls=":")
    axes.set_yticks(range(len(shown)), [x.name for x in shown], fontsize=9)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlim(0, 101)
    axes.set_xlabel(
        f"test accuracy after {result.config.steps} steps in %, "
        f"{LEVEL:.0%} interval over {result.config.seeds} seeds"
    )
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)


def _gradients(axes: Any, result: Result, when: str) -> None:
    """δ by layer; the sick network's line is wide, for an optimiser starts on the same one."""
    colours = ("#1a7f37", "#1f5fa8", "#e08214", "#666666")
    sick = getattr(result.sick, when)
    numbers = range(1, len(sick.deltas) + 1)
    axes.plot(
        numbers, _drawable(sick.deltas), color=_COLOURS["sick"], lw=6, alpha=0.4, label="sick"
    )
    for outcome, colour in zip(result.treated, colours, strict=False):
        deltas = _drawable(getattr(outcome, when).deltas)
        axes.plot(numbers, deltas, "o-", ms=4, color=colour, label=outcome.name)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    widen = math.sqrt(max(1.0, _LEAST_RANGE / (high / low)))
    axes.set_ylim(low / widen, high * widen)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("layer (1 reads the input)")
    axes.set_ylabel("RMS of δ = ∂L/∂(pre-activation)")
    reaches = f", sick: δ₁ = 10$^{{{sick.ratio:.1f}}}$ δ$_L$" if math.isfinite(sick.ratio) else ""
    axes.set_title({"start": "before training", "end": "after training"}[when] + reaches)
    axes.grid(alpha=0.3)


def _drawable(sizes: list[float]) -> list[float]:
    """A log axis has no place for 0, nor for what is not finite."""
    return [size if 0 < size < math.inf else math.nan for size in sizes]
