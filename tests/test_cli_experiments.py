"""The commands that train and measure, as a user runs them."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from test_cli import COMMAND, run

import tinygrad_stab as tg
from tinygrad_stab.diagnostics import read_flow

SMALL = ("train", "--epochs", 2, "--examples", 200, "--hidden", "16")


class TestTrain:
    def test_prints_each_epoch_and_the_gradients(self, tmp_path):
        numbers, picture, flow = (tmp_path / name for name in ("out.json", "out.png", "flow.jsonl"))
        result = run(*SMALL, "--json", numbers, "--plot", picture, "--flow", flow)
        assert result.returncode == 0 and result.stderr == ""
        epochs = [line for line in result.stdout.splitlines() if line.startswith("epoch")]
        assert len(epochs) == 2 and re.search(r"loss \d.*accuracy \d+\.\d\d%", epochs[1])
        assert "layers.1.linear" in result.stdout and "█" in result.stdout
        content = json.loads(numbers.read_text(encoding="utf-8"))
        assert content["accuracy"] == content["history"][-1]["accuracy"]
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert len(list(read_flow(flow))) == 8

    def test_resumed_ends_as_if_it_had_never_stopped(self, tmp_path):
        whole, resumed = tmp_path / "whole.json", tmp_path / "resumed.json"
        checkpoint = tmp_path / "run.npz"
        run("train", "--epochs", 4, "--examples", 200, "--json", whole)
        run("train", "--epochs", 2, "--examples", 200, "--checkpoint", checkpoint)
        again = run(
            "train", "--epochs", 4, "--examples", 200, "--checkpoint", checkpoint, "--resume",
            "--json", resumed,
        )  # fmt: skip
        assert again.returncode == 0 and "epoch   3" in again.stdout
        assert "epoch   2" not in again.stdout
        a, b = (json.loads(path.read_text(encoding="utf-8")) for path in (whole, resumed))
        for first, second in zip(a["history"], b["history"], strict=True):
            assert {**first, "seconds": 0} == {**second, "seconds": 0}

    def test_c04_ctrl_c_leaves_a_whole_checkpoint(self, tmp_path):
        checkpoint = tmp_path / "run.npz"
        arguments = ("train", "--epochs", "100000", "--checkpoint", str(checkpoint))
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while not checkpoint.exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert errors.splitlines()[-1] == "tinygrad-stab: interrupted"
        assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]
        assert tg.load(checkpoint)["history"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--lr", "0"], "lr is above 0"),
            (["--lr", "nan"], "lr is above 0"),
            (["--epochs", "-1"], "--epochs"),
            (["--batch-size", "0"], "--batch-size"),
            (["--batch-size", "5000"], "batch_size is at most"),
            (["--hidden", "3,x"], "whole numbers with commas"),
            (["--model", "lenet"], "lenet is for 28×28 images"),
            (["--clip-norm", "-1"], "clip_norm is at least 0"),
            (["--resume"], "name it with --checkpoint"),
            (["--optimizer", "lion"], "--optimizer"),
            (["--plot", "out.txt"], "ends in .png"),
        ],
    )
    def test_c01_refuses_in_one_line(self, arguments, message):
        result = run("train", *arguments)
        assert result.returncode == 2 and result.stdout == ""
        assert len(result.stderr.splitlines()) == 1 and message in result.stderr

    def test_c02_a_damaged_checkpoint_exits_1_and_is_named(self, tmp_path):
        path = tmp_path / "run.npz"
        path.write_bytes(b"not a checkpoint")
        result = run(*SMALL, "--checkpoint", path, "--resume")
        assert result.returncode == 1 and str(path) in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert path.read_bytes() == b"not a checkpoint"

    def test_c05_an_output_that_exists_is_not_overwritten(self, tmp_path):
        path = tmp_path / "run.npz"
        path.write_bytes(b"mine")
        result = run(*SMALL, "--checkpoint", path)
        assert result.returncode == 2 and "--force" in result.stderr
        assert path.read_bytes() == b"mine"
        assert run(*SMALL, "--checkpoint", path, "--force").returncode == 0

    def test_a_refused_call_removes_nothing(self, tmp_path):
        flow = tmp_path / "flow.jsonl"
        flow.write_bytes(b"mine")
        assert run(*SMALL, "--flow", flow, "--force", "--lr", "-1").returncode == 2
        assert flow.read_bytes() == b"mine"

    def test_no_file_is_for_two_things(self, tmp_path):
        path = tmp_path / "out"
        result = run(*SMALL, "--json", path, "--checkpoint", path.parent / "." / "out")
        assert result.returncode == 2 and "each output is a file of its own" in result.stderr
        assert not path.exists()

    @pytest.mark.parametrize("option", ["--checkpoint", "--flow"])
    def test_resume_needs_directories_that_exist_before_it_trains(self, tmp_path, option):
        place = tmp_path / "missing" / "file"
        options = ("--checkpoint", tmp_path / "run.npz", option, place, "--resume")
        result = run(*SMALL, *options)
        assert result.returncode == 2 and "its directory must exist" in result.stderr
        assert result.stdout == ""

    def test_says_when_there_is_nothing_left_to_train(self, tmp_path):
        command = (*SMALL, "--checkpoint", tmp_path / "run.npz", "--resume")
        run(*command)
        result = run(*command)
        assert result.returncode == 0 and "2 epochs are done" in result.stdout

    def test_what_diverges_says_so(self):
        result = run("train", "--optimizer", "sgd", "--lr", "1e6", "--epochs", 1)
        assert result.returncode == 1
        assert "must be finite" in result.stderr.splitlines()[-1]


class TestSweep:
    ARGUMENTS = ("--depth", "2,4", "--activation", "tanh", "--repeats", 2)

    def test_same_bytes_on_one_process_and_on_two(self, tmp_path):
        for workers in (1, 2):
            out, numbers = tmp_path / f"{workers}.jsonl", tmp_path / f"{workers}.json"
            result = run("sweep", out, *self.ARGUMENTS, "--workers", workers, "--json", numbers)
            assert result.returncode == 0, result.stderr
            assert "xavier" in result.stdout and "±" in result.stdout
        assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()

    def test_what_is_there_is_not_run_again(self, tmp_path):
        out = tmp_path / "out.jsonl"
        run("sweep", out, *self.ARGUMENTS)
        before = out.read_bytes()
        assert run("sweep", out, *self.ARGUMENTS).returncode == 0
        assert out.read_bytes() == before

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--depth", "2,x"], "whole numbers with commas"),
            (["--depth", "1"], "depth is at least 2"),
            (["--remedy", "prayer"], "remedy is one of none, residual"),
            (["--activation", "step"], "activation is one of"),
        ],
    )
    def test_refuses_before_anything_runs(self, tmp_path, arguments, message):
        result = run("sweep", tmp_path / "out.jsonl", *arguments)
        assert result.returncode == 2 and message in result.stderr
        assert len(result.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


class TestReproduce:
    def test_one_row_and_its_files(self, tmp_path):
        text, numbers = tmp_path / "out.md", tmp_path / "out.json"
        result = run("reproduce", "veit", "--quick", "--markdown", text, "--json", numbers)
        assert result.returncode == 0 and "1 of 1 came out as published" in result.stdout
        assert "| ✓ |" in text.read_text(encoding="utf-8")
        (row,) = json.loads(numbers.read_text(encoding="utf-8"))["rows"]
        assert row["passed"] and row["published"] and row["measured"]

    def test_lists_what_there_is(self):
        result = run("reproduce", "--list")
        assert "nielsen-overfitting" in result.stdout and "veit-paths" in result.stdout

    def test_an_unknown_name_is_refused(self):
        result = run("reproduce", "nothing-like-it")
        assert result.returncode == 2 and "There are" in result.stderr


class TestClaims:
    def test_one_claim_in_both_languages(self, tmp_path):
        numbers, text = tmp_path / "out.json", tmp_path / "out.md"
        result = run(
            "claims", "gradient-accuracy", "--quick", "--json", numbers, "--markdown", text
        )
        assert result.returncode == 0, result.stderr
        assert "refuted" in result.stdout and "梯度" in result.stdout
        (claim,) = json.loads(numbers.read_text(encoding="utf-8"))["claims"]
        assert claim["verdict"]["word"] == "refuted" and claim["numbers"]
        assert "gradient-accuracy" in text.read_text(encoding="utf-8")

    def test_an_unknown_claim_is_refused(self):
        result = run("claims", "nothing-like-it")
        assert result.returncode == 2 and "There are initialisation" in result.stderr


class TestExplode:
    def test_table_verdict_and_files(self, tmp_path):
        numbers, picture = tmp_path / "out.json", tmp_path / "out.png"
        result = run("explode", "--steps", 5, "--json", numbers, "--plot", picture)
        assert result.returncode == 0 and result.stderr == ""
        assert "clipped at 1" in result.stdout and "The gradient" in result.stdout
        content = json.loads(numbers.read_text(encoding="utf-8"))
        assert len(content["start"]["norms"]) == content["config"]["length"]
        assert picture.read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--lr", "0"], "lr"),
            (["--spectral-radius", "-1"], "spectral_radius"),
            (["--activation", "step"], "--activation"),
            (["--length", "1"], "--length"),
        ],
    )
    def test_refuses_in_one_line(self, arguments, message):
        result = run("explode", *arguments)
        assert result.returncode == 2 and message in result.stderr
        assert len(result.stderr.splitlines()) == 1 and result.stdout == ""


class TestRemedies:
    def test_ranks_and_writes(self, tmp_path):
        numbers, picture = tmp_path / "out.json", tmp_path / "out.png"
        result = run(
            "remedies", "--depth", 3, "--width", 8, "--steps", 2, "--seeds", 3, "--no-pairs",
            "--workers", 1, "--json", numbers, "--plot", picture,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "sick" in result.stdout and "batch norm" in result.stdout
        assert json.loads(numbers.read_text(encoding="utf-8"))
        assert picture.read_bytes().startswith(b"\x89PNG")

    def test_an_unknown_sickness_is_refused(self):
        result = run("remedies", "cold")
        assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
