"""The application: what all commands share, and what happens when one of them fails."""

import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from ..errors import ArgumentError, StabError

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


def progress(things: Iterable[Any], count: int, doing: str) -> Iterator[Any]:
    """A bar on stderr while something takes long; nothing where nobody looks."""
    console = Console(stderr=True)
    return iter(
        track(
            things, doing, count, console=console, transient=True, disable=not console.is_terminal
        )
    )


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
