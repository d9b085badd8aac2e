"""Output files: never over an existing one by accident."""

import json
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..files import replace_file


def check_output(path: Path | None, force: bool) -> None:
    """Refuse an output file that exists, or whose directory does not, before any work is done."""
    if path is None:
        return
    if path.is_dir():
        raise ArgumentError(f"{path}: an output is a file; this is a directory")
    if not path.parent.is_dir():
        raise ArgumentError(f"{path}: its directory must exist; {path.parent} does not")
    if path.exists() and not force:
        raise ArgumentError(f"{path}: exists and is not overwritten; pass --force to do so")


def check_picture(path: Path | None, force: bool) -> None:
    """The same of a picture, whose suffix says what kind it is."""
    if path is not None and path.suffix not in (".png", ".svg", ".pdf"):
        raise ArgumentError(f"--plot: the file ends in .png, .svg or .pdf; received {path}")
    check_output(path, force)


def write_json(path: Path, numbers: dict[str, Any]) -> None:
    """A result's numbers as JSON; what is not finite must have become None before."""
    text = json.dumps(numbers, indent=2, allow_nan=False) + "\n"
    replace_file(path, lambda file: file.write(text.encode()))
