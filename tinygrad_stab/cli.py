"""The command line: ``tinygrad-stab …``.

Exit status: 0 done; 1 it could not be done (data missing or damaged); 2 the command was wrong;
130 interrupted. What goes wrong is said in one line on stderr.
"""

import importlib
import inspect
import linecache
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np

try:
    import typer
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table
    from rich.text import Text
except ImportError:  # the engine alone is installed
    sys.exit("tinygrad-stab: the command line needs: pip install 'tinygrad_stab[lab]'")

from .core.primitive import REGISTRY, Primitive
from .core.tensor import Tensor
from .errors import ArgumentError, GradientCheckError, StabError
from .experiments import vanishing
from .experiments.output import check_output, write_json
from .inspection.reference import reference, reference_markdown
from .testing.gradcheck import check_gradients
from .testing.mutation import EQUIVALENT, KILLED, SURVIVED, Mutant, MutationReport, mutants_of
from .testing.records import check_primitive
from .testing.report import CORRECT, INCONCLUSIVE, KINK, GradientReport

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

# What `explore` shows where nothing else is asked for.
_EXAMPLE = """\
import tinygrad_stab as tg


class Net(tg.nn.Module):
    def __init__(self):
        self.first = tg.nn.Linear(64, 16, rng=0)
        self.second = tg.nn.Linear(16, 16, rng=1)
        self.last = tg.nn.Linear(16, 10, rng=2)

    def forward(self, x):
        h = tg.tanh(self.first(x))
        h = h + tg.tanh(self.second(h))  # h goes two ways: its gradient is a sum of two
        return self.last(h)


def run():
    digits = tg.datasets.digits()
    net = Net()
    logits = net(digits.features()[:16])
    return tg.nn.functional.cross_entropy(logits, digits.labels[:16]), net
"""


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


@app.command()
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
    subject = _load(target) if ":" in target else None
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
    for name, run in _progress(checks, count, "checking"):
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


@app.command()
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
    for record in _progress(records, len(records), "spoiling"):
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


@app.command()
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
    from .inspection.page import page

    check_output(out, force)
    loss, model = _run(target, _load(target)) if target else _run("the example", _example())
    path = page(loss, out, model)
    print(f"{path}: open it in a browser; → steps on, Space plays")
    if browser:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())


def _example() -> Any:
    """The example's function, from text: so that the page can show its lines as a user's."""
    file = "example.py"
    linecache.cache[file] = (len(_EXAMPLE), None, _EXAMPLE.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(_EXAMPLE, file, "exec"), names)
    return names["run"]


def _run(name: str, function: Any) -> tuple[Tensor, Any]:
    """The loss and the model, if any, that a function returns."""
    from .inspection import provenance
    from .nn import Module

    if not callable(function):
        raise ArgumentError(f"{name}: must be a function; it is a {type(function).__name__}")
    try:
        with provenance.record():
            result = function()
    except StabError:
        raise
    except Exception as error:
        trail = error.__traceback__
        while trail is not None and trail.tb_next is not None:
            trail = trail.tb_next
        where = f"{trail.tb_frame.f_code.co_filename}:{trail.tb_lineno}" if trail else "start"
        raise ArgumentError(
            f"{name}: must run without arguments; it raised {type(error).__name__}: {error} "
            f"({where}). Call it from a function that takes nothing"
        ) from error
    loss, model = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(loss, Tensor) or not (model is None or isinstance(model, Module)):
        given = type(loss).__name__ + ("" if model is None else f" and {type(model).__name__}")
        raise ArgumentError(
            f"{name}: must return a loss (a tensor), or a loss and its model; it returned {given}"
        )
    return loss, model


def _progress(things: Iterable[Any], count: int, doing: str) -> Iterator[Any]:
    """A bar on stderr while something takes long; nothing where nobody looks."""
    console = Console(stderr=True)
    return iter(
        track(
            things, doing, count, console=console, transient=True, disable=not console.is_terminal
        )
    )


def _records(name: str) -> list[Primitive]:
    """The operations of a name, or all that have rules."""
    if ":" in name:
        record = _load(name)
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


def _load(target: str) -> Any:
    """What a MODULE:NAME stands for, with the working directory on the path."""
    module, _, name = target.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # it stays there, for a function may import its neighbours
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever a module does when it is imported
        raise ArgumentError(
            f"{target}: must be MODULE:NAME of something that can be imported; "
            f"{type(error).__name__}: {error}. Run this where the module lies"
        ) from error
    if not callable(found) and not isinstance(found, tuple):
        raise ArgumentError(
            f"{target}: must be a function, a pair (function, gradient) or a record; it is a "
            f"{type(found).__name__}"
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
