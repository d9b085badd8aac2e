"""The course as it is stored: complete, run from top to bottom, fit to be read and to be shared.

Whether the notebooks still run is asked by ``pytest --nbmake notebooks/*.ipynb``.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from refresh import FOLDER, sources_of

import tinygrad_stab as tg

NAMES = [
    "01_chain_rule", "02_engine", "03_is_my_gradient_right", "04_vanishing", "05_initialisation",
    "06_activations", "07_residual", "08_batch_norm", "09_exploding", "10_optimisers_and_claims",
    "11_mnist",
]  # fmt: skip
PATHS = sorted(FOLDER.glob("*.ipynb"))
LONGEST_CELL = 25
BUILDS_ITS_OWN = "02_engine"  # a whole engine in one cell is what it is about
PLACES = re.compile(r"(?<![\w.])/(?:root|home|work|tmp)\b|\b[A-Z]:\\\w+\\")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def joined(text):
    return "".join(text)  # nbformat stores lines, or one string


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell["outputs"]]


def tagged(notebook, tag):
    return [cell for cell in code(notebook) if tag in cell["metadata"].get("tags", [])]


def texts(output):
    """What an output shows, but for pictures."""
    if output["output_type"] == "stream":
        yield joined(output["text"])
    for kind, content in output.get("data", {}).items():
        if not kind.startswith("image/"):
            yield joined(content) if not isinstance(content, dict) else json.dumps(content)


def test_only_notebooks_of_the_course_are_in_the_folder():
    assert PATHS, f"no notebooks in {FOLDER}"
    assert {path.stem for path in PATHS} <= set(NAMES)


def test_the_folder_is_small_enough_to_clone():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8e6


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_leads_to_it(name):
    assert f"({name}.ipynb)" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
class TestNotebook:
    def test_is_valid_and_made_for_any_python_3(self, path):
        nbformat.validate(nbformat.read(path, as_version=4))
        notebook = read(path)
        assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"

    def test_shows_what_its_code_puts_out(self, path):
        notebook = nbformat.read(path, as_version=4)
        stored = notebook.metadata.get("tinygrad_stab", {}).get("sources")
        assert stored == sources_of(notebook), f"python tests/notebooks/refresh.py {path}"

    def test_was_run_once_from_top_to_bottom(self, path):
        cells = code(read(path))
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))

    def test_shows_no_error_and_no_warning(self, path):
        for output in outputs(read(path)):
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", joined(output["text"])
            assert not any("Warning:" in text for text in texts(output))

    def test_names_no_place_on_a_machine(self, path):
        notebook = read(path)
        shown = [text for output in outputs(notebook) for text in texts(output)]
        for text in [*shown, *(joined(cell["source"]) for cell in notebook["cells"])]:
            assert not PLACES.search(text), text

    def test_leaves_no_trace_of_when_it_ran(self, path):
        assert not any("execution" in cell["metadata"] for cell in read(path)["cells"])

    def test_has_no_long_cells(self, path):
        if path.stem == BUILDS_ITS_OWN:
            pytest.skip("builds its own engine: that is its point")
        longest = max(code(read(path)), key=lambda cell: joined(cell["source"]).count("\n"))
        assert joined(longest["source"]).count("\n") < LONGEST_CELL, joined(longest["source"])

    def test_has_parameters_near_the_top(self, path):
        notebook = read(path)
        (parameters,) = tagged(notebook, "parameters")
        assert parameters is code(notebook)[0]
        assert re.search(r"^FULL = False  # \S", joined(parameters["source"]), re.M)

    def test_hides_answers_until_they_are_asked_for(self, path):
        answers = tagged(read(path), "answer")
        assert answers
        for cell in answers:
            assert cell["metadata"]["jupyter"]["source_hidden"] is True
            assert joined(cell["source"]).startswith("# Answer: click to open\n")

    def test_ends_by_asserting_what_it_claimed(self, path):
        last = code(read(path))[-1]
        assert re.search(r"^assert ", joined(last["source"]), re.M)

    def test_pictures_are_small(self, path):
        for output in outputs(read(path)):
            assert len(output.get("data", {}).get("image/png", "")) < 300_000


class TestRefresh:
    """`refresh.py`, as it is run by hand."""

    def run(self, path):
        environment = os.environ | {tg.datasets.DATA_VARIABLE: "unused"}
        script = Path(__file__).parent / "refresh.py"
        return subprocess.run(
            [sys.executable, script, path], capture_output=True, text=True, encoding="utf-8",
            env=environment, timeout=120,
        )  # fmt: skip

    def write(self, path, *sources):
        cells = [nbformat.v4.new_code_cell(s, id=f"c{i}") for i, s in enumerate(sources)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)

    def test_a_second_run_changes_nothing_and_another_source_is_noticed(self, tmp_path):
        path = tmp_path / "a.ipynb"
        self.write(path, "import os\nx = len(os.listdir())", "print(x)\nprint(x + 1)")
        result = self.run(path)
        assert result.returncode == 0, result.stderr
        first = path.read_bytes()
        notebook = read(path)
        assert joined(outputs(notebook)[0]["text"]) == "0\n1\n"  # in an empty directory
        assert notebook["metadata"]["tinygrad_stab"]["sources"] == sources_of(
            nbformat.read(path, as_version=4)
        )
        self.run(path)
        assert path.read_bytes() == first
        changed = nbformat.read(path, as_version=4)
        changed.cells[1].source += "\n"
        assert sources_of(changed) != notebook["metadata"]["tinygrad_stab"]["sources"]

    def test_a_notebook_that_fails_is_left_as_it_was(self, tmp_path):
        path = tmp_path / "a.ipynb"
        self.write(path, "1 / 0")
        before = path.read_bytes()
        result = self.run(path)
        assert result.returncode != 0 and "ZeroDivisionError" in result.stderr
        assert path.read_bytes() == before
