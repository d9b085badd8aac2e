"""The engine beside the same work written by hand in NumPy, in one run.

    pytest tests/benchmarks/bench_engine.py

Each benchmark is one forward and one backward pass that keeps every intermediate gradient. The
hand-written side is what a careful engineer writes: no preallocated buffers, no engine. Both run
in turn, so that what else the machine does meets both; `ratio` (engine to hand) is the figure to
look at, the median over rounds. Pin BLAS to one thread: OPENBLAS_NUM_THREADS=1.
"""

import gc
import time
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab import nn

RATIOS: dict[str, tuple[float, float, float]] = {}


@pytest.fixture
def against(benchmark, request):
    """Time the engine under pytest-benchmark, and its ratio to the work by hand."""

    def compare(engine, hand, rounds=40, calls=20):
        np.testing.assert_allclose(engine(), hand(), rtol=1e-9)
        pairs = []
        for _ in range(2 if benchmark.disabled else rounds):
            times = []
            for work in (hand, engine):
                start = time.perf_counter()
                for _ in range(calls):
                    work()
                times.append((time.perf_counter() - start) / calls)
            pairs.append(times)
        by_hand, ours = np.median(pairs, axis=0)
        ratio = float(np.median([b / a for a, b in pairs]))
        RATIOS[request.node.name] = (1e3 * by_hand, 1e3 * ours, ratio)
        benchmark.extra_info["ratio"] = ratio
        benchmark.pedantic(engine, rounds=10, iterations=calls, warmup_rounds=1)

    return compare


@pytest.fixture(scope="module", autouse=True)
def report():
    yield
    print(f"\n\n{'':28}{'by hand, ms':>14}{'engine, ms':>14}{'ratio':>10}")
    for name, (hand, ours, ratio) in RATIOS.items():
        print(f"{name:28}{hand:14.3f}{ours:14.3f}{ratio:10.2f}")


def softmax_gradient(logits, labels):
    """Mean cross-entropy and its gradient, by hand."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = (np.log(total[:, 0]) - shifted[rows, labels]).mean()
    g = e / total
    g[rows, labels] -= 1
    return loss, g / len(labels)


def parameters(layers):
    return [(layer.weight.data.copy(), layer.bias.data.copy()) for layer in layers]


def test_50x64_sigmoid(against):
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        *[m for _ in range(50) for m in (nn.Linear(64, 64, rng=rng), nn.Sigmoid())]
    )
    for layer in model[::2]:
        nn.init.xavier_uniform_(layer.weight, rng=rng)
    optimizer = tg.optim.SGD(model.parameters())
    weights = parameters(model[::2])
    x = rng.normal(size=(32, 64))

    def hand():
        h, hs = x, [x]
        for w, b in weights:
            h = 1 / (1 + np.exp(-(h @ w.T + b)))
            hs.append(h)
        g, grads = np.ones_like(h), []
        for (w, _), h, below in zip(reversed(weights), hs[:0:-1], hs[-2::-1], strict=True):
            g = g * h * (1 - h)
            grads.append((g.T @ below, g.sum(axis=0)))
            g = g @ w
        return grads[0][0]

    def engine():
        optimizer.zero_grad()
        model(x).sum().backward()
        return model[98].weight.grad

    against(engine, hand)


def test_20x256_residual_relu(against):
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        *[nn.Residual(nn.Sequential(nn.Linear(256, 256, rng=rng), nn.ReLU())) for _ in range(20)]
    )
    optimizer = tg.optim.SGD(model.parameters())
    weights = parameters([block.inner[0] for block in model])
    x = rng.normal(size=(128, 256))

    def hand():
        h, hs, zs = x, [], []
        for w, b in weights:
            z = h @ w.T + b
            hs.append(h)
            zs.append(z)
            h = h + np.maximum(z, 0)
        g, grads = np.ones_like(h), []
        for (w, _), h, z in zip(reversed(weights), reversed(hs), reversed(zs), strict=True):
            d = g * (z > 0)
            grads.append((d.T @ h, d.sum(axis=0)))
            g = g + d @ w
        return grads[-1][0]

    def engine():
        optimizer.zero_grad()
        model(x).sum().backward()
        return model[0].inner[0].weight.grad

    against(engine, hand, rounds=20, calls=2)


def test_784_256_128_10_relu(against):
    rng = np.random.default_rng(0)
    sizes = (784, 256, 128, 10)
    layers = [nn.Linear(a, b, rng=rng) for a, b in pairwise(sizes)]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    loss = nn.CrossEntropyLoss()
    optimizer = tg.optim.SGD(model.parameters())
    weights = parameters(layers)
    x, labels = rng.uniform(size=(128, 784)), rng.integers(0, 10, 128)

    def hand():
        hs, zs = [x], []
        for i, (w, b) in enumerate(weights):
            z = hs[-1] @ w.T + b
            zs.append(z)
            hs.append(np.maximum(z, 0) if i < 2 else z)
        _, g = softmax_gradient(zs[-1], labels)
        grads = []
        for i in (2, 1, 0):
            grads.append((g.T @ hs[i], g.sum(axis=0)))
            if i:
                g = (g @ weights[i][0]) * (zs[i - 1] > 0)
        return grads[-1][0]

    def engine():
        optimizer.zero_grad()
        loss(model(x), labels).backward()
        return layers[0].weight.grad

    against(engine, hand, rounds=30, calls=10)


def test_784_256_128_10_adam_clip(against):
    """A whole step of training: forward, backward, clipping by norm, Adam."""
    rng = np.random.default_rng(0)
    layers = [nn.Linear(a, b, rng=rng) for a, b in pairwise((784, 256, 128, 10))]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    loss = nn.CrossEntropyLoss()
    optimizer = tg.optim.Adam(model.parameters())
    weights = [w for pair in parameters(layers) for w in pair]
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    x, labels = rng.uniform(size=(128, 784)), rng.integers(0, 10, 128)
    taken = [0]

    def hand():
        hs, zs = [x], []
        for i in range(3):
            z = hs[-1] @ weights[2 * i].T + weights[2 * i + 1]
            zs.append(z)
            hs.append(np.maximum(z, 0) if i < 2 else z)
        value, g = softmax_gradient(zs[-1], labels)
        grads = [None] * 6
        for i in (2, 1, 0):
            grads[2 * i], grads[2 * i + 1] = g.T @ hs[i], g.sum(axis=0)
            if i:
                g = (g @ weights[2 * i]) * (zs[i - 1] > 0)
        norm = np.sqrt(sum(np.vdot(g, g) for g in grads))
        scale = min(1.0, 1.0 / (norm + 1e-6))
        taken[0] += 1
        first, second = 1 - 0.9 ** taken[0], 1 - 0.999 ** taken[0]
        for w, g, (m, v) in zip(weights, grads, moments, strict=True):
            g *= scale
            m *= 0.9
            m += 0.1 * g
            v *= 0.999
            v += 0.001 * g * g
            w -= 0.001 / first * m / (np.sqrt(v / second) + 1e-8)
        return value

    def engine():
        optimizer.zero_grad()
        value = loss(model(x), labels)
        value.backward(retain="leaves")
        tg.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return value.item()

    against(engine, hand, rounds=30, calls=10)


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
def test_scalar_chain(benchmark, n):
    """Time and memory an operation, forward and backward: the same for any length."""

    def chain():
        x = tg.tensor(1.0, requires_grad=True)
        y = x
        for _ in range(n // 2):
            y = y * 0.9999
            y = y + 0.0001
        y.backward()
        return x.grad

    assert chain() == pytest.approx(0.9999 ** (n // 2))
    tracemalloc.start()
    chain()
    benchmark.extra_info["bytes an operation"] = tracemalloc.get_traced_memory()[1] / n
    tracemalloc.stop()
    gc.collect()
    benchmark.pedantic(chain, rounds=5, warmup_rounds=1)
    if not benchmark.disabled:
        seconds = benchmark.stats.stats.median
        size = benchmark.extra_info["bytes an operation"]
        print(f"\nchain of {n}: {1e6 * seconds / n:.2f} µs and {size:.0f} bytes an operation")
