"""The command that hands out the course, from the checkout and from a wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_cli import COMMAND, run

FOLDER = Path(__file__).parent.parent / "notebooks"
COURSE = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".ipynb", ".md"))


def test_copies_every_notebook_and_says_how_to_start(tmp_path):
    copy = tmp_path / "new" / "course"
    result = run("course", copy)
    assert result.returncode == 0 and result.stderr == ""
    assert sorted(path.name for path in copy.iterdir()) == COURSE
    assert "GLOSSARY.md" in COURSE
    for name in COURSE:
        assert (copy / name).read_bytes() == (FOLDER / name).read_bytes()
    assert f"jupyter lab {copy / COURSE[0]}" in result.stdout


def test_work_that_is_there_is_overwritten_by_force_only(tmp_path):
    mine, other = tmp_path / COURSE[0], tmp_path / "mine.txt"
    mine.write_text("solved", encoding="utf-8")
    other.write_text("kept", encoding="utf-8")
    refused = run("course", tmp_path)
    assert refused.returncode == 2 and "pass --force" in refused.stderr
    assert mine.read_text(encoding="utf-8") == "solved" and len(list(tmp_path.iterdir())) == 2
    assert run("course", tmp_path, "--force").returncode == 0
    assert mine.read_bytes() == (FOLDER / COURSE[0]).read_bytes()
    assert other.read_text(encoding="utf-8") == "kept"


def test_an_empty_directory_will_do_a_file_will_not(tmp_path):
    empty, file = tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.touch()
    assert run("course", empty).returncode == 0
    result = run("course", file)
    assert result.returncode == 2 and "this is a file" in result.stderr


def test_a_wheel_holds_the_course_and_hands_it_out(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", FOLDER.parent, "--no-deps", "-q", "-w", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "hatchling" in built.stderr and built.returncode != 0:
        pytest.skip("needs hatchling, from the network or installed, to build a wheel")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    inside = "tinygrad_stab/notebooks/"
    assert sorted(n.removeprefix(inside) for n in names if n.startswith(inside)) == COURSE
    assert not any(name.startswith("notebooks/") for name in names)
    # From another directory than the checkout's, whose package would be found first.
    result = subprocess.run(
        [*COMMAND, "course"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    copies = (tmp_path / "tinygrad_stab_course").iterdir()
    assert sorted(path.name for path in copies) == COURSE
