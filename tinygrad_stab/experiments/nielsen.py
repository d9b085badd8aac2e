"""The overfitting curve of M. Nielsen, *Neural Networks and Deep Learning* (2015), chapter 3.

The book's figures come from seeded scripts, so the run can be repeated digit for digit: same
generators, same order of draws, same shuffling, and a gradient that agrees to rounding.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..datasets import Dataset
from ..nn import BCEWithLogitsLoss, Linear, Sequential, Sigmoid
from ..optim import SGD

SEED = 12345678


class Epoch(NamedTuple):
    """How many images are classified correctly after an epoch."""

    test: int
    training: int


def overfitting(
    train: Dataset,
    test: Dataset,
    epochs: int,
    examples: int = 1000,
    batch_size: int = 10,
    lr: float = 0.5,
    weight_decay: float = 0.0,
) -> Iterator[Epoch]:
    """Train 784-30-10 sigmoid units on a few images, and count correct answers epoch by epoch.

    Cross-entropy per output unit; "large" initial weights, N(0, 1); pixels divided by 256; the
    order is that of Python 2's ``random.shuffle``, applied to the list again every epoch.

    Parameters
    ----------
    train, test : Dataset
        MNIST.
    epochs : int
    examples : int
        The first so many training images are used.
    batch_size : int
    lr : float
        η of the book.
    weight_decay : float
        λ of the book, on the weights alone: w ← (1 − ηλ/n)·w − η·∂C/∂w.

    Yields
    ------
    Epoch
        Correct test images, and correct training images of those used.
    """
    # The book seeds the global generators; generators of its own give the same numbers.
    shuffler, draws = random.Random(SEED), np.random.RandomState(SEED)
    model = Sequential(Linear(784, 30), Sigmoid(), Linear(30, 10))
    layers = [model[0], model[2]]
    for scaled in (True, False):  # the book's two initialisers: the second draws all again
        for layer in layers:
            layer.bias.data = draws.randn(*layer.bias.shape, 1)[:, 0]
        for layer in layers:
            layer.weight.data = draws.randn(*layer.weight.shape)
            if scaled:
                layer.weight.data /= np.sqrt(layer.in_features)

    x, x_test = (data.inputs.reshape(len(data.inputs), -1) / 256 for data in (train, test))
    x, labels = x[:examples], train.labels[:examples]
    targets = np.eye(10)[labels]
    loss = BCEWithLogitsLoss(reduction="sum")
    optimizers = [
        SGD([layer.weight for layer in layers], lr, weight_decay=weight_decay / examples),
        SGD([layer.bias for layer in layers], lr),
    ]
    order = list(range(examples))
    for _ in range(epochs):
        for i in range(examples - 1, 0, -1):
            j = int(shuffler.random() * (i + 1))
            order[i], order[j] = order[j], order[i]
        for start in range(0, examples, batch_size):
            batch = order[start : start + batch_size]
            model.zero_grad()
            (loss(model(x[batch]), targets[batch]) / batch_size).backward(retain="leaves")
            for optimizer in optimizers:
                optimizer.step()
        yield Epoch(_correct(model, x_test, test.labels), _correct(model, x, labels))


def _correct(model: Sequential, x: np.ndarray, labels: np.ndarray) -> int:
    return int(np.sum(np.argmax(model(x).data, axis=1) == labels))
