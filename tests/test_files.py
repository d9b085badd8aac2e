"""Output files: whole, or not at all."""

import os
import time

import pytest

from tinygrad_stab.experiments.output import write_json
from tinygrad_stab.files import replace_file


def test_a_crash_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")

    def crash(file):
        file.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        replace_file(path, crash)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_the_old_file_reads_it_to_the_end(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with path.open() as reader:
        replace_file(path, lambda file: file.write(b"newer"))
        assert reader.read() == "old" and path.read_text() == "newer"


def test_a_link_stays_one(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    replace_file(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_is_refused_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"  # as /dev/stdout may be, or /dev/null, which root could replace
    os.mkfifo(pipe)
    for place in (pipe, tmp_path):
        with pytest.raises(OSError, match="not a file") as caught:
            replace_file(place, lambda file: file.write(b"new"))
        assert caught.value.filename == str(place)
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_drafts_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    path = tmp_path / "run[1].npz"
    stale, fresh = tmp_path / ".run[1].npz.abcd_123.draft", tmp_path / ".run[1].npz.efgh5678.draft"
    others = [".run1.npz.abcd_123.draft", ".run[1].npz.draft", "run[1].npz.abcd_123.draft", ".run"]
    others = [fresh, *(tmp_path / name for name in others)]
    yesterday = time.time() - 86400
    for file in (stale, *others):
        file.write_text("half")
        if file != fresh:  # which another process is writing now
            os.utime(file, (yesterday, yesterday))
    replace_file(path, lambda file: file.write(b"new"))
    assert set(tmp_path.iterdir()) == {path, *others}


def test_a_draft_that_cannot_be_removed_does_no_harm(tmp_path):
    path, stuck = tmp_path / "out.txt", tmp_path / ".out.txt.abcd_123.draft"
    stuck.mkdir()
    os.utime(stuck, (0, 0))
    replace_file(path, lambda file: file.write(b"new"))
    assert path.read_text() == "new" and stuck.is_dir()


def test_json_refuses_what_json_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "out.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []
