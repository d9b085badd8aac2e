"""The command line, as a user runs it: in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from tinygrad_stab.cli import main; main()"]


def run(*arguments, **environment):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"COLUMNS": "100", "PYTHONIOENCODING": "utf-8"} | environment,
        timeout=120,
    )


def test_vanish_prints_every_layer_and_the_verdict():
    result = run("vanish")
    assert result.returncode == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert [int(line.split()[0]) for line in lines[1:51]] == list(range(50, 0, -1))
    assert "RMS δ" in lines[0] and "█" in lines[1]
    assert "The gradient shrinks 4.3× a layer; 49 layers down it is 8e-32" in result.stdout


def test_vanish_writes_numbers_and_a_picture(tmp_path):
    numbers, picture = tmp_path / "out.json", tmp_path / "out.png"
    result = run("vanish", "--depth", 10, "--seed", 1, "--json", numbers, "--plot", picture)
    assert result.returncode == 0, result.stderr
    content = json.loads(numbers.read_text(encoding="utf-8"))
    assert content["config"]["depth"] == 10 and content["config"]["seed"] == 1
    assert content["verdict"]["regime"] == "vanishing"
    assert len(content["layers"]) == 10
    for layer in content["layers"]:
        assert {"name", "delta_rms", "weight_grad_rms", "activation_rms", "factor"} <= set(layer)
    assert content["layers"][-1]["factor"] is None
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "out.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vanish", "--bogus"], "No such option"),
        (["vanish", "--depth"], "requires an argument"),
        (["vanish", "--depth", "many"], "--depth"),
        (["vanish", "--depth", "1"], "--depth"),
        (["vanish", "--width", "0"], "--width"),
        (["vanish", "--batch-size", "0"], "--batch-size"),
        (["vanish", "--batch-size", "1798"], "at most the number of examples, 1797"),
        (["vanish", "--seed", "-1"], "--seed"),
        (["vanish", "--activation", "step"], "--activation"),
        (["vanish", "--init", "best"], "--init"),
        (["vanish", "--plot", "picture.bmp"], "ends in .png, .svg or .pdf"),
        (["vanish", "--json", "missing/out.json"], "its directory must exist"),
        (["vanish", "--json", "."], "this is a directory"),
        (["vanish", "extra"], "extra"),
        (["bogus"], "bogus"),
    ],
)
def test_wrong_commands_say_so_in_one_line_and_exit_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("tinygrad-stab: ")
    assert message in result.stderr and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_an_existing_file_is_overwritten_only_by_force(option, tmp_path):
    path = tmp_path / ("out.json" if option == "--json" else "out.png")
    path.write_text("precious")
    result = run("vanish", "--depth", 3, option, path)
    assert result.returncode == 2 and "--force" in result.stderr and str(path) in result.stderr
    assert path.read_text() == "precious"
    assert run("vanish", "--depth", 3, option, path, "--force").returncode == 0
    assert b"precious" not in path.read_bytes()


def test_ops_lists_every_operation_with_its_formulas(tmp_path):
    import tinygrad_stab as tg

    numbers = tmp_path / "ops.json"
    assert run("ops", "--json", numbers).returncode == 0
    records = json.loads(numbers.read_text(encoding="utf-8"))
    assert set(records) == set(tg.REGISTRY) - {"users_cube", "softsign", "my_square"}
    assert records["tanh"]["gradients"] == {"x": "(1 − out·out)·∂L/∂out"}
    markdown = run("ops", "--markdown").stdout.splitlines()
    assert len(markdown) == len(records) + 2
    assert {line.count("|") - line.count("\\|") for line in markdown} == {5}
    table = run("ops", "sigmoid", COLUMNS="160").stdout
    assert "(1 − out)·out·∂L/∂out" in table and "tanh" not in table


@pytest.mark.parametrize("arguments", [["nothing-like-it"], ["exp", "--markdown"]])
def test_ops_refuses(arguments):
    result = run("ops", *arguments)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1


MINE = """
import numpy as np
import tinygrad_stab as tg

def good(x, y):
    return np.sum(np.tanh(x) * y)

pair = (good, lambda x, y: (y * (1 - np.tanh(x) ** 2), np.tanh(x)))
wrong = (good, lambda x, y: (y * (1 - np.tanh(x)), np.tanh(x)))
square = tg.primitive("mine_square", np.square, lambda g, out, x: 2 * g * x)
cube = tg.primitive("mine_cube", lambda x: x**3, lambda g, out, x: 3 * g * x)
number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def test_check_goes_through_every_operation(tmp_path):
    import tinygrad_stab as tg

    out = tmp_path / "out.json"
    result = run("check", "--draws", 1, "--json", out)
    assert result.returncode == 0 and result.stderr == ""
    ruled = {p.name for p in tg.REGISTRY.values() if p.rules} - {
        "users_cube",
        "softsign",
        "my_square",
    }
    assert f"{len(ruled)} of {len(ruled)} are right" in result.stdout
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["passed"] and set(content["reports"]) == ruled
    assert content["reports"]["tanh"][0]["counts"]["correct"] == 12


@pytest.mark.parametrize(
    "arguments", [["mine:good"], ["mine:pair", "--shapes", "2,3 2,3", "--low", 0.5], ["tanh"],
                  ["mine:good", "--order", 2, "--draws", 1], ["mine:square"]],
)  # fmt: skip
def test_check_of_what_is_right_exits_0(arguments, mine):
    result = run("check", *arguments)
    assert result.returncode == 0 and "1 of 1 is right" in result.stdout


@pytest.mark.parametrize(
    ("target", "words"),
    [("mine:wrong", "the gradient of good is wrong at"), ("mine:cube", "worst at x[")],
)
def test_check_of_what_is_wrong_says_where_and_exits_1(target, words, mine):
    result = run("check", target, "--json", "out.json")
    assert result.returncode == 1 and result.stderr == ""
    assert words in result.stdout and "0 of 1 is right" in result.stdout
    content = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert not content["passed"] and words in content["failures"][0]


def test_mutate_counts_what_the_check_notices(mine):
    result = run("mutate", "mine:square", "--json", "out.json")
    assert result.returncode == 0 and "mine_square" in result.stdout
    assert "mutants killed (100.0%)" in result.stdout
    assert json.loads(Path("out.json").read_text(encoding="utf-8"))["score"] == 1
    rows = run("mutate", "sign", "--all").stdout
    assert "one element" in rows and "equivalent" in rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nothing-like-it"], "tinygrad-stab ops lists them"),
        (["check", "mine:nothing"], "no attribute 'nothing'"),
        (["check", "nowhere:f"], "No module named 'nowhere'"),
        (["check", "mine:number"], "must be a function, a pair"),
        (["check", "mine:good", "--shapes", "a,b"], "'3,4 4' is a 3 × 4 matrix"),
        (["check", "mine:good", "--low", "3", "--high", "1"], "needs --low below --high"),
        (["check", "tanh", "--shapes", "3"], "--shapes is for a function"),
        (["check", "--order", "3"], "--order"),
        (["check", "--json", "missing/out.json"], "its directory must exist"),
        (["mutate", "mine:good"], "must be a record"),
        (["mutate", "mine:cube"], "the rules must be right to begin with"),
        (["mutate", "less"], "must be an operation with a derivative"),
    ],
)
def test_check_and_mutate_refuse_in_one_line(arguments, message, mine):
    result = run(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr


def test_missing_data_exits_1_and_names_the_path(tmp_path):
    result = run("vanish", "--data", "mnist", TINYGRAD_STAB_DATA=str(tmp_path))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert str(tmp_path / "mnist" / "train-images-idx3-ubyte.gz") in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["vanish", "--help"]])
def test_c03_help_and_version_are_light(arguments):
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise RuntimeError('touched the network')\n"
        "socket.socket.connect = refuse\n"
        "from tinygrad_stab import cli\n"
        f"sys.argv = ['tinygrad-stab', *{arguments!r}]\n"
        "try:\n    cli.main()\n"
        "except SystemExit as stop:\n    assert stop.code == 0, stop.code\n"
        "heavy = {'matplotlib', 'pooch', 'hypothesis', 'pytest'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_without_arguments_it_shows_help():
    result = run()
    assert "vanish" in result.stdout + result.stderr


def test_interrupt_exits_130_and_leaves_no_half_file(tmp_path):
    out = tmp_path / "out.json"
    code = (  # Ctrl-C a moment after the work has begun
        "import os, signal, sys, threading\n"
        "from tinygrad_stab import cli\n"
        "from tinygrad_stab.experiments import vanishing\n"
        "work = vanishing.vanish\n"
        "def interrupted(config):\n"
        "    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    return work(config)\n"
        "vanishing.vanish = interrupted\n"
        f"sys.argv = ['tinygrad-stab', 'vanish', '--depth', '20000', '--json', {str(out)!r}]\n"
        "cli.main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 130
    assert result.stderr.splitlines() == ["tinygrad-stab: interrupted"]
    assert list(tmp_path.iterdir()) == []


def test_installed_under_its_name():
    script = Path(sys.executable).with_name("tinygrad-stab")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.startswith("tinygrad-stab 0.")


LOSSES = """
import tinygrad_stab as tg

net = tg.nn.Sequential(tg.nn.Linear(2, 3, rng=0), tg.nn.Tanh())

def alone():
    x = tg.tensor(2.0, requires_grad=True, name="x")
    return tg.exp(x * x)

def with_model():
    return tg.mean(net([[1.0, 2.0]])), net

def number():
    return 3.0

def wants_more(x):
    return x

def fails():
    return {}["missing"]

constant = 3
"""


@pytest.fixture
def losses(tmp_path, monkeypatch):
    (tmp_path / "losses.py").write_text(LOSSES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["last.weight", "h = h + tg.tanh(self.second(h))", "example.py:12, in forward"]),
        (["losses:alone"], ["exp", "return tg.exp(x * x)", "losses.py:8, in alone"]),
        (["losses:with_model"], ["0.weight", "losses.py:11, in with_model"]),
    ],
)
def test_explore_writes_a_page(arguments, words, losses):
    result = run("explore", *arguments)
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith("backprop.html: ")
    text = Path("backprop.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    for word in words:
        assert word in text
    again = run("explore", *arguments)
    assert again.returncode == 2 and "--force" in again.stderr
    assert run("explore", *arguments, "--force", "--out", "backprop.html").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["losses:nothing"], "no attribute 'nothing'"),
        (["losses:constant"], "must be a function"),
        (["losses:number"], "must return a loss (a tensor), or a loss and its model; it returned"),
        (["losses:wants_more"], "missing 1 required positional argument: 'x'"),
        (["losses:fails"], "losses.py:20"),
        (["--out", "missing/page.html"], "its directory must exist"),
        (["--out", "."], "this is a directory"),
    ],
)
def test_explore_refuses_in_one_line(arguments, message, losses):
    result = run("explore", *arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr
    assert not list(Path().glob("*.html"))
