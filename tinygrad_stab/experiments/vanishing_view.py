"""How the layers of a stack are shown: a table in the terminal, a picture on a log axis."""

import math
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..files import replace_file
from .vanishing import Result

_BAR = 24  # characters
_LEAST_RANGE = 1e4  # of the axis, so that what keeps its size looks flat


def table(result: Result) -> Table:
    """Every layer, the output on top: sizes, factors and a bar on a log scale."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("layer", "RMS δ", "factor", "theory", "RMS ∂L/∂W", "RMS h"):
        rows.add_column(heading, justify="right", no_wrap=True)
    sizes = [x.delta_rms for x in result.layers if 0 < x.delta_rms < math.inf]
    low = math.floor(math.log10(min(sizes))) if sizes else 0
    high = math.ceil(math.log10(max(sizes))) if sizes else 0
    rows.add_column(f"δ from 1e{low} to 1e{high}", no_wrap=True, min_width=_BAR)
    for number, layer in reversed(list(enumerate(result.layers, 1))):
        bar = Text(_bar(layer.delta_rms, low, high), style="red" if layer.still else "green")
        if layer.delta_rms == 0:
            bar = Text("exactly 0", style="bold red")
        rows.add_row(
            str(number),
            f"{layer.delta_rms:.1e}",
            _two_digits(layer.factor),
            _two_digits(layer.predicted_factor),
            f"{layer.weight_grad_rms:.1e}",
            f"{layer.activation_rms:.2g}",
            bar,
        )
    return rows


def _bar(size: float, low: int, high: int) -> str:
    """A bar of blocks, as long as the logarithm of a size says; a sliver for the smallest."""
    if not 0 < size < math.inf or low == high:
        return ""
    eighths = max(1, round(8 * _BAR * (math.log10(size) - low) / (high - low)))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + ("" if rest == 0 else "▏▎▍▌▋▊▉"[rest - 1])


def _two_digits(factor: float | None) -> str:
    return "" if factor is None else f"{factor:.2f}" if factor < 100 else f"{factor:.0e}"


def plot(result: Result, path: Path) -> None:
    """Draw δ, the weight gradient and the prediction by layer, on a log axis, into a file.

    The format follows the ending: .png, .svg, .pdf.
    """
    from matplotlib.figure import Figure  # loads slowly, and is wanted for --plot alone

    config = result.config
    numbers = range(1, len(result.layers) + 1)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        numbers,
        [_drawable(x.delta_rms) for x in result.layers],
        "o-", ms=4, color="#1f5fa8", label="measured: RMS of δ = ∂L/∂(pre-activation)",
    )  # fmt: skip
    axes.plot(
        numbers,
        [_drawable(x.weight_grad_rms) for x in result.layers],
        "s", ms=3, color="#e08214", label="measured: RMS of ∂L/∂W",
    )  # fmt: skip
    axes.plot(
        numbers, _predicted(result), "--", color="black", lw=1, label="mean-field theory for δ"
    )
    if result.still:
        axes.axvspan(
            min(result.still) - 0.5, max(result.still) + 0.5,
            color="#d73027", alpha=0.08, label="does not learn",
        )  # fmt: skip
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    widen = math.sqrt(max(1.0, _LEAST_RANGE / (high / low)))
    axes.set_ylim(low / widen, high * widen)
    axes.set_xlim(0.5, len(result.layers) + 0.5)
    axes.set_xlabel("layer (1 reads the input)")
    axes.set_ylabel("size of the gradient")
    axes.set_title(
        f"{config.depth} × {config.width} {config.activation}, {config.init}"
        f"{', residual' if config.residual else ''}: × {result.factor:.3g} a layer"
        f" (theory {result.predicted_factor:.3g})"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="best", frameon=False)
    replace_file(path, lambda file: figure.savefig(file, dpi=150, format=path.suffix[1:]))


def _drawable(size: float) -> float:
    """A log axis has no place for 0."""
    return size if size > 0 else math.nan


def _predicted(result: Result) -> list[float]:
    """The predicted sizes, from the one that was measured at the last layer."""
    sizes = [result.layers[-1].delta_rms]
    for layer in reversed(result.layers[:-1]):
        sizes.append(sizes[-1] * (layer.predicted_factor or math.nan))
    return [_drawable(size) for size in reversed(sizes)]
