"""Run notebooks of the course and store them with what they put out: ``refresh.py [NOTEBOOK …]``.

All of them, if none is named. Each runs in an empty directory of its own; what would differ between
two runs of the same code is taken out, so that a change to one cell is a small change to the file.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tinygrad_stab.datasets import DATA_VARIABLE
from tinygrad_stab.files import replace_file

FOLDER = Path(__file__).parent.parent.parent / "notebooks"


def sources_of(notebook):
    """SHA-256 of the code: outputs are stale if it differs from the one stored with them."""
    cells = (cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()


def refresh(path):
    """Run a notebook and store it; one that fails is left as it was."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as empty:
        NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            coalesce_streams=True,  # else it is chance how many pieces a cell's prints come in
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": empty}},
        ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "tinygrad_stab": {"sources": sources_of(notebook)},
    }
    nbformat.validate(notebook)
    text = nbformat.writes(notebook).rstrip() + "\n"  # with sorted keys
    replace_file(path, lambda file: file.write(text.encode()))


def main():
    """Refresh what the command line names."""
    if not os.environ.get(DATA_VARIABLE):
        sys.exit(f"refresh: the outputs show MNIST; set {DATA_VARIABLE}, see CONTRIBUTING.md")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # sums in the same order on any machine
    for path in map(Path, sys.argv[1:] or sorted(FOLDER.glob("*.ipynb"))):
        print(f"{path.name} …", end=" ", flush=True)
        refresh(path)
        print(f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
