"""Weights move to other tools and back, by name: safetensors, PyTorch."""

import numpy as np
import pytest

import tinygrad_stab as tg
from tinygrad_stab.training import load, save

NETS = {
    "linear": lambda nn: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3, bias=False)),
    "batch_norm": lambda nn: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU()),
    "convolution": lambda nn: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()),
    "norms": lambda nn: nn.Sequential(nn.Conv1d(6, 6, 2), nn.GroupNorm(2, 6), nn.LayerNorm(4)),
    "embedding": lambda nn: nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 2)),
}
INPUTS = {
    "linear": (6, 5),
    "batch_norm": (6, 5),
    "convolution": (2, 3, 5, 5),
    "norms": (2, 6, 5),
    "embedding": None,
}


def inputs(name):
    rng = np.random.default_rng(1)
    return rng.integers(0, 7, (3, 2)) if INPUTS[name] is None else rng.normal(size=INPUTS[name])


def trained(name):
    """A net whose running statistics have moved, too."""
    net = NETS[name](tg.nn)
    for _ in range(3):
        net(inputs(name))
    return net


def same(a, b):
    assert a.keys() == b.keys()
    for name, array in a.items():
        assert array.dtype == b[name].dtype and array.shape == b[name].shape, name
        assert array.tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("name", NETS)
def test_safetensors_there_and_back(name, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    net, fresh = trained(name), NETS[name](tg.nn)
    safetensors.save_file(net.state_dict(), tmp_path / "net.safetensors")
    fresh.load_state_dict(safetensors.load_file(tmp_path / "net.safetensors"))
    same(fresh.state_dict(), net.state_dict())


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")


@pytest.mark.torch
@pytest.mark.parametrize("name", NETS)
def test_weights_of_pytorch_go_there_and_back_and_mean_the_same(name, torch, tmp_path):
    theirs = NETS[name](torch.nn).double()
    x = torch.from_numpy(inputs(name))
    for _ in range(2):
        theirs(x)
    save({k: v.numpy() for k, v in theirs.state_dict().items()}, tmp_path / "theirs.npz")
    ours = NETS[name](tg.nn)
    load(tmp_path / "theirs.npz", into=ours)
    with torch.no_grad():
        expected = theirs.eval()(x).numpy()
    np.testing.assert_allclose(ours.eval()(inputs(name)).data, expected, rtol=1e-12, atol=1e-12)

    ours.train()(inputs(name))  # the statistics, and their count, move on
    back = NETS[name](torch.nn).double()
    state = {k: torch.from_numpy(v) for k, v in ours.state_dict().items()}
    assert back.load_state_dict(state).missing_keys == []
    same({k: v.numpy() for k, v in back.state_dict().items()}, ours.state_dict())
    counts = [v for k, v in state.items() if k.endswith("num_batches_tracked")]
    assert all(v.dtype == torch.int64 and v.item() == 3 for v in counts)
    assert len(counts) == (name in ("batch_norm", "convolution"))


@pytest.mark.torch
def test_an_optimiser_of_pytorch_is_continued_here(torch, tmp_path):
    start, grads = np.arange(6.0).reshape(2, 3), np.random.default_rng(0).normal(size=(8, 2, 3))
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    adam = torch.optim.Adam([theirs], lr=0.1)
    for g in grads[:4]:
        theirs.grad = torch.from_numpy(g)
        adam.step()
    state = adam.state_dict()
    state["state"] = {
        i: {k: v.numpy() for k, v in entry.items()} for i, entry in state["state"].items()
    }
    save({"p": theirs.detach().numpy(), "adam": state}, tmp_path / "run.npz")
    ours = tg.tensor(start, requires_grad=True)
    optimizer = tg.optim.Adam([ours], lr=0.5)
    ours.data = load(tmp_path / "run.npz", into={"adam": optimizer})["p"]
    for g in grads[4:]:
        theirs.grad, ours.grad = torch.from_numpy(g), g
        adam.step()
        optimizer.step()
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-12)
