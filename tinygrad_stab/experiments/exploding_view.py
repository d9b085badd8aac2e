"""How a recurrent net is shown: tables in the terminal, a picture of time and of training."""

import math
from pathlib import Path
from typing import Any

from rich.table import Table

from ..files import replace_file
from .exploding import GUESS, Result, Run

_BAR = 24  # characters
_PLAIN, _CLIPPED = "#d7301f", "#1f5fa8"
_TOP = 1e250  # of a log axis, whose margins would overflow beyond; 1/_TOP is the bottom


def table(result: Result) -> Table:
    """Every step of time, the last on top: what the gradient is, became, and could have become."""
    start = result.start
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("t", "‖∂L/∂h_t‖", "bound", f"factor ≤ {start.bound:.3g}"):
        rows.add_column(heading, justify="right", no_wrap=True)
    sizes = [norm for norm in start.norms if 0 < norm < math.inf]
    low = math.floor(math.log10(min(sizes))) if sizes else 0
    high = math.ceil(math.log10(max(sizes))) if sizes else 0
    rows.add_column(f"‖∂L/∂h_t‖ from 1e{low} to 1e{high}", no_wrap=True, min_width=_BAR)
    factors, bounds = [*start.factors, None], start.bounds
    for t in range(len(start.norms), 0, -1):
        norm, factor = start.norms[t - 1], factors[t - 1]
        rows.add_row(
            str(t),
            f"{norm:.1e}",
            f"{bounds[t - 1]:.1e}",
            "" if factor is None else f"{factor:.2f}" if factor < 100 else f"{factor:.0e}",
            "[bold red]exactly 0[/]" if norm == 0 else f"[green]{_bar(norm, low, high)}[/]",
        )
    return rows


def _bar(size: float, low: int, high: int) -> str:
    """A bar as long as the logarithm of a size says; one block for the smallest."""
    if not 0 < size < math.inf or low == high:
        return ""
    return "█" * max(1, round(_BAR * (math.log10(size) - low) / (high - low)))


def training_table(result: Result) -> Table:
    """The two runs, side by side with what a blind guess would do."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    rows.add_column("training")
    for heading in ("steps", "spikes", "largest loss", "last loss", "largest ‖g‖", "at step"):
        rows.add_column(heading, justify="right", no_wrap=True)
    for name, run in _runs(result):
        rows.add_row(
            name,
            str(len(run.losses)),
            str(len(run.spikes)),
            f"{max(run.losses):.3g}",
            "[bold red]diverged[/]" if run.diverged else f"{run.last_loss:.3g}",
            f"{run.norms[run.steepest_step]:.2g}",
            str(run.steepest_step),
        )
    rows.add_row("a blind guess", "", "", "", f"{GUESS:.3g}", "", "")
    return rows


def _runs(result: Result) -> list[tuple[str, Run]]:
    """What training runs there are, by name."""
    runs = (
        ("no clipping", result.plain),
        (f"clipped at {result.config.clip_norm:g}", result.clipped),
    )
    return [(name, run) for name, run in runs if run is not None]


def plot(result: Result, path: Path) -> None:
    """Draw the gradient by step of time beside its bound; loss and gradient norm of training.

    The format follows the ending: .png, .svg, .pdf.
    """
    from matplotlib.figure import Figure  # loads slowly, and is wanted for --plot alone

    config = result.config
    runs = _runs(result)
    figure = Figure(figsize=(12 if runs else 7, 5), layout="constrained")
    figure.suptitle(
        f"{config.activation} net of {config.hidden_size} units, {config.length} steps of time, "
        f"spectral radius {config.spectral_radius:g}"
    )
    grid = figure.add_gridspec(2, 2 if runs else 1)
    _draw_time(figure.add_subplot(grid[:, 0]), result)
    if runs:
        losses = figure.add_subplot(grid[0, 1])
        norms = figure.add_subplot(grid[1, 1], sharex=losses)
        _draw_training(losses, norms, result, runs)
    replace_file(path, lambda file: figure.savefig(file, dpi=150, format=path.suffix[1:]))


def _draw_time(axes: Any, result: Result) -> None:
    """Norms by step of time, before training and where training was the steepest."""
    passages = [("before training", "black", result.start)]
    if result.plain is not None and result.plain.steepest_step > 0:
        name = f"without clipping, step {result.plain.steepest_step}"
        passages.append((name, _PLAIN, result.plain.steepest))
    for name, color, passage in passages:
        times = range(1, len(passage.norms) + 1)
        axes.plot(times, _drawable(passage.norms), "o-", ms=3, color=color, label=name)
        axes.plot(
            times, _drawable(passage.bounds),
            "--", lw=1, color=color, label=f"its bound, × {passage.bound:.3g} a step",
        )  # fmt: skip
    axes.set_yscale("log")
    low, high = _range([norm for _, _, passage in passages for norm in passage.norms])
    _, bound = _range([bound for _, _, passage in passages for bound in passage.bounds])
    # Bounds that are far above leave the picture.
    axes.set_ylim(low / 3, 3 * min(bound, high * max(1e3, high / low)))
    axes.set_xlabel("step of time t (the loss is at the last)")
    axes.set_ylabel("‖∂L/∂h_t‖")
    finding = f"a step back multiplies it by {result.start.factor:.3g}"
    if result.regime == "not finite":
        finding = "the gradient is not finite"
    axes.set_title(f"Before training, {finding}", fontsize="medium")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _draw_training(losses: Any, norms: Any, result: Result, runs: list[tuple[str, Run]]) -> None:
    """Loss and gradient norm by step of training, of both runs."""
    from matplotlib.ticker import LogFormatter  # numbers without powers of ten, where they are few

    for (name, run), color in zip(runs, (_PLAIN, _CLIPPED), strict=True):
        losses.plot(_drawable(run.losses), lw=1, color=color, label=name)
        norms.plot(_drawable(run.norms), lw=1, color=color, label=name)
    losses.axhline(GUESS, ls=":", color="black", label="a blind guess")
    norms.axhline(result.config.clip_norm, ls=":", color="black", label="where it is clipped")
    for axes in (losses, norms):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter())
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    (_, plain), (_, clipped) = runs
    if plain.diverged and not clipped.diverged:  # it leaves the picture, or hides the other
        for axes, sizes in ((losses, clipped.losses), (norms, clipped.norms)):
            low, high = _range(sizes)
            axes.set_ylim(low / 3, 10 * high)
    endings = " · ".join(f"{_ending(run)} ({name})" for name, run in runs)
    losses.set_title(f"Training: {endings}", fontsize="medium")
    losses.set_ylabel("loss [nats]")
    norms.set_ylabel("‖gradient‖ before clipping")
    norms.set_xlabel("step of training")


def _ending(run: Run) -> str:
    return f"diverged at {len(run.losses) - 1}" if run.diverged else f"{len(run.spikes)} spikes"


def _drawable(sizes: list[float]) -> list[float]:
    """A log axis has no place for 0, nor for what is not finite, or nearly so."""
    return [size if 1 / _TOP < size < _TOP else math.nan for size in sizes]


def _range(sizes: list[float]) -> tuple[float, float]:
    """The smallest and the largest of what can be drawn; 1 and 1 if nothing can."""
    drawn = [size for size in _drawable(sizes) if not math.isnan(size)] or [1.0]
    return min(drawn), max(drawn)
