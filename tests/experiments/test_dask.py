"""Sweeps over a real Dask cluster: a scheduler and two workers in processes of their own."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from test_sweep import GRID, draws, fails_at_two, network, records, slow

import tinygrad_stab as tg
from tinygrad_stab.errors import UnsupportedError
from tinygrad_stab.experiments.parallel import dask, data_parallel_gradient
from tinygrad_stab.experiments.sweep import canonical_json, sweep

CLUSTER = """
import sys
from distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()  # until whoever started it has gone
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    pytest.importorskip("distributed", reason="needs Dask: pip install 'tinygrad_stab[dask]'")
    directory = tmp_path_factory.mktemp("dask")
    script = directory / "cluster.py"
    script.write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, script],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    address = process.stdout.readline().strip()
    assert address, process.communicate()[1]
    yield address
    process.communicate(timeout=60)


def test_200_cells_are_the_same_bytes_in_process_and_over_dask(address, tmp_path):
    path = tmp_path / "cells.jsonl"
    with dask(address) as executor:
        there = sweep(network, GRID, repeats=5, executor=executor, path=path)
    here = sweep(network, GRID, repeats=5)
    assert len(records(path)) == len(here) == 200
    assert all(cell.error is None for cell in here)
    assert canonical_json(here) == canonical_json(there)


def test_failures_are_recorded_and_called_again(address, tmp_path):
    path = tmp_path / "cells.jsonl"
    with dask(address) as executor:
        cells = sweep(fails_at_two, {"n": [1, 2, 3]}, executor=executor, path=path, retries=2)
    assert [cell.error for cell in cells] == [None, "ValueError: two is bad", None]
    assert sorted(r["config"]["n"] for r in records(path)) == [1, 2, 2, 2, 3]
    assert len({r["seconds"] for r in records(path) if r["error"]}) == 3  # none was looked up


def test_a_worker_that_is_killed_loses_nothing(address, tmp_path):
    path = tmp_path / "cells.jsonl"
    with dask(address) as executor:
        victim = executor.submit(os.getpid).result()

        done = 0

        def kill():
            nonlocal done
            while done < 5:
                time.sleep(0.01)
                done = path.read_bytes().count(b"\n") - 1 if path.exists() else 0
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        cells = sweep(slow, {"n": range(60)}, executor=executor, path=path)
        killer.join()
    assert done < 60
    assert all(cell.error is None for cell in cells)
    assert sorted(r["config"]["n"] for r in records(path)) == list(range(60))
    assert canonical_json(cells) == canonical_json(sweep(draws, {"n": range(60)}))


def test_the_gradient_of_a_batch_in_shards(address, rng):
    net, mse = tg.nn.Linear(3, 2, rng=0), tg.nn.functional.mse_loss
    x, y = rng.normal(size=(10, 3)), rng.normal(size=(10, 2))
    with dask(address) as executor:
        loss, gradients = data_parallel_gradient(net, mse, x, y, executor, 3)
    residual = x @ net.weight.data.T + net.bias.data - y
    assert loss == pytest.approx(np.mean(residual**2), rel=1e-13)
    np.testing.assert_allclose(gradients["weight"], residual.T @ x / 10, rtol=1e-12)
    np.testing.assert_allclose(gradients["bias"], residual.mean(axis=0), rtol=1e-12)


def test_without_dask_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'tinygrad_stab\[dask\]'"), dask("x"):
        pass
