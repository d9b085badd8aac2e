"""Output files: never over an existing one by accident, and whole or not at all."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ArgumentError


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


def write(path: Path, save: Callable[[Path], None]) -> None:
    """Let ``save`` write a file beside ``path``, then move it there: whole, or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        save(draft)
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, numbers: dict[str, Any]) -> None:
    """A result's numbers as JSON; what is not finite must have become None before."""
    text = json.dumps(numbers, indent=2, allow_nan=False)
    write(path, lambda draft: _write_text(draft, text + "\n"))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
