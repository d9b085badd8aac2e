"""Commands to measure: experiments, their tables, pictures and numbers."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import ArgumentError
from ..experiments import vanishing
from ..experiments.output import check_output, write_json
from .app import app

_DEFAULT = vanishing.Config()


@app.command(rich_help_panel="Reproduce")
def vanish(
    depth: Annotated[int, typer.Option(min=2, help="Number of weight layers.")] = _DEFAULT.depth,
    width: Annotated[int, typer.Option(min=1, help="Units a hidden layer.")] = _DEFAULT.width,
    activation: Annotated[
        vanishing.Activation, typer.Option(help="Between the layers.")
    ] = _DEFAULT.activation,
    init: Annotated[
        vanishing.Initialisation, typer.Option(help="How the weights are drawn.")
    ] = _DEFAULT.init,
    residual: Annotated[
        bool, typer.Option("--residual", help="Add each hidden layer's input to its output.")
    ] = _DEFAULT.residual,
    data: Annotated[vanishing.Data, typer.Option(help="What the batch is from.")] = _DEFAULT.data,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Examples in the batch.")
    ] = _DEFAULT.batch_size,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and batch.")] = _DEFAULT.seed,
    dtype: Annotated[vanishing.Dtype, typer.Option(help="Of all numbers.")] = _DEFAULT.dtype,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the gradients by layer: .png, .svg.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the numbers.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite output files.")] = False,
) -> None:
    """Watch the gradient on its way down a deep stack, layer by layer.

    One forward and one backward pass at initialisation. δ is ∂L/∂(pre-activation); each factor is
    what a layer does to δ; theory is what mean-field theory predicts from the net's own weights;
    h is the layer's output. A bar is red where the gradient is too small to move the weights.
    """
    from ..experiments import vanishing_view

    check_output(plot, force)
    check_output(json, force)
    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise ArgumentError(f"--plot: the file ends in .png, .svg or .pdf; received {plot}")
    result = vanishing.vanish(
        vanishing.Config(depth, width, activation, init, residual, data, batch_size, seed, dtype)
    )
    console = Console()
    console.print(vanishing_view.table(result))
    console.print(f"\n{result.verdict}", highlight=False, soft_wrap=True)
    console.print(
        f"A layer × {result.factor:.3g}; by mean-field theory × {result.predicted_factor:.3g}.",
        highlight=False,
    )
    if plot is not None:
        vanishing_view.plot(result, plot)
    if json is not None:
        write_json(json, result.to_dict())
