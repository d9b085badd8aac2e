"""The command line: ``tinygrad-stab …``.

Exit status: 0 done; 1 it could not be done (data missing or damaged); 2 the command was wrong;
130 interrupted. What goes wrong is said in one line on stderr.
"""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ImportError:  # the engine alone is installed
    sys.exit("tinygrad-stab: the command line needs: pip install 'tinygrad_stab[lab]'")

from .errors import ArgumentError, StabError
from .experiments import vanishing
from .experiments.output import check_output, write_json
from .inspection.reference import reference, reference_markdown

app = typer.Typer(
    name="tinygrad-stab",
    help="See, prove and reproduce how gradients behave in deep networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

# All usage errors are of this class, which typer does not export under a name of its own.
_UsageError: Any = typer.BadParameter.__mro__[1]

_INTERRUPTED = 130  # 128 + SIGINT

_DEFAULT = vanishing.Config()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tinygrad-stab {version('tinygrad_stab')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """See, prove and reproduce how gradients behave in deep networks."""


@app.command()
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
    from .experiments import vanishing_view

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


@app.command()
def ops(
    name: Annotated[str, typer.Argument(help="Only operations with this in their name.")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print all as Markdown.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all records.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite output files.")] = False,
) -> None:
    """List the operations: the formula of each derivative, read off the code that computes it.

    The domain is where tests draw arguments from; the last column says what is taken where there
    is no derivative.
    """
    check_output(json, force)
    if name and (markdown or json):
        raise ArgumentError("ops: a NAME goes with the table; --markdown and --json give all")
    if markdown:
        print(reference_markdown(), end="")
    if json is not None:
        write_json(json, {op.name: op._asdict() for op in reference()})
    if markdown or json is not None:
        return
    shown = [op for op in reference() if name in op.name]
    if not shown:
        raise ArgumentError(f"ops: no operation has {name!r} in its name; received NAME={name}")
    table = Table(box=SIMPLE, pad_edge=False, header_style="bold", expand=True)
    for heading, share in (("operation", 3), ("gradient", 6), ("domain", 2), ("at kinks", 3)):
        table.add_column(heading, overflow="fold", ratio=share)
    for op in shown:
        formulas = "\n".join(f"∂L/∂{x} = {f}" for x, f in op.gradients.items())
        cells = (op.call, formulas or "constant", op.domain, "\n".join(op.conventions))
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)


def main() -> None:
    """Run the command line, and turn what goes wrong into one line and an exit status."""
    try:
        status = app(standalone_mode=False) or 0
        if status == _INTERRUPTED:  # typer has caught it already
            raise KeyboardInterrupt
    except _UsageError as error:
        _fail(error.format_message(), 2)
    except ArgumentError as error:
        _fail(str(error), 2)
    except (StabError, OSError) as error:
        _fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", _INTERRUPTED)
    else:
        sys.exit(status)


def _fail(message: str, status: int) -> None:
    print(f"tinygrad-stab: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)
