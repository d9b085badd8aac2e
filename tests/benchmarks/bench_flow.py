"""What it costs to watch a network: a step with every layer recorded, beside the step alone.

    pytest -s tests/benchmarks/bench_flow.py

A step is forward, backward and Adam. Both kinds take turns in one run; the ratio is the median
over rounds. Pin BLAS to one thread: OPENBLAS_NUM_THREADS=1.
"""

import time

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab import nn

RATIOS: dict[str, tuple[float, float, float]] = {}


@pytest.fixture(scope="module", autouse=True)
def report():
    yield
    print(f"\n\n{'':32}{'step, ms':>12}{'watched, ms':>14}{'ratio':>8}")
    for name, (plain, watched, ratio) in RATIOS.items():
        print(f"{name:32}{plain:12.3f}{watched:14.3f}{ratio:8.2f}")


def mlp(rng):
    sizes = ((784, 256), (256, 128), (128, 10))
    layers = [nn.Linear(a, b, rng=rng) for a, b in sizes]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def residual(rng):
    blocks = [
        nn.Residual(nn.Sequential(nn.Linear(256, 256, rng=rng), nn.ReLU()), 20**-0.5)
        for _ in range(20)
    ]
    return nn.Sequential(*blocks, nn.Linear(256, 10, rng=rng))


def stack(rng):
    modules = [m for _ in range(50) for m in (nn.Linear(64, 64, rng=rng), nn.Sigmoid())]
    return nn.Sequential(*modules, nn.Linear(64, 10, rng=rng))


@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize(
    ("build", "batch", "inputs"),
    [(mlp, 128, 784), (residual, 128, 256), (stack, 32, 64)],
    ids=["784-256-128-10", "residual 20 x 256", "stack 50 x 64"],
)
def test_watching(benchmark, request, build, batch, inputs, every):
    rng = np.random.default_rng(0)
    model = build(rng)
    x, labels = rng.normal(size=(batch, inputs)), rng.integers(0, 10, batch)
    loss, optimizer = nn.CrossEntropyLoss(), tg.optim.Adam(model.parameters())
    flow = tg.diagnostics.GradientFlow(model, optimizer, every)

    def steps():
        start = time.perf_counter()
        for _ in range(10):
            optimizer.zero_grad()
            loss(model(x), labels).backward(retain="leaves")
            optimizer.step()
        return (time.perf_counter() - start) / 10

    def watched():
        with flow:
            return steps()

    pairs = [(steps(), watched()) for _ in range(2 if benchmark.disabled else 30)]
    plain, seen = 1e3 * np.median(pairs, axis=0)
    ratio = float(np.median([b / a for a, b in pairs]))
    RATIOS[request.node.callspec.id] = (plain, seen, ratio)
    benchmark.extra_info["ratio"] = ratio
    benchmark.pedantic(watched, rounds=3)
    assert flow.records
