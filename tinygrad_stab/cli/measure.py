"""Commands to measure: experiments, their tables, pictures and numbers."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..diagnostics import diagnose
from ..errors import ArgumentError
from ..experiments import exploding, exploding_view, network, training, vanishing
from ..experiments.output import check_output, check_picture, write_json
from ..files import replace_file
from .app import app

_DEFAULT = vanishing.Config()


@app.command(rich_help_panel="Reproduce")
def vanish(
    depth: Annotated[int, typer.Option(min=2, help="Number of weight layers.")] = _DEFAULT.depth,
    width: Annotated[int, typer.Option(min=1, help="Units a hidden layer.")] = _DEFAULT.width,
    activation: Annotated[
        network.Activation, typer.Option(help="Between the layers.")
    ] = _DEFAULT.activation,
    init: Annotated[
        network.Initialisation, typer.Option(help="How the weights are drawn.")
    ] = _DEFAULT.init,
    residual: Annotated[
        bool, typer.Option("--residual", help="Add each hidden layer's input to its output.")
    ] = _DEFAULT.residual,
    data: Annotated[vanishing.Data, typer.Option(help="What the batch is from.")] = _DEFAULT.data,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Examples in the batch.")
    ] = _DEFAULT.batch_size,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and batch.")] = _DEFAULT.seed,
    dtype: Annotated[network.Dtype, typer.Option(help="Of all numbers.")] = _DEFAULT.dtype,
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

    check_picture(plot, force)
    check_output(json, force)
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


_RECURRENT = exploding.Config()


@app.command(rich_help_panel="Reproduce")
def explode(
    activation: Annotated[
        exploding.Activation, typer.Option(help="Of the recurrent layer.")
    ] = _RECURRENT.activation,
    spectral_radius: Annotated[
        float, typer.Option(help="Largest |eigenvalue| of the recurrent weights.")
    ] = _RECURRENT.spectral_radius,
    length: Annotated[int, typer.Option(min=2, help="Steps of time.")] = _RECURRENT.length,
    hidden_size: Annotated[
        int, typer.Option(min=1, help="Recurrent units.")
    ] = _RECURRENT.hidden_size,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Sequences in a batch.")
    ] = _RECURRENT.batch_size,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and sequences.")] = _RECURRENT.seed,
    steps: Annotated[
        int, typer.Option(min=0, help="Train for so long, with and without clipping; 0: do not.")
    ] = _RECURRENT.steps,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = _RECURRENT.lr,
    clip_norm: Annotated[
        float, typer.Option(help="Largest norm of the gradient, when clipped.")
    ] = _RECURRENT.clip_norm,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw gradients and losses: .png, .svg.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the numbers.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite output files.")] = False,
) -> None:
    """Follow the gradient of a recurrent net back through time; train it with and without clipping.

    The bound is Pascanu's: the largest singular value of the recurrent weights times the largest
    slope of the activation. Below 1 the gradient must vanish; above, it may explode.
    """
    check_picture(plot, force)
    check_output(json, force)
    result = exploding.explode(
        exploding.Config(
            hidden_size, length, activation, spectral_radius, batch_size, seed, steps, lr, clip_norm
        )
    )
    console = Console()
    console.print(exploding_view.table(result))
    if result.plain is not None:
        console.print(exploding_view.training_table(result))
    console.print(f"\n{result.verdict}", highlight=False, soft_wrap=True)
    if plot is not None:
        exploding_view.plot(result, plot)
    if json is not None:
        write_json(json, result.to_dict())


_RUN = training.Config()


@app.command(rich_help_panel="Reproduce")
def train(
    data: Annotated[training.Data, typer.Option(help="What to learn.")] = _RUN.data,
    model: Annotated[
        training.Model, typer.Option(help="resmlp is a residual net, its branches scaled by 1/√L.")
    ] = _RUN.model,
    hidden: Annotated[
        str, typer.Option(metavar="SIZES", help="Units of the hidden layers, such as '300,100'.")
    ] = "",
    activation: Annotated[
        network.Activation, typer.Option(help="Between linear layers.")
    ] = _RUN.activation,
    init: Annotated[
        network.Initialisation, typer.Option(help="How linear layers are drawn.")
    ] = _RUN.init,
    norm: Annotated[
        network.Normalisation, typer.Option(help="Before each activation.")
    ] = _RUN.norm,
    optimizer: Annotated[
        training.OptimizerName, typer.Option(help="What moves the weights.")
    ] = _RUN.optimizer,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate. Default: the optimiser's own.")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="The optimiser's.")] = _RUN.weight_decay,
    l1: Annotated[float, typer.Option(help="λ of λ·Σ|w| in the loss.")] = _RUN.l1,
    l2: Annotated[float, typer.Option(help="λ of ½λ·Σw² in the loss.")] = _RUN.l2,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    clip_value: Annotated[float | None, typer.Option(help="Largest entry of the gradient.")] = None,
    schedule: Annotated[
        training.Schedule, typer.Option(help="Of the learning rate, over the whole run.")
    ] = _RUN.schedule,
    epochs: Annotated[int, typer.Option(min=0, help="Times through the data.")] = _RUN.epochs,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples in a batch.")] = _RUN.batch_size,
    examples: Annotated[
        int | None, typer.Option(min=1, help="Train on the first so many only.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and order.")] = _RUN.seed,
    dtype: Annotated[network.Dtype, typer.Option(help="Of all numbers.")] = _RUN.dtype,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save everything here after each epoch.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from --checkpoint, if it is there.")
    ] = False,
    flow: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Append each layer's gradients, a line of JSON a record."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the gradient flow: .png, .svg.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the numbers.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite output files.")] = False,
) -> None:
    """Train a network, and see how the gradients of its layers fare.

    Prints each epoch's loss and test accuracy, then the gradients of the last recorded step by
    layer. A run that is resumed from a checkpoint ends as if it had never stopped.
    """
    if resume and checkpoint is None:
        raise ArgumentError("--resume: goes on from a file; name it with --checkpoint FILE")
    outputs = [path.resolve() for path in (checkpoint, flow, json, plot) if path is not None]
    if len(set(outputs)) < len(outputs):
        raise ArgumentError(
            "--checkpoint, --flow, --json, --plot: each output is a file of its own; received one "
            "file twice"
        )
    check_output(checkpoint, force or resume)
    check_output(flow, force or resume)
    check_output(json, force)
    check_picture(plot, force)
    config = training.Config(
        data, model, _sizes(hidden), activation, init, norm, optimizer, lr, weight_decay, l1, l2,
        clip_norm, clip_value, schedule, epochs, batch_size, seed, examples, dtype,
    )  # fmt: skip
    console = Console()

    def report(record: dict[str, Any]) -> None:
        norm = f"  ‖g‖ {record['grad_norm']:.3g}" if "grad_norm" in record else ""
        console.print(
            f"epoch {record['epoch']:3}  loss {record['loss']:.4f}  lr {record['lr']:.2g}{norm}  "
            f"accuracy {record['accuracy']:.2%}  {record['seconds']:.1f} s",
            highlight=False,
        )

    result = training.train(
        config, checkpoint=checkpoint, resume=resume, flow_path=flow, callback=report, progress=True
    )
    if resume and not result.flow.records:
        console.print(f"{checkpoint}: {len(result.history)} epochs are done, none is left")
    if result.flow.records:
        for text in (result.flow, diagnose(result.flow)):
            console.print(f"\n{text}", highlight=False, markup=False, soft_wrap=True)
    if plot is not None:
        replace_file(plot, lambda file: result.flow.plot().savefig(file, format=plot.suffix[1:]))
    if json is not None:
        write_json(json, result.to_dict())


def _sizes(text: str) -> tuple[int, ...] | None:
    """The numbers of a list such as '300,100'; None for an empty one."""
    if not text:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ArgumentError(
            f"--hidden: whole numbers with commas between; received {text!r}. Such as '300,100'"
        ) from error
