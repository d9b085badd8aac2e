"""The command that hands out the course."""

import shutil
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ArgumentError, DataNotFoundError
from ..files import replace_file
from .app import app


@app.command(rich_help_panel="See")
def course(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; it is made.")] = Path(
        "tinygrad_stab_course"
    ),
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite notebooks that are there already.")
    ] = False,
) -> None:
    """Copy the course to a directory of yours: eleven notebooks to run, and a glossary."""
    if directory.exists() and not directory.is_dir():
        raise ArgumentError(f"{directory}: the course goes into a directory; this is a file")
    if directory.is_dir() and any(directory.iterdir()) and not force:
        raise ArgumentError(
            f"{directory}: is not empty, and your work in it is not overwritten; name a new "
            f"directory, or pass --force"
        )
    folder = _notebooks()
    items = sorted(
        (item for item in folder.iterdir() if item.name.endswith((".ipynb", ".md"))),
        key=lambda item: item.name,
    )
    directory.mkdir(parents=True, exist_ok=True)
    for item in items:
        with item.open("rb") as source:
            replace_file(directory / item.name, partial(shutil.copyfileobj, source))
    first = items[0].name
    print(f"{directory}: {len(items)} files; {first} is the first to read")
    print("To start:")
    print("    pip install jupyterlab")
    print(f"    jupyter lab {directory / first}")


def _notebooks() -> Traversable:
    """The folder: in the package where that is installed, beside it in a checkout."""
    package = resources.files("tinygrad_stab")
    for folder in (package / "notebooks", package / ".." / "notebooks"):
        if folder.is_dir():
            return folder
    raise DataNotFoundError(
        f"course: the notebooks come with the package; {package} is without. Install it again"
    )
