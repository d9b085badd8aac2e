"""Sweeps: the same numbers wherever they run, and nothing lost whatever is killed."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import tinygrad_stab as tg
from tinygrad_stab.errors import ArgumentError, DataError, GraphError, ShapeError
from tinygrad_stab.experiments.parallel import data_parallel_gradient, processes
from tinygrad_stab.experiments.phase import gradient_decay, phase_diagram
from tinygrad_stab.experiments.sweep import Cell, canonical_json, sweep

GRID = {"width": list(range(1, 21)), "scale": [0.5, 1.0]}  # × 5 repeats: 200 cells


# ---- what is swept, at the top level for workers to import


def network(config, rng):
    """A number that depends on every draw, through the engine."""
    net = tg.nn.Linear(config["width"], config["width"], rng=rng)
    x = tg.tensor(rng.normal(0, config["scale"], (3, config["width"])), requires_grad=True)
    tg.tanh(net(x)).sum().backward()
    return {"gradient": np.sum(x.grad**2), "who": "net", "nothing": None, "draw": rng.random()}


def draws(config, rng):
    return {"x": rng.random()}


def slow(config, rng):
    time.sleep(0.03)
    return {"x": rng.random()}


def fails_at_two(config, rng):
    if config["n"] == 2:
        raise ValueError("two is bad")
    return {"x": rng.random()}


def fails_once(config, rng):
    """As a full disk would, that somebody then clears."""
    marker = Path(config["directory"]) / str(config["n"])
    if not marker.exists():
        marker.touch()
        raise OSError("full")
    return {"x": rng.random()}


def killed_once(config, rng):
    """Its worker is killed in the middle, once, as if memory had run out."""
    marker = Path(config["directory"]) / "killed"
    time.sleep(0.01)
    if config["n"] == 7 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"x": rng.random()}


def kills_always(config, rng):
    if config["n"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"x": rng.random()}


def not_numbers(config, rng):
    return {"nan": math.nan, "up": np.float64(np.inf), "down": [-math.inf, 0.1], "word": "NaN"}


def returns(config, rng):
    return {"array": np.ones(3)} if config["n"] else 1.0


def interrupted(config, rng):
    if config["n"] == 3:
        raise KeyboardInterrupt
    return {"x": 1}


def leaves(config, rng):
    raise SystemExit(3)


def spoils(config, rng):
    config["sizes"].append(0)
    return {}


def environment(names):
    return [os.environ.get(name) for name in names]


def records(path):
    """The cells in a file, each line strictly JSON."""

    def refuse(constant):
        raise AssertionError(constant)

    lines = Path(path).read_text().splitlines()[1:]
    return [json.loads(line, parse_constant=refuse) for line in lines]


class Backwards(Executor):
    """Runs four at a time, what was submitted last first."""

    def __init__(self):
        self.pending = []

    def submit(self, fn, /, *args):
        future = Future()
        self.pending.append((future, fn, args))
        if len(self.pending) == 4:
            while self.pending:
                future_, fn_, args_ = self.pending.pop()
                future_.set_result(fn_(*args_))
        return future


class Fragile(Executor):
    """Breaks as a whole, as a pool of processes does, while cell 3 is in it (but not for ever)."""

    def __init__(self):
        self.pending = []
        self.batches = []

    def submit(self, fn, /, *args):
        self.pending.append((Future(), fn, args))
        return self.pending[-1][0]

    def wait(self, futures, **options):
        pending, self.pending = self.pending, []
        breaks = any(args[1].config["n"] == 3 for _, _, args in pending) and len(self.batches) < 30
        self.batches += [(len(pending), breaks)] if pending else []
        for future, fn, args in pending:
            if breaks:
                future.set_exception(BrokenExecutor("broken"))
            else:
                future.set_result(fn(*args))
        return wait(futures, **options)


class Counting(ThreadPoolExecutor):
    """Counts how many calls were under way at once."""

    most = 0
    futures = ()

    def submit(self, fn, /, *args):
        self.futures = [f for f in self.futures if not f.done()] + [super().submit(fn, *args)]
        self.most = max(self.most, len(self.futures))
        return self.futures[-1]


@pytest.fixture(scope="module")
def pool():
    with processes(2) as executor:
        yield executor


class TestNumbers:
    def test_200_cells_are_the_same_bytes_in_process_and_over_processes(self, pool, tmp_path):
        path = tmp_path / "cells.jsonl"
        here = sweep(network, GRID, repeats=5)
        there = sweep(network, GRID, repeats=5, executor=pool, path=path)
        assert len(here) == len(records(path)) == 200
        assert all(cell.error is None for cell in here)
        assert canonical_json(here) == canonical_json(there)
        read = sweep(network, GRID, repeats=5, path=path)
        assert read == there  # times included: nothing was called again
        assert [(c.config["width"], c.config["scale"], c.repeat) for c in here] == [
            (width, scale, repeat) for width in range(1, 21) for scale in (0.5, 1.0)
            for repeat in range(5)
        ]  # fmt: skip

    def test_the_order_in_which_cells_finish_changes_nothing(self):
        backwards = sweep(draws, {"n": range(8)}, executor=Backwards(), in_flight=4)
        assert canonical_json(backwards) == canonical_json(sweep(draws, {"n": range(8)}))

    def test_no_more_than_so_many_cells_are_in_flight(self):
        with Counting(2) as executor:
            sweep(slow, {"n": range(12)}, executor=executor, in_flight=3)
        assert executor.most == 3

    def test_a_cell_depends_on_itself_and_the_seed_alone(self):
        small = sweep(draws, {"a": [1], "b": [2]})[0]
        large = sweep(draws, {"b": [0, 2, 3], "a": [7, 1]}, repeats=3)
        assert small.result in [cell.result for cell in large]
        assert len({cell.result["x"] for cell in large}) == 18
        assert sweep(draws, {"a": [1], "b": [2]}, seed=1)[0].result != small.result

    def test_equal_numbers_of_another_type_are_other_cells(self):
        one, real, true, text = sweep(draws, {"n": [1, 1.0, True, "1"]})
        assert len({cell.result["x"] for cell in (one, real, true, text)}) == 4

    def test_numpy_values_are_those_of_python(self):
        given = {"a": np.linspace(0, 1, 3), "b": np.arange(2), "c": [(1, 2)]}
        cells = sweep(draws, given)
        assert cells == [cell._replace(seconds=mine.seconds) for cell, mine in zip(
            sweep(draws, {"a": [0.0, 0.5, 1.0], "b": [0, 1], "c": [[1, 2]]}), cells, strict=True
        )]  # fmt: skip
        assert type(cells[0].config["a"]) is float and type(cells[0].config["b"]) is int

    def test_the_numbers_are_those_of_the_documented_seed(self):
        import hashlib

        digest = hashlib.sha256(b'{"config":{"n":1.5},"repeat":0}').digest()
        words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
        rng = np.random.default_rng(np.random.SeedSequence(9, spawn_key=words))
        assert sweep(draws, {"n": [1.5]}, seed=9)[0].result == {"x": rng.random()}

    def test_a_function_cannot_spoil_its_cell(self):
        (cell,) = sweep(spoils, {"sizes": [[1, 2]]})
        assert cell.config == {"sizes": [1, 2]} and cell.result == {}

    def test_an_empty_axis_has_no_cells_and_an_empty_grid_has_one(self):
        assert sweep(draws, {"n": []}) == []
        assert canonical_json([]) == b"[\n\n]\n" and json.loads(canonical_json([])) == []
        assert len(sweep(draws, {})) == 1


class TestFile:
    def test_what_is_not_finite_survives(self, tmp_path):
        path = tmp_path / "cells.jsonl"
        grid = {"n": [math.nan, math.inf, -0.0, 5e-324, 0.1]}
        fresh = sweep(not_numbers, grid, path=path)
        read = sweep(not_numbers, grid, path=path)
        records(path)  # strict
        for cell, again in zip(fresh, read, strict=True):
            assert repr(cell) == repr(again)  # NaN equals NaN, −0.0 is not 0.0
            assert again.result["word"] == "NaN" and math.isnan(again.result["nan"])
            assert again.result["up"] == math.inf and again.result["down"] == [-math.inf, 0.1]
        json.loads(canonical_json(read), parse_constant=pytest.fail)

    def test_only_new_cells_run(self, tmp_path):
        path = tmp_path / "cells.jsonl"
        first = sweep(draws, {"n": [1, 2]}, path=path)
        more = sweep(draws, {"n": [3, 2, 1]}, path=path, repeats=2)
        assert [more[4], more[2]] == first
        assert len(records(path)) == 6

    def test_names_keep_the_order_of_the_function_and_of_the_grid(self, tmp_path):
        path = tmp_path / "cells.jsonl"
        for grid in ({"b": [1], "a": [2]}, {"a": [2], "b": [1]}):
            (cell,) = sweep(not_numbers, grid, path=path)
            assert list(cell.config) == list(grid)
            assert list(cell.result) == ["nan", "up", "down", "word"]
        assert len(records(path)) == 1

    @pytest.mark.parametrize("keep", [0, 1, 10, -1])
    def test_a_torn_last_line_is_dropped_and_its_cell_run_again(self, tmp_path, keep):
        path = tmp_path / "cells.jsonl"
        whole = sweep(draws, {"n": range(4)}, path=path)
        *lines, last = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines) + last[:keep])
        assert canonical_json(sweep(draws, {"n": range(4)}, path=path)) == canonical_json(whole)
        assert sorted(r["config"]["n"] for r in records(path)) == [0, 1, 2, 3]

    def test_a_torn_first_line_is_written_again(self, tmp_path):
        path = tmp_path / "cells.jsonl"
        sweep(draws, {"n": [1]}, path=path)
        content = path.read_bytes()
        for torn in (b"", content[:20]):
            path.write_bytes(torn)
            sweep(draws, {"n": [1]}, path=path)
            assert path.read_bytes().splitlines()[0] == content.splitlines()[0]
            assert len(records(path)) == 1

    @pytest.mark.parametrize(
        ("function", "grid", "seed"),
        [(slow, {"n": [1]}, 0), (draws, {"n": [1]}, 1), (draws, {"n": [1], "m": [1]}, 0)],
    )
    def test_a_file_of_another_sweep_is_refused(self, tmp_path, function, grid, seed):
        path = tmp_path / "cells.jsonl"
        sweep(draws, {"n": [1]}, path=path)
        before = path.read_bytes()
        with pytest.raises(DataError, match="of another sweep: pass another path"):
            sweep(function, grid, seed=seed, path=path)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("content", [b"hello", b"{}", b"a,b\n1,2\n", b"\xff\x00\n"])
    def test_any_other_file_is_refused_and_left_alone(self, tmp_path, content):
        path = tmp_path / "cells.jsonl"
        path.write_bytes(content)
        with pytest.raises(DataError, match="begins with"):
            sweep(draws, {"n": [1]}, path=path)
        assert path.read_bytes() == content

    @pytest.mark.parametrize("bad", [b"nonsense", b"[]", b'{"config": {}}', b"\xff"])
    def test_a_damaged_line_is_named(self, tmp_path, bad):
        path = tmp_path / "cells.jsonl"
        sweep(draws, {"n": [1, 2]}, path=path)
        lines = path.read_bytes().splitlines()
        damaged = b"\n".join([lines[0], bad, lines[2], b""])
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="line 2 is"):
            sweep(draws, {"n": [1, 2]}, path=path)
        assert path.read_bytes() == damaged

    def test_no_directory_no_work(self, tmp_path):
        with pytest.raises(ArgumentError, match="its directory must exist"):
            sweep(interrupted, {"n": [3]}, path=tmp_path / "none" / "cells.jsonl")


class TestFailures:
    def test_are_recorded_and_retried_and_tried_again_by_the_next_run(self, tmp_path):
        path = tmp_path / "cells.jsonl"
        cells = sweep(fails_at_two, {"n": [1, 2, 3]}, path=path, retries=2)
        assert [cell.error for cell in cells] == [None, "ValueError: two is bad", None]
        assert cells[1].result is None and cells[1].seconds >= 0
        assert sorted(r["config"]["n"] for r in records(path)) == [1, 2, 2, 2, 3]
        again = sweep(fails_at_two, {"n": [1, 2, 3]}, path=path, retries=0)
        assert canonical_json(again) == canonical_json(cells)
        assert sorted(r["config"]["n"] for r in records(path)) == [1, 2, 2, 2, 2, 3]

    def test_a_retry_that_succeeds_has_the_numbers_of_a_first_try(self, tmp_path, pool):
        grid = {"n": [1, 2, 3], "directory": [str(tmp_path)]}
        path = tmp_path / "cells.jsonl"
        cells = sweep(fails_once, grid, executor=pool, path=path)
        assert all(cell.error is None for cell in cells)
        assert [r["error"] for r in records(path)].count("OSError: full") == 3
        assert canonical_json(cells) == canonical_json(sweep(fails_once, grid))
        assert canonical_json(cells) == canonical_json(sweep(fails_once, grid, path=path))
        assert len(records(path)) == 6

    def test_a_result_that_json_cannot_hold_is_a_failure(self):
        plain, array = sweep(returns, {"n": [0, 1]}, retries=0)
        assert plain.error.startswith("ArgumentError: a result maps names to numbers")
        assert array.error.startswith("ArgumentError: array: is a number, a string, None")

    def test_a_function_that_exits_is_a_failure(self, pool):
        for executor in (None, pool):
            (cell,) = sweep(leaves, {"n": [1]}, executor=executor)
            assert cell.error == "SystemExit: 3"

    def test_a_worker_that_is_killed_loses_nothing(self, tmp_path):
        grid = {"n": range(30), "directory": [str(tmp_path)]}
        path = tmp_path / "cells.jsonl"
        with processes(2) as pool:
            cells = sweep(killed_once, grid, executor=pool, path=path, in_flight=6)
        assert (tmp_path / "killed").exists()
        assert all(cell.error is None for cell in cells)
        assert sorted(r["config"]["n"] for r in records(path)) == list(range(30))
        assert canonical_json(cells) == canonical_json(sweep(killed_once, grid))

    def test_a_cell_that_kills_every_worker_is_found_out(self, tmp_path):
        path = tmp_path / "cells.jsonl"
        with processes(2) as pool:
            cells = sweep(kills_always, {"n": range(8)}, executor=pool, path=path, in_flight=4)
        assert [cell.config["n"] for cell in cells if cell.error] == [3]
        assert cells[3].error.startswith("BrokenProcessPool: ") and cells[3].seconds is None
        good = [r["config"]["n"] for r in records(path) if r["error"] is None]
        assert sorted(good) == [0, 1, 2, 4, 5, 6, 7]

    def test_what_was_there_at_two_crashes_runs_alone(self, monkeypatch):
        executor = Fragile()
        monkeypatch.setattr("tinygrad_stab.experiments.sweep.wait", executor.wait)
        cells = sweep(draws, {"n": range(8)}, executor=executor, in_flight=4, retries=1)
        assert [cell.config["n"] for cell in cells if cell.error] == [3]
        # twice in company, and alone at the first call that counts and the retry
        assert [size for size, broke in executor.batches if broke] == [4, 4, 1, 1]

    def test_a_pool_that_cannot_be_mended_keeps_what_is_done(self, tmp_path):
        path = tmp_path / "cells.jsonl"
        with (
            ProcessPoolExecutor(1, get_context("spawn")) as pool,
            pytest.raises(BrokenExecutor),
        ):
            sweep(kills_always, {"n": range(8)}, executor=pool, path=path, in_flight=1)
        assert [r["config"]["n"] for r in records(path)][:3] == [0, 1, 2]
        assert len(sweep(draws, {"n": range(3)})) == 3

    def test_an_executor_that_cancels_is_an_error(self):
        class Cancels(Executor):
            def submit(self, fn, /, *args):
                future = Future()
                future.cancel()
                future.set_running_or_notify_cancel()
                return future

        with pytest.raises(CancelledError):
            sweep(draws, {"n": [1]}, executor=Cancels())


SCRIPT = """
import sys
from test_sweep import slow
from tinygrad_stab.experiments.parallel import processes
from tinygrad_stab.experiments.sweep import sweep

if __name__ == "__main__":
    with processes(2) as pool:
        sweep(slow, {"n": range(60)}, executor=pool, path=sys.argv[1])
"""


@pytest.fixture
def started(tmp_path):
    """A sweep of 60 slow cells in a process of its own, when five at least are done."""
    script, path = tmp_path / "script.py", tmp_path / "cells.jsonl"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, script, path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < 6:
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    yield process, path
    process.kill()
    process.communicate()


class TestInterruption:
    def finish(self, path):
        """Resume, and compare with a sweep that nobody disturbed."""
        done = path.read_bytes().count(b"\n") - 1
        assert 5 <= done < 60
        cells = sweep(slow, {"n": range(60)}, path=path)
        assert sorted(r["config"]["n"] for r in records(path)) == list(range(60))
        undisturbed = sweep(draws, {"n": range(60)})  # draws what `slow` draws
        assert canonical_json(cells) == canonical_json(undisturbed)

    def test_a_sweep_that_was_killed_goes_on_with_every_cell_once(self, started):
        process, path = started
        process.kill()
        process.communicate(timeout=30)  # ends when the workers do, for they hold its pipes
        assert process.returncode == -signal.SIGKILL
        self.finish(path)

    def test_ctrl_c_keeps_what_is_done(self, started):
        process, path = started
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
        _, errors = process.communicate(timeout=30)
        assert process.returncode != 0
        assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")
        self.finish(path)

    def test_ctrl_c_in_process(self, tmp_path):
        path = tmp_path / "cells.jsonl"
        with pytest.raises(KeyboardInterrupt):
            sweep(interrupted, {"n": range(9)}, path=path)
        assert [r["config"]["n"] for r in records(path)] == [0, 1, 2]


class TestArguments:
    @pytest.mark.parametrize(
        "wrong",
        [{"seed": -1}, {"seed": 0.5}, {"seed": True}, {"repeats": 0}, {"repeats": math.nan},
         {"retries": -1}, {"retries": "1"}, {"in_flight": 0}],
    )  # fmt: skip
    def test_numbers_out_of_range(self, wrong):
        ((name, _),) = wrong.items()
        with pytest.raises(ArgumentError, match=f"sweep: {name} is a whole number ≥ [01]; rec"):
            sweep(draws, {"n": [1]}, **wrong)

    @pytest.mark.parametrize("function", [lambda config, rng: {}, len, np.sum, "draws", None])
    def test_a_function_that_workers_cannot_import(self, function):
        with pytest.raises(ArgumentError, match="top level of a module"):
            sweep(function, {"n": [1]})

    @pytest.mark.parametrize(
        ("grid", "message"),
        [
            ([1, 2], "grid maps names to values"),
            ({1: [1]}, "grid maps names to values"),
            ({"n": 3}, "n=3"),
            ({"n": "abc"}, "n='abc'"),
            ({"n": [1, 2, 1]}, "each value of n once"),
            ({"n": [{}]}, "received dict"),
            ({"n": [1j]}, "received complex"),
            ({"n": [[1, np.ones(2)]]}, "received ndarray"),
        ],
    )
    def test_a_grid_that_json_cannot_hold(self, grid, message):
        with pytest.raises(ArgumentError, match=message):
            sweep(draws, grid)

    @pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True, math.nan])
    def test_numbers_of_workers(self, workers):
        with pytest.raises(ArgumentError, match="workers is a whole number ≥ 1"):
            processes(workers)


class TestProgress:
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def test_is_shown_on_a_terminal_only(self, monkeypatch, capsys):
        terminal = self.Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        sweep(fails_at_two, {"n": [1, 2, 3]})
        assert "sweeping" in terminal.getvalue() and "3/3" in terminal.getvalue()
        sweep(draws, {"n": [1, 2, 3]}, progress=False)
        assert terminal.getvalue().count("3/3") == 1
        monkeypatch.undo()
        sweep(draws, {"n": [1]})
        assert capsys.readouterr() == ("", "")


class TestProcesses:
    def test_workers_have_one_blas_thread_and_the_parent_its_environment(self, monkeypatch):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
        monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
        names = ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]
        before = dict(os.environ)
        with processes(1) as pool:
            assert pool.submit(environment, names).result() == ["1", "1", "1"]
        assert dict(os.environ) == before

    def test_workers_leave_ctrl_c_to_their_parent(self, pool):
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN

    def test_a_broken_pool_is_followed_by_another(self):
        with processes(1) as pool:
            with pytest.raises(BrokenExecutor):
                pool.submit(kills_always, {"n": 3}, None).result()
            assert pool.submit(divmod, 7, 2).result() == (3, 1)


class TestDataParallel:
    def whole(self, net, loss, x, y):
        value = loss(net(x), y)
        value.backward()
        return value.item(), {name: p.grad for name, p in net.named_parameters()}

    @pytest.mark.parametrize("shards", [1, 2, 3, 7])
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_is_the_gradient_of_the_whole_batch(self, pool, rng, shards, dtype):
        net = tg.nn.Sequential(
            tg.nn.Linear(5, 8, rng=0, dtype=dtype),
            tg.nn.Tanh(),
            tg.nn.Linear(8, 3, rng=1, dtype=dtype),
        )
        x, y = rng.normal(size=(7, 5)).astype(dtype), rng.integers(0, 3, 7)
        loss = tg.nn.CrossEntropyLoss()
        value, gradients = data_parallel_gradient(net, loss, x, y, pool, shards)
        assert all(p.grad is None for p in net.parameters())
        exact, expected = self.whole(net, loss, x, y)
        close = {"rtol": 1e-13, "atol": 1e-15} if dtype == "float64" else {"rtol": 1e-4}
        assert value == pytest.approx(exact, rel=close["rtol"])
        assert list(gradients) == list(expected)
        for name, gradient in gradients.items():
            assert gradient.dtype == dtype
            np.testing.assert_allclose(gradient, expected[name], **close)
        # with old gradients about, and in this process: the model is left alone
        _, again = data_parallel_gradient(net, loss, x, y, Here(), shards)
        for name, p in net.named_parameters():
            np.testing.assert_array_equal(again[name], gradients[name])
            assert p.grad is expected[name]

    def test_frozen_parameters_have_no_gradient(self, pool, rng):
        net = tg.nn.Linear(2, 1, rng=0)
        net.bias.requires_grad = False
        x = rng.normal(size=(4, 2))
        mse = tg.nn.functional.mse_loss
        _, gradients = data_parallel_gradient(net, mse, x, np.ones((4, 1)), pool, 2)
        assert list(gradients) == ["weight"]

    @pytest.mark.parametrize("shards", [0, 5, 1.0, True, "2"])
    def test_numbers_of_shards(self, pool, shards):
        net, mse = tg.nn.Linear(2, 1, rng=0), tg.nn.functional.mse_loss
        with pytest.raises(ArgumentError, match=r"shards is a whole number from 1 to .* 4; rec"):
            data_parallel_gradient(net, mse, np.ones((4, 2)), np.ones((4, 1)), pool, shards)

    @pytest.mark.parametrize(("x", "y"), [((4, 2), (3, 1)), ((), (3,)), ((0, 2), (0, 1))])
    def test_lengths(self, pool, x, y):
        net, mse = tg.nn.Linear(2, 1, rng=0), tg.nn.functional.mse_loss
        with pytest.raises(ShapeError, match="a row for each example"):
            data_parallel_gradient(net, mse, np.ones(x), np.ones(y), pool, 1)

    def test_an_error_of_a_shard_comes_back(self, pool):
        loss = tg.nn.MSELoss(reduction="none")
        with pytest.raises(GraphError, match="must be a scalar"):
            data_parallel_gradient(
                tg.nn.Linear(2, 1, rng=0), loss, np.ones((4, 2)), np.ones((4, 1)), pool, 2
            )


class Here(Executor):
    """Calls at once, in this process."""

    def submit(self, fn, /, *args):
        future = Future()
        future.set_result(fn(*args))
        return future


class TestPhaseDiagram:
    def test_agrees_with_theory_on_both_sides_of_the_critical_line(self, pool):
        diagram = phase_diagram([5, 30], [0.8, 1.3, 2.5], width=200, repeats=4, executor=pool)
        assert diagram.decay.shape == diagram.theory.shape == (2, 3)
        assert (diagram.decay[1] < 0).tolist() == [True, True, False]
        # E[log] lies below log E by the scatter of finite nets; the first layers are not at q*
        np.testing.assert_allclose(diagram.decay[1], diagram.theory[1], rtol=0.1, atol=0.5)
        for scale, theory in zip(diagram.depth_scale, diagram.theory[1], strict=True):
            assert math.exp(29 / scale) == pytest.approx(10 ** abs(2 * theory), rel=1e-9)

    def test_the_cell_is_what_a_loop_by_hand_gives(self):
        config = {"depth": 4, "sigma_w": 1.5, "bias_variance": 0.1, "width": 6, "batch_size": 3}
        seen = gradient_decay(config, np.random.default_rng(5))["decay"]
        rng = np.random.default_rng(5)
        h, weights, zs = rng.normal(size=(3, 6)), [], []
        for _ in range(4):
            rng.uniform(size=(6, 6)), rng.uniform(size=6)  # the layer's own initialisation
            weights.append(rng.normal(0, 1.5 / np.sqrt(6), (6, 6)))
            zs.append(h @ weights[-1].T + rng.normal(0, np.sqrt(0.1), 6))
            h = np.tanh(zs[-1])
        last = delta = rng.normal(size=(3, 6))
        for W, z in zip(weights[:0:-1], zs[-2::-1], strict=True):
            delta = delta @ W * (1 - np.tanh(z) ** 2)
        expected = np.log10(np.sqrt((delta**2).mean() / (last**2).mean()))
        assert seen == pytest.approx(expected, rel=1e-12)

    def test_underflow_is_minus_infinity_and_is_drawn(self, tmp_path):
        diagram = phase_diagram([2, 60], [0.0, 1e-8, 2.0], width=4, path=tmp_path / "cells.jsonl")
        assert diagram.decay[1, :2].tolist() == [-math.inf, -math.inf]
        assert diagram.theory[:, 0].tolist() == [-math.inf, -math.inf]
        diagram.plot(tmp_path / "phase.png")
        assert imread(tmp_path / "phase.png").std() > 0.05  # something is drawn

    @pytest.mark.parametrize(("depths", "sigma_ws"), [([3], [1.0]), ([5, 2], [2.0, 0.5, 1.0])])
    def test_one_value_and_values_out_of_order_are_drawn(self, tmp_path, depths, sigma_ws):
        diagram = phase_diagram(depths, sigma_ws, width=4)
        diagram.plot(tmp_path / "phase.svg")
        assert "σ_w" in (tmp_path / "phase.svg").read_text(encoding="utf-8")

    def test_repeats_are_averaged_and_read_from_the_file(self, tmp_path):
        path, axes = tmp_path / "cells.jsonl", ([2], [1.0])
        phase_diagram(*axes, width=4, repeats=2, path=path)
        first, second = (record["result"]["decay"] for record in records(path))
        mean = phase_diagram(*axes, width=4, repeats=2, path=path).decay[0, 0]
        assert mean == pytest.approx((first + second) / 2, rel=1e-15)
        assert len(records(path)) == 2

    @pytest.mark.parametrize(
        "wrong",
        [{"depths": [1]}, {"depths": []}, {"depths": [2.5]}, {"sigma_ws": [-1.0]},
         {"sigma_ws": [math.nan]}, {"sigma_ws": ["1"]}, {"bias_variance": -0.1},
         {"bias_variance": math.inf}, {"width": 0}, {"batch_size": True}],
    )  # fmt: skip
    def test_arguments_out_of_range(self, wrong):
        ((name, _),) = wrong.items()
        with pytest.raises(ArgumentError, match=f"phase_diagram: {name} is .* at least"):
            phase_diagram(**{"depths": [2], "sigma_ws": [1.0]} | wrong)


def test_a_cell_that_was_not_run_says_so():
    assert Cell({}, 0).result is Cell({}, 0).error is Cell({}, 0).seconds is None
