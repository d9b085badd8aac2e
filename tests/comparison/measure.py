"""The same small probes on this package and on five peers, written to results.json.

    pip install -e . micrograd autograd mygrad torch==2.13.0 jax optax
    python tests/comparison/measure.py              # everything, in about five minutes
    python tests/comparison/measure.py --again time # one row anew, on a quiet machine
    python tests/comparison/measure.py --markdown   # the table of the README, from results.json

Every probe is a method; a package that has nothing of the kind says so. Each package is asked in
the way that its own documentation recommends, each probe in a process of its own, on one core.
An outcome is a short text, decided by what ran; where a comment says "fact", it was not run.
"""

import ast
import datetime
import importlib.metadata
import inspect
import io
import json
import os
import subprocess
import sys
import time
import tokenize
import warnings
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_name("results.json")
NONE = "–"  # the package has nothing that the probe could ask
PROBES = {
    "intermediate": "gradient of every intermediate",
    "chain_1100": "chain of 1 100 operations",
    "chain_100000": "chain of 100 000 operations",
    "twice": "`backward` twice on one graph",
    "overwritten": "leaf overwritten before `backward`",
    "overwritten_array": "… through an array taken earlier",
    "third": "third derivative of tanh",
    "numpy_functions": "of 60 NumPy functions, called as `np.f`",
    "own_functions": "… called in its own namespace",
    "formula": "derivative of tanh as text",
    "check_small": "its check sees an error of 1e-4",
    "check_zero": "its check sees exp′(−12) = 0",
    "check_cut": "its check sees a cut graph",
    "check_kink": "its check tells relu′(0) = 0 from a wrong 3",
    "check_log": "its check passes a right log′(1e-5)",
    "broadcast": "(n, 1) against (n,) in a squared error",
    "clip": "clips float32 gradients of 1e30",
    "complex_gradient": "gradients of complex numbers",
    "vmap": "`vmap`",
    "compiler": "compiler",
    "gpu": "GPU",
    "lines": "lines of engine, without rules",
    "time": "50 × 64 sigmoid stack, time to NumPy's",
}
VARYING = ("time", "lines")  # what a test cannot expect to come out the same
IN_README = (
    "intermediate", "chain_100000", "twice", "overwritten", "overwritten_array",
    "numpy_functions", "own_functions", "formula", "check_zero", "check_kink", "check_log",
    "broadcast", "clip", "gpu", "lines", "time",
)  # fmt: skip

RNG = np.random.default_rng(0)
X = RNG.uniform(0.5, 1.5, (3, 3)) + 2 * np.eye(3)  # well conditioned, positive, off all kinks
B = RNG.uniform(0.5, 1.5, (3, 3))
GRID = np.linspace(-1.0, 5.0, 7)
FUNCTIONS = {
    "tanh": lambda np, x, b: np.tanh(x),
    "exp": lambda np, x, b: np.exp(x),
    "log1p": lambda np, x, b: np.log1p(x),
    "sqrt": lambda np, x, b: np.sqrt(x),
    "sin": lambda np, x, b: np.sin(x),
    "arctan2": lambda np, x, b: np.arctan2(x, b),
    "logaddexp": lambda np, x, b: np.logaddexp(x, b),
    "power": lambda np, x, b: np.power(x, b),
    "hypot": lambda np, x, b: np.hypot(x, b),
    "maximum": lambda np, x, b: np.maximum(x, b),
    "abs": lambda np, x, b: np.abs(x),
    "clip": lambda np, x, b: np.clip(x, 0.8, 2.0),
    "where": lambda np, x, b: np.where(b > 1, x, x * x),
    "sum": lambda np, x, b: np.sum(x * x, axis=0),
    "mean": lambda np, x, b: np.mean(x * x, axis=1),
    "prod": lambda np, x, b: np.prod(x, axis=0),
    "max": lambda np, x, b: np.max(x, axis=1),
    "var": lambda np, x, b: np.var(x, axis=0),
    "std": lambda np, x, b: np.std(x, axis=0),
    "cumsum": lambda np, x, b: np.cumsum(x, axis=0),
    "cumprod": lambda np, x, b: np.cumprod(x, axis=0),
    "sort": lambda np, x, b: np.sort(x, axis=0),
    "concatenate": lambda np, x, b: np.concatenate([x, b]),
    "stack": lambda np, x, b: np.stack([x, b]),
    "reshape": lambda np, x, b: np.reshape(x, (9,)),
    "transpose": lambda np, x, b: np.transpose(x, (1, 0)),
    "moveaxis": lambda np, x, b: np.moveaxis(x, 0, 1),
    "roll": lambda np, x, b: np.roll(x, 1),
    "tile": lambda np, x, b: np.tile(x, (2, 1)),
    "repeat": lambda np, x, b: np.repeat(x, 2, axis=0),
    "pad": lambda np, x, b: np.pad(x, ((1, 1), (1, 1)), mode="constant"),
    "diagonal": lambda np, x, b: np.diagonal(x),
    "triu": lambda np, x, b: np.triu(x),
    "tensordot": lambda np, x, b: np.tensordot(x, b, axes=([1], [0])),
    "einsum": lambda np, x, b: np.einsum("ij,kj->ik", x, b),
    "matmul": lambda np, x, b: np.matmul(x, b),
    "linalg.solve": lambda np, x, b: np.linalg.solve(x, b),
    "linalg.inv": lambda np, x, b: np.linalg.inv(x),
    "linalg.cholesky": lambda np, x, b: np.linalg.cholesky(x @ x.T),
    "linalg.slogdet": lambda np, x, b: np.linalg.slogdet(x)[1],
    "linalg.norm": lambda np, x, b: np.linalg.norm(x, axis=0),
    "linalg.det": lambda np, x, b: np.linalg.det(x),
    "linalg.eigvalsh": lambda np, x, b: np.linalg.eigvalsh(x + x.T),
    "linalg.svd": lambda np, x, b: np.linalg.svd(x, compute_uv=False),
    "linalg.pinv": lambda np, x, b: np.linalg.pinv(x),
    "linalg.matrix_power": lambda np, x, b: np.linalg.matrix_power(x, 3),
    "fft.fft": lambda np, x, b: np.abs(np.fft.fft(x)),
    "diff": lambda np, x, b: np.diff(x, axis=0),
    "gradient": lambda np, x, b: np.gradient(x, axis=0),
    "trapezoid": lambda np, x, b: np.trapezoid(x * x, axis=0),
    "interp": lambda np, x, b: np.interp(x, GRID, GRID**2),
    "median": lambda np, x, b: np.median(x, axis=0),
    "quantile": lambda np, x, b: np.quantile(x, 0.3, axis=0),
    "kron": lambda np, x, b: np.kron(x, b),
    "cross": lambda np, x, b: np.cross(x, b),
    "outer": lambda np, x, b: np.outer(x, b),
    "trace": lambda np, x, b: np.trace(x),
    "diag": lambda np, x, b: np.diag(x),
    "vstack": lambda np, x, b: np.vstack([x, b]),
    "hstack": lambda np, x, b: np.hstack([x, b]),
}


def weights(shape):
    """A cotangent that treats no two elements alike."""
    return np.cos(np.arange(np.prod(shape, dtype=int))).reshape(shape)


def differences(f, x, step=1e-5):
    """Central differences of fourth order of a scalar function of an array."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        unit = np.zeros_like(x)
        unit[place] = step
        near, far = f(x + unit) - f(x - unit), f(x + 2 * unit) - f(x - 2 * unit)
        gradient[place] = (8 * near - far) / (12 * step)
    return gradient


def raises(call, *args):
    """Whether a call is refused."""
    try:
        call(*args)
    except Exception:
        return True
    return False


def code_lines(*paths):
    """Lines of code: no blank lines, comments or docstrings."""
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
             tokenize.ENDMARKER}  # fmt: skip
    count = 0
    for path in paths:
        source, lines = Path(path).read_text(encoding="utf-8"), set()
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type not in blank:
                lines |= set(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                lines -= set(range(node.lineno, node.end_lineno + 1))
        count += len(lines)
    return count


# The sigmoid stack of tests/benchmarks/bench_engine.py, and the work by hand.
STACK_RNG = np.random.default_rng(0)
WEIGHTS = [
    (STACK_RNG.uniform(-1, 1, (64, 64)) * np.sqrt(6 / 128), STACK_RNG.uniform(-1, 1, 64) / 8)
    for _ in range(50)
]
BATCH = STACK_RNG.normal(size=(32, 64))


def stack_by_hand():
    """Gradient of the first layer's weights; those of all others are computed on the way."""
    h, hs = BATCH, [BATCH]
    for w, b in WEIGHTS:
        h = 1 / (1 + np.exp(-(h @ w.T + b)))
        hs.append(h)
    g, grads = np.ones_like(h), []
    for (w, _), h, below in zip(reversed(WEIGHTS), hs[:0:-1], hs[-2::-1], strict=True):
        g = g * h * (1 - h)
        grads.append((g.T @ below, g.sum(axis=0)))
        g = g @ w
    return grads[-1][0]


def ratio_to_hand(work):
    """Median over rounds of its time to that of the work by hand, in turn."""
    np.testing.assert_allclose(np.asarray(work()), stack_by_hand(), rtol=1e-6, atol=1e-30)
    ratios = []
    for _ in range(40):
        times = []
        for each in (stack_by_hand, work):
            start = time.perf_counter()
            for _ in range(8):
                each()
            times.append(time.perf_counter() - start)
        ratios.append(times[1] / times[0])
    ratio = float(np.median(ratios))
    return f"{ratio:.2g} ×" if ratio < 10 else f"{ratio:.0f} ×"


class Package:
    """What a package is asked, and how the answers are judged. Lacking a hook, it has none."""

    distribution = ""

    def gradient(self, f, x):
        """∂f/∂x of a scalar function of one tensor, in the ordinary way, as an array."""
        raise NotImplementedError

    def constant(self, array):
        """An array as the package's own functions take it."""
        return array

    def chain(self, n):
        def f(x):
            for _ in range(n):
                x = x * 0.99999
            return x

        try:
            right = np.isclose(float(self.gradient(f, np.array(1.0))), 0.99999**n)
        except RecursionError:
            return "RecursionError"
        return "right" if right else "wrong"

    def chain_1100(self):
        return self.chain(1_100)

    def chain_100000(self):
        return self.chain(100_000)

    def count(self, namespace, constant):
        """How many FUNCTIONS have a right gradient; which fail goes to stderr."""
        failed = {}
        for name, call in FUNCTIONS.items():
            w = weights(call(np, X, B).shape)

            def f(x, call=call, w=w):
                return (call(namespace, x, constant(B)) * constant(w)).sum()

            reference = differences(lambda x, call=call, w=w: np.sum(call(np, x, B) * w), X)
            try:
                gradient = np.asarray(self.gradient(f, X))
                if not np.allclose(gradient, reference, rtol=1e-6, atol=1e-7):
                    failed[name] = "wrong, silently"
            except Exception as error:
                failed[name] = type(error).__name__
        print(type(self).__name__, failed, file=sys.stderr)
        wrong = sum(reason == "wrong, silently" for reason in failed.values())
        return f"{len(FUNCTIONS) - len(failed)}" + f", {wrong} wrong" * bool(wrong)

    def numpy_functions(self):
        return self.count(np, lambda array: array)

    def grad(self, f):
        """The derivative of f as a function that can be differentiated; None if there is none."""

    def third(self):
        if self.grad(np.tanh) is None:
            return "no"
        t = np.tanh(0.5)
        third = self.grad(self.grad(self.grad(self.tanh)))(self.constant(np.array(0.5)))
        return "right" if np.isclose(float(third), -2 * (1 - t * t) * (1 - 3 * t * t)) else "wrong"

    def check(self, f, x):
        """What the package's own gradient check says of f at x: passes, fails, or more."""
        return NONE

    def exp_times(self, factor):
        """Exp with a derivative rule that is off by a factor."""

    def log(self, x):
        """The logarithm of a tensor."""

    def relu(self, x):
        """The rectifier of a tensor."""

    def exp(self, x):
        """Exp of a tensor."""

    def detach(self, x):
        """A tensor's value, cut off from the graph."""

    def sees(self, f, x):
        said = self.check(f, np.array(x))
        return {"fails": "yes", "passes": "no"}.get(said, said)

    def check_small(self):
        return self.sees(self.exp_times(1.0001), [0.5, 1.0, -1.0])

    def check_zero(self):
        return self.sees(self.exp_times(0.0), [-12.0])

    def check_cut(self):
        return self.sees(lambda x: self.detach(self.exp(x)), [0.5, 1.0])

    def check_kink(self):
        def wrong(x):  # the value is relu's, the derivative at 0 is 3, outside the slopes 0 and 1
            return self.relu(x) + 3.0 * (x - self.detach(x))

        said = self.check(self.relu, np.zeros(1)), self.check(wrong, np.zeros(1))
        if NONE in said:
            return NONE
        return "yes" if said[0] != "fails" and said[1] == "fails" else "no: " + " and ".join(said)

    def check_log(self):
        said = self.check(self.log, np.array([1e-5]))
        return {"fails": "no", "passes": "yes"}.get(said, said)

    def broadcast_by_hand(self):
        """Whether mean((a − b)²) of shapes (n, 1) and (n,) goes through unsaid."""
        column, row = np.ones((3, 1)), np.ones(3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return not raises(
                self.gradient, lambda x: ((x - self.constant(row)) ** 2).mean(), column
            )

    def broadcast(self):
        return "no loss; by hand unnoticed" if self.broadcast_by_hand() else "no loss; noticed"

    def own_functions(self):
        return NONE

    def formula(self):
        return "no"

    def clip(self):
        return NONE

    def complex_gradient(self):
        return "no"

    vmap = compiler = gpu = complex_gradient


class TinygradStab(Package):
    """The package that is shown here."""

    distribution = "tinygrad_stab"

    def __init__(self):
        import tinygrad_stab as tg

        self.tg, self.tanh, self.exp, self.log, self.relu = tg, tg.tanh, tg.exp, tg.log, tg.relu

    def gradient(self, f, x):
        x = self.tg.tensor(x, requires_grad=True)
        f(x).backward()
        return x.grad

    def grad(self, f):
        return self.tg.grad(f)

    def intermediate(self):
        x = self.tg.tensor(0.5, requires_grad=True, name="x")
        loss = self.tg.tanh(x * 2.0) ** 2
        loss.backward()
        named = self.tg.inspection.intermediates(loss)
        right = np.isclose(named["tanh"].grad, 2 * np.tanh(1.0))
        return "by default, by name" if right else "wrong"

    def twice(self):
        x = self.tg.tensor(3.0, requires_grad=True)
        loss = (x * x) * x
        loss.backward()
        loss.backward()
        return "right (sum)" if x.grad == 54 else "wrong"

    def overwritten(self):
        x = self.tg.tensor([1.0, 2.0], requires_grad=True)
        loss = (x * x).sum()
        x.data[0] = 5.0
        return "error" if raises(loss.backward) else "wrong"

    def overwritten_array(self):
        x = self.tg.tensor([1.0, 2.0], requires_grad=True)
        array = x.data
        loss = (x * x).sum()
        array[0] = 5.0
        return "error" if raises(loss.backward) else "right" if x.grad[0] == 2 else "wrong"

    def formula(self):
        return f"`{self.tg.inspection.formulas(self.tg.tanh)['x']}`"

    def own_functions(self):
        return "as above"

    def check(self, f, x):
        try:
            self.tg.testing.check_gradients(f, x)
        except AssertionError:
            return "fails"
        return "passes"

    def exp_times(self, factor):
        from tinygrad_stab.core.primitive import REGISTRY

        spoilt = self.tg.primitive("spoilt", np.exp, lambda g, out, x: g * out * factor)
        del REGISTRY["spoilt"]  # not one of the package's operations
        return spoilt

    def detach(self, x):
        return x.detach()

    def broadcast(self):
        tg, column = self.tg, self.tg.tensor(np.ones((3, 1)), requires_grad=True)
        assert raises(tg.nn.functional.mse_loss, column, np.ones(3))
        with tg.detect_anomaly():
            on_request = not self.broadcast_by_hand()
        assert on_request and self.broadcast_by_hand()
        return "error; by hand on request"

    def clip(self):
        p = self.tg.tensor(np.zeros(4, np.float32), requires_grad=True)
        p.grad = np.full(4, 1e30, np.float32)
        self.tg.optim.clip_grad_norm_([p], 1.0)
        return "right" if np.allclose(p.grad, 0.5) else f"to {p.grad[0]:g}"

    def complex_gradient(self):
        z = self.tg.tensor(1 + 2j)
        return "no" if raises(lambda: setattr(z, "requires_grad", True)) else "yes"

    def lines(self):
        root = Path(self.tg.__path__[0])
        below = [root / f"{name}.py" for name in ("errors", "arrays", "domain")]
        return f"{code_lines(*below, *root.glob('core/*.py'))}"

    def time(self):
        tg, nn = self.tg, self.tg.nn
        net = nn.Sequential(*[m for _ in WEIGHTS for m in (nn.Linear(64, 64), nn.Sigmoid())])
        for layer, (w, b) in zip(net[::2], WEIGHTS, strict=True):
            layer.weight.data, layer.bias.data = w, b
        sgd = tg.optim.SGD(net.parameters())

        def work():
            sgd.zero_grad()
            net(BATCH).sum().backward()
            return net[0].weight.grad

        return ratio_to_hand(work)


class Micrograd(Package):
    """Scalars: what asks for arrays does not apply."""

    distribution = "micrograd"

    def __init__(self):
        from micrograd.engine import Value

        self.Value = Value

    def gradient(self, f, x):
        x = self.Value(float(x))
        f(x).backward()
        return x.grad

    def intermediate(self):
        x = self.Value(0.5)
        h = (x * 2.0) ** 2
        (h * h).backward()
        return "by default, unnamed" if h.grad == 2.0 else "wrong"

    def twice(self):
        x = self.Value(3.0)
        loss = (x * x) * x
        loss.backward()
        loss.backward()
        return "right (sum)" if x.grad == 54 else "wrong"

    def overwritten(self):
        x = self.Value(3.0)
        loss = x * x
        x.data = 5.0
        loss.backward()
        return "right" if x.grad == 6 else "wrong"

    def overwritten_array(self):
        return NONE

    numpy_functions = broadcast = time = overwritten_array

    def lines(self):
        return f"{code_lines(inspect.getfile(self.Value))} (rules too)"


class Autograd(Package):
    """HIPS autograd: `autograd.numpy` in place of NumPy."""

    distribution = "autograd"

    def __init__(self):
        import autograd
        import autograd.numpy as anp

        self.autograd, self.np = autograd, anp
        self.tanh, self.exp, self.log = anp.tanh, anp.exp, anp.log

    def gradient(self, f, x):
        return self.autograd.grad(f)(x)

    def grad(self, f):
        return self.autograd.grad(f)

    def intermediate(self):
        f = self.autograd.grad(lambda zero: (self.np.tanh(0.5 * 2.0) + zero) ** 2)
        return "as an input + 0" if np.isclose(f(0.0), 2 * np.tanh(1.0)) else "wrong"

    def twice(self):
        pullback, _ = self.autograd.make_vjp(lambda x: (x * x) * x)(3.0)
        return "right" if pullback(1.0) == pullback(1.0) == 27 else "wrong"

    def overwritten(self):
        x = np.array([1.0, 2.0])
        pullback, _ = self.autograd.make_vjp(lambda x: self.np.sum(x * x))(x)
        x[0] = 5.0
        return "right" if pullback(1.0)[0] == 2 else "wrong"

    overwritten_array = overwritten

    def own_functions(self):
        return self.count(self.np, lambda array: array)

    def check(self, f, x):
        from autograd.test_util import check_grads

        np.random.seed(0)  # noqa: NPY002 - it draws its directions there
        return "fails" if raises(check_grads(f, modes=["rev"], order=1), x) else "passes"

    def exp_times(self, factor):
        spoilt = self.autograd.extend.primitive(np.exp)
        self.autograd.extend.defvjp(spoilt, lambda out, x: lambda g: g * out * factor)
        return spoilt

    def relu(self, x):
        return self.np.where(x > 0, x, 0.0)  # its maximum takes 1/2 at 0

    def detach(self, x):
        return self.autograd.tracer.getval(x)

    def broadcast_by_hand(self):
        f = self.autograd.grad(lambda x: self.np.mean((x - np.ones(3)) ** 2))
        return not raises(f, np.ones((3, 1)))

    def complex_gradient(self):
        f = self.autograd.grad(lambda z: self.np.real(z * self.np.conj(z)))
        return "yes" if np.isclose(abs(f(1 + 2j)), 2 * abs(1 + 2j)) else "no"

    def lines(self):
        root = Path(self.autograd.__path__[0])
        names = ("core", "tracer", "util", "wrap_util", "differential_operators",
                 "numpy/numpy_boxes", "numpy/numpy_vspaces", "numpy/numpy_wrapper")  # fmt: skip
        return f"{code_lines(*(root / f'{name}.py' for name in names))}"

    def time(self):
        anp = self.np

        def f(parameters):
            h = BATCH
            for w, b in parameters:
                h = 1 / (1 + anp.exp(-(anp.dot(h, w.T) + b)))
            return anp.sum(h)

        gradient = self.autograd.grad(f)
        return ratio_to_hand(lambda: gradient(WEIGHTS)[0][0])


class MyGrad(Package):
    """MyGrad, which answers NumPy's functions as this package does."""

    distribution = "mygrad"

    def __init__(self):
        import mygrad as mg

        self.mg = mg

    def gradient(self, f, x):
        x = self.mg.tensor(x)
        f(x).backward()
        return x.grad

    def intermediate(self):
        x = self.mg.tensor(0.5)
        h = self.mg.tanh(x * 2.0)
        (h**2).backward()
        return "by default, unnamed" if np.isclose(h.grad, 2 * np.tanh(1.0)) else "wrong"

    def twice(self):
        x = self.mg.tensor(3.0)
        loss = (x * x) * x
        loss.backward()
        x.null_grad()
        if raises(loss.backward):
            return "error"
        return "no gradient, silently" if x.grad is None else f"{x.grad}"

    def overwritten(self):
        x = self.mg.tensor([1.0, 2.0])
        loss = (x * x).sum()
        refused = raises(x.data.__setitem__, 0, 5.0)
        loss.backward()
        return "error" if refused and x.grad[0] == 2 else "wrong"

    def overwritten_array(self):
        x = self.mg.tensor([1.0, 2.0])
        array = x.data
        loss = (x * x).sum()
        refused = raises(array.__setitem__, 0, 5.0)
        loss.backward()
        return "error" if refused and x.grad[0] == 2 else "wrong"

    def lines(self):
        root = Path(self.mg.__path__[0])
        names = ("tensor_base", "operation_base", "errors")
        files = [root / f"{name}.py" for name in names]
        return f"{code_lines(*files, *root.glob('_utils/*.py'))}"

    def own_functions(self):
        return self.count(self.mg, lambda array: array)

    def time(self):
        mg = self.mg
        from mygrad.nnet.activations import sigmoid

        parameters = [(mg.tensor(w), mg.tensor(b)) for w, b in WEIGHTS]

        def work():
            h = BATCH
            for w, b in parameters:
                h = sigmoid(mg.matmul(h, w.T) + b)
            h.sum().backward()
            return parameters[0][0].grad

        return ratio_to_hand(work)


class PyTorch(Package):
    """PyTorch, eager, on the CPU."""

    distribution = "torch"

    def __init__(self):
        import torch

        torch.set_num_threads(1)
        self.torch, self.tanh, self.exp = torch, torch.tanh, torch.exp
        self.log, self.relu = torch.log, torch.relu
        self.constant = torch.as_tensor

    def gradient(self, f, x):
        x = self.torch.tensor(x, requires_grad=True)
        f(x).backward()
        return x.grad.numpy()

    def grad(self, f):
        return self.torch.func.grad(f)

    def intermediate(self):
        x = self.torch.tensor(0.5, requires_grad=True)
        h = self.torch.tanh(x * 2.0)
        k = self.torch.tanh(x * 2.0)
        k.retain_grad()
        (h**2 + k**2).backward()
        asked = np.isclose(k.grad.item(), 2 * np.tanh(1.0))
        return "by `retain_grad` each" if asked and h.grad is None else "by default, unnamed"

    def twice(self):
        x = self.torch.tensor(3.0, requires_grad=True)
        loss = (x * x) * x
        loss.backward()
        refused = raises(loss.backward)
        y = self.torch.tensor(3.0, requires_grad=True)
        loss = (y * y) * y
        loss.backward(retain_graph=True)
        loss.backward()
        return "error; right by option" if refused and y.grad == 54 else "wrong"

    def overwritten(self):
        x = self.torch.tensor([1.0, 2.0], requires_grad=True)
        loss = (x * x).sum()
        with self.torch.no_grad():
            x[0] = 5.0
        return "error" if raises(loss.backward) else "wrong"

    def overwritten_array(self):
        x = self.torch.tensor([1.0, 2.0], requires_grad=True)
        array = x.detach().numpy()
        loss = (x * x).sum()
        array[0] = 5.0
        return "error" if raises(loss.backward) else "right" if x.grad[0] == 2 else "wrong"

    def own_functions(self):
        return "its own names"

    def formula(self):
        from torch._decomp import core_aten_decompositions
        from torch.fx.experimental.proxy_tensor import make_fx

        traced = make_fx(self.grad(self.tanh), decomposition_table=core_aten_decompositions())
        code = traced(self.torch.tensor(0.5)).code
        return "as an FX program" if "mul" in code else "no"

    def check(self, f, x):
        x = self.torch.tensor(x, requires_grad=True)
        return "fails" if raises(self.torch.autograd.gradcheck, f, (x,)) else "passes"

    def exp_times(self, factor):
        torch = self.torch

        class Spoilt(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                out = torch.exp(x)
                ctx.save_for_backward(out)
                return out

            @staticmethod
            def backward(ctx, g):
                (out,) = ctx.saved_tensors
                return g * out * factor

        return Spoilt.apply

    def detach(self, x):
        return x.detach()

    def broadcast(self):
        torch = self.torch
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.nn.functional.mse_loss(torch.ones(3, 1), torch.ones(3))
        assert self.broadcast_by_hand()
        return "warning; by hand unnoticed" if caught else "unnoticed"

    def clip(self):
        p = self.torch.zeros(4, requires_grad=True)
        p.grad = self.torch.full((4,), 1e30)
        self.torch.nn.utils.clip_grad_norm_([p], 1.0)
        g = p.grad.numpy()
        return "right" if np.allclose(g, 0.5) else f"to {g[0]:g}, silently"

    def complex_gradient(self):
        z = self.torch.tensor(1 + 2j, requires_grad=True)
        (z * z.conj()).real.backward()
        return "yes" if z.grad.item() == 2 + 4j else "no"

    def vmap(self):
        out = self.torch.vmap(self.grad(self.torch.sin))(self.torch.ones(3))
        return "yes" if np.allclose(out, np.cos(1.0)) else "no"

    def compiler(self):
        return "yes" if callable(self.torch.compile) else "no"  # fact: runs with a C++ compiler

    def gpu(self):
        return "yes" if callable(self.torch.Tensor.cuda) else "no"  # fact

    def lines(self):
        return "C++"

    def time(self):
        torch, nn = self.torch, self.torch.nn
        net = nn.Sequential(*[m for _ in WEIGHTS for m in (nn.Linear(64, 64), nn.Sigmoid())])
        net = net.double()
        with torch.no_grad():
            for layer, (w, b) in zip(net[::2], WEIGHTS, strict=True):
                layer.weight.copy_(torch.as_tensor(w))
                layer.bias.copy_(torch.as_tensor(b))
        sgd, x = torch.optim.SGD(net.parameters()), torch.as_tensor(BATCH)

        def work():
            sgd.zero_grad()
            net(x).sum().backward()
            return net[0].weight.grad

        return ratio_to_hand(work)


class Jax(Package):
    """JAX on the CPU, with 64-bit numbers on."""

    distribution = "jax"

    def __init__(self):
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        self.jax, self.np, self.tanh, self.exp, self.log = jax, jnp, jnp.tanh, jnp.exp, jnp.log
        self.relu, self.constant = jax.nn.relu, jnp.asarray

    def gradient(self, f, x):
        return self.jax.grad(f)(self.np.asarray(x))

    def grad(self, f):
        return self.jax.grad(f)

    def chain_100000(self):
        looped = self.jax.grad(
            lambda x: self.jax.lax.fori_loop(0, 100_000, lambda _, y: y * 0.99999, x)
        )
        start = time.perf_counter()
        right = np.isclose(float(looped(1.0)), 0.99999**100_000)
        in_loop = time.perf_counter() - start
        start = time.perf_counter()
        unrolled = self.chain(100_000)
        ratio = (time.perf_counter() - start) / in_loop
        assert right and ratio > 10
        return f"{unrolled}, slow; fast in `fori_loop`"

    def intermediate(self):
        f = self.jax.grad(lambda zero: (self.np.tanh(0.5 * 2.0) + zero) ** 2)
        return "as an input + 0" if np.isclose(f(0.0), 2 * np.tanh(1.0)) else "wrong"

    def twice(self):
        _, pullback = self.jax.vjp(lambda x: (x * x) * x, 3.0)
        return "right" if pullback(1.0) == pullback(1.0) == (27,) else "wrong"

    def overwritten(self):
        return "impossible" if raises(self.np.ones(2).__setitem__, 0, 5.0) else "wrong"

    def overwritten_array(self):
        array = np.asarray(self.np.ones(2))
        return "impossible" if raises(array.__setitem__, 0, 5.0) else "wrong"

    def own_functions(self):
        return self.count(self.np, self.np.asarray)

    def formula(self):
        program = str(self.jax.make_jaxpr(self.jax.grad(self.np.tanh))(0.5))
        return "as a jaxpr" if "mul" in program else "no"

    def check(self, f, x):
        from jax.test_util import check_grads

        failed = raises(lambda: check_grads(f, (self.np.asarray(x),), order=1, modes=["rev"]))
        return "fails" if failed else "passes"

    def exp_times(self, factor):
        spoilt = self.jax.custom_vjp(self.np.exp)
        spoilt.defvjp(
            lambda x: (self.np.exp(x), self.np.exp(x)), lambda out, g: (g * out * factor,)
        )
        return spoilt

    def detach(self, x):
        return self.jax.lax.stop_gradient(x)

    def broadcast(self):
        unnoticed = self.broadcast_by_hand()
        with self.jax.numpy_rank_promotion("raise"):
            on_request = not self.broadcast_by_hand()
        assert unnoticed and on_request
        return "no loss; by hand on request"

    def clip(self):
        import optax  # JAX's documentation leaves optimisation to it

        with self.jax.enable_x64(False):
            g = self.np.full(4, 1e30, np.float32)
            clipped, _ = optax.clip_by_global_norm(1.0).update({"w": g}, optax.EmptyState())
            first = clipped["w"]
        return "right" if np.allclose(first, 0.5) else f"to {first[0]:g}, silently"

    def complex_gradient(self):
        g = self.jax.grad(lambda z: (z * z.conj()).real)(1 + 2j)
        return "yes" if np.isclose(abs(g), 2 * abs(1 + 2j)) else "no"

    def vmap(self):
        out = self.jax.vmap(self.grad(self.np.sin))(self.np.ones(3))
        return "yes" if np.allclose(out, np.cos(1.0)) else "no"

    def compiler(self):
        return "yes" if np.isclose(self.jax.jit(self.grad(self.np.sin))(1.0), np.cos(1)) else "no"

    def gpu(self):
        return "yes" if callable(self.jax.devices) else "no"  # fact

    def lines(self):
        return "C++ and Python"

    def time(self):
        jax, jnp = self.jax, self.np

        def f(parameters, h):
            for w, b in parameters:
                h = jax.nn.sigmoid(h @ w.T + b)
            return h.sum()

        parameters = [(jnp.asarray(w), jnp.asarray(b)) for w, b in WEIGHTS]
        x, eager = jnp.asarray(BATCH), jax.grad(f)
        jitted = jax.jit(eager)
        a = ratio_to_hand(lambda: jax.block_until_ready(jitted(parameters, x))[0][0])
        b = ratio_to_hand(lambda: jax.block_until_ready(eager(parameters, x))[0][0])
        return f"{a} jitted, {b} not"


PACKAGES = {
    "tinygrad_stab": TinygradStab,
    "micrograd": Micrograd,
    "HIPS autograd": Autograd,
    "MyGrad": MyGrad,
    "PyTorch": PyTorch,
    "JAX": Jax,
}


def outcome(package, probe):
    """Run one probe here and now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(PACKAGES[package](), probe)()


def in_a_process(package, probe):
    """Run one probe in a process of its own, on one core."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}
    command = [sys.executable, __file__, package, probe]
    done = subprocess.run(
        command, env=os.environ | threads, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


def markdown(results):
    """The README's table: a line a probe, a column a package."""
    lines = [["", *PACKAGES], ["---"] * (1 + len(PACKAGES))]
    for probe in IN_README:
        row = results["outcomes"][PROBES[probe]]
        lines.append([PROBES[probe], *(row[package] for package in PACKAGES)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write(results):
    """Into the file beside this one."""
    text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    RESULTS.write_text(text, encoding="utf-8")


def main():
    """Measure everything, or what the command line asks for."""
    if sys.argv[1:] == ["--markdown"]:
        print(markdown(json.loads(RESULTS.read_text(encoding="utf-8"))))
        return
    if sys.argv[1:2] == ["--again"]:
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
        row = {package: in_a_process(package, sys.argv[2]) for package in PACKAGES}
        results["outcomes"][PROBES[sys.argv[2]]] = row
        write(results)
        return
    if len(sys.argv) == 3:
        if hasattr(os, "sched_setaffinity"):  # one core for all threads; Linux has it
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        print(outcome(*sys.argv[1:]))
        return
    results = {
        "date": datetime.date.today().isoformat(),
        "python": sys.version.split()[0],
        "versions": {
            name: importlib.metadata.version(package.distribution or "numpy")
            for name, package in PACKAGES.items()
        } | {"NumPy": np.__version__},
        "outcomes": {
            title: {package: in_a_process(package, probe) for package in PACKAGES}
            for probe, title in PROBES.items()
        },
    }  # fmt: skip
    write(results)


if __name__ == "__main__":
    main()
