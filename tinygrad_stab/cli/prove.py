"""Commands to prove: gradient checks, and checks of the check."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.primitive import REGISTRY, Primitive
from ..errors import ArgumentError, GradientCheckError, StabError
from ..experiments.output import check_output, write_json
from ..testing.gradcheck import check_gradients
from ..testing.mutation import EQUIVALENT, KILLED, SURVIVED, Mutant, MutationReport, mutants_of
from ..testing.records import check_primitive
from ..testing.report import CORRECT, INCONCLUSIVE, KINK, GradientReport
from .app import app, progress
from .targets import load


@app.command(rich_help_panel="Prove")
def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[MODULE:FUNCTION]",
            help="A function, a pair (function, gradient) or a record of yours, or the name of an "
            "operation. Default: every operation.",
        ),
    ] = "",
    shapes: Annotated[
        str, typer.Option(metavar="SHAPES", help="Of a function's arguments, such as '3,4 4'.")
    ] = "",
    low: Annotated[float, typer.Option(help="Arguments are drawn from here ...")] = -3.0,
    high: Annotated[float, typer.Option(help="... to here.")] = 3.0,
    draws: Annotated[int, typer.Option(min=1, help="Of the arguments.")] = 3,
    order: Annotated[int, typer.Option(min=1, max=2, help="2: second derivatives too.")] = 1,
    sample: Annotated[
        int, typer.Option(min=1, help="Of a function's larger arguments, check so many elements.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the reports.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite output files.")] = False,
) -> None:
    """Check gradients against complex step and differences; exit status 1 if one is wrong.

    The last column is the smallest relative error that would have been seen at every element.
    """
    check_output(json, force)
    subject = load(target) if ":" in target else None
    if subject is None or isinstance(subject, Primitive):
        if shapes:
            raise ArgumentError(
                "check: --shapes is for a function; a record has its own cases. Leave it out"
            )
        records = [subject] if subject else _records(target)
        checks: Iterable[Any] = (
            (record.name, lambda record=record: check_primitive(record, draws, seed, order=order))
            for record in records
        )
        count = len(records)
    else:
        drawn = _arguments(subject, shapes, low, high, draws, seed)
        options: dict[str, Any] = {"order": order, "sample": sample}
        checks = [(target, lambda: [check_gradients(subject, *a, **options) for a in drawn])]
        count = 1
    table = Table(box=SIMPLE, pad_edge=False, header_style="bold")
    table.add_column("operation" if count > 1 else "function")
    for heading in ("elements", CORRECT, KINK, INCONCLUSIVE, "sees errors of"):
        table.add_column(heading, justify="right")
    done: dict[str, list[GradientReport]] = {}
    failures = []
    for name, run in progress(checks, count, "checking"):
        try:
            done[name] = reports = run()
        except GradientCheckError as error:
            failures.append(f"{name}: {error}")
            table.add_row(name, *[""] * 4, Text("refused", style="bold red"))
        except StabError:
            raise
        except Exception as error:  # the user's function says no to the arguments
            if not target:
                raise
            raise ArgumentError(
                f"{name}: must take the arguments that are drawn; it raised "
                f"{type(error).__name__}: {error}. Give --shapes, --low and --high"
            ) from error
        else:
            counts = [sum(r.count(v) for r in reports) for v in (CORRECT, KINK, INCONCLUSIVE)]
            power = max(report.power for report in reports)
            row = (sum(counts), *counts)
            table.add_row(name, *map(str, row), f"{power:.0e}" if power else "any")
    console = Console()
    console.print(table)
    for failure in failures:
        console.print(failure, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{len(done)} of {count} {'is' if count == 1 else 'are'} right", highlight=False)
    if json is not None:
        reports_by_name = {name: [r.to_dict() for r in reports] for name, reports in done.items()}
        write_json(json, {"passed": not failures, "failures": failures, "reports": reports_by_name})
    if failures:
        raise typer.Exit(1)


@app.command(rich_help_panel="Prove")
def mutate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="An operation, or MODULE:NAME of a record of yours. Default: every operation.",
        ),
    ] = "",
    each: Annotated[bool, typer.Option("--all", help="A row for every single mutant.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the arguments drawn.")] = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all mutants.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite output files.")] = False,
) -> None:
    """Spoil every rule in every usual way, and count what the gradient check notices.

    Killed: it was refused. Equivalent: the spoilt rule gives what the rule gives, everywhere on
    the record's domain. Survived: it gives something else and nobody noticed; then the exit
    status is 1.
    """
    check_output(json, force)
    records = _records(target)
    mutants: list[Mutant] = []
    for record in progress(records, len(records), "spoiling"):
        mutants += mutants_of(record, seed)
    report = MutationReport(mutants)
    table = Table(box=SIMPLE, pad_edge=False, header_style="bold")
    if each:
        for heading in ("operation", "rule for", "mutation", "verdict", "by"):
            table.add_column(heading, overflow="fold")
        for m in mutants:
            table.add_row(
                *(Text(c) for c in (m.primitive, m.argument, m.mutation, m.verdict, m.by))
            )
    else:
        table.add_column("operation")
        for heading in (KILLED, EQUIVALENT, SURVIVED):
            table.add_column(heading, justify="right")
        for record in records:
            own = MutationReport([m for m in mutants if m.primitive == record.name])
            if own.mutants:
                counts = [own.count(verdict) for verdict in (KILLED, EQUIVALENT, SURVIVED)]
                style = "bold red" if counts[-1] else ""
                table.add_row(record.name, *map(str, counts), style=style)
    console = Console()
    console.print(table)
    console.print(str(report), highlight=False, markup=False, soft_wrap=True)
    if json is not None:
        write_json(json, report.to_dict())
    if report.survivors:
        raise typer.Exit(1)


def _records(name: str) -> list[Primitive]:
    """The operations of a name, or all that have rules."""
    if ":" in name:
        record = load(name)
        if not isinstance(record, Primitive):
            raise ArgumentError(
                f"{name}: must be a record, made by tg.primitive; it is a {type(record).__name__}"
            )
        return [record]
    ruled = [record for record in REGISTRY.values() if record.rules]
    if not name:
        return ruled
    found = [record for record in ruled if record.name == name]
    if not found:
        raise ArgumentError(
            f"NAME: must be an operation with a derivative; received {name!r}. tinygrad-stab ops "
            f"lists them; something of yours is MODULE:NAME"
        )
    return found


def _arguments(
    subject: Any, shapes: str, low: float, high: float, draws: int, seed: int
) -> list[list[np.ndarray]]:
    """Random arrays of the shapes that were asked for, or one vector for each parameter."""
    if not low < high:
        raise ArgumentError(f"check: needs --low below --high; received {low:g} and {high:g}")
    try:
        sizes = [
            tuple(int(n) for n in shape.split(",") if n) if shape != "()" else ()
            for shape in shapes.split()
        ]
        if any(n < 0 for size in sizes for n in size):
            raise ValueError
    except ValueError as error:
        raise ArgumentError(
            f"--shapes: lengths with commas, shapes with spaces, '()' for a number; received "
            f"{shapes!r}. '3,4 4' is a 3 × 4 matrix and a vector of 4"
        ) from error
    if not sizes:
        function = subject[0] if isinstance(subject, tuple) else subject
        parameters = inspect.signature(function).parameters.values()
        sizes = [(3,) for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    rng = np.random.default_rng(seed)
    return [[np.asarray(rng.uniform(low, high, size)) for size in sizes] for _ in range(draws)]
