"""Files that are whole or not there: what is killed while it writes leaves the old file."""

import errno
import glob
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_STARTED = time.time()


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a draft beside ``path``, which then takes its place in one step.

    Whatever goes wrong before that, an error, an interrupt, a full disk, a kill, leaves what was
    at ``path`` as it was; a link is followed, what it points to is replaced. A kill leaves its
    draft, too, until a later process replaces the same file.

    Raises
    ------
    OSError
        ``path`` is a directory, a pipe or a device, or the file cannot be written.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file that can be replaced", str(path))
    path = path.resolve()
    prefix, suffix = f".{path.name}.", ".draft"
    for left in path.parent.glob(f"{glob.escape(prefix)}????????{suffix}"):
        with suppress(OSError):  # another process was faster, or it is not ours to remove
            if left.stat().st_mtime < _STARTED:  # so nobody is writing it
                left.unlink()
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # on the disk before its name is, should the power go
        draft.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
