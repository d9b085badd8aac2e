"""Commands to see: the operations and their formulas, a backward pass as a page."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import ArgumentError
from ..experiments.output import check_output, write_json
from ..inspection.reference import reference, reference_markdown
from .app import app
from .targets import example, load, run


@app.command(rich_help_panel="See")
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


@app.command(rich_help_panel="See")
def explore(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[MODULE:FUNCTION]",
            help="A function of yours that takes nothing and returns a loss, or (loss, model). "
            "Default: a net of three layers on digits.",
        ),
    ] = "",
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("backprop.html"),
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in your browser.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the page.")] = False,
) -> None:
    """Write a backward pass as a web page to step through: one file, which needs no network.

    Every value, gradient and formula of the run, with the line of code that made each.
    """
    from ..inspection.page import page

    check_output(out, force)
    loss, model = run(target, load(target)) if target else run("the example", example())
    path = page(loss, out, model)
    print(f"{path}: open it in a browser; → steps on, Space plays")
    if browser:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
