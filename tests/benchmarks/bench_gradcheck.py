"""`check_gradients` beside PyTorch's `gradcheck`, on the same functions, in one run.

    OPENBLAS_NUM_THREADS=1 pytest -s tests/benchmarks/bench_gradcheck.py

Of 1 000 inputs. Both run in turn, so that what else the machine does meets both; the ratio is the
median over rounds. It needs PyTorch, which nothing else here does.
"""

import time

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.testing import check_gradients

torch = pytest.importorskip("torch", reason="needs PyTorch to compare with: pip install torch")

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=1000), RNG.normal(size=(1000, 50)) / 30
W_TORCH = torch.tensor(W)
FUNCTIONS = {
    "Σ tanh(x W), 50 sums": (
        lambda x: tg.sum(tg.tanh(x @ W), axis=-1),
        lambda x: torch.tanh(x @ W_TORCH).sum(-1),
    ),
    "Σ tanh(x W)": (lambda x: tg.sum(tg.tanh(x @ W)), lambda x: torch.tanh(x @ W_TORCH).sum()),
    "tanh(x)": (tg.tanh, torch.tanh),
    "Σ x²": (lambda x: tg.sum(x**2), lambda x: (x**2).sum()),
    "Σ x·exp(sin x)": (
        lambda x: tg.sum(tg.exp(tg.sin(x)) * x),
        lambda x: (torch.exp(torch.sin(x)) * x).sum(),
    ),
    "Σ relu(x W), 50 sums": (
        lambda x: tg.sum(tg.relu(x @ W), axis=-1),
        lambda x: torch.relu(x @ W_TORCH).sum(-1),
    ),
    "Σ relu(x W)": (lambda x: tg.sum(tg.relu(x @ W)), lambda x: torch.relu(x @ W_TORCH).sum()),
}
ROWS: dict[str, tuple[float, float, float, float]] = {}


@pytest.fixture(scope="module", autouse=True)
def report():
    torch.set_num_threads(1)
    yield
    print(f"\n\n{'function of 1 000 numbers':28}{'PyTorch, ms':>13}{'here, ms':>10}{'ratio':>8}"
          f"{'sees errors of':>16}")  # fmt: skip
    for name, (theirs, ours, ratio, power) in ROWS.items():
        print(f"{name:28}{theirs:13.1f}{ours:10.1f}{ratio:8.2f}{power:16.0e}")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_1000_inputs(name, benchmark):
    f, f_torch = FUNCTIONS[name]
    x = torch.tensor(X, requires_grad=True)
    pairs = []
    for _ in range(2 if benchmark.disabled else 15):
        times = []
        for work in (
            lambda: torch.autograd.gradcheck(f_torch, (x,)),
            lambda: check_gradients(f, X),
        ):
            start = time.perf_counter()
            assert work()
            times.append(time.perf_counter() - start)
        pairs.append(times)
    theirs, ours = 1e3 * np.median(pairs, axis=0)
    ratio = float(np.median([b / a for a, b in pairs]))
    ROWS[name] = (theirs, ours, ratio, check_gradients(f, X).power)
    benchmark.extra_info["ratio"] = ratio
    benchmark.pedantic(lambda: check_gradients(f, X), rounds=5)
