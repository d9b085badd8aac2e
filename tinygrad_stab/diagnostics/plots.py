"""Pictures of a gradient flow: where gradients go, layer by layer and step by step."""

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from ..errors import ArgumentError, DtypeError
from ..files import replace_file
from .finite_width import gradient_band

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .flow import GradientFlow

_OVERLAID = 6  # layers whose histograms lie one above the other; of more, these are drawn
_NAMED = 10  # layers that have their names written out; more are numbered
_LONGEST = 16  # characters of a name
_LEAST_RANGE = 1e3  # of the axis of δ, so that what keeps its size looks flat
_BINS = 45
_COLOURS = "viridis"


def plot(
    flow: "GradientFlow",
    path: str | os.PathLike[str] | None = None,
    *,
    predicted: Sequence[float] | None = None,
) -> "Figure":
    """Draw what a flow has recorded, a panel for each thing that there is data for.

    - RMS of δ = ∂L/∂(pre-activation) by layer, at the first, middle and last record, on a log
      axis; of more than one record also a map of layers and steps;
    - how δ and the activations are distributed in each layer, at the last record, in the manner of
      Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural
      networks", figures 6 and 7; but |δ| on a log axis, as it may span tens of decades;
    - share of saturated elements and dead units over time;
    - with an optimiser: ‖ΔW‖/‖W‖ over time beside the rule of thumb 1e-3, and the norm of the
      gradient before and after clipping.

    A δ that is exactly 0 is drawn as a triangle at the bottom, one that is not finite as a cross at
    the top.

    Parameters
    ----------
    flow : GradientFlow
    path : path, optional
        Write the picture to this file too; its ending says how: .png, .svg, .pdf.
    predicted : sequence of float, optional
        By what theory says that the RMS of δ changes from each layer to the one below it, from the
        input on (`predict_factors`): one fewer than layers. Drawn from the first record's last
        layer, in the band within which nine of ten He-ReLU networks of these widths lie
        (`gradient_band`).

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ArgumentError
        Nothing was recorded; ``predicted`` has another length, or holds what is no positive
        number; the ending of ``path`` is none that Matplotlib can write.
    DtypeError
        ``predicted`` holds no numbers.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> net = tg.nn.Sequential(tg.nn.Linear(4, 8, rng=0), tg.nn.Tanh(), tg.nn.Linear(8, 3, rng=1))
    >>> with tg.diagnostics.watch(net) as flow:
    ...     net(np.eye(4)).sum().backward()
    >>> [axes.get_title() for axes in tg.diagnostics.plot(flow).axes]
    ['RMS of δ × 0.15 a layer', '|δ| in each layer', 'activations', 'dead and saturated']
    """
    from matplotlib.figure import Figure  # loads slowly, and is wanted here alone

    if not flow.records:
        raise ArgumentError(
            "plot: at least one backward pass must be recorded; none was. Was the loss computed by "
            "this model, and inside the with block?"
        )
    factors = None if predicted is None else _checked(predicted, len(flow.layers))
    panels: list[Callable[[GradientFlow, Axes], None]] = [partial(_by_layer, predicted=factors)]
    if len(flow.records) > 1:
        panels.append(_over_time)
    if any(_visible(flow.latest[f"δ {name}"]).any() for name in flow.layers):
        panels.append(_gradient_histograms)
    if any(np.isfinite(flow.latest[name]).any() for name in flow.activations):
        panels.append(_activation_histograms)
    if flow.activations:
        panels.append(_dead_and_saturated)
    if _visible(flow.series("update")).any():
        panels.append(_updates)
    if _visible(flow.series("clipped")).any():
        panels.append(_norms)
    columns = {4: 2, 7: 4}.get(len(panels), min(len(panels), 3))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.6 * rows), layout="constrained")
    with np.errstate(all="ignore"):
        for place, draw in enumerate(panels, 1):
            axes = figure.add_subplot(rows, columns, place)
            draw(flow, axes)
    if path is not None:
        _save(figure, Path(path))
    return figure


def _checked(predicted: Any, layers: int) -> list[float]:
    """The factors, if there is one between each pair of neighbours."""
    try:
        factors = [float(factor) for factor in predicted]
    except (TypeError, ValueError) as error:
        raise DtypeError(
            f"plot: predicted is a list of numbers; received {predicted!r:.60}. Pass what "
            f"predict_factors returns"
        ) from error
    if len(factors) != layers - 1 or not all(0 < factor < math.inf for factor in factors):
        raise ArgumentError(
            f"plot: predicted holds a positive factor between each of {layers} layers and the next,"
            f" {layers - 1} in all; received {len(factors)}: {predicted!r:.60}"
        )
    return factors


def _save(figure: "Figure", path: Path) -> None:
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise ArgumentError(
            f"plot: the file's ending is one of {', '.join(sorted(known))}; received {path.name!r}"
        )
    kind = path.suffix[1:].lower()
    replace_file(path, lambda file: figure.savefig(file, dpi=150, format=kind))


# --- the panels


def _by_layer(flow: "GradientFlow", axes: "Axes", predicted: list[float] | None) -> None:
    sizes = flow.series("delta", "rms")
    places = np.arange(1, sizes.shape[1] + 1)
    chosen = sorted({0, len(sizes) // 2, len(sizes) - 1})
    for i, colour in zip(chosen, ("#9ecae1", "#4292c6", "#08306b")[-len(chosen) :], strict=True):
        axes.plot(
            places, _drawable(sizes[i]), "o-", ms=5, color=colour, label=f"step {flow.steps[i]}"
        )
    drawn = sizes[chosen]
    if predicted is not None:
        tail = np.cumprod(np.append(1.0, predicted[::-1]))[::-1]
        line = _drawable(sizes[0, -1] * tail)
        band = gradient_band([flow.units.get(name, 1) for name in flow.layers[:-1]])
        low, high = (line * np.append(edge, 1.0) for edge in (band.low, band.high))
        axes.plot(places, line, "--", color="#d95f02", lw=2, zorder=4, label="theory")
        axes.fill_between(places, low, high, color="black", alpha=0.1, label="90 % of nets")
        drawn = np.vstack([drawn, _drawable(low), _drawable(high)])
    bottom, top = _log_axis(axes, drawn, _LEAST_RANGE)
    _mark(axes, places, np.any(sizes[chosen] == 0, axis=0), bottom, "v", "exactly 0")
    _mark(axes, places, ~np.isfinite(sizes[chosen]).all(axis=0), top, "X", "not finite")
    axes.set_xlim(0.5, len(places) + 0.5)
    _name_layers(axes, flow.layers)
    axes.set_ylabel("RMS of δ = ∂L/∂(pre-activation)")
    axes.legend(fontsize=9)
    last = sizes[-1]
    if len(last) > 1 and 0 < last[0] < math.inf and 0 < last[-1] < math.inf:
        logs = (math.log(last[0]) - math.log(last[-1])) / (len(last) - 1)
        axes.set_title(f"RMS of δ × {math.exp(logs):.2g} a layer")
    else:
        axes.set_title("δ by layer")


def _over_time(flow: "GradientFlow", axes: "Axes") -> None:
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    sizes = flow.series("delta", "rms")
    visible = sizes[_visible(sizes)]
    low, high = (visible.min(), visible.max()) if len(visible) else (1.0, 10.0)
    colours = colormaps[_COLOURS].with_extremes(bad="#d9d9d9", under="black")
    scale = LogNorm(low, max(high, low * 10))
    edges = np.arange(sizes.shape[1] + 1) + 0.5
    steps = flow.steps
    gap = steps[-1] - steps[-2]
    # A record holds from its step to that of the next. 0 is below the scale, not beyond it.
    shown = np.where(sizes == 0, low / 10, np.where(np.isfinite(sizes), sizes, np.nan))
    image = axes.pcolormesh(
        np.append(steps, steps[-1] + gap), edges, shown.T, norm=scale, cmap=colours,
        rasterized=True,
    )  # fmt: skip
    notes = ["black: exactly 0"] * bool((sizes == 0).any())
    notes += ["grey: not finite"] * bool(not np.isfinite(sizes).all())
    axes.figure.colorbar(image, ax=axes, label="RMS of δ")
    axes.set_ylim(0.5, len(edges) - 0.5)
    _name_layers(axes, flow.layers, vertical=True)
    _step_axis(axes)
    axes.set_title(", ".join(["δ over time", *notes]))


def _gradient_histograms(flow: "GradientFlow", axes: "Axes") -> None:
    chosen = _spread_over(flow.layers)
    seen = [np.abs(flow.latest[f"δ {flow.layers[i]}"].astype(float)) for i in chosen]
    logs = [np.log10(values[_visible(values)]) for values in seen]
    whole = np.concatenate(logs)
    low, high = (np.percentile(whole, 0.2), whole.max()) if len(whole) else (0.0, 1.0)
    edges = np.linspace(low - 0.2, high + 0.2, _BINS + 1)
    names = _labels(flow.layers)
    for i, values, every in zip(chosen, logs, seen, strict=True):
        counts, _ = np.histogram(values, edges)
        axes.stairs(
            counts / max(1, every.size) / (edges[1] - edges[0]), 10.0**edges, lw=1.8,
            color=_colour(i, flow.layers), label=names[i],
        )  # fmt: skip
    axes.set_xscale("log")
    left_out = any(len(a) < len(b) for a, b in zip(logs, seen, strict=True))
    axes.set_xlabel("|δ| (0 and what is not finite is left out)" if left_out else "|δ|")
    axes.set_ylabel("share of elements a decade")
    axes.set_title("|δ| in each layer" if len(chosen) == len(names) else "|δ| in some layers")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9)


def _activation_histograms(flow: "GradientFlow", axes: "Axes") -> None:
    chosen = _spread_over(flow.activations)
    seen = [flow.latest[flow.activations[i]].astype(float) for i in chosen]
    finite = [values[np.isfinite(values)] for values in seen]
    whole = np.concatenate(finite)
    # Far outliers would leave all others a bin or two.
    low, high = np.percentile(whole, [0.5, 99.5]) if len(whole) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    names = _labels(flow.activations)
    for i, values in zip(chosen, finite, strict=True):
        counts, _ = np.histogram(values, edges)
        axes.stairs(
            counts / max(1, values.size), edges, lw=1.8, color=_colour(i, flow.activations),
            label=names[i],
        )  # fmt: skip
    axes.set_ylim(3e-4, 1.5)
    axes.set_yscale("log")
    axes.set_xlabel("output of the activation")
    axes.set_ylabel("share of elements a bin")
    axes.set_title("activations" if len(chosen) == len(names) else "some activations")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9)


def _dead_and_saturated(flow: "GradientFlow", axes: "Axes") -> None:
    marker = "o" if len(flow.records) == 1 else ""
    for what, style in (("saturated", "--"), ("dead", "-")):
        shares = flow.series(what)
        for i in range(shares.shape[1]):
            colour = _colour(i, flow.activations)
            axes.plot(flow.steps, 100 * shares[:, i], style, color=colour, marker=marker or None)
    axes.plot([], [], "k-", marker=marker or None, label="units that no example moves")
    axes.plot(
        [], [], "k--", marker=marker or None, label=f"elements with |φ′| < {flow.saturation:g}"
    )
    axes.set_ylim(-3, 103)
    _step_axis(axes)
    axes.set_ylabel("% of an activation")
    axes.grid(alpha=0.25)
    axes.set_title("dead and saturated")
    axes.legend(fontsize=9)


def _updates(flow: "GradientFlow", axes: "Axes") -> None:
    ratios = flow.series("update")
    marker = "o" if len(flow.records) == 1 else None
    for i, name in enumerate(_labels(flow.layers)):
        colour = _colour(i, flow.layers)
        axes.plot(flow.steps, _drawable(ratios[:, i]), color=colour, marker=marker, label=name)
    axes.axhline(1e-3, color="black", ls=":", lw=1.5, label="rule of thumb")
    _log_axis(axes, np.append(ratios, 1e-3))
    _step_axis(axes)
    axes.set_ylabel("‖ΔW‖ / ‖W‖ of a step")
    still = int((ratios.max(axis=0) == 0).sum())
    axes.set_title(f"steps of the weights{f', 0 in {still} layers' if still else ''}")
    _legend(axes, flow.layers)


def _norms(flow: "GradientFlow", axes: "Axes") -> None:
    """Of the gradient of all weights together."""
    before, after = (
        np.hypot.reduce(np.where(np.isnan(series), 0, series), axis=1)
        for series in (flow.series("weight_grad", "norm"), flow.series("clipped"))
    )
    marker = "o" if len(flow.records) == 1 else None
    axes.plot(flow.steps, _drawable(before), marker=marker, label="before clipping")
    clipped = not np.allclose(before, after, rtol=1e-3, atol=0)
    if clipped:
        axes.plot(flow.steps, _drawable(after), "--", marker=marker, label="after")
        axes.legend(fontsize=9)
    _log_axis(axes, np.array([before, after]))
    _step_axis(axes)
    axes.set_ylabel("‖∂L/∂W‖ of all layers")
    axes.set_title("norm of the gradient" if clipped else "norm of the gradient, not clipped")


# --- what they share


def _visible(sizes: ndarray) -> ndarray:
    """Whether numbers have a place on a log axis: neither 0 nor infinity has."""
    return (sizes != 0) & np.isfinite(sizes)


def _drawable(sizes: ndarray) -> ndarray:
    """Sizes, with NaN for those that a log axis has no place for."""
    return np.where(_visible(sizes), sizes, np.nan)


def _step_axis(axes: "Axes") -> None:
    axes.set_xlabel("step")
    axes.locator_params(axis="x", integer=True)


def _log_axis(axes: "Axes", values: ndarray, least: float = 10.0) -> tuple[float, float]:
    """Make y logarithmic, wide enough for these values; its limits."""
    seen = values[_visible(values)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (1e-2, 1e2)
    # In logarithms, as sizes may lie at either end of what floats hold.
    ends = math.log10(low), math.log10(high)
    widen = max(0.08 * (ends[1] - ends[0]), (math.log10(least) - (ends[1] - ends[0])) / 2)
    bottom, top = max(ends[0] - widen, -307), min(ends[1] + widen, 307)
    axes.set_yscale("log")
    axes.grid(alpha=0.25)
    axes.set_ylim(10.0**bottom, 10.0**top)
    return 10.0**bottom, 10.0**top


def _mark(
    axes: "Axes", places: ndarray, where: ndarray, height: float, marker: str, label: str
) -> None:
    """Symbols at the edge for what the axis cannot show."""
    if where.any():
        axes.plot(
            places[where], np.full(where.sum(), height), marker, color="#d7301f", ms=9,
            clip_on=False, label=label, zorder=5,
        )  # fmt: skip


def _name_layers(axes: "Axes", names: list[str], vertical: bool = False) -> None:
    """Name the layers along an axis or, of many, number them."""
    axis = axes.yaxis if vertical else axes.xaxis
    if len(names) <= _NAMED:
        axis.set_ticks(range(1, len(names) + 1), _labels(names))
        if not vertical and max(map(len, _labels(names))) > 5:
            axes.tick_params(axis="x", labelrotation=30)
            for text in axes.get_xticklabels():
                text.set(ha="right", rotation_mode="anchor")
        if not vertical:
            axis.set_label_text("layer, from input to output")
        return
    first, last = _short(names[0]), _short(names[-1])
    axis.set_label_text("layer" if vertical else f"layer: 1 is {first}, {len(names)} is {last}")


def _labels(names: list[str]) -> list[str]:
    """What tells names apart: without the parts that all begin and end with, and shortened."""
    parts = [name.split(".") for name in names]
    if len(names) > 1:
        least = min(map(len, parts))
        begin = 0
        while begin < least - 1 and len({part[begin] for part in parts}) == 1:
            begin += 1
        end = 0
        while end < least - 1 - begin and len({part[-1 - end] for part in parts}) == 1:
            end += 1
        parts = [part[begin : len(part) - end] for part in parts]
    return [_short(".".join(part)) for part in parts]


def _short(name: str) -> str:
    """A name that fits: the middle of a long one is left out."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST // 2 - 1]}…{name[-_LONGEST // 2 :]}"


def _spread_over(names: list[str]) -> list[int]:
    """Places of all of these or, of many, of some between the first and the last."""
    few = min(len(names), _OVERLAID)
    return [round(place) for place in np.linspace(0, len(names) - 1, few).tolist()]


def _colour(place: int, names: list[str]) -> Any:
    """From dark at the input to bright at the output, but not so bright as to be lost on white."""
    from matplotlib import colormaps

    return colormaps[_COLOURS](0.9 * place / max(1, len(names) - 1))


def _legend(axes: "Axes", names: list[str]) -> None:
    """Names beside their colours or, of many, a scale of colours."""
    if len(names) <= _NAMED:
        axes.legend(fontsize=8 if len(names) > 5 else 9)
        return
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = ListedColormap([_colour(i, names) for i in range(len(names))])
    scale = ScalarMappable(Normalize(0.5, len(names) + 0.5), colours)
    axes.figure.colorbar(scale, ax=axes, label="layer")
