"""Write golden.npz: what PyTorch 2.13 says to the cases. Run: python tests/golden/make.py"""

import warnings
from pathlib import Path

import cases
import numpy as np
import torch

HERE = Path(__file__).parent
torch.set_default_dtype(torch.float64)


def tensors(value, requires_grad=True):
    if isinstance(value, tuple):
        return tuple(tensors(v, requires_grad) for v in value)
    tensor = torch.from_numpy(np.array(value))
    return tensor.requires_grad_(requires_grad and tensor.is_floating_point())


def flat(value):
    """All tensors in nested tuples, in order."""
    return [t for v in value for t in flat(v)] if isinstance(value, tuple) else [value]


def layer(name, make, inputs):
    torch.manual_seed(0)
    module = make(torch.nn)
    found = {f"before/{k}": v.numpy().copy() for k, v in module.state_dict().items()}
    inputs = [tensors(x) for x in inputs]
    outputs = flat(module(*inputs))
    sum(
        (out * torch.from_numpy(cases.numbers(f"{name} upstream {i}", tuple(out.shape)))).sum()
        for i, out in enumerate(outputs)
    ).backward()
    found |= {f"out/{i}": out.detach().numpy() for i, out in enumerate(outputs)}
    leaves = [x for x in flat(tuple(inputs)) if x.requires_grad]
    found |= {f"grad_in/{i}": x.grad.numpy() for i, x in enumerate(leaves)}
    found |= {f"grad/{k}": p.grad.numpy() for k, p in module.named_parameters()}
    found |= {f"after/{k}": v.numpy().copy() for k, v in module.state_dict().items()}
    module.eval()
    with torch.no_grad():
        found |= {f"eval/{i}": o.numpy() for i, o in enumerate(flat(module(*inputs)))}
    return found


def loss(name, make, shape, kind):
    x = tensors(cases.loss_input(name, shape))
    value = make(torch.nn, torch.tensor)(x, tensors(cases.target(name, shape, kind), False))
    value.sum().backward()
    return {"value": value.detach().numpy(), "grad": x.grad.numpy()}


def optimizer(make):
    params = [torch.from_numpy(p).requires_grad_() for p in cases.start()]
    steps = make(torch.optim, params)
    path = []
    for step in range(10):
        for p, g in zip(params, cases.quadratic(step), strict=True):
            p.grad = None if g is None else torch.from_numpy(g)
        steps.step()
        path.append(np.concatenate([p.detach().numpy().ravel() for p in params]))
    return {"path": np.array(path)}


def schedule(make, metrics=None):
    params = [torch.from_numpy(p).requires_grad_() for p in cases.start()]
    groups = [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.05}]
    sgd = torch.optim.SGD(groups, lr=0.5, momentum=0.9)
    steps = make(torch.optim.lr_scheduler, sgd)
    values = []
    for i in range(20):
        values.append([[g["lr"], g["momentum"]] for g in sgd.param_groups])
        sgd.step()
        if i < 19:
            steps.step(*([] if metrics is None else [metrics[i]]))
    return {"values": np.array(values)}


def main():
    warnings.simplefilter("ignore")
    golden = {}
    for name, (make, shapes) in cases.LAYERS.items():
        inputs = [cases.numbers(f"{name} {i}", shape) for i, shape in enumerate(shapes)]
        golden[f"layer/{name}"] = layer(name, make, inputs)
    for name, (make, shape, count) in cases.LOOKUPS.items():
        golden[f"layer/{name}"] = layer(name, make, [cases.rows(name, shape, count)])
    for name, (make, shape, kind) in cases.LOSSES.items():
        golden[f"loss/{name}"] = loss(name, make, shape, kind)
    for name, make in cases.OPTIMIZERS.items():
        golden[f"optimizer/{name}"] = optimizer(make)
    for name, make in cases.SCHEDULES.items():
        golden[f"schedule/{name}"] = schedule(make)
    for name, make in cases.PLATEAUS.items():
        golden[f"schedule/{name}"] = schedule(make, cases.PLATEAU)
    arrays = {f"{name}/{k}": v for name, found in golden.items() for k, v in found.items()}
    np.savez_compressed(HERE / "golden.npz", **arrays)
    print(f"{len(golden)} cases, {len(arrays)} arrays")


if __name__ == "__main__":
    main()
