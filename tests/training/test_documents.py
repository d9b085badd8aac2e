"""The programs that teaching texts begin with, as PyTorch's tutorials write them, `torch` → `tg`.

Loops, names, arguments and their order are left as they are; seeds are given where a number is
asserted. Accuracies and errors are those of MNIST's test set.
"""

from itertools import pairwise

import numpy as np
import pytest

import tinygrad_stab as tg
import tinygrad_stab.nn.functional as F  # noqa: N812  as everybody calls it
from tinygrad_stab import nn, optim
from tinygrad_stab.optim import clip_grad_norm_
from tinygrad_stab.training import DataLoader, accuracy, fit


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 256)
        self.fc2 = nn.Linear(256, 128)
        self.fc3 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class NetOfLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )

    def forward(self, x):
        x = self.flatten(x)
        logits = self.linear_relu_stack(x)
        return logits


@pytest.mark.parametrize("model", [Net, NetOfLayers])
@pytest.mark.parametrize("clips", [False, True], ids=["as it is", "clipped"])
def test_a_classifier_of_digits_learns(mnist, model, clips):
    train, test = mnist
    shape = (-1, 784) if model is Net else (-1, 1, 28, 28)
    x_train, x_test = (data.features(np.float32).reshape(shape) for data in mnist)
    train_loader = DataLoader(x_train[:12_000], train.labels[:12_000], batch_size=64, shuffle=True)
    test_loader = DataLoader(x_test, test.labels, batch_size=1000)

    model = model()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=0.001)

    for _epoch in range(2):
        model.train()
        running_loss = 0.0
        for inputs, labels in train_loader:
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            if clips:
                clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            running_loss += loss.item()

    model.eval()
    correct = 0
    total = 0
    with tg.no_grad():
        for inputs, labels in test_loader:
            outputs = model(inputs)
            predicted = tg.argmax(outputs, axis=1)
            total += labels.size
            correct += (predicted == labels).sum().item()
    assert total == 10_000
    assert running_loss / len(train_loader) < 0.35  # of ten classes by chance: 2.3
    assert 100 * correct / total > 90


def test_linear_regression_falls_to_the_noise(rng):
    noise = 0.1
    true_w, true_b = rng.normal(size=(10, 1)), 0.7
    X = rng.normal(size=(1000, 10))
    y = X @ true_w + true_b + noise * rng.normal(size=(1000, 1))
    X, y = tg.tensor(X), tg.tensor(y)

    model = nn.Linear(10, 1)
    criterion = nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    losses = []
    for _epoch in range(200):
        optimizer.zero_grad()
        y_pred = model(X)
        loss = criterion(y_pred, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    # The least squares leave σ²·(n − 11)/n of 11 fitted numbers, ± σ²·√(2/n).
    assert losses[0] > 1
    assert losses[-1] == pytest.approx(noise**2, rel=0.2)
    residual = np.linalg.lstsq(np.hstack([X.data, np.ones((1000, 1))]), y.data)[1][0]
    assert losses[-1] == pytest.approx(residual / 1000, rel=1e-6)
    np.testing.assert_allclose(model.weight.data, true_w.T, atol=0.02)


def xavier(*sizes, rng, dtype):
    """Linear layers with ReLU between them, Xavier-initialised, biases zero."""
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out, rng=rng, dtype=dtype)
        nn.init.xavier_uniform_(linear.weight, rng=rng)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train(mnist, model, dtype, epochs, seed, shape=(784,), lr=0.001, cosine=False, clip=None):
    """Adam on batches of 64; the accuracy after the last epoch."""
    (x, y), (x_test, y_test) = (
        (data.features(dtype).reshape(-1, *shape), data.labels) for data in mnist
    )
    loader = DataLoader(x, y, batch_size=64, shuffle=True, rng=seed)
    optimizer = optim.Adam(model.parameters(), lr=lr)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=epochs * len(loader)) if cosine else None
    fit(
        model, loader, nn.CrossEntropyLoss(), optimizer, epochs,
        schedule=schedule, schedule_per="step", clip=clip,
    )  # fmt: skip
    return accuracy(model, x_test, y_test)


@pytest.mark.parametrize("seed", range(5))
def test_one_hidden_layer_classifies_in_two_epochs(mnist, seed):
    def clip(parameters):
        return clip_grad_norm_(parameters, max_norm=1.0)

    model = xavier(784, 256, 10, rng=np.random.default_rng(seed), dtype=np.float64)
    assert train(mnist, model, np.float64, 2, seed, clip=clip) >= 0.965


@pytest.mark.parametrize(
    ("hidden", "epochs", "error"),
    [((300,), 1, 0.047), ((1000,), 1, 0.045), ((300, 100), 2, 0.0305), ((500, 150), 2, 0.0295)],
)
def test_fully_connected_nets_are_as_good_as_the_first_of_their_size(mnist, hidden, epochs, error):
    # LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document
    # recognition", §III.C.5 and figure 9.
    model = xavier(784, *hidden, 10, rng=np.random.default_rng(0), dtype=np.float32)
    assert 1 - train(mnist, model, np.float32, epochs, seed=0) <= error


class LeNet5(nn.Module):
    def __init__(self, rng):
        super().__init__()
        options = {"rng": rng, "dtype": np.float32}
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2, **options)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5, **options)
        self.fc1 = nn.Linear(16 * 5 * 5, 120, **options)
        self.fc2 = nn.Linear(120, 84, **options)
        self.fc3 = nn.Linear(84, 10, **options)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.reshape(-1, 16 * 5 * 5)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def test_lenet_5_classifies_in_three_epochs(mnist):
    # LeCun et al. 1998, §II.B, with ReLU and max pooling, as it is written nowadays. The learning
    # rate falls to 0, so that the last step's accuracy is not a matter of luck.
    model = LeNet5(np.random.default_rng(0))
    options = {"shape": (1, 28, 28), "lr": 0.002, "cosine": True}
    assert train(mnist, model, np.float32, 3, 0, **options) >= 0.985
