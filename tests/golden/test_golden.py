"""Layers, losses, optimisers and schedules against PyTorch 2.13: the same cases, to 1e-12."""

from pathlib import Path

import numpy as np
import pytest
from golden import cases

import tinygrad_stab as tg

TOLERANCE = 1e-12

with np.load(Path(__file__).parent / "golden.npz") as stored:
    GOLDEN: dict[str, dict[str, np.ndarray]] = {}
    for key in stored.files:
        kind, name, what = key.split("/", 2)
        GOLDEN.setdefault(f"{kind}/{name}", {})[what] = stored[key]


def tensors(value):
    if isinstance(value, tuple):
        return tuple(map(tensors, value))
    if value.dtype.kind == "i":
        return value
    return tg.tensor(value, requires_grad=True)


def flat(value):
    return [t for v in value for t in flat(v)] if isinstance(value, tuple) else [value]


def agree(found, golden):
    """As close as rounding allows, for whatever is named in both."""
    assert found.keys() == golden.keys()
    for what, value in golden.items():
        assert np.shape(found[what]) == value.shape, what
        np.testing.assert_allclose(found[what], value, rtol=TOLERANCE, atol=TOLERANCE, err_msg=what)


def within(golden, part):
    return {k.removeprefix(part): v for k, v in golden.items() if k.startswith(part)}


def check_layer(name, make, inputs):
    golden = GOLDEN[f"layer/{name}"]
    module = make(tg.nn)
    module.load_state_dict(within(golden, "before/"))
    inputs = [tensors(x) for x in inputs]
    outputs = flat(module(*inputs))
    agree({str(i): out.data for i, out in enumerate(outputs)}, within(golden, "out/"))
    total = sum(
        (out * cases.numbers(f"{name} upstream {i}", out.shape)).sum()
        for i, out in enumerate(outputs)
    )
    total.backward()
    leaves = [x for x in flat(tuple(inputs)) if isinstance(x, tg.Tensor)]
    grads = {str(i): x.grad for i, x in enumerate(leaves)}
    agree(grads, within(golden, "grad_in/"))
    agree({k: p.grad for k, p in module.named_parameters()}, within(golden, "grad/"))
    agree(module.state_dict(), within(golden, "after/"))
    with tg.no_grad():
        outputs = flat(module.eval()(*inputs))
    agree({str(i): np.asarray(out.data) for i, out in enumerate(outputs)}, within(golden, "eval/"))


@pytest.mark.parametrize("name", cases.LAYERS)
def test_layer(name):
    make, shapes = cases.LAYERS[name]
    check_layer(name, make, [cases.numbers(f"{name} {i}", s) for i, s in enumerate(shapes)])


@pytest.mark.parametrize("name", cases.LOOKUPS)
def test_lookup(name):
    make, shape, count = cases.LOOKUPS[name]
    check_layer(name, make, [cases.rows(name, shape, count)])


@pytest.mark.parametrize("name", cases.LOSSES)
def test_loss(name):
    make, shape, kind = cases.LOSSES[name]
    x = tg.tensor(cases.loss_input(name, shape), requires_grad=True)
    value = make(tg.nn, np.array)(x, cases.target(name, shape, kind))
    value.sum().backward()
    agree({"value": value.data, "grad": x.grad}, GOLDEN[f"loss/{name}"])


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_ten_steps_of_an_optimizer(name):
    params = [tg.tensor(p, requires_grad=True) for p in cases.start()]
    optimizer = cases.OPTIMIZERS[name](tg.optim, params)
    path = []
    for step in range(10):
        for p, g in zip(params, cases.quadratic(step), strict=True):
            p.grad = g
        optimizer.step()
        path.append(np.concatenate([p.data.ravel() for p in params]))
    agree({"path": np.array(path)}, GOLDEN[f"optimizer/{name}"])


@pytest.mark.parametrize("name", [*cases.SCHEDULES, *cases.PLATEAUS])
def test_twenty_values_of_a_schedule(name):
    params = [tg.tensor(p, requires_grad=True) for p in cases.start()]
    groups = [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.05}]
    sgd = tg.optim.SGD(groups, lr=0.5, momentum=0.9)
    schedule = (cases.SCHEDULES | cases.PLATEAUS)[name](tg.optim, sgd)
    values = []
    for i in range(20):
        values.append([[g["lr"], g["momentum"]] for g in sgd.param_groups])
        sgd.step()
        if i < 19:
            schedule.step(*([cases.PLATEAU[i]] if name in cases.PLATEAUS else []))
    agree({"values": np.array(values)}, GOLDEN[f"schedule/{name}"])


def test_every_answer_is_asked_for():
    asked = [*cases.LAYERS, *cases.LOOKUPS, *cases.LOSSES, *cases.OPTIMIZERS, *cases.SCHEDULES]
    assert sorted(n.split("/")[1] for n in GOLDEN) == sorted([*asked, *cases.PLATEAUS])
