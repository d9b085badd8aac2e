"""Commands to reproduce: published results, claims put to the test, cures measured, sweeps."""

import itertools
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import ArgumentError
from ..experiments import (
    audit,
    cells,
    cells_view,
    claims_view,
    network,
    parallel,
    published,
    remedies_view,
)
from ..experiments import remedies as treatment
from ..experiments import reproduce as rows
from ..experiments.output import check_output, check_picture, write_json
from ..experiments.sweep import canonical_json
from ..experiments.sweep import sweep as run_sweep
from ..files import replace_file
from .app import app, progress


@app.command(rich_help_panel="Reproduce")
def reproduce(
    name: Annotated[
        str, typer.Argument(help="Only rows with this in their name. Default: all.")
    ] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer seeds and steps, only rows that this decides.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes to share the rows.")] = 2,
    show: Annotated[bool, typer.Option("--list", help="Only list the rows.")] = False,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a table for people.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all numbers.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite output files.")] = False,
) -> None:
    """Measure published results again; exit status 1 if one does not come out.

    Rows on MNIST need its files, as `tinygrad-stab train --data mnist` does.
    """
    check_output(markdown, force)
    check_output(json, force)
    names = rows.chosen(name, quick)
    console = Console()
    if show:
        table = Table(box=SIMPLE, pad_edge=False, header_style="bold")
        for heading in ("name", "quick", "MNIST", "claim", "source"):
            table.add_column(heading, overflow="fold")
        for row in map(published.ROWS.__getitem__, names):
            marks = ("✓" if row.quick else "", "✓" if row.mnist else "")
            table.add_row(row.name, *marks, Text(row.claim), Text(row.source))
        console.print(table)
        return
    outcomes: list[published.Outcome] = []
    running = rows.reproduce(names, quick, min(workers, len(names)))
    for outcome in progress(running, len(names), "measuring"):
        outcomes.append(outcome)
        passed = outcome.measured.passed
        mark = Text("✓" if passed else "✗", style="green" if passed else "bold red")
        console.print(mark, Text(f"{outcome.row.name}  {outcome.seconds:.1f} s"), soft_wrap=True)
        for what, text in (
            ("published", outcome.row.published),
            ("measured", outcome.measured.text),
            ("tolerance", outcome.row.tolerance),
        ):
            console.print(Text(f"    {what:10}{text}"), soft_wrap=True)
    outcomes.sort(key=lambda outcome: (outcome.row.section, names.index(outcome.row.name)))
    failed = [outcome.row.name for outcome in outcomes if not outcome.measured.passed]
    console.print(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} came out as published",
        highlight=False,
    )
    if markdown is not None:
        text = published.markdown(outcomes)
        replace_file(markdown, lambda file: file.write(text.encode()))
    if json is not None:
        write_json(json, {"passed": not failed, "rows": [o.to_dict() for o in outcomes]})
    if failed:
        raise typer.Exit(1)


@app.command(rich_help_panel="Reproduce")
def claims(
    name: Annotated[
        str, typer.Argument(help="Only claims with this in their name. Default: all.")
    ] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer seeds and steps: all in under two minutes.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes to share the claims.")] = 2,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a table for people.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all numbers.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite output files.")] = False,
) -> None:
    """Put common claims about gradients to the test: supported, refuted, or depends on what.

    Verdicts follow from the numbers of this run. With a NAME, every number is shown.
    """
    check_output(markdown, force)
    check_output(json, force)
    names = audit.chosen(name)
    running = audit.audit(names, quick, min(workers, len(names)))
    audits = sorted(
        progress(running, len(names), "testing"), key=lambda found: names.index(found.claim.name)
    )
    console = Console()
    if name:
        for found in audits:
            console.print(claims_view.panel(found))
    else:
        console.print(claims_view.table(audits))
    if markdown is not None:
        text = claims_view.markdown(audits)
        replace_file(markdown, lambda file: file.write(text.encode()))
    if json is not None:
        write_json(json, {"claims": [found.to_dict() for found in audits]})


_REMEDIES = treatment.Config()


@app.command(rich_help_panel="Reproduce")
def remedies(
    preset: Annotated[
        treatment.Preset, typer.Argument(help="What the network suffers from.")
    ] = _REMEDIES.preset,
    depth: Annotated[
        int | None, typer.Option(min=3, help="Weight layers. Default: the preset's.")
    ] = None,
    width: Annotated[int, typer.Option(min=2, help="Units a layer.")] = _REMEDIES.width,
    activation: Annotated[
        network.Activation | None, typer.Option(help="Default: the preset's.")
    ] = None,
    init: Annotated[
        network.Initialisation | None, typer.Option(help="Default: the preset's.")
    ] = None,
    data: Annotated[treatment.Data, typer.Option(help="What to learn.")] = _REMEDIES.data,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = _REMEDIES.steps,
    seeds: Annotated[int, typer.Option(min=3, help="Runs of each treatment.")] = _REMEDIES.seeds,
    pairs: Annotated[bool, typer.Option(help="Try pairs of cures too.")] = _REMEDIES.pairs,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer steps and seeds, no pairs: half a minute.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw accuracies and gradients: .png, .svg.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all numbers.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite output files.")] = False,
) -> None:
    """Give a sick network each cure alone and in pairs, and rank what they do.

    Same data, same seeds, each cure at the best of a few learning rates; intervals are bootstrapped
    over seeds. What does nothing, or harm, says so.
    """
    check_picture(plot, force)
    check_output(json, force)
    given = {"steps": steps, "seeds": seeds, "pairs": pairs} | (treatment.QUICK if quick else {})
    config = treatment.Config(
        preset, depth, width, activation, init, data, workers=workers, **given
    )
    result = treatment.remedies(config)
    console = Console()
    console.print(remedies_view.table(result))
    console.print("\n".join(result.summary), highlight=False, soft_wrap=True)
    if plot is not None:
        figure = remedies_view.plot(result)
        replace_file(plot, lambda file: figure.savefig(file, format=plot.suffix[1:]))
    if json is not None:
        write_json(json, result.to_dict())


@app.command(rich_help_panel="Reproduce")
def sweep(
    out: Annotated[
        Path, typer.Argument(metavar="FILE", help="Results, a line of JSON a cell, as they come.")
    ],
    depth: Annotated[str, typer.Option(metavar="LIST", help="Weight layers.")] = "2,5,10,20,50",
    width: Annotated[str, typer.Option(metavar="LIST", help="Units a layer.")] = "64",
    activation: Annotated[str, typer.Option(metavar="LIST")] = "sigmoid,tanh,relu",
    init: Annotated[str, typer.Option(metavar="LIST", help="As in vanish.")] = "xavier,he",
    remedy: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="none, residual, batch-norm, layer-norm, clip-norm, momentum, adam.",
        ),
    ] = "none",
    epochs: Annotated[
        int, typer.Option(min=0, help="Train for so long; 0: only the gradient at the start.")
    ] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Seeds a cell.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the whole sweep.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    dask: Annotated[
        str, typer.Option(metavar="ADDRESS", help="A Dask scheduler to use instead.")
    ] = "",
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all results, without times.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite --json.")] = False,
) -> None:
    """Measure a grid of networks: the gradient's decay and, trained, the accuracy.

    Results are the same on one process, many, or a cluster. What is in FILE already is not run
    again, so a sweep that was interrupted goes on.
    """
    check_output(json, force)
    grid: dict[str, list[Any]] = {
        "depth": _numbers("--depth", depth),
        "width": _numbers("--width", width),
        "activation": activation.split(","),
        "init": init.split(","),
        "remedy": remedy.split(","),
        "epochs": [epochs],
    }
    for combination in itertools.product(*grid.values()):  # said before anything is run
        cells.Cell(*combination)
    with ExitStack() as stack:
        executor = None
        if dask:
            executor = stack.enter_context(parallel.dask(dask))
        elif workers > 1:
            executor = stack.enter_context(parallel.processes(workers))
        done = run_sweep(
            cells.measure, grid, seed=seed, repeats=repeats, executor=executor, path=out
        )
    failed = [cell for cell in done if cell.error is not None]
    console = Console()
    console.print(cells_view.table(done))
    console.print(
        "decay: log10 of RMS δ, first layer over last, at the start; medians ± half the range over "
        f"{repeats} seeds",
        highlight=False,
    )
    for cell in failed:
        print(f"failed: {cell.config}, repeat {cell.repeat}: {cell.error}")
    if json is not None:
        replace_file(json, lambda file: file.write(canonical_json(done)))
    if failed:
        raise typer.Exit(1)


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ArgumentError(
            f"{option}: whole numbers with commas between; received {text!r}. Such as '2,10,50'"
        ) from error
