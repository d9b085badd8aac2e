"""Where deep random tanh networks pass gradients on: a map over depth and σ_w.

After Schoenholz et al. 2017, "Deep information propagation", on the backpropagation of gradients:
with σ_w below its critical value they vanish, above it they explode, at rates that mean-field
theory predicts.
"""

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrays import rms
from ..diagnostics import mean_field
from ..errors import ArgumentError
from ..files import replace_file
from ..nn import Linear, init
from ..ops.elementwise import tanh
from .sweep import sweep


class PhaseDiagram(NamedTuple):
    """Measured decay of the gradient, and what theory says of it.

    Attributes
    ----------
    depths : ndarray of shape (D,)
    sigma_ws : ndarray of shape (S,)
    decay : ndarray of shape (D, S)
        log10 of RMS δ at the first layer over the last, with δ = ∂L/∂(pre-activation); the mean
        over repeats. NaN where every call failed, −inf where the gradient underflowed to 0.
    theory : ndarray of shape (D, S)
        (depth − 1)·½·log10 χ, with χ at the fixed point of the variance.
    depth_scale : ndarray of shape (S,)
        ξ = 1/|ln χ|: over so many layers the mean square of δ changes by a factor e.
    """

    depths: np.ndarray
    sigma_ws: np.ndarray
    decay: np.ndarray
    theory: np.ndarray
    depth_scale: np.ndarray

    def plot(self, path: Path) -> None:
        """Draw the measured map, with theory's 6 ξ over it, into a file.

        Over 6 ξ layers the RMS of δ changes by e³ ≈ 20. The format follows the ending: .png, .svg,
        .pdf.
        """
        from matplotlib.figure import Figure  # loads slowly, and is wanted for pictures alone

        rows, columns = np.argsort(self.depths), np.argsort(self.sigma_ws)
        drawn = np.ma.masked_invalid(self.decay[np.ix_(rows, columns)])
        limit = max(1.0, float(np.abs(drawn).max())) if drawn.count() else 1.0
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        image = axes.pcolormesh(
            self.sigma_ws[columns], self.depths[rows], drawn,
            shading="nearest", cmap="RdBu_r", vmin=-limit, vmax=limit,
        )  # fmt: skip
        figure.colorbar(image, label="measured: log₁₀ of RMS δ, first layer over last")
        limits = axes.get_ylim()
        axes.plot(
            self.sigma_ws[columns], 6 * self.depth_scale[columns],
            "k--", lw=1.5, label="theory: 6 ξ, with ξ = 1/|ln χ|",
        )  # fmt: skip
        axes.set_ylim(*limits)
        axes.set_facecolor("0.8")  # where nothing finite was measured
        axes.set_xlabel("σ_w")
        axes.set_ylabel("depth")
        axes.set_title("tanh at initialisation: blue vanishes, red explodes")
        axes.legend(loc="upper right")
        replace_file(path, lambda file: figure.savefig(file, dpi=150, format=path.suffix[1:]))


def phase_diagram(
    depths: Sequence[int],
    sigma_ws: Sequence[float],
    bias_variance: float = 0.05,
    *,
    width: int = 100,
    batch_size: int = 16,
    seed: int = 0,
    repeats: int = 1,
    executor: Executor | None = None,
    path: str | Path | None = None,
    progress: bool = True,
) -> PhaseDiagram:
    """Measure over depth and σ_w how much of the gradient reaches the first layer.

    Parameters
    ----------
    depths : sequence of int
        Numbers of layers, each at least 2.
    sigma_ws : sequence of float
        Standard deviations of the weights, times √width; at least 0.
    bias_variance : float
        σ_b², at least 0.
    width, batch_size : int
        At least 1.
    seed, repeats, executor, path, progress
        As of `sweep`.

    Returns
    -------
    PhaseDiagram

    Raises
    ------
    ArgumentError
        A value outside its range, no values, or one twice.
    DataError
        ``path`` belongs to another sweep.

    Examples
    --------
    >>> from tinygrad_stab.experiments.phase import phase_diagram
    >>> diagram = phase_diagram([20], [0.9, 3.0])
    >>> (diagram.decay < 0).tolist(), (diagram.theory < 0).tolist()
    ([[True, False]], [[True, False]])
    """
    depths, sigma_ws = list(depths), list(sigma_ws)
    for name, values, least in (
        ("depths", depths, 2),
        ("sigma_ws", sigma_ws, 0),
        ("bias_variance", [bias_variance], 0),
        ("width", [width], 1),
        ("batch_size", [batch_size], 1),
    ):
        whole = name in ("depths", "width", "batch_size")
        kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
        if not values or not all(
            isinstance(v, kinds) and not isinstance(v, bool) and least <= v < math.inf
            for v in values
        ):
            raise ArgumentError(
                f"phase_diagram: {name} is {'whole' if whole else 'finite'} and at least {least}; "
                f"received {values!r:.80}"
            )
    grid: dict[str, list[Any]] = {
        "depth": depths,
        "sigma_w": sigma_ws,
        "bias_variance": [bias_variance],
        "width": [width],
        "batch_size": [batch_size],
    }
    cells = sweep(
        gradient_decay, grid, seed=seed, repeats=repeats, executor=executor, path=path,
        progress=progress,
    )  # fmt: skip
    measured = np.array([np.nan if cell.result is None else cell.result["decay"] for cell in cells])
    measured = measured.reshape(len(depths), len(sigma_ws), repeats)
    known = ~np.isnan(measured)
    with np.errstate(all="ignore"):  # where all failed, 0/0
        decay = np.where(known, measured, 0).sum(axis=2) / known.sum(axis=2)
        chi = np.array([mean_field(tanh, float(s) ** 2, bias_variance).chi for s in sigma_ws])
        theory = (np.array(depths)[:, None] - 1) * np.log10(chi) / 2
        depth_scale = 1 / np.abs(np.log(chi))
    return PhaseDiagram(np.array(depths), np.array(sigma_ws, float), decay, theory, depth_scale)


def gradient_decay(config: dict[str, Any], rng: np.random.Generator) -> dict[str, float]:
    """One cell: log10 of RMS δ at the first layer over the last, in a random tanh network.

    W ~ N(0, σ_w²/width), b ~ N(0, σ_b²), inputs and the gradient at the output ~ N(0, 1).

    Parameters
    ----------
    config : dict
        depth, sigma_w, bias_variance, width, batch_size.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        ``{"decay": …}``.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_stab.experiments.phase import gradient_decay
    >>> config = {"depth": 2, "sigma_w": 1.0, "bias_variance": 0.05, "width": 50, "batch_size": 8}
    >>> -1 < gradient_decay(config, np.random.default_rng(0))["decay"] < 0
    True
    """
    width, shape = config["width"], (config["batch_size"], config["width"])
    h: Any = rng.normal(size=shape)
    pre_activations = []
    for _ in range(config["depth"]):
        layer = Linear(width, width, rng=rng)
        init.normal_(layer.weight, std=config["sigma_w"] / math.sqrt(width), rng=rng)
        init.normal_(layer.bias, std=math.sqrt(config["bias_variance"]), rng=rng)  # type: ignore[arg-type]  # it has a bias
        z = layer(h)
        pre_activations.append(z)
        h = tanh(z)
    z.backward(rng.normal(size=shape))
    with np.errstate(divide="ignore"):  # 0, and so −inf, where it underflows
        first, last = (np.log10(rms(pre_activations[i].grad)) for i in (0, -1))
    return {"decay": float(first - last)}
